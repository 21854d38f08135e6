"""How `make run` hears that it is to stop.

Precedes: `running`, which waits here between any two things that it does.
"""

import os
import select
import signal
from types import FrameType


class StopSignals:
    """Ctrl-C, SIGTERM, the terminal closed: any of them, any number, at any moment.

    Python runs a handler between two steps of whatever the main thread does, also inside another handler, so that it
    may take no lock: a threading.Event would deadlock when a second signal comes at once.
    """

    def __init__(self) -> None:
        self._seen = False
        reader, self._writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(self._writer, False)
        self._poll = select.poll()
        self._poll.register(reader, select.POLLIN)

    def listen(self) -> None:
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            return  # nohup: a closed terminal is meant to be survived
        signal.signal(signal.SIGHUP, self._note)
        if os.isatty(0):
            # make is told of the hang-up and keeps it to itself, when no shell stands between it and the terminal.
            self._poll.register(0, 0)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._seen = True

    def wait(self, seconds: float) -> bool:
        """True as soon as one has come."""
        if not self._seen and self._poll.poll(seconds * 1000):
            self._seen = True
        return self._seen
