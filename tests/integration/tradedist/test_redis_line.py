"""The line to Redis: many commands at once on one connection, each answered by its own reply or by an error that says so."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from tests.valkey import Valkey
from tradedist import redis_line
from tradedist.hub import read_entries
from tradedist.redis_line import Line


@pytest.fixture
async def server(make_valkey: Callable[..., Valkey]) -> Valkey:
    return make_valkey(durable=False)


@pytest.fixture
async def line(server: Valkey) -> AsyncIterator[Line]:
    client = redis.asyncio.Redis.from_url(server.url, decode_responses=True, socket_timeout=2)
    made = Line(client, timeout_s=1.0)
    yield made
    await made.close()
    await client.aclose()


async def connections(line: Line) -> int:
    return str(await line.call("CLIENT", "LIST")).count(" addr=")


async def test_replies_belong_to_their_commands(line: Line) -> None:
    names = [f"key {number} ä" for number in range(600)]  # more than may be under way at once
    await asyncio.gather(*(line.call("SET", name, place) for place, name in enumerate(names)))
    assert await asyncio.gather(*(line.call("GET", name) for name in names)) == [
        str(place) for place in range(600)
    ]
    assert await connections(line) == 1
    assert await line.call("GET", "nothing") is None
    assert await line.call("SET", "float", 1.25) == "OK"
    assert await line.call("GET", "float") == "1.25"


async def test_an_error_is_one_commands_own(line: Line) -> None:
    await line.call("SET", "text", "x")
    found: tuple[Any, ...] = await asyncio.gather(
        line.call("INCR", "text"),
        line.call("GET", "text"),
        line.call("EVALSHA", "0" * 40, 0),
        return_exceptions=True,
    )
    assert isinstance(found[0], redis.ResponseError)
    assert found[1] == "x"
    assert isinstance(found[2], redis.exceptions.NoScriptError)


async def test_a_full_server_says_so(line: Line) -> None:
    await line.call("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        await line.call("SET", "a", "b")


async def test_what_is_under_way_on_a_lost_connection_is_not_known_and_the_next_command_connects(
    line: Line, server: Valkey
) -> None:
    await line.call("PING")
    under_way = [asyncio.ensure_future(line.call("BLPOP", "never", 0)) for _ in range(3)]
    await asyncio.sleep(0.05)
    server.kill()
    for found in await asyncio.gather(*under_way, return_exceptions=True):
        assert isinstance(found, redis.exceptions.ConnectionError)
    with pytest.raises(redis.exceptions.ConnectionError):
        await line.call("PING")
    server.start()
    assert await line.call("PING") == "PONG"


async def test_a_server_that_hangs_is_left_after_the_time_limit(line: Line, server: Valkey) -> None:
    assert await line.call("PING") == "PONG"
    server.freeze()
    began = time.monotonic()
    found = await asyncio.gather(*(line.call("INCR", "n") for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in found] == [redis.exceptions.TimeoutError] * 3
    assert 0.4 < time.monotonic() - began < 30
    server.cont()
    assert await line.call("PING") == "PONG"
    with server.client() as client:
        assert str(client.info("commandstats")).count("cmdstat_ping") == 1
    assert await line.call("GET", "n") in (None, "3"), "the commands ran once, or not at all"


async def test_a_slow_answer_is_waited_for_and_the_timer_serves_all(line: Line) -> None:
    for _ in range(4):  # longer together than the limit of one
        assert await line.call("BLPOP", "never", 0.4) is None


async def test_who_is_cancelled_takes_no_others_reply(line: Line, server: Valkey) -> None:
    await line.call("PING")
    waits = asyncio.ensure_future(line.call("BLPOP", "list", 5))
    await asyncio.sleep(0.02)
    after = asyncio.ensure_future(line.call("ECHO", "mine"))
    await asyncio.sleep(0.02)
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    with server.client() as client:
        client.rpush("list", "late")
    assert await after == "mine"


async def test_a_server_that_became_a_replica_is_connected_to_anew(
    line: Line, server: Valkey, make_valkey: Callable[..., Valkey]
) -> None:
    await line.call("SET", "a", "b")
    before = line._end
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(redis.exceptions.ReadOnlyError):
            await line.call("SET", "a", "c")
        client.execute_command("REPLICAOF", "NO", "ONE")
    assert await line.call("SET", "a", "c") == "OK"
    assert line._end is not before


async def test_who_is_one_too_many_waits(line: Line, monkeypatch: pytest.MonkeyPatch, server: Valkey) -> None:
    monkeypatch.setattr(redis_line, "UNDER_WAY", 2)
    narrow = Line(redis.asyncio.Redis.from_pool(line._pool))
    held = [asyncio.ensure_future(narrow.call("BLPOP", "gate", 5)) for _ in range(2)]
    third = asyncio.ensure_future(narrow.call("PING"))
    await asyncio.sleep(0.05)
    assert not third.done()
    await line.call("RPUSH", "gate", "1", "2")
    assert await third == "PONG"
    assert len(await asyncio.gather(*held)) == 2
    await narrow.close()


async def test_what_is_no_redis_is_refused() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line_in := await reader.readline():
            if line_in.startswith(b"$4") and (await reader.readline()).startswith(b"PING"):
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    client: Any = redis.asyncio.Redis(port=port, protocol=2, driver_info=None, socket_timeout=1)
    line = Line(client, timeout_s=2)
    with pytest.raises(redis.RedisError):
        await line.call("PING")
    await line.close()
    await client.aclose()
    listening.close()


def test_entries_of_either_protocol() -> None:
    rows = [["1-0", ["report", "a"]], ["1-1", ["other", "report", "report", "b"]], ["1-2", ["x", "report"]]]
    wanted = [("1-0", "a"), ("1-1", "b"), ("1-2", "")]
    assert read_entries({"stream": rows}) == wanted
    assert read_entries([["stream", rows]]) == wanted
    assert read_entries(None) == []
