"""A few bytes by which the supervisor spares its executors their questions: what it read of a terminal, and when it asked.

Precedes: the link, which asks by itself as soon as this is too old, or says something new. Follows: the supervisor's look
at all terminals in one call. Nothing that an order is judged by is taken from here: it only says that all is as it was.
"""

import struct
import zlib
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from executors.shared_page import shared_page

NAME = "told"
_FORMAT = struct.Struct("<dddi8s8s")
_SUM = struct.Struct("<I")


class Said(NamedTuple):
    """True of a moment after `asked_ms`, by the machine's monotonic clock."""

    asked_ms: float
    redis_minus_mono_ms: float
    doubt_ms: float  # of that
    waiting: int  # orders in the outbox
    news: bytes
    standing: bytes


def modes_of(modes: dict[str, str], terminal_id: str) -> tuple[str | None, str | None, str | None]:
    """Of all modes those that concern a terminal: everybody's, its own, and how often it was resumed."""
    return modes.get("global"), modes.get(f"terminal:{terminal_id}"), modes.get(f"resumed:{terminal_id}")


def news_of(*parts: str | int | None) -> bytes:
    """Of the configuration's version, the three modes, and how many settlements are wished for."""
    return _digest(*parts)


def standing_of(journal_id: str, position: int, epoch: int) -> bytes:
    """Of whose journal Redis knows for the terminal, how far it has come, and the terminal's epoch."""
    return _digest(journal_id, position, epoch)


def _digest(*parts: object) -> bytes:
    return blake2b(repr(parts).encode(), digest_size=8).digest()


class Told:
    """Written by the supervisor, read by the executor's link."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError when there is no room."""
        self._map = shared_page(directory / NAME, _FORMAT.size + _SUM.size)

    def tell(self, said: Said) -> None:
        told = _FORMAT.pack(
            said.asked_ms, said.redis_minus_mono_ms, said.doubt_ms, said.waiting, said.news, said.standing
        )
        self._map[:] = told + _SUM.pack(zlib.crc32(told))

    def said(self, now_ms: float) -> Said | None:
        """None when nothing was, or it is just being written, or is of a time before the machine started."""
        page = self._map[:]
        if _SUM.unpack_from(page, _FORMAT.size)[0] != zlib.crc32(page[: _FORMAT.size]):
            return None
        said = Said._make(_FORMAT.unpack_from(page))
        return said if 0 < said.asked_ms <= now_ms else None

    def close(self) -> None:
        self._map.close()
