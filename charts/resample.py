"""Pure: longer candles from shorter ones, aligned to UTC; whole lists, and live while the shortest one moves.

Precedes: candle_query and the chart socket. Follows: the feed's 60 s candles (charts.candles).
"""

from collections.abc import Iterable

from charts.market import open_of
from charts.messages import Candle


def base_of(seconds: int) -> int:
    """The stored timeframe that a timeframe is made from."""
    return 60 if seconds % 60 == 0 else 1


def resample(candles: Iterable[Candle], seconds: int) -> list[Candle]:
    """Ascending candles of one symbol, joined into candles of `seconds`. The last one is forming if its last part is.

    The first one may lack parts before the first candle given: the caller knows where his input is cut.
    """
    joined: list[Candle] = []
    parts: list[Candle] = []
    for candle in candles:
        if parts and open_of(candle.open_ms, seconds) != open_of(parts[0].open_ms, seconds):
            joined.append(join(parts, seconds).model_copy(update={"forming": False}))
            parts = []
        parts.append(candle)
    if parts:
        joined.append(join(parts, seconds))
    return joined


def join(parts: list[Candle], seconds: int) -> Candle:
    """One candle of ascending parts, all of which lie in it."""
    first, last = parts[0], parts[-1]
    return Candle(
        symbol=first.symbol,
        seconds=seconds,
        open_ms=open_of(first.open_ms, seconds),
        open=first.open,
        high=max(part.high for part in parts),
        low=min(part.low for part in parts),
        close=last.close,
        ticks=sum(part.ticks for part in parts),
        forming=last.forming or _not_over(last, seconds),
        partial=any(part.partial for part in parts),
    )


def _not_over(last: Candle, seconds: int) -> bool:
    """The last known part is closed, but does not reach the end: until a later part is known, more may come."""
    return last.open_ms + last.seconds * 1000 < open_of(last.open_ms, seconds) + seconds * 1000


class LiveCandle:
    """The newest candle of a timeframe, kept up to date from a feed's updates of its base timeframe, O(1) each.

    Seed it with the base candles since the current candle's open; then `update` with each base candle that is
    published, forming or closed, and amended ones too.
    """

    def __init__(self, seconds: int, seed: Iterable[Candle] = ()) -> None:
        self.seconds = seconds
        self._settled: Candle | None = None  # parts that are behind the kept ones
        self._recent: list[Candle] = []  # the last parts, each of which may be amended
        for candle in seed:
            self.update(candle)

    def update(self, candle: Candle) -> Candle | None:
        """The candle of `seconds` as it is now; None when `candle` is of an earlier one or of too far back."""
        bucket = open_of(candle.open_ms, self.seconds)
        if self._recent and bucket != open_of(self._recent[-1].open_ms, self.seconds):
            if bucket < self._recent[-1].open_ms:
                return None
            self._settled, self._recent = None, []
        for place, part in enumerate(self._recent):
            if part.open_ms == candle.open_ms:
                self._recent[place] = candle
                return self.current()
        if self._settled is not None and candle.open_ms < self._recent[0].open_ms:
            return None  # long settled
        self._recent.append(candle)
        self._recent.sort(key=lambda part: part.open_ms)
        if len(self._recent) > _AMENDABLE:
            oldest = self._recent.pop(0)
            behind = [oldest] if self._settled is None else [self._settled, oldest]
            self._settled = join(behind, self.seconds)
        return self.current()

    def current(self) -> Candle | None:
        if not self._recent:
            return None
        return join([*([self._settled] if self._settled else []), *self._recent], self.seconds)


_AMENDABLE = 4  # more than a late tick (2 s) can reach back, in 1 s candles
