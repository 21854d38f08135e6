"""A few bytes that the executors of one host share: when an order last began on any of them.

They run on the same processors. What is no order (accounts, positions) waits while orders run, for it would delay the
other legs of a fan-out. Precedes: the executor puts its account's read off. Follows: every executor, at each order.
"""

import struct
from pathlib import Path

from executors.shared_page import shared_page
from tradedist.clock import monotonic_ms

NAME = ".host"  # beside the terminals' directories; no terminal can be called so
_FORMAT = struct.Struct("<d")  # ms by the monotonic clock, which is the machine's
LONGEST_MS = 60_000.0  # what claims to be older, or to come, was written before the machine started


class HostPage:
    def __init__(self, path: Path) -> None:
        """Raises OSError when there is no room."""
        self._map = shared_page(path, _FORMAT.size)

    def begins(self) -> None:
        """An order, now. The last writer wins, which is the point of it."""
        _FORMAT.pack_into(self._map, 0, monotonic_ms())

    def last_ms(self, now_ms: float) -> float:
        """When one last began, in monotonic ms; long ago when that is not known."""
        (last,) = _FORMAT.unpack_from(self._map)
        return last if 0 <= now_ms - last < LONGEST_MS else now_ms - LONGEST_MS

    def close(self) -> None:
        self._map.close()
