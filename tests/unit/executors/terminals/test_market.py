"""The played market: a function of time and seed, without jumps, the same when asked again."""

import time

import numpy as np
import pytest

from executors.terminals.paper.broker import personalities
from executors.terminals.paper.broker.market import MINUTE_MS, ORIGIN_MS, Feed, candles_of, grouped, joined
from executors.terminals.paper.broker.player import open_feeds
from executors.terminals.paper.broker.recordings import DIRECTORY, candle_path, load, walk

NOW_MS = 1_790_000_000_000
NAMES = ("EURUSD", "USDJPY", "GBPUSD", "BTCUSD")


@pytest.mark.parametrize("name", NAMES)
def test_recordings_are_compact_and_sane(name: str) -> None:
    assert (DIRECTORY / f"{name}.npz").stat().st_size < 100_000
    recording = load(name)
    assert len(recording.time_ms) >= 10_000
    assert (np.diff(recording.time_ms) > 0).all()
    assert (recording.ask >= recording.bid).all()
    assert recording.bid.min() > 0


def test_the_first_recorded_quotes_are_the_published_ones() -> None:
    recording = load("EURUSD")
    assert [(int(bid), int(ask)) for bid, ask in zip(recording.bid[:3], recording.ask[:3], strict=True)] == [
        (114605, 114643),
        (114608, 114663),
        (114609, 114644),
    ]
    assert list(recording.time_ms[:3] - recording.time_ms[0]) == [0, 102, 155]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 7])
def test_the_loop_joins_without_a_jump(name: str, seed: int) -> None:
    recording = load(name)
    feed = Feed(recording, seed=seed)
    largest = int(np.abs(np.diff(recording.bid)).max())
    last = feed.count_until(NOW_MS)
    ticks = feed.ticks(last - 3 * feed.size, last)
    assert int(np.abs(np.diff(ticks.bid)).max()) <= largest
    assert (np.diff(ticks.time_ms) >= 0).all()


def test_counting_and_reading_agree_at_every_tick() -> None:
    feed = Feed(load("EURUSD"), seed=3)
    last = feed.count_until(NOW_MS)
    ticks = feed.ticks(last - 500, last + 500)
    for index in range(0, 1000, 37):
        number = last - 500 + index
        at, bid, ask = feed.tick(number)
        assert (at, bid, ask) == (ticks.time_ms[index], ticks.bid[index], ticks.ask[index])
        assert feed.count_until(at) >= number + 1
        assert feed.count_until(at - 1) <= number


def test_before_the_origin_there_is_a_market_too() -> None:
    feed = Feed(load("USDJPY"))
    assert feed.count_until(ORIGIN_MS - 86_400_000) < 0
    assert feed.tick(feed.count_until(ORIGIN_MS - 86_400_000) - 1)[0] <= ORIGIN_MS - 86_400_000


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("speed", [1.0, 7.5])
def test_prepared_candles_are_those_of_the_ticks(name: str, speed: float) -> None:
    feed = Feed(load(name), speed=speed, seed=11)
    first = NOW_MS // MINUTE_MS - 300
    prepared = feed.minutes(first, first + 300)
    ticks = feed.ticks(
        feed.count_until(first * MINUTE_MS - 1), feed.count_until((first + 300) * MINUTE_MS - 1)
    )
    counted = candles_of(ticks)
    for column in ("minute", "open", "high", "low", "close", "volume", "spread"):
        assert (getattr(prepared, column) == getattr(counted, column)).all()


@pytest.mark.parametrize("name", NAMES)
def test_hours_hold_their_minutes(name: str) -> None:
    feed = Feed(load(name), seed=2)
    first = NOW_MS // 3_600_000 - 400
    hours = feed.hours(first, first + 400)
    minutes = feed.minutes(first * 60, (first + 400) * 60)
    again = grouped(minutes, minutes.minute // 60 * 60)
    for column in ("minute", "open", "high", "low", "close", "volume", "spread"):
        assert (getattr(hours, column) == getattr(again, column)).all()


def test_a_split_minute_joins_to_the_whole() -> None:
    feed = Feed(load("EURUSD"))
    first = feed.count_until(NOW_MS)
    whole = candles_of(feed.ticks(first, first + 400))
    parts = joined(
        candles_of(feed.ticks(first, first + 150)), candles_of(feed.ticks(first + 150, first + 400))
    )
    assert (whole.close == parts.close).all()
    assert (whole.volume == parts.volume).all()


def test_seed_and_speed_move_the_market_and_nothing_else_does() -> None:
    at = NOW_MS
    plain, again = Feed(load("EURUSD")), Feed(load("EURUSD"))
    assert plain.tick(plain.count_until(at)) == again.tick(again.count_until(at))
    other = Feed(load("EURUSD"), seed=1)
    assert plain.tick(plain.count_until(at)) != other.tick(other.count_until(at))
    quick = Feed(load("EURUSD"), speed=10)
    hour = 3_600_000
    slow_count = plain.count_until(at + 10 * hour) - plain.count_until(at)
    quick_count = quick.count_until(at + hour) - quick.count_until(at)
    assert quick_count == pytest.approx(slow_count, rel=0.25)


def test_a_minute_is_walked_open_high_low_close() -> None:
    path = candle_path(*(np.array([value]) for value in (100, 120, 80, 110)))
    assert (path[0], path.max(), path.min(), path[-1]) == (100, 120, 80, 110)
    assert path.argmax() < path.argmin()
    assert len(path) == 12


def test_random_walks_are_seeded_and_stay_near() -> None:
    first, same, other = (walk("X", 2, 1900.0, 7.0, 18, seed) for seed in (1, 1, 2))
    assert (first.bid == same.bid).all()
    assert (first.bid != other.bid).any()
    assert 0.9 * 190_000 < first.bid.min() <= first.bid.max() < 1.1 * 190_000


def test_all_feeds_open_quickly() -> None:
    started = time.process_time()
    feeds = open_feeds(personalities.load(), speed=1.0, seed=0)
    assert set(NAMES) < set(feeds)
    assert time.process_time() - started < 5
