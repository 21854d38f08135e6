"""Pure: the plain types and the calendar of market data inside the feed: ticks, candle starts.

Precedes: candles, resample, ingest. What crosses processes is in messages.py.
"""

from typing import NamedTuple

LATE_MS = 2_000  # a tick this late still amends its candle


class SourceTick(NamedTuple):
    """A tick as a source sent it. `order` rises with the source's sequence and settles equal times."""

    symbol: str
    time_ms: int
    bid: float
    ask: float
    order: int


def open_of(time_ms: int, seconds: int) -> int:
    """The start of the candle that a moment belongs to. Candles are aligned to UTC midnight, 1 January 1970."""
    return time_ms - time_ms % (seconds * 1000)
