"""Clients of several Redis servers on real ones: they find the primary, leave one that is demoted, and follow."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest
import redis
from celery import Celery

from tests.valkey import Valkey
from tests.waiting import wait_until
from tradedist import primary, probes
from tradedist import redis as clients
from tradedist.nodes import read_nodes
from tradedist.redis_line import Line

LIMIT_S = 60.0


@dataclass
class Servers:
    """A primary and its replica."""

    first: Valkey
    second: Valkey

    @property
    def url(self) -> str:
        """The replica named first: it must not be taken for what it is not."""
        return (
            f"redis://:test-password@127.0.0.1:{self.second.server.port},127.0.0.1:{self.first.server.port}/0"
        )

    def fail_over(self) -> None:
        """The replica is promoted, the old primary demoted; who is connected to that one stays connected."""
        with self.second.client() as second:
            second.replicaof(cast(Any, "NO"), cast(Any, "ONE"))
        self.first.follow(self.second)


@pytest.fixture
def servers(make_valkey: Callable[..., Valkey]) -> Iterator[Servers]:
    made = Servers(make_valkey(durable=True), make_valkey(durable=True))
    made.second.follow(made.first)
    yield made
    primary._last_primary.clear()


def test_a_client_leaves_a_server_that_is_no_primary_any_more(servers: Servers, settings: Any) -> None:
    settings.REDIS_STATE_URL = servers.url
    with clients.state() as client:
        client.set("before", 1)
        servers.fail_over()
        with pytest.raises(redis.ConnectionError, match="no primary any more"):
            client.set("during", 1)  # whether it ran is said by READONLY; it is never repeated by itself
        client.set("after", 1)
    with servers.second.client() as second:
        assert second.mget("before", "during", "after") == ["1", None, "1"]


@pytest.mark.parametrize("how", ["client", "line"])
def test_a_server_that_hung_is_asked_last(servers: Servers, settings: Any, how: str) -> None:
    """Frozen, it goes on taking connections: each would wait for it anew."""
    settings.REDIS_STATE_URL = servers.url
    nodes = read_nodes(servers.url)[1]

    async def by_line() -> None:
        client = clients.async_state()
        line = Line(client, timeout_s=0.5)
        try:
            await line.call("SET", "before", 1)
            servers.first.freeze()
            with pytest.raises(redis.TimeoutError):
                await line.call("GET", "before")
        finally:
            await line.close()
            await client.aclose()

    if how == "line":
        asyncio.run(by_line())
    else:
        with clients.state(timeout_s=0.5) as client:
            client.set("before", 1)
            servers.first.freeze()
            with pytest.raises(redis.TimeoutError):
                client.get("before")
    assert nodes not in primary._last_primary
    with servers.second.client() as second:
        second.replicaof(cast(Any, "NO"), cast(Any, "ONE"))
    with clients.state() as client:
        assert client.get("before") == "1", "the promoted one answers, named first or last"
    assert primary._last_primary[nodes] == ("127.0.0.1", servers.second.server.port)
    servers.first.cont()


def test_a_server_that_hangs_holds_nobody_up_on_the_way_to_the_others(
    servers: Servers, settings: Any
) -> None:
    ports = (servers.first.server.port, servers.second.server.port)
    settings.REDIS_STATE_URL = f"redis://:test-password@127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}/0"
    with servers.second.client() as second:
        second.replicaof(cast(Any, "NO"), cast(Any, "ONE"))
    servers.first.freeze()  # takes the connection, and says nothing
    began = time.monotonic()
    with clients.state(timeout_s=LIMIT_S) as client:
        client.set("after", 1)
        assert time.monotonic() - began < LIMIT_S / 2
        connection = client.connection_pool.get_connection()
        assert connection._sock is not None
        assert connection._sock.gettimeout() == LIMIT_S, "its own time limit again"
        client.connection_pool.release(connection)
    servers.first.cont()


def test_reading_follows_too_when_the_old_primary_is_gone(servers: Servers, settings: Any) -> None:
    settings.REDIS_STATE_URL = servers.url
    with clients.state() as client:
        client.set("before", 1)
        with servers.second.client() as second:
            second.replicaof(cast(Any, "NO"), cast(Any, "ONE"))
        servers.first.kill()
        wait_until(lambda: _read(client, "before") == "1", LIMIT_S, 0.02)


def test_pipelines_and_scripts_are_told_as_well(servers: Servers, settings: Any) -> None:
    settings.REDIS_STATE_URL = servers.url
    with clients.state() as client:
        script = client.register_script("return redis.call('INCR', KEYS[1])")
        script(keys=["count"])
        servers.fail_over()
        with pytest.raises(redis.ConnectionError):
            script(keys=["count"])
        pipe = client.pipeline(transaction=False)
        pipe.get("count")
        assert pipe.execute() == ["1"]
        assert script(keys=["count"]) == 2


def test_an_event_loop_follows_with_all_of_its_connections(servers: Servers, settings: Any) -> None:
    settings.REDIS_STATE_URL = servers.url

    async def run() -> list[Any]:
        client = clients.async_state()
        try:
            await asyncio.gather(*(client.set(f"before {n}", n) for n in range(8)))
            await asyncio.to_thread(servers.fail_over)
            told = await asyncio.gather(
                *(client.set(f"during {n}", n) for n in range(8)), return_exceptions=True
            )
            until = time.monotonic() + LIMIT_S
            while time.monotonic() < until:  # each connection learns for itself, by its first write
                try:
                    await client.set("after", 1)
                    break
                except redis.ConnectionError:
                    continue
            return told
        finally:
            await client.aclose()

    told = asyncio.run(run())
    assert {type(answer) for answer in told} <= {redis.ConnectionError, bool}
    assert redis.ConnectionError in {type(answer) for answer in told}
    with servers.second.client() as second:
        assert second.get("after") == "1"
        assert [second.exists(f"during {n}") for n in range(8)] == [answer is True for answer in told]


def test_with_a_single_name_a_demoted_server_is_left_and_the_name_resolved_again(
    servers: Servers, settings: Any
) -> None:
    settings.REDIS_STATE_URL = servers.first.url
    with clients.state() as client:
        client.set("before", 1)
        connection = client.connection_pool.get_connection()
        client.connection_pool.release(connection)
        servers.fail_over()
        with pytest.raises(redis.ConnectionError, match="no primary any more"):
            client.set("during", 1)
        assert connection._sock is None


def test_no_server_is_taken_that_is_no_primary(servers: Servers, settings: Any) -> None:
    settings.REDIS_STATE_URL = servers.url
    servers.first.kill()
    with clients.state() as client, pytest.raises(redis.ConnectionError):
        client.get("before")
    assert "no primary" in probes.valkey(servers.url)() or "refused" in probes.valkey(servers.url)()


def test_a_primary_that_its_replicas_have_left_is_asked_no_longer_than_it_must(
    servers: Servers, settings: Any
) -> None:
    """`min-replicas-to-write`: cut off with its clients, it must not go on as if it were the only one."""
    settings.REDIS_STATE_URL = servers.url
    with servers.first.client() as first:
        first.config_set("min-replicas-to-write", 1)
        first.config_set("min-replicas-max-lag", 1)
    with clients.state() as client:
        client.set("before", 1)
        with servers.second.client() as second:
            second.replicaof(cast(Any, "NO"), cast(Any, "ONE"))
        # the old primary still calls itself one: the order in which they are asked decides, the last one asked last
        wait_until(lambda: _told(client), LIMIT_S, 0.05)
        assert client.set("after", 1)
        with servers.second.client() as second:
            assert second.get("after") == "1"


def _read(client: "redis.Redis", name: str) -> str | None:
    try:
        return cast(str | None, client.get(name))
    except redis.ConnectionError:
        return None


def _told(client: "redis.Redis") -> bool:
    try:
        client.set("during", 1)
    except redis.ConnectionError as error:
        return primary.NOT_ENOUGH in str(error)
    return False


def test_the_line_of_accept_follows_too(servers: Servers, settings: Any) -> None:
    settings.REDIS_STATE_URL = servers.url
    with servers.first.client() as first:
        first.config_set("min-replicas-to-write", 1)
        first.config_set("min-replicas-max-lag", 1)

    async def run() -> None:
        client = clients.async_state()
        line = Line(client)
        try:
            assert await line.call("SET", "before", 1) == "OK"
            with servers.second.client() as second:
                second.replicaof(cast(Any, "NO"), cast(Any, "ONE"))
            until, said = time.monotonic() + LIMIT_S, ""
            while time.monotonic() < until:  # until the old primary knows that its replica has left
                try:
                    await line.call("SET", "during", 1)
                except redis.ResponseError as error:
                    said = str(error)
                    break
                await asyncio.sleep(0.05)
            assert said.startswith(primary.NOT_ENOUGH)
            assert await line.call("SET", "after", 1) == "OK"
        finally:
            await line.close()
            await client.aclose()

    asyncio.run(run())
    with servers.second.client() as second:
        assert second.get("after") == "1"


def test_celery_publishes_and_consumes_at_the_new_primary(servers: Servers) -> None:
    broker, nodes = read_nodes(servers.url)
    app = Celery("several", broker=broker, set_as_current=False)
    app.conf.update(
        broker_transport="tradedist.celery_transport:Transport",
        broker_transport_options={"nodes": nodes, "socket_timeout": 5},
    )
    with app.connection() as connection:
        queue: Any = connection.SimpleQueue("several")
        queue.put("before")
        servers.fail_over()
        with pytest.raises(connection.connection_errors):
            queue.put("during")
        queue.close()
    with app.connection() as connection:
        queue = connection.SimpleQueue("several")
        queue.put("after")
        assert [queue.get(timeout=LIMIT_S).payload for _ in range(2)] == ["before", "after"]
        queue.close()
    with servers.second.client() as second:
        assert second.dbsize()
