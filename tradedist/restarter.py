"""supervisord, as `make run` uses it: a killed process is back in a fraction of a second, and it never gives up.

Follows `running`, which writes its configuration and starts it. supervisord itself looks at its children once a
second; an embedded Valkey has to be back within half of one.
"""

import os
import sys

from supervisor import poller
from supervisor.medusa import asyncore_25 as asyncore
from supervisor.options import ServerOptions
from supervisor.supervisord import Supervisor

from tradedist.child import PARENT

LOOK_EVERY_S = 0.05
LONGEST_BACKOFF_S = 5


class PromptPoller(poller.Poller):
    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        ready: tuple[list[int], list[int]] = super().poll(min(timeout, LOOK_EVERY_S))
        return ready


class Restarter(Supervisor):
    def tick(self, now: float | None = None) -> None:
        """Called in each round: the wait before the next try grows by a second each time, but only so far."""
        super().tick(now)
        for group in self.process_groups.values():
            for process in group.processes.values():
                process.backoff = min(process.backoff, LONGEST_BACKOFF_S)


def main(configuration: str) -> None:
    os.environ[PARENT] = str(os.getpid())
    options = ServerOptions()
    options.poller = PromptPoller(options)
    options.realize(["--nodaemon", "--configuration", configuration])
    options.first = True
    options.test = False
    try:
        Restarter(options).main()
    except asyncore.ExitNow:
        pass
    finally:
        options.close_httpservers()
        options.close_logger()


if __name__ == "__main__":
    main(sys.argv[1])
