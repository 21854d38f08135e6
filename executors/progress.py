"""A few bytes shared between an executor and its supervisor: when the executor's thread last moved, and how long it may
stand still now. A call into MetaTrader holds the interpreter, so that nothing inside the process could tell.
"""

import mmap
import os
import struct
from pathlib import Path

from tradedist.clock import monotonic_ms

_FORMAT = struct.Struct("<dd")  # monotonic ms of the last move, ms allowed from then


class Progress:
    """Written by the executor's thread. The clock is the machine's monotonic one, the same in every process."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, _FORMAT.size)
            self._map = mmap.mmap(descriptor, _FORMAT.size)
        finally:
            os.close(descriptor)

    def moved(self, allowed_s: float) -> None:
        _FORMAT.pack_into(self._map, 0, monotonic_ms(), allowed_s * 1000)

    def close(self) -> None:
        self._map.close()


def overdue_ms(path: Path) -> float:
    """How long past its allowance an executor stands still; 0 or less when it moves, or has not begun."""
    try:
        at, allowed = _FORMAT.unpack(path.read_bytes()[: _FORMAT.size])
    except (OSError, struct.error):
        return 0.0
    return monotonic_ms() - at - allowed if at else 0.0
