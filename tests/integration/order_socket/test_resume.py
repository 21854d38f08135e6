"""The order socket after a break: cursors, snapshots, and a Redis that goes and comes back."""

import threading
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError

from tests.integration.live import (
    Socket,
    a_report,
    a_signal,
    publish_report,
)
from tests.valkey import Valkey
from tradedist import keys

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "/ws/orders/"


# --- Resume ---


async def test_a_short_break_is_healed_unseen(cookie: str, state_redis: Any) -> None:
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        state_redis.client_kill_filter(_type="normal", skipme=True)
        state_redis.client_kill_filter(_type="pubsub", skipme=True)
        assert (await socket.read())[
            "type"
        ] == "snapshot"  # channels may have said something; no "down" before it
        publish_report(state_redis, a_report("alpha", seq=3))
        assert await read_reports(socket, 1) == [3]


async def read_reports(socket: Socket, count: int) -> list[int]:
    numbers: list[int] = []
    while len(numbers) < count:
        message = await socket.read()
        if message["type"] == "report":
            numbers.append(message["report"]["report_seq"])
    return numbers


@pytest.mark.parametrize("by_query", [True, False])
async def test_a_cursor_brings_what_was_missed(cookie: str, state_redis: Any, by_query: bool) -> None:
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        publish_report(state_redis, a_report("alpha", seq=1))
        cursor = (await socket.read_until("report"))["cursor"]
    for seq in range(2, 252):
        publish_report(state_redis, a_report("hidden", seq=seq))
        publish_report(state_redis, a_report("alpha", seq=seq))
    async with Socket(f"{PATH}?cursor={cursor}" if by_query else PATH, cookie=cookie) as socket:
        if not by_query:
            await socket.read_until("snapshot")
            await socket.send({"type": "resume", "cursor": cursor})
        assert await read_reports(socket, 250) == list(range(2, 252))
        assert (await socket.read_until("resumed"))["cursor"].split(":")[0] == cursor.split(":")[0]
        publish_report(state_redis, a_report("alpha", seq=252))
        assert await read_reports(socket, 1) == [252]


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "0123456789abcdef:1-1", "{epoch}:9999999999999-0", "{epoch}:-1", "{epoch}:1", "{epoch}:0-0:5"],
)
async def test_an_unknown_cursor_brings_a_snapshot(cookie: str, state_redis: Any, cursor: str) -> None:
    publish_report(state_redis, a_report("alpha"))
    async with Socket(PATH, cookie=cookie) as socket:
        epoch = (await socket.read_until("snapshot"))["cursor"].partition(":")[0]
        await socket.send({"type": "resume", "cursor": cursor.format(epoch=epoch)})
        assert (await socket.read())["type"] == "snapshot"


async def test_a_trimmed_cursor_brings_a_snapshot(cookie: str, state_redis: Any) -> None:
    ids = [publish_report(state_redis, a_report("alpha", seq=seq)) for seq in range(10)]
    async with Socket(PATH, cookie=cookie) as socket:
        epoch = (await socket.read_until("snapshot"))["cursor"].partition(":")[0]
        state_redis.xtrim(keys.REPORTS, maxlen=4, approximate=False)
        await socket.send({"type": "resume", "cursor": f"{epoch}:{ids[4]}"})
        assert (await socket.read())["type"] == "snapshot"
        await socket.send({"type": "resume", "cursor": f"{epoch}:{ids[6]}"})
        assert await read_reports(socket, 3) == [7, 8, 9]


