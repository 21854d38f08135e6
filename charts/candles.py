"""Pure: candles from ticks, in constant time per tick, with the rules for late ticks and gaps.

Precedes: charts.pipeline, which keeps one builder per symbol and timeframe. Follows: ticks in the order of ingest.

A candle is *forming*, then *closed* once the time has passed its end, and *final* 2 s later. A tick at most 2 s behind
the newest one still amends its candle, as if it had come in order, closed or not; later ones are counted and dropped.
Where there are no ticks there is no candle. What may be incomplete is marked `partial`.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from charts.market import LATE_MS, open_of
from charts.messages import Candle

FINAL_KEPT = {1: 12_000, 60: 5_000}  # final candles in Redis, by timeframe
CLOSED_KEPT = 300  # closed candles in one published update


class Changes(NamedTuple):
    """What is new since the last `drain`. A final candle is reported once, and was reported closed before or with it."""

    forming: Candle | None  # None: no tick since
    closed: list[Candle]  # closed now, or closed before and amended
    final: list[Candle]  # will not change any more


class _Growing:
    """A candle that ticks can still reach."""

    __slots__ = (
        "changed", "close", "end_ms", "first_ms", "first_order", "high", "last_ms", "last_order", "low", "open",
        "open_ms", "partial", "published", "ticks",
    )  # fmt: skip

    def __init__(
        self, open_ms: int, end_ms: int, time_ms: int, price: float, order: int, partial: bool
    ) -> None:
        self.open_ms = open_ms
        self.end_ms = end_ms
        self.open = self.high = self.low = self.close = price
        self.ticks = 1
        self.first_ms = self.last_ms = time_ms
        self.first_order = self.last_order = order
        self.partial = partial
        self.changed = True
        self.published = False  # as closed

    def amend(self, time_ms: int, price: float, order: int) -> None:
        """Take a tick of any place in the candle: the earliest is the open, the latest the close."""
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.ticks += 1
        self.changed = True
        if (time_ms, order) >= (self.last_ms, self.last_order):
            self.close, self.last_ms, self.last_order = price, time_ms, order
        elif (time_ms, order) < (self.first_ms, self.first_order):
            self.open, self.first_ms, self.first_order = price, time_ms, order

    def row(self) -> list[float]:
        return [
            self.open_ms, self.open, self.high, self.low, self.close, self.ticks, self.first_ms, self.first_order,
            self.last_ms, self.last_order, int(self.partial), int(self.published),
        ]  # fmt: skip

    @classmethod
    def of_row(cls, row: Sequence[float], span_ms: int) -> "_Growing":
        open_ms = int(row[0])
        candle = cls(open_ms, open_ms + span_ms, int(row[6]), row[1], int(row[7]), bool(row[10]))
        candle.open, candle.high, candle.low, candle.close = row[1], row[2], row[3], row[4]
        candle.ticks = int(row[5])
        candle.last_ms, candle.last_order = int(row[8]), int(row[9])
        candle.published = bool(row[11])
        return candle


class CandleBuilder:
    """Candles of one symbol and one timeframe. Holds the forming candle and the few that are not yet final."""

    __slots__ = (
        "_closed", "_final", "_gap", "_newest", "_open", "dropped", "seconds", "span_ms", "symbol", "watermark_ms",
    )  # fmt: skip

    def __init__(self, symbol: str, seconds: int) -> None:
        self.symbol = symbol
        self.seconds = seconds
        self.span_ms = seconds * 1000
        self.watermark_ms = 0  # the newest tick's time, or later by `advance`
        self.dropped = 0  # ticks that came too late
        self._open: deque[_Growing] = deque()  # ascending; the last one may be forming
        self._newest: _Growing | None = None
        # Bounded, in case nothing is drained for hours: what is pushed out is older than what Redis would keep.
        self._closed: deque[Candle] = deque(
            maxlen=CLOSED_KEPT
        )  # became final before they were drained as closed
        self._final: deque[Candle] = deque(maxlen=FINAL_KEPT.get(seconds, 5_000))
        self._gap = True  # nothing is known of what was before the first tick

    def add(self, time_ms: int, price: float, order: int = 0) -> bool:
        """Take a tick. False when it is too late and was dropped."""
        newest = self._newest
        if newest is not None and newest.last_ms < time_ms < newest.end_ms:
            # The usual case: later than all before, in the forming candle.
            if price > newest.high:
                newest.high = price
            elif price < newest.low:
                newest.low = price
            newest.close = price
            newest.last_ms = time_ms
            newest.last_order = order
            newest.ticks += 1
            newest.changed = True
            if time_ms > self.watermark_ms:
                self.watermark_ms = time_ms
            return True
        return self._add_elsewhere(time_ms, price, order)

    def _add_elsewhere(self, time_ms: int, price: float, order: int) -> bool:
        if time_ms < self.watermark_ms - LATE_MS:
            self.dropped += 1
            return False
        open_ms = open_of(time_ms, self.seconds)
        newest = self._newest
        if newest is None or open_ms > newest.open_ms:
            if time_ms > self.watermark_ms:
                self._move(time_ms)
            self._newest = _Growing(open_ms, open_ms + self.span_ms, time_ms, price, order, self._gap)
            self._gap = False
            self._open.append(self._newest)
            return True
        if time_ms > self.watermark_ms:
            self.watermark_ms = time_ms
        for place in range(len(self._open) - 1, -1, -1):
            candle = self._open[place]
            if candle.open_ms == open_ms:
                candle.amend(time_ms, price, order)
                return True
            if candle.open_ms < open_ms:
                break
        else:
            place = -1
        # A late tick where no tick had been: its candle comes into being behind the forming one.
        self._open.insert(place + 1, _Growing(open_ms, open_ms + self.span_ms, time_ms, price, order, False))
        return True

    def advance(self, time_ms: int) -> bool:
        """The market's clock says it is `time_ms`: candles close, and become final, without a tick.

        True when that gave something to drain.
        """
        if time_ms > self.watermark_ms:
            self._move(time_ms)
        newest = self._newest
        return bool(self._final) or (
            newest is not None and newest.end_ms <= self.watermark_ms and not newest.published
        )

    def _move(self, time_ms: int) -> None:
        self.watermark_ms = time_ms
        while self._open and self._open[0].end_ms + LATE_MS <= time_ms:
            growing = self._open.popleft()
            candle = self._candle(growing, forming=False)
            self._final.append(candle)
            if growing.changed or not growing.published:
                self._closed.append(candle)
            if growing is self._newest:
                self._newest = None

    def mark_gap(self) -> None:
        """Ticks may have been missed: the forming candle and the next one are partial."""
        self._gap = True
        if self._newest is not None and not self._newest.partial:
            self._newest.partial = self._newest.changed = True

    def drain(self) -> Changes:
        """What changed since the last call."""
        final, closed = list(self._final), list(self._closed)
        self._final.clear()
        self._closed.clear()
        forming: Candle | None = None
        for growing in self._open:
            over = growing is not self._newest or growing.end_ms <= self.watermark_ms
            if not growing.changed and (not over or growing.published):
                continue
            growing.changed = False
            candle = self._candle(growing, forming=not over)
            if over:
                growing.published = True
                closed.append(candle)
            else:
                forming = candle
        return Changes(forming, closed, final)

    def settling(self) -> list[Candle]:
        """Closed candles that are not final yet."""
        return [
            self._candle(growing, forming=False)
            for growing in self._open
            if growing is not self._newest or growing.end_ms <= self.watermark_ms
        ]

    def forming(self) -> Candle | None:
        newest = self._newest
        if newest is None or newest.end_ms <= self.watermark_ms:
            return None
        return self._candle(newest, forming=True)

    def _candle(self, growing: _Growing, *, forming: bool) -> Candle:
        return Candle(
            symbol=self.symbol,
            seconds=self.seconds,
            open_ms=growing.open_ms,
            open=growing.open,
            high=growing.high,
            low=growing.low,
            close=growing.close,
            ticks=growing.ticks,
            forming=forming,
            partial=growing.partial,
        )

    def snapshot(self) -> list[list[float]]:
        """What `restore` goes on from, as plain numbers. Drain first: undrained final candles are not in it."""
        return [candle.row() for candle in self._open]

    def restore(self, rows: Sequence[Sequence[float]], watermark_ms: int, gap: bool) -> None:
        self.watermark_ms = watermark_ms
        self._open = deque(_Growing.of_row(row, self.span_ms) for row in rows)
        self._newest = self._open[-1] if self._open else None
        self._gap = gap

    @property
    def gap(self) -> bool:
        return self._gap
