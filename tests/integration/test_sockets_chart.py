"""The chart socket through the real ASGI application and a real Valkey."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from charts.messages import Candle, SymbolInfo, Tick
from tests.integration.live import Socket, a_candle, make_user, publish_market, session_cookie
from tests.valkey import Valkey
from tradedist import hub, keys
from tradedist.clock import now_ms

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "/ws/chart/"
MINUTE = 60_000


@pytest.fixture(autouse=True)
async def live(state_redis: Any, ticks_redis: Any, settings: Any) -> AsyncIterator[None]:
    settings.ALLOWED_HOSTS = ["testserver"]
    for symbol in ("EURUSD", "USDJPY"):
        describe(ticks_redis, symbol)
    yield
    await hub.close_current()


def describe(redis: Any, symbol: str) -> None:
    info = SymbolInfo(
        symbol=symbol,
        digits=5,
        point=1e-5,
        volume_min=0.01,
        volume_max=100,
        volume_step=0.01,
        contract_size=100_000,
    )
    redis.hset(keys.SYMBOLS, symbol, info.model_dump_json())


@pytest.fixture
def cookie(state_redis: Any) -> str:
    return session_cookie(make_user("viewer", role="viewer"))


def keep(redis: Any, *candles: Candle) -> None:
    """As the feed does: closed ones in the stream, the forming one beside it."""
    for candle in candles:
        if candle.forming:
            redis.set(keys.forming(candle.symbol, candle.seconds), candle.model_dump_json())
        else:
            name = keys.candles(candle.symbol, candle.seconds)
            redis.xadd(name, {"candle": candle.model_dump_json()}, id=f"{candle.open_ms}-0")


def this_minute() -> int:
    return now_ms() // MINUTE * MINUTE


def in_one_minute(needed_s: float = 8.0) -> int:
    """The current minute's start; waits for a new one when this one ends within the test."""
    left_s = 60 - time.time() % 60
    if left_s < needed_s:
        time.sleep(left_s + 0.05)
    return this_minute()


async def test_a_chart_begins_with_a_snapshot(cookie: str, ticks_redis: Any) -> None:
    start = in_one_minute()
    keep(ticks_redis, *(a_candle(start - back * MINUTE, 1.1 + back / 1000) for back in range(30, 0, -1)))
    keep(ticks_redis, a_candle(start, 1.2, forming=True))
    latest = Tick(symbol="EURUSD", time_ms=start + 5, bid=1.2, ask=1.2001)
    ticks_redis.hset(keys.LATEST_TICKS, "EURUSD", latest.model_dump_json())
    async with Socket(PATH, cookie=cookie) as socket:
        assert await socket.silent(0.1)
        await socket.send({"type": "subscribe", "symbol": "EURUSD", "count": 20})
        snapshot = await socket.read()
        assert snapshot["type"] == "snapshot"
        assert (snapshot["symbol"], snapshot["seconds"]) == ("EURUSD", 60)
        assert [row[0] for row in snapshot["candles"]] == [start - back * MINUTE for back in range(20, 0, -1)]
        assert snapshot["candles"][-1] == [start - MINUTE, 1.1, 1.101, 1.1, 1.101, 1]
        assert snapshot["forming"][0] == start
        assert snapshot["tick"] == {"time_ms": start + 5, "bid": 1.2, "ask": 1.2001}
        publish_market(ticks_redis, 1.3, candles=(a_candle(start, 1.3, forming=True, ticks=2),))
        update = await socket.read()
        assert (update["type"], update["symbol"], update["seconds"]) == ("update", "EURUSD", 60)
        assert update["tick"]["bid"] == 1.3
        assert update["candles"] == [[start, 1.1, 1.3, 1.1, 1.3, 2]]


async def test_a_chart_may_be_asked_for_in_the_address(cookie: str) -> None:
    async with Socket(f"{PATH}?symbol=USDJPY&seconds=1&count=5", cookie=cookie) as socket:
        snapshot = await socket.read()
        assert (snapshot["type"], snapshot["symbol"], snapshot["seconds"]) == ("snapshot", "USDJPY", 1)
    async with Socket(f"{PATH}?symbol=USDJPY&count=many", cookie=cookie) as socket:
        assert (await socket.read())["code"] == "INVALID"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "subscribe", "symbol": "NOSUCH"}, "UNKNOWN_SYMBOL"),
        ({"type": "subscribe", "symbol": "EURUSD", "seconds": 61}, "INVALID"),
        ({"type": "subscribe", "symbol": "EURUSD", "count": 0}, "INVALID"),
        ({"type": "subscribe", "symbol": "EUR USD"}, "INVALID"),
        ({"type": "watch", "symbols": ["X"] * 101}, "INVALID"),
        ({"type": "subscribe"}, "INVALID"),
        ({"type": "order"}, "UNKNOWN_TYPE"),
    ],
)
async def test_what_cannot_be_is_answered(cookie: str, message: dict[str, Any], code: str) -> None:
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.send(message)
        answer = await socket.read()
        assert (answer["type"], answer["code"]) == ("error", code), answer
        await socket.send({"type": "ping", "at": 3})
        assert (await socket.read())["type"] == "pong"


