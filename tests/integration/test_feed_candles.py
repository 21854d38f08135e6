"""Candle queries: own candles from Redis, older ones from a terminal that answers its Celery queue, no seam.

The terminal is a thread on the real queue, which answers from candles made of the same ticks as the feed's own.
"""

import asyncio
import base64
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

import tradedist.celery  # noqa: F401 - configures Celery, as every process that sends tasks does
from charts import candle_query
from charts.candles import CandleBuilder
from charts.market import SourceTick, open_of
from charts.messages import Candle, SymbolInfo
from charts.pipeline import Pipeline
from charts.state import TickStore
from tests.feed import config_of
from tests.valkey import Valkey
from tradedist import keys
from tradedist.clock import now_ms
from tradedist.redis import close_loop_clients, loop_state, loop_ticks
from tradedist.wire import Frame, Kind

SYMBOL = "EURUSD"
MINUTE = 60_000


@pytest.fixture(autouse=True)
def _clear_of_the_minute(terminals: Any) -> None:
    """What is wanted and what is found are of one minute only when no minute begins between the two.

    After the slow part of the set-up.
    """
    if (left_ms := MINUTE - now_ms() % MINUTE) < 6_000:
        time.sleep(left_ms / 1000 + 0.05)


def ticks_between(from_ms: int, to_ms: int, every_ms: int = 7_000) -> list[SourceTick]:
    """A market that never rests: prices follow from the time, so that any two sources agree."""
    first = -(-from_ms // every_ms) * every_ms
    return [
        SourceTick(SYMBOL, time_ms, round(1.1 + (time_ms // every_ms * 7919 % 1000) / 1e5, 5), 1.2, time_ms)
        for time_ms in range(first, to_ms, every_ms)
    ]


def candles_of(ticks: list[SourceTick], seconds: int) -> list[Candle]:
    builder, found = CandleBuilder(SYMBOL, seconds), dict[int, Candle]()
    for tick in ticks:
        builder.add(tick.time_ms, tick.bid, tick.order)
        changes = builder.drain()
        for candle in [*changes.closed, *changes.final, *filter(None, [changes.forming])]:
            found[candle.open_ms] = candle
    return list(found.values())


def values(candles: list[Candle]) -> list[tuple[int, float, float, float, float]]:
    return [(one.open_ms, one.open, one.high, one.low, one.close) for one in candles]


class QueueTerminal:
    """Answers `read_candles` on one terminal's queue, from ticks, as a terminal with `since_ms` of history would."""

    def __init__(
        self, server: Valkey, ticks_url: str, terminal_id: str, since_ms: int, *, mute: bool = False
    ) -> None:
        self.asked: list[tuple[str, int, int, int]] = []
        self._mute = mute
        self._since = since_ms
        self._queue = keys.terminal_queue(terminal_id)
        self._state = redis.Redis.from_url(server.url, decode_responses=True)
        self._ticks = redis.Redis.from_url(ticks_url, decode_responses=True)
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended = True
        self._thread.join(60)
        self._state.close()
        self._ticks.close()

    def _run(self) -> None:
        while not self._ended:
            found: Any = self._state.brpop([self._queue], timeout=0.2)
            if found is None:
                continue
            message = json.loads(found[1])
            assert message["headers"]["task"] == "executors.tasks.read_candles"
            assert message["headers"]["ignore_result"]
            (request_id, symbol, seconds, to_ms, count), _, _ = json.loads(base64.b64decode(message["body"]))
            self.asked.append((symbol, seconds, to_ms, count))
            if self._mute:
                continue
            last = min(to_ms + seconds * 1000, now_ms())
            first = max(self._since, open_of(last, seconds) - (count + 2) * seconds * 1000)
            rows = [
                [one.open_ms, one.open, one.high, one.low, one.close, one.ticks]
                for one in candles_of(ticks_between(first, last), seconds)
                if one.open_ms <= to_ms
            ][-count:]
            self._ticks.rpush(keys.candle_reply(request_id), json.dumps(rows))
            self._ticks.expire(keys.candle_reply(request_id), 30)


@pytest.fixture(autouse=True)
async def _clients(state_redis: Any, ticks_redis: Any) -> AsyncIterator[None]:
    yield
    await close_loop_clients()


@pytest.fixture
def terminals(state_server: Valkey, ticks_server: Valkey, state_redis: Any) -> Iterator[Any]:
    """Makes terminals that answer their queues: `terminals("one", since_ms, priority)`."""
    made: list[QueueTerminal] = []

    def make(terminal_id: str, since_ms: int, priority: int = 1, *, mute: bool = False) -> QueueTerminal:
        config = config_of(terminal_id, tick_priority=priority)
        state_redis.hset(keys.CONFIGS, terminal_id, config.model_dump_json())
        made.append(QueueTerminal(state_server, ticks_server.url, terminal_id, since_ms, mute=mute))
        return made[-1]

    yield make
    for terminal in made:
        terminal.close()


async def feed_with(ticks: list[SourceTick], gap_at_ms: int | None = None) -> None:
    """The feed's own candles of these ticks, in Redis."""
    pipeline, store = Pipeline("test"), TickStore(loop_ticks(), loop_state(), "local")
    pipeline.connected("one", ticks[0].time_ms)
    for number, tick in enumerate(ticks):
        payload = {"p": 1, "t": [[tick.symbol, tick.time_ms, tick.bid, tick.ask]]}
        if gap_at_ms is not None and tick.time_ms >= gap_at_ms:
            payload["g"], gap_at_ms = 1, None
        frame = Frame(Kind.TICKS, "one", 1, 0, number + 1, tick.time_ms, json.dumps(payload).encode())
        pipeline.receive(frame, "tcp", tick.time_ms)
    _, refused = await store.write(pipeline.drain())
    assert refused == []


@pytest.mark.parametrize("seconds", [60, 300, 3600])
async def test_joins_own_and_older_candles_without_a_seam(terminals: Any, seconds: int) -> None:
    moment = now_ms()
    terminal = terminals("one", moment - 10 * 86_400_000)
    await feed_with(ticks_between(moment - 30 * MINUTE - 20_000, moment))
    found = await candle_query.fetch(SYMBOL, seconds, None, None, 100)
    wanted = candles_of(ticks_between(open_of(moment, seconds) - 99 * seconds * 1000, moment), seconds)
    assert not found.partial, found.reason
    assert values(found)[:-1] == values(wanted)[:-1]
    assert found[-1].open_ms == open_of(moment, seconds)
    assert (found[-1].forming, found[-1].close) == (True, wanted[-1].close)
    assert not any(candle.forming for candle in found[:-1])
    assert len(terminal.asked) <= 2


async def test_longer_candles_than_an_hour_are_made_from_hours(terminals: Any) -> None:
    moment = now_ms()
    terminal = terminals("one", moment - 40 * 86_400_000)
    await feed_with(ticks_between(moment - 10 * MINUTE, moment))
    found = await candle_query.fetch(SYMBOL, 86_400, None, None, 10)
    assert [candle.open_ms % 86_400_000 for candle in found] == [0] * 10
    assert {seconds for _, seconds, _, _ in terminal.asked} == {3600}
    wanted = candles_of(ticks_between(open_of(moment, 86_400) - 9 * 86_400_000, moment), 86_400)
    assert values(found)[1:-1] == values(wanted)[1:-1]


async def test_what_was_read_once_is_not_asked_for_again(terminals: Any) -> None:
    moment = now_ms()
    terminal = terminals("one", moment - 10 * 86_400_000)
    await feed_with(ticks_between(moment - 5 * MINUTE, moment))
    first = await candle_query.fetch(SYMBOL, 60, None, None, 200)
    asked = len(terminal.asked)
    again = await candle_query.fetch(SYMBOL, 60, None, None, 200)
    inside = await candle_query.fetch(SYMBOL, 60, first[50].open_ms, first[60].open_ms, 100)
    assert values(again) == values(first)
    assert inside == first[50:60]
    assert len(terminal.asked) == asked
    older = await candle_query.fetch(SYMBOL, 60, None, first[0].open_ms, 300)
    assert len(older) == 300
    assert older[-1].open_ms == first[0].open_ms - MINUTE
    assert len(terminal.asked) == asked + 1


async def test_equal_requests_at_once_ask_once(terminals: Any) -> None:
    moment = now_ms()
    terminal = terminals("one", moment - 10 * 86_400_000)
    answers = await asyncio.gather(*(candle_query.fetch(SYMBOL, 60, None, None, 50) for _ in range(20)))
    assert len(terminal.asked) == 1
    assert all(values(answer) == values(answers[0]) for answer in answers)
    assert len(answers[0]) == 50


async def test_a_hole_in_our_own_candles_is_filled_by_the_terminal(terminals: Any) -> None:
    moment = now_ms()
    terminals("one", moment - 86_400_000)
    start, hole, end = moment - 60 * MINUTE, moment - 40 * MINUTE, moment - 20 * MINUTE
    await feed_with([*ticks_between(start, hole), *ticks_between(end, moment)], gap_at_ms=end)
    found = await candle_query.fetch(SYMBOL, 60, open_of(start, 60), None, 500)
    wanted = candles_of(ticks_between(open_of(start, 60), moment), 60)
    assert values(found)[:-1] == values(wanted)[:-1]
    assert not found.partial


async def test_without_a_terminal_our_own_candles_are_given_and_said_to_be_partial(terminals: Any) -> None:
    moment = now_ms()
    terminal = terminals("one", moment, mute=True)
    await feed_with(ticks_between(moment - 10 * MINUTE, moment))
    found = await candle_query.fetch(SYMBOL, 300, None, None, 100)
    assert found.partial
    assert "in time" in found.reason
    assert 2 <= len(found) <= 3
    await candle_query.fetch(SYMBOL, 300, None, None, 100)
    assert len(terminal.asked) == 1, "a silent terminal is not waited for each time"


async def test_the_next_source_is_asked_when_the_first_is_silent(terminals: Any) -> None:
    moment = now_ms()
    mute = terminals("one", moment, 1, mute=True)
    second = terminals("two", moment - 86_400_000, 2)
    found = await candle_query.fetch(SYMBOL, 60, None, None, 30)
    assert len(found) == 30
    assert not found.partial
    assert (len(mute.asked), len(second.asked)) == (1, 1)


async def test_where_history_begins_there_is_no_more_and_that_is_all(terminals: Any) -> None:
    moment = now_ms()
    terminal = terminals("one", moment - 20 * MINUTE)
    found = await candle_query.fetch(SYMBOL, 60, None, None, 100)
    assert 20 <= len(found) <= 21
    assert not found.partial
    assert len(terminal.asked) <= 3


async def test_seconds_are_our_own_only(terminals: Any) -> None:
    moment = now_ms()
    terminal = terminals("one", moment - 86_400_000)
    ticks = ticks_between(moment - 2 * MINUTE, moment, 500)
    await feed_with(ticks)
    found = await candle_query.fetch(SYMBOL, 1, None, None, 50)
    assert values(found) == values(candles_of(ticks, 1)[-50:])
    assert terminal.asked == []


async def test_refuses_a_timeframe_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="choose one of 1, 60, 120"):
        await candle_query.fetch(SYMBOL, 7, None, None, 50)


async def test_an_empty_range_is_empty(terminals: Any) -> None:
    assert await candle_query.fetch(SYMBOL, 60, 5 * MINUTE, 5 * MINUTE, 10) == []


async def test_lists_symbols_by_name(ticks_redis: Any) -> None:
    for name in ("USDJPY", "EURUSD"):
        info = SymbolInfo(
            symbol=name,
            digits=5,
            point=1e-5,
            volume_min=0.01,
            volume_max=1,
            volume_step=0.01,
            contract_size=1e5,
        )
        ticks_redis.hset(keys.SYMBOLS, name, info.model_dump_json())
    assert [info.symbol for info in await candle_query.symbols()] == ["EURUSD", "USDJPY"]
