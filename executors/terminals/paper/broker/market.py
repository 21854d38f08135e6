"""Pure: the played market as a function of time. What was, is and will be quoted depends on the clock and seed alone.

Precedes: the desks of `engine.py` (live ticks) and `history.py` (candles and ticks of the past). Follows: `recordings.py`.
A recording of length H runs forwards in even halves of a period and backwards in odd ones, so that it never jumps.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from executors.terminals.paper.broker.recordings import Recording, stable_seed

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
ORIGIN_MS = 1_577_836_800_000  # 2020-01-01 UTC: periods are counted from here
HISTORY_START_MS = 1_514_764_800_000  # 2018-01-01 UTC: nothing is told of what was before
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Ticks:
    """Consecutive quotes; prices in points."""

    time_ms: Ints
    bid: Ints
    ask: Ints


@dataclass(frozen=True)
class Candles:
    """Consecutive candles without the empty ones; `minute` is the open time in minutes since the epoch."""

    minute: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    spread: Ints

    def __len__(self) -> int:
        return len(self.minute)


class Feed:
    """One recording in an endless loop."""

    def __init__(self, recording: Recording, *, speed: float = 1.0, seed: int = 0) -> None:
        self.name = recording.name
        self.digits = recording.digits
        self.point: float = 10.0**-recording.digits
        self._offset = np.maximum((recording.time_ms / speed).astype(np.int64), 1)
        self._bid, self._ask = recording.bid, recording.ask
        self.size = len(self._offset)
        # Halves of whole minutes: a minute of one period then holds the same ticks in every other
        self._half = (int(self._offset[-1]) // MINUTE_MS + 1) * MINUTE_MS
        self._period = 2 * self._half
        phase = stable_seed(seed, recording.name) % (self._period // MINUTE_MS) * MINUTE_MS if seed else 0
        self._start = ORIGIN_MS - phase
        self._offsets = self._offset.tolist()
        self._minutes = self._period_minutes()
        self._hours: Candles | None = None  # made when first asked for

    def count_until(self, at_ms: int) -> int:
        """How many ticks were quoted up to and with `at_ms`, counted from the origin; negative before it."""
        cycle, offset = divmod(at_ms - self._start, self._period)
        if offset < self._half:
            inside = int(np.searchsorted(self._offset, offset, side="right"))
        else:
            inside = 2 * self.size - int(np.searchsorted(self._offset, self._period - offset, side="left"))
        return cycle * 2 * self.size + inside

    def tick(self, number: int) -> tuple[int, int, int]:
        """The tick of that number: time, bid, ask. `tick(count_until(t) - 1)` is the newest at t."""
        cycle, index = divmod(number, 2 * self.size)
        base = self._start + cycle * self._period
        if index < self.size:
            at = base + self._offsets[index]
        else:
            index = 2 * self.size - 1 - index
            at = base + self._period - self._offsets[index]
        return at, int(self._bid[index]), int(self._ask[index])

    def ticks(self, first: int, last: int) -> Ticks:
        """Ticks first ≤ number < last."""
        numbers = np.arange(first, max(first, last), dtype=np.int64)
        cycle, index = np.divmod(numbers, 2 * self.size)
        forward = index < self.size
        index = np.where(forward, index, 2 * self.size - 1 - index)
        offset = np.where(forward, self._offset[index], self._period - self._offset[index])
        return Ticks(self._start + cycle * self._period + offset, self._bid[index], self._ask[index])

    def minutes(self, first: int, last: int) -> Candles:
        """Candles of the minutes first ≤ minute < last, complete ones. The caller asks for nothing in the future."""
        number = np.arange(first, max(first, last), dtype=np.int64)
        index = (number - self._start // MINUTE_MS) % (self._period // MINUTE_MS)
        quoted = self._minutes.volume[index] > 0
        number, index = number[quoted], index[quoted]
        whole = self._minutes
        return Candles(
            number, whole.open[index], whole.high[index], whole.low[index], whole.close[index],
            whole.volume[index], whole.spread[index],
        )  # fmt: skip

    def hours(self, first: int, last: int) -> Candles:
        """The same for hours since the epoch, first ≤ hour < last; `minute` is each hour's first."""
        if self._hours is None:
            self._hours = self._period_hours()
        number = np.arange(first, max(first, last), dtype=np.int64)
        whole = self._hours
        index = (number - self._start // HOUR_MS) % len(whole)
        quoted = whole.volume[index] > 0
        number, index = number[quoted], index[quoted]
        return Candles(
            number * 60, whole.open[index], whole.high[index], whole.low[index], whole.close[index],
            whole.volume[index], whole.spread[index],
        )  # fmt: skip

    def _period_hours(self) -> Candles:
        """As many hours as it takes until a period ends with an hour."""
        period = self._period // MINUTE_MS
        length = period * 60 // math.gcd(period, 60)
        start = self._start // HOUR_MS
        found = self.minutes(start * 60, start * 60 + length)
        found = grouped(found, found.minute // 60)
        columns = []
        for column in (found.open, found.high, found.low, found.close, found.volume, found.spread):
            full = np.zeros(length // 60, dtype=np.int64)
            full[found.minute - start] = column
            columns.append(full)
        return Candles(np.arange(length // 60, dtype=np.int64) + start, *columns)

    def _period_minutes(self) -> Candles:
        first = self.count_until(self._start - 1)
        found = candles_of(self.ticks(first, first + 2 * self.size))
        length = self._period // MINUTE_MS
        start = self._start // MINUTE_MS
        columns = []
        for column in (found.open, found.high, found.low, found.close, found.volume, found.spread):
            full = np.zeros(length, dtype=np.int64)
            full[found.minute - start] = column
            columns.append(full)
        return Candles(np.arange(length, dtype=np.int64) + start, *columns)


def candles_of(ticks: Ticks) -> Candles:
    """Minute candles of the bid."""
    minute = ticks.time_ms // MINUTE_MS
    if not len(minute):
        none = np.zeros(0, dtype=np.int64)
        return Candles(none, none, none, none, none, none, none)
    starts = np.flatnonzero(np.diff(minute, prepend=minute[0] - 1))
    ends = np.append(starts[1:], len(minute))
    return Candles(
        minute[starts],
        ticks.bid[starts],
        np.maximum.reduceat(ticks.bid, starts),
        np.minimum.reduceat(ticks.bid, starts),
        ticks.bid[ends - 1],
        ends - starts,
        np.minimum.reduceat(ticks.ask - ticks.bid, starts),
    )


def joined(first: Candles, second: Candles) -> Candles:
    """Candles in time order; `second` starts no earlier than `first` ends, and may repeat its last minute's number."""
    if not len(first) or not len(second):
        return second if len(second) else first
    columns = [
        np.concatenate([getattr(first, name), getattr(second, name)])
        for name in ("minute", "open", "high", "low", "close", "volume", "spread")
    ]
    return grouped(Candles(*columns), columns[0])


def grouped(candles: Candles, key: Ints) -> Candles:
    """Longer candles: neighbours with the same `key` (their open time in minutes) become one."""
    if not len(candles):
        return candles
    starts = np.flatnonzero(np.diff(key, prepend=key[0] - 1))
    ends = np.append(starts[1:], len(key))
    return Candles(
        key[starts],
        candles.open[starts],
        np.maximum.reduceat(candles.high, starts),
        np.minimum.reduceat(candles.low, starts),
        candles.close[ends - 1],
        np.add.reduceat(candles.volume, starts),
        np.minimum.reduceat(candles.spread, starts),
    )
