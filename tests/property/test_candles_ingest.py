"""From frames by two paths to candles. Invariants, whatever UDP loses, doubles or reorders:

1. With TCP every tick counts exactly once, in the source's order.
2. Without TCP what arrived counts exactly once; what did not leaves a candle marked partial.
3. A feed killed at any moment and restored from its last stored batch ends with the same candles.
4. Of several sources one counts at a time, and failing over loses no tick that the next one had.
"""

import json
from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from charts.candles import CandleBuilder
from charts.ingest import CATCH_UP_MS, PATIENCE_MS, SILENT_MS, STANDBY_MS, Router
from charts.market import SourceTick
from charts.messages import Candle
from charts.pipeline import Batch, Pipeline
from tradedist.wire import Frame, Kind

START_MS = 1_700_000_000_000
BOOT = 5
SYMBOL = "EURUSD"

prices = st.floats(0.5, 2.0).map(lambda price: round(price, 5))
# Frames of up to three ticks each, 0 to 400 ms apart.
rounds = st.lists(st.tuples(st.integers(1, 400), st.lists(prices, max_size=3)), min_size=1, max_size=40)
ways = st.sampled_from(["udp", "tcp", "both", "double", "late"])


def frames_of(
    sent: Sequence[tuple[int, list[float]]], sender: str = "demo-1", boot: int = BOOT
) -> list[Frame]:
    time_ms, frames = START_MS, []
    for number, (step, group) in enumerate(sent):
        time_ms += step
        ticks = [[SYMBOL, time_ms - len(group) + place, price, price] for place, price in enumerate(group)]
        payload = json.dumps({"p": 1, "t": ticks}).encode()
        frames.append(Frame(Kind.TICKS, sender, boot, 0, number + 1, time_ms, payload))
    return frames


class Redis:
    """What a reader of the stored batches has."""

    def __init__(self) -> None:
        self.candles: dict[int, dict[int, Candle]] = {1: {}, 60: {}}
        self.final: dict[int, list[int]] = {1: [], 60: []}
        self.symbols: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.ticks: list[SourceTick] = []

    def store(self, batch: Batch) -> None:
        self.sources |= batch.sources
        for symbol, one in batch.symbols.items():
            self.symbols[symbol] = one.state
            self.ticks += one.ticks
            for seconds, texts in one.final.items():
                for text in texts:
                    candle = Candle.model_validate_json(text)
                    self.final[seconds].append(candle.open_ms)
                    self.candles[seconds][candle.open_ms] = candle
            for seconds in (1, 60):
                for candle in [*one.settling[seconds], *filter(None, [one.forming[seconds]])]:
                    self.candles[seconds][candle.open_ms] = candle

    def rows(self, seconds: int) -> list[tuple[int, float, float, float, float, int]]:
        assert self.final[seconds] == sorted(set(self.final[seconds])), "each final candle once, ascending"
        return [
            (candle.open_ms, candle.open, candle.high, candle.low, candle.close, candle.ticks)
            for _, candle in sorted(self.candles[seconds].items())
        ]


def expected(frames: Iterable[Frame], seconds: int) -> list[tuple[int, float, float, float, float, int]]:
    builder, redis = CandleBuilder(SYMBOL, seconds), {}
    for frame in frames:
        for number, (_, time_ms, bid, _) in enumerate(json.loads(frame.payload)["t"]):
            builder.add(time_ms, bid, frame.seq * 1000 + number)
        changes = builder.drain()
        for candle in [*changes.closed, *changes.final, *filter(None, [changes.forming])]:
            redis[candle.open_ms] = candle
    return [
        (candle.open_ms, candle.open, candle.high, candle.low, candle.close, candle.ticks)
        for _, candle in sorted(redis.items())
    ]


def play(
    pipeline: Pipeline,
    frames: Sequence[Frame],
    how: Sequence[str],
    redis: Redis | None = None,
    every: int = 1,
) -> list[tuple[Frame, str]]:
    """Deliver the frames: TCP all in order, UDP as `how` says (a late datagram comes after three more frames)."""
    pending: list[tuple[int, Frame]] = []
    log: list[tuple[Frame, str]] = []

    def give(frame: Frame, path: str, now_ms: int) -> None:
        log.append((frame, path))
        pipeline.receive(frame, "udp" if path == "udp" else "tcp", now_ms)

    for number, frame in enumerate(frames):
        now_ms = frame.time_ms + 1
        way = how[number % len(how)]
        if way in ("both", "double", "udp"):
            give(frame, "udp", now_ms)
        if way == "double":
            give(frame, "udp", now_ms)
        if way == "late":
            pending.append((number + 3, frame))
        give(frame, "tcp", now_ms)
        for due, late in list(pending):
            if due <= number:
                pending.remove((due, late))
                give(late, "udp", now_ms)
        pipeline.tick_clock(now_ms)
        if redis is not None and number % every == 0:
            redis.store(pipeline.drain())
    return log