async def test_too_much_missed_brings_a_snapshot(cookie: str, state_redis: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("executors.consumers.MAX_REPLAY", 5)
    ids = [publish_report(state_redis, a_report("alpha", seq=seq)) for seq in range(10)]
    async with Socket(PATH, cookie=cookie) as socket:
        epoch = (await socket.read_until("snapshot"))["cursor"].partition(":")[0]
        await socket.send({"type": "resume", "cursor": f"{epoch}:{ids[0]}"})
        assert (await socket.read())["type"] == "snapshot"


async def test_nothing_is_missed_while_connecting_and_resuming(
    cookie: str, state_redis: Any, state_server: Valkey
) -> None:
    """Reports come without pause; whatever the moment of the connect, the cursors join without gap or double."""
    total = 1_500
    publish_report(state_redis, a_report("alpha", seq=0))

    def publish() -> None:
        with state_server.client() as client:
            for seq in range(1, total):
                publish_report(client, a_report("alpha", seq=seq))
                time.sleep(0.0005)

    async with Socket(PATH, cookie=cookie) as socket:
        cursor = (await socket.read_until("snapshot"))["cursor"]
    publisher = threading.Thread(target=publish)
    publisher.start()
    seen: list[int] = []
    while not seen or seen[-1] < total - 1:
        async with Socket(f"{PATH}?cursor={cursor}", cookie=cookie) as socket:
            for _ in range(120):
                message = await socket.read()
                assert message["type"] != "snapshot"
                if message["type"] == "report":
                    seen.append(message["report"]["report_seq"])
                    cursor = message["cursor"]
                    if seen[-1] == total - 1:
                        break
    await sync_to_async(publisher.join)()
    assert seen == list(range(1, total))


# --- Redis goes and comes back ---


async def test_a_killed_redis_costs_no_report(cookie: str, state_redis: Any, state_server: Valkey) -> None:
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        publish_report(state_redis, a_report("alpha", seq=1))
        assert await read_reports(socket, 1) == [1]
        await sync_to_async(state_server.kill)()
        status = await socket.read_until("status")
        assert status["redis"] == "down"
        await socket.send({"type": "signal", "request_id": "r", "signal": a_signal("alpha")})
        assert (await socket.read_until("refused"))["code"] == "ACCEPT_UNKNOWN"
        await sync_to_async(state_server.start)()
        with state_server.client() as client:
            publish_report(client, a_report("alpha", seq=2))
            kinds: dict[str, Any] = {}
            while not {"status", "report", "snapshot"} <= kinds.keys():
                message = await socket.read()
                kinds[message["type"]] = message
            assert kinds["status"]["redis"] == "up"
            assert kinds["report"]["report"]["report_seq"] == 2
            publish_report(client, a_report("alpha", seq=3))
            assert await read_reports(socket, 1) == [3]


async def test_a_frozen_redis_is_noticed_and_costs_no_report(
    cookie: str, state_redis: Any, state_server: Valkey
) -> None:
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        state_server.freeze()
        assert (await socket.read_until("status", 8))["redis"] == "down"
        state_server.cont()
        publish_report(state_redis, a_report("alpha", seq=7))
        kinds: dict[str, Any] = {}
        while not {"status", "report", "snapshot"} <= kinds.keys():
            message = await socket.read(8)
            kinds[message["type"]] = message
        assert kinds["status"]["redis"] == "up"
        assert kinds["report"]["report"]["report_seq"] == 7


async def test_a_database_that_fails_closes_the_socket(cookie: str, monkeypatch: Any) -> None:
    async def fail(login: Any) -> None:
        raise OperationalError("the database is away")

    monkeypatch.setattr("tradedist.socket_auth.SessionLogin.user", fail)
    async with Socket(PATH, cookie=cookie) as socket:
        assert (await socket.read())["code"] == "INTERNAL"
        assert await socket.closed() == 1011


async def test_a_wiped_redis_brings_a_snapshot_and_voids_cursors(cookie: str, state_redis: Any) -> None:
    async with Socket(PATH, cookie=cookie) as socket:
        first = await socket.read_until("snapshot")
        publish_report(state_redis, a_report("alpha", seq=1))
        cursor = (await socket.read_until("report"))["cursor"]
        state_redis.delete(keys.REPORTS, keys.REPORTS_EPOCH)
        second = await socket.read_until("snapshot")
        assert second["cursor"].partition(":")[0] != first["cursor"].partition(":")[0]
        publish_report(state_redis, a_report("alpha", seq=2))
        assert await read_reports(socket, 1) == [2]
    async with Socket(f"{PATH}?cursor={cursor}", cookie=cookie) as socket:
        assert (await socket.read())["type"] == "snapshot"


async def test_a_socket_waits_for_a_redis_that_is_away(
    cookie: str, state_server: Valkey, monkeypatch: Any
) -> None:
    monkeypatch.setattr("tradedist.sockets.READY_LIMIT_S", 0.2)
    await sync_to_async(state_server.kill)()
    async with Socket(PATH, cookie=cookie) as socket:
        assert await socket.read() == {"n": 1, "type": "status", "redis": "down"}
        await sync_to_async(state_server.start)()
        assert (await socket.read_until("status"))["redis"] == "up"
        await socket.read_until("snapshot")


async def test_what_is_no_report_is_passed_over(cookie: str, state_redis: Any) -> None:
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        state_redis.xadd(keys.REPORTS, {"report": "{}"})
        state_redis.xadd(keys.REPORTS, {"other": "x"})
        state_redis.publish(keys.RTS_CHANGES, "garbage")
        publish_report(state_redis, a_report("alpha", seq=5))
        assert await read_reports(socket, 1) == [5]