async def test_who_is_not_signed_in_sees_no_chart(state_redis: Any) -> None:
    async with Socket(PATH) as socket:
        assert (await socket.read())["code"] == "NOT_SIGNED_IN"
        assert await socket.closed() == 4401


async def test_nothing_is_missed_between_snapshot_and_updates(
    cookie: str, ticks_redis: Any, ticks_server: Valkey
) -> None:
    """Candles close all the time; whenever the chart is asked for, it has each of them, in the end as it closed."""
    total = 600
    first = this_minute() // 1000 * 1000 - total * 1000

    def publish() -> None:
        with ticks_server.client() as client:
            for place in range(total):
                candle = a_candle(first + place * 1000, place, seconds=1, ticks=9)
                keep(client, candle)
                forming = a_candle(first + (place + 1) * 1000, -1, seconds=1, forming=True)
                publish_market(client, place, candles=(candle, forming))
                time.sleep(0.003)

    publisher = threading.Thread(target=publish)
    publisher.start()
    last = first + (total - 1) * 1000
    for _ in range(6):
        shown: dict[int, list[float]] = {}
        async with Socket(PATH, cookie=cookie) as socket:
            await socket.send({"type": "subscribe", "symbol": "EURUSD", "seconds": 1, "count": 1000})
            for _ in range(25):
                message = await socket.read()
                for row in message["candles"]:
                    shown[row[0]] = row
                if shown.get(last, [0, 0, 0, 0, -1])[4] == total - 1:
                    break
        closed = [row for row in shown.values() if row[4] != -1]
        times = [row[0] for row in closed]
        assert times == list(range(int(first), int(max(times)) + 1, 1000))
        assert [row[4] for row in closed] == list(range(len(closed)))
    await sync_to_async(publisher.join)()


async def test_closed_candles_survive_conflation(cookie: str, ticks_redis: Any) -> None:
    first = this_minute() - 500 * MINUTE
    async with Socket(f"{PATH}?symbol=EURUSD", cookie=cookie) as socket:
        await socket.read_until("snapshot")
        pipe = ticks_redis.pipeline()
        for place in range(400):
            closed = a_candle(first + place * MINUTE, 2 + place)
            publish_market(
                pipe, place, candles=(closed, a_candle(first + (place + 1) * MINUTE, 1, forming=True))
            )
        pipe.execute()
        closes: dict[int, float] = {}
        messages = 0
        while closes.get(first + 399 * MINUTE) != 401:
            update = await socket.read()
            messages += 1
            opens = [row[0] for row in update["candles"]]
            assert opens == sorted(set(opens))
            closes |= {row[0]: row[4] for row in update["candles"]}
    assert [closes[first + place * MINUTE] for place in range(400)] == [2 + place for place in range(400)]
    assert messages < 100


async def test_another_subscription_replaces_the_chart(cookie: str, ticks_redis: Any) -> None:
    start = in_one_minute()
    async with Socket(f"{PATH}?symbol=EURUSD", cookie=cookie) as socket:
        await socket.read_until("snapshot")
        publish_market(ticks_redis, 1.2, candles=(a_candle(start, 1.2, forming=True),))
        await socket.read_until("update")
        await socket.send({"type": "subscribe", "symbol": "USDJPY"})
        assert (await socket.read_until("snapshot"))["symbol"] == "USDJPY"
        publish_market(ticks_redis, 1.2, candles=(a_candle(start, 1.2, forming=True),))
        publish_market(ticks_redis, 150.0, symbol="USDJPY")
        update = await socket.read()
        assert (update["symbol"], update["candles"]) == ("USDJPY", [])
        assert await socket.silent()


