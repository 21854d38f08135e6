"""Processes of this machine as the platform handles them: known by pid and start time, never by name.

Precedes: `running`, which starts and ends the platform. Also run as a program, `python tradedist/processes.py
PARENT_PID COMMAND…`: makes the command die with the process that started it, then becomes the command.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int, number: int = signal.SIGTERM) -> Callable[[], None]:
    """A function for the child, between fork and exec: the kernel signals it when `parent` ends, however it ends."""
    if not sys.platform.startswith("linux"):
        return lambda: None  # elsewhere only an orderly end reaches the children
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the kernel knew
            os._exit(128 + number)

    return arrange


def main(arguments: list[str]) -> None:
    parent, *command = arguments
    die_with_parent(int(parent))()
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
