"""Candles from ticks. Invariants:

1. low <= open, close <= high; candles ascend, are aligned, and hold every tick that was not dropped, once.
2. Built tick by tick they equal what a plain sort and group of the ticks gives.
3. Ticks up to 2 s late give what the same ticks give in order; later ones are dropped and counted.
4. 60 s candles resampled to 300 s equal candles built for 300 s; a LiveCandle follows them.
5. Saved and restored at any tick, with drains at any place, the result is the same.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from charts.candles import CandleBuilder
from charts.market import LATE_MS, open_of
from charts.messages import Candle
from charts.resample import LiveCandle, base_of, resample

START_MS = 1_700_000_000_000


class Point(NamedTuple):
    time_ms: int
    order: int
    price: float


def points_of(steps: Iterable[tuple[int, float]]) -> list[Point]:
    points, time_ms = [], START_MS
    for order, (step, price) in enumerate(steps):
        time_ms += step
        points.append(Point(time_ms, order, price))
    return points


prices = st.floats(0.5, 2.0).map(lambda price: round(price, 5))
gaps = st.integers(0, 700) | st.integers(0, 90_000)
ticks_in_order = st.lists(st.tuples(gaps, prices), max_size=120).map(points_of)
# Each tick is late by less than 2 s against every tick before it: shuffle by arrival = time + delay.
ticks_late = st.lists(st.tuples(st.integers(0, 700), prices, st.integers(0, LATE_MS)), max_size=80).map(
    lambda rows: [
        (point, delay)
        for point, (_, _, delay) in zip(
            points_of((step, price) for step, price, _ in rows), rows, strict=True
        )
    ]
)
timeframes = st.sampled_from([1, 5, 60, 300])


def batch(points: Sequence[Point], seconds: int) -> list[tuple[int, float, float, float, float, int]]:
    """The plain way: sort, group, aggregate."""
    rows = []
    for open_ms, group in groupby(sorted(points), key=lambda point: open_of(point.time_ms, seconds)):
        inside = [point.price for point in group]
        rows.append((open_ms, inside[0], max(inside), min(inside), inside[-1], len(inside)))
    return rows


def row(candle: Candle) -> tuple[int, float, float, float, float, int]:
    return (candle.open_ms, candle.open, candle.high, candle.low, candle.close, candle.ticks)


class Reader:
    """Follows a builder as Redis does: closed ones may be amended, final ones not."""

    def __init__(self) -> None:
        self.final: list[Candle] = []
        self.shown: dict[int, Candle] = {}

    def take(self, builder: CandleBuilder) -> None:
        changes = builder.drain()
        for candle in changes.closed:
            assert not candle.forming
            self.shown[candle.open_ms] = candle
        for candle in changes.final:
            assert self.shown[candle.open_ms] == candle, "final candles were published closed, as they are"
            self.final.append(candle)
        if changes.forming is not None:
            assert changes.forming.forming
            self.shown[changes.forming.open_ms] = changes.forming
        stored = {candle.open_ms: candle for candle in [*self.final, *builder.settling()]}
        if (forming := builder.forming()) is not None:
            stored[forming.open_ms] = forming
        assert stored == self.shown, "what is stored and what was published are the same"

    def rows(self) -> list[tuple[int, float, float, float, float, int]]:
        opens = [candle.open_ms for candle in self.final]
        assert opens == sorted(set(opens)), "final candles ascend"
        return [row(self.shown[open_ms]) for open_ms in sorted(self.shown)]


@given(ticks_in_order, timeframes, st.integers(1, 20))
def test_ticks_in_order_equal_the_plain_way(points: list[Point], seconds: int, every: int) -> None:
    builder, reader = CandleBuilder("EURUSD", seconds), Reader()
    for number, point in enumerate(points):
        assert builder.add(point.time_ms, point.price, point.order)
        if number % every == 0:
            reader.take(builder)
    reader.take(builder)
    assert reader.rows() == batch(points, seconds)
    for candle in reader.shown.values():
        assert candle.low <= min(candle.open, candle.close)
        assert max(candle.open, candle.close) <= candle.high
        assert candle.open_ms % (seconds * 1000) == 0
        assert candle.partial == (candle.open_ms == min(reader.shown)), "only the first one is partial"
    assert builder.dropped == 0


@given(ticks_late, timeframes, st.integers(1, 20))
def test_late_ticks_give_what_ticks_in_order_give(
    delayed: list[tuple[Point, int]], seconds: int, every: int
) -> None:
    arrivals = [point for point, _ in sorted(delayed, key=lambda item: item[0].time_ms + item[1])]
    builder, reader = CandleBuilder("EURUSD", seconds), Reader()
    for number, point in enumerate(arrivals):
        assert builder.add(point.time_ms, point.price, point.order)
        if number % every == 0:
            reader.take(builder)
    reader.take(builder)
    assert reader.rows() == batch(arrivals, seconds)


@given(
    ticks_in_order, st.lists(st.tuples(st.integers(0, 200), st.integers(0, 10_000)), max_size=40), timeframes
)
def test_ticks_that_are_too_late_are_dropped_and_counted(
    points: list[Point], jumps: list[tuple[int, int]], seconds: int
) -> None:
    arrivals = list(points)
    for order, (place, late) in enumerate(jumps):
        if arrivals:
            at = place % len(arrivals)
            newest = max(point.time_ms for point in arrivals[: at + 1])
            arrivals.insert(at + 1, Point(newest - late, 1_000 + order, 1.0))
    builder, reader = CandleBuilder("EURUSD", seconds), Reader()
    kept: list[Point] = []
    for point in arrivals:
        newest = max((one.time_ms for one in kept), default=0)
        assert builder.add(point.time_ms, point.price, point.order) == (point.time_ms >= newest - LATE_MS)
        if point.time_ms >= newest - LATE_MS:
            kept.append(point)
        reader.take(builder)
    assert reader.rows() == batch(kept, seconds)
    assert builder.dropped == len(arrivals) - len(kept)


@given(ticks_in_order, st.sampled_from([120, 180, 300, 900, 3600]))
def test_resampled_candles_equal_those_from_ticks(points: list[Point], seconds: int) -> None:
    base, direct = CandleBuilder("EURUSD", 60), CandleBuilder("EURUSD", seconds)
    live: LiveCandle | None = None
    base_reader, direct_reader = Reader(), Reader()
    for point in points:
        base.add(point.time_ms, point.price, point.order)
        direct.add(point.time_ms, point.price, point.order)
        base_reader.take(base)
        direct_reader.take(direct)
        newest = base_reader.shown[max(base_reader.shown)]
        live = live or LiveCandle(seconds)
        live.update(newest)
    joined = resample([base_reader.shown[open_ms] for open_ms in sorted(base_reader.shown)], seconds)
    assert [row(candle) for candle in joined] == direct_reader.rows()
    assert [candle.forming for candle in joined[:-1]] == [False] * (len(joined) - 1) if joined else True
    if live is not None:
        current = live.current()
        assert current is not None
        assert row(current) == direct_reader.rows()[-1]
        assert base_of(seconds) == 60


@given(ticks_late, timeframes, st.integers(0, 79))
def test_a_saved_builder_goes_on_as_if_nothing_had_been(
    delayed: list[tuple[Point, int]], seconds: int, at: int
) -> None:
    arrivals = [point for point, _ in sorted(delayed, key=lambda item: item[0].time_ms + item[1])]
    builder, reader = CandleBuilder("EURUSD", seconds), Reader()
    for number, point in enumerate(arrivals):
        builder.add(point.time_ms, point.price, point.order)
        if number == at:
            reader.take(builder)
            saved = json.dumps([builder.snapshot(), builder.watermark_ms, builder.gap])
            builder = CandleBuilder("EURUSD", seconds)
            builder.restore(*json.loads(saved))
    reader.take(builder)
    assert reader.rows() == batch(arrivals, seconds)


@given(ticks_in_order, timeframes, st.integers(0, 100_000))
def test_time_closes_candles_without_ticks(points: list[Point], seconds: int, later: int) -> None:
    builder, reader = CandleBuilder("EURUSD", seconds), Reader()
    for point in points:
        builder.add(point.time_ms, point.price, point.order)
    reader.take(builder)
    if not points:
        assert not builder.advance(START_MS)
        return
    moment = points[-1].time_ms + later
    news = builder.advance(moment)
    changes = builder.drain()
    assert news == bool(changes.closed or changes.final)
    reader.shown.update({candle.open_ms: candle for candle in changes.closed})
    reader.final += changes.final
    for candle in reader.shown.values():
        assert candle.forming == (candle.open_ms + seconds * 1000 > moment)
    assert all(candle.open_ms + seconds * 1000 + LATE_MS <= moment for candle in reader.final)


@given(ticks_in_order, timeframes, st.integers(0, 119))
def test_a_gap_marks_the_forming_candle_and_the_next(points: list[Point], seconds: int, at: int) -> None:
    builder, reader = CandleBuilder("EURUSD", seconds), Reader()
    marked = set()
    for number, point in enumerate(points):
        builder.add(point.time_ms, point.price, point.order)
        if number == 0:
            marked.add(open_of(point.time_ms, seconds))
        if number == at:
            builder.mark_gap()
            marked.add(open_of(point.time_ms, seconds))
            later = [one for one in points[number + 1 :] if open_of(one.time_ms, seconds) > max(marked)]
            if later:
                marked.add(open_of(later[0].time_ms, seconds))
        reader.take(builder)
    assert {candle.open_ms for candle in reader.shown.values() if candle.partial} == marked