async def test_what_the_feed_saw_in_part_keeps_its_beginning(
    cookie: str, ticks_redis: Any, monkeypatch: Any
) -> None:
    """A feed that began within the minute; the terminal knows how the minute began."""
    start = in_one_minute()
    whole = a_candle(start, 1.4, forming=True, ticks=9).model_copy(
        update={"open": 1.3, "low": 1.05, "high": 1.5}
    )

    async def fetch(*arguments: object) -> list[Candle]:
        return [whole]

    monkeypatch.setattr("charts.consumers.candle_query.fetch", fetch)
    async with Socket(f"{PATH}?symbol=EURUSD", cookie=cookie) as socket:
        assert (await socket.read_until("snapshot"))["forming"] == [start, 1.3, 1.5, 1.05, 1.4, 9]
        for forming in (True, False):
            part = a_candle(start, 1.6, forming=forming, ticks=2).model_copy(update={"partial": True})
            publish_market(ticks_redis, 1.6, candles=(part,))
            assert (await socket.read_until("update"))["candles"] == [[start, 1.3, 1.6, 1.05, 1.6, 9]]


async def test_longer_timeframes_are_joined_live(cookie: str, ticks_redis: Any) -> None:
    span = 300_000
    start = now_ms() // span * span
    if start + span - now_ms() < 5_000:
        await asyncio.sleep(5.1)
        start = now_ms() // span * span
    keep(ticks_redis, a_candle(start - span, 1.05), a_candle(start, 1.5, forming=True, ticks=3))
    async with Socket(f"{PATH}?symbol=EURUSD&seconds=300", cookie=cookie) as socket:
        snapshot = await socket.read_until("snapshot")
        assert [row[0] for row in snapshot["candles"]] == [start - span]
        assert snapshot["forming"] == [start, 1.1, 1.5, 1.1, 1.5, 3]
        publish_market(
            ticks_redis,
            1.4,
            candles=(a_candle(start, 1.6, ticks=5), a_candle(start + MINUTE, 1.0, forming=True, ticks=2)),
        )
        update = await socket.read_until("update")
        assert update["candles"][-1] == [start, 1.1, 1.6, 1.0, 1.0, 7]
        publish_market(ticks_redis, 1.4, candles=(a_candle(start + span, 1.2, forming=True),))
        update = await socket.read_until("update")
        assert update["candles"] == [[start + span, 1.1, 1.2, 1.1, 1.2, 1]]


async def test_the_watch_list_gets_the_latest_ticks(cookie: str, ticks_redis: Any) -> None:
    tick = Tick(symbol="USDJPY", time_ms=now_ms(), bid=150.0, ask=150.1)
    ticks_redis.hset(keys.LATEST_TICKS, "USDJPY", tick.model_dump_json())
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.send({"type": "watch", "symbols": ["USDJPY", "EURUSD", "USDJPY"]})
        assert (await socket.read())["ticks"] == {
            "USDJPY": {"time_ms": tick.time_ms, "bid": 150.0, "ask": 150.1}
        }
        for place in range(200):
            publish_market(ticks_redis, 1.0 + place, time_ms=now_ms())
        bids: list[float] = []
        while not bids or bids[-1] != 200:
            bids.append((await socket.read())["ticks"]["EURUSD"]["bid"])
        assert bids == sorted(bids)
        assert len(bids) < 100
        await socket.send({"type": "watch", "symbols": []})
        await socket.send({"type": "ping"})
        await socket.read_until("pong")
        publish_market(ticks_redis, 1.0)
        assert await socket.silent()


async def test_a_killed_tick_redis_comes_back(cookie: str, ticks_server: Valkey) -> None:
    async with Socket(f"{PATH}?symbol=EURUSD", cookie=cookie) as socket:
        await socket.read_until("snapshot")
        await sync_to_async(ticks_server.kill)()
        assert (await socket.read_until("status"))["redis"] == "down"
        await socket.send({"type": "subscribe", "symbol": "EURUSD"})
        assert (await socket.read_until("error"))["code"] == "UNAVAILABLE"
        await sync_to_async(ticks_server.start)()
        with ticks_server.client() as client:
            assert (await socket.read_until("status"))["redis"] == "up"
            await socket.read_until("snapshot")
            publish_market(client, 1.2)
            assert (await socket.read_until("update"))["tick"]["bid"] == 1.2


async def test_what_is_no_market_update_is_passed_over(cookie: str, ticks_redis: Any) -> None:
    async with Socket(f"{PATH}?symbol=EURUSD", cookie=cookie) as socket:
        await socket.read_until("snapshot")
        ticks_redis.publish(keys.market_channel("EURUSD"), "garbage")
        publish_market(ticks_redis, 1.25)
        assert (await socket.read())["tick"]["bid"] == 1.25
