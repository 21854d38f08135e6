"""A few bytes that an executor shares with its supervisor: when its thread last moved, where it is, how it is.

A call into MetaTrader holds the interpreter, so that nothing inside the process could tell that it hangs. Precedes:
`watchdog` judges what is read here. Follows: the executor's thread writes at each turn and around each terminal call.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from executors.shared_page import shared_page
from tradedist.clock import monotonic_ms

# ms of the last move, ms allowed from then, ms of the phase's begin, pid, tid, phase, status, call
_FORMAT = struct.Struct("<dddiii16s24s")


class Phase(IntEnum):
    STARTING = 0
    RUNNING = 1  # the journal is open; the thread has turned at least once
    SERVING = 2  # the terminal is connected and verified, and Redis was compared with the journal


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. `call`: the terminal's function that the thread is in, by MetaTrader's name; "" outside of one."""

    at_ms: float
    allowed_ms: float
    phase_ms: float
    pid: int
    tid: int
    phase: Phase
    status: str
    call: str


class Progress:
    """Written by one thread of the executor, read by the supervisor. The monotonic clock is the machine's."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when there is no room."""
        self._map = shared_page(path, _FORMAT.size)
        self.pid = self.tid = 0
        self._status = b"STARTING"
        self._phase = Phase.STARTING
        self._phase_ms = 0.0

    def begin(self, pid: int, tid: int, allowed_s: float) -> None:
        """The process that moves from now on."""
        self.pid, self.tid, self._status = pid, tid, b"STARTING"
        self._phase, self._phase_ms = Phase.STARTING, monotonic_ms()
        self.moved(allowed_s)

    @property
    def status(self) -> str:
        """Shown with the next move."""
        return self._status.decode()

    @status.setter
    def status(self, status: str) -> None:
        self._status = status.encode()

    def reached(self, phase: Phase) -> None:
        """Told with the next move."""
        if phase is not self._phase:
            self._phase, self._phase_ms = phase, monotonic_ms()

    def moved(self, allowed_s: float, call: str = "") -> None:
        _FORMAT.pack_into(
            self._map, 0, monotonic_ms(), allowed_s * 1000, self._phase_ms, self.pid, self.tid, self._phase,
            self._status, call.encode(),
        )  # fmt: skip

    def read(self) -> Sample:
        at, allowed, since, pid, tid, phase, status, call = _FORMAT.unpack_from(self._map)
        if phase not in Phase.__members__.values():  # an earlier version's file
            return Sample(0.0, 0.0, 0.0, 0, 0, Phase.STARTING, "", "")
        return Sample(
            at, allowed, since, pid, tid, Phase(phase),
            status.rstrip(b"\0").decode(), call.rstrip(b"\0").decode(),
        )  # fmt: skip

    def close(self) -> None:
        self._map.close()