@given(rounds, st.lists(ways, min_size=1, max_size=12), st.integers(1, 5))
def test_with_tcp_every_tick_counts_once_whatever_udp_does(
    sent: list[tuple[int, list[float]]], how: list[str], every: int
) -> None:
    frames, redis, pipeline = frames_of(sent), Redis(), Pipeline("test")
    pipeline.connected("demo-1", START_MS)
    play(pipeline, frames, how, redis, every)
    redis.store(pipeline.drain())
    for seconds in (1, 60):
        assert redis.rows(seconds) == expected(frames, seconds)
    assert [tick.bid for tick in redis.ticks] == [bid for _, group in sent for bid in group]
    assert pipeline.totals()["frames_missed"] == 0


@given(rounds, st.lists(ways, min_size=1, max_size=6), st.permutations(range(8)), st.data())
def test_datagrams_in_any_order_are_put_in_order_when_tcp_fills_the_holes(
    sent: list[tuple[int, list[float]]], how: list[str], order: list[int], data: st.DataObject
) -> None:
    """UDP runs ahead of TCP by up to eight frames, shuffled and with losses; TCP follows with all."""
    frames, redis, pipeline = frames_of(sent), Redis(), Pipeline("test")
    pipeline.connected("demo-1", START_MS)
    for first in range(0, len(frames), 8):
        group = frames[first : first + 8]
        now_ms = group[-1].time_ms
        for place in order:
            if place < len(group) and data.draw(st.booleans()):
                pipeline.receive(group[place], "udp", now_ms)
        for frame in group:
            pipeline.receive(frame, "tcp", now_ms)
        redis.store(pipeline.drain())
    assert [tick.bid for tick in redis.ticks] == [bid for _, group in sent for bid in group]


@given(rounds, st.sets(st.integers(0, 39)))
def test_without_tcp_what_arrived_counts_once_and_holes_are_marked(
    sent: list[tuple[int, list[float]]], lost: set[int]
) -> None:
    frames, redis, pipeline = frames_of(sent), Redis(), Pipeline("test")
    arrived = [frame for number, frame in enumerate(frames) if number not in lost]
    now_ms = START_MS
    for frame in arrived:
        now_ms = max(now_ms, frame.time_ms)
        pipeline.receive(frame, "udp", now_ms)
        pipeline.receive(frame, "udp", now_ms)
    # no TCP in time to catch up, then the usual patience
    for later in (CATCH_UP_MS + 1, CATCH_UP_MS + PATIENCE_MS + 2, CATCH_UP_MS + 2 * PATIENCE_MS + 3):
        pipeline.tick_clock(now_ms + later)
    redis.store(pipeline.drain())
    assert [tick.bid for tick in redis.ticks] == [
        bid for number, (_, group) in enumerate(sent) if number not in lost for bid in group
    ]
    ticks_in = {frame.seq for frame in arrived if json.loads(frame.payload)["t"]}
    holes = [seq for seq in range(1, max(ticks_in, default=0)) if seq - 1 in lost]
    if holes:
        after = min(seq for seq in ticks_in if seq > holes[-1])
        time_ms = json.loads(frames[after - 1].payload)["t"][0][1]
        candle = redis.candles[60][time_ms - time_ms % 60_000]
        assert candle.partial


@given(
    rounds, st.integers(0, 39), st.integers(0, 10), st.integers(1, 6), st.lists(ways, min_size=1, max_size=6)
)
def test_a_killed_feed_goes_on_without_gap_or_double(
    sent: list[tuple[int, list[float]]], at: int, unread: int, every: int, how: list[str]
) -> None:
    """Killed after `at` frames, some of them not stored yet; `unread` more are lost in its sockets."""
    frames, redis, pipeline = frames_of(sent), Redis(), Pipeline("first")
    pipeline.connected("demo-1", START_MS)
    play(pipeline, frames[:at], how, redis, every)
    again = Pipeline("second")
    now_ms = frames[min(at, len(frames) - 1)].time_ms
    again.restore(redis.symbols, redis.sources, now_ms)
    ahead = frames[at + unread :]
    if ahead:
        again.receive(ahead[0], "udp", now_ms)  # a datagram before TCP is connected has to wait
    position = again.connected("demo-1", now_ms)
    assert position is not None
    assert position.boot_id in (0, BOOT)
    for frame in frames[position.high : at + unread]:  # what the source repeats comes at once
        again.receive(frame, "tcp", now_ms)
    play(again, frames[max(at + unread, position.high) :], how, redis, every)
    redis.store(again.drain())
    for seconds in (1, 60):
        assert redis.rows(seconds) == expected(frames, seconds)
    assert again.totals()["frames_missed"] == 0


def test_an_earlier_start_of_the_source_is_not_taken_any_more() -> None:
    pipeline = Pipeline("test")
    old, new = frames_of([(1, [1.0])], boot=1), frames_of([(1, [2.0])], boot=2)
    pipeline.receive(new[0], "udp", START_MS)
    pipeline.receive(old[0], "udp", START_MS)
    batch = pipeline.drain()
    assert [tick.bid for tick in batch.symbols[SYMBOL].ticks] == [2.0]
    assert pipeline.totals()["frames_old_boot"] == 1


def test_replayed_frames_of_the_past_are_not_taken_by_a_new_feed() -> None:
    pipeline = Pipeline("test")
    pipeline.receive(frames_of([(1, [1.0])])[0], "udp", START_MS + 120_000)
    assert not pipeline.dirty
    assert pipeline.counts["frames_skewed"] == 1


# --- Several sources ---

sources = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 1_500), st.booleans()), min_size=1, max_size=80
)


@given(sources)
def test_one_source_counts_at_a_time_and_no_tick_twice(events: list[tuple[str, int, bool]]) -> None:
    """Each event: a source is heard, with or without a tick. Priorities by name: a is the best."""
    router, heard = Router(), dict[str, float]()
    now_ms, newest = START_MS, 0
    counted: list[SourceTick] = []
    for number, (source, step, ticks) in enumerate(events):
        now_ms += step
        heard[source] = now_ms
        before = router.active
        if ticks:
            tick = SourceTick(SYMBOL, now_ms, 1.0, 1.0, number)
            taken = router.route(source, ord(source), tick, heard, now_ms)
            counted += taken
            if source == router.active:
                assert tick in taken
            if before and now_ms - heard[before] <= SILENT_MS and source > before:
                assert router.active == before, "a worse source does not push out a living better one"
            if not before or source <= before:
                assert router.active == source, "the better source counts as soon as it is back"
        else:
            counted += router.expire(heard, now_ms)
        newest = max([newest, *(tick.time_ms for tick in counted)])
    assert len({tick.order for tick in counted}) == len(counted), "no tick twice"
    assert [tick.time_ms for tick in counted] == sorted(tick.time_ms for tick in counted)


def test_failing_over_brings_what_the_next_source_had_meanwhile() -> None:
    router, heard, taken = Router(), {"a": 0.0, "b": 0.0}, []
    for moment in range(0, 6_000, 100):  # both tick, a falls silent at 1 s
        for source, priority in (("a", 1), ("b", 2)):
            if source == "a" and moment >= 1_000:
                continue
            heard[source] = moment
            taken += router.route(
                source, priority, SourceTick(SYMBOL, moment, 1.0, 1.0, moment), heard, moment
            )
    assert router.active == "b"
    assert [tick.time_ms for tick in taken] == list(range(0, 6_000, 100))
    assert STANDBY_MS > SILENT_MS


def test_a_symbol_that_the_best_source_stopped_quoting_fails_over_too() -> None:
    router, heard, taken = Router(), {"a": 0.0, "b": 0.0}, []
    for moment in range(0, 20_000, 500):  # a is heard all the time, but has no tick of this symbol after 1 s
        heard["a"] = heard["b"] = moment
        if moment < 1_000:
            taken += router.route("a", 1, SourceTick(SYMBOL, moment, 1.0, 1.0, moment), heard, moment)
        taken += router.route("b", 2, SourceTick(SYMBOL, moment + 1, 1.0, 1.0, moment), heard, moment)
    assert router.active == "b"
    assert router.switches == 1
