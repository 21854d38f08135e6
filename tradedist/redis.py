"""Redis clients. Two servers: `state` (orders, queues: nothing may be lost) and `ticks` (a cache).

Commands are never retried by the client: a reply that was lost may mean that the command ran, and only scripts
keyed by an id may run twice. Callers that may repeat a command say so in their own code.
"""

import asyncio
import weakref

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from tradedist.nodes import read_nodes
from tradedist.primary import connects

TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 0.5
CONNECTIONS = 32  # of one asynchronous client; more of them only switch more (measured: 16 to 32 are fastest)
WAIT_S = 5.0  # for one of them; longer counts as a Redis that does not answer


def state(timeout_s: float = TIMEOUT_S) -> "redis.Redis":
    """A client of the state Redis, answers decoded as text. `timeout_s`: an answer may take so long."""
    return _client(settings.REDIS_STATE_URL, timeout_s)


def ticks() -> "redis.Redis":
    """A client of the tick Redis, answers decoded as text."""
    return _client(settings.REDIS_TICKS_URL)


def async_state() -> "redis.asyncio.Redis":
    return _async_client(settings.REDIS_STATE_URL)


def async_ticks() -> "redis.asyncio.Redis":
    return _async_client(settings.REDIS_TICKS_URL)


_of_loops: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, redis.asyncio.Redis]]"
_of_loops = weakref.WeakKeyDictionary()


def loop_state() -> "redis.asyncio.Redis":
    """The running event loop's own client, used again by every request: connections belong to their loop."""
    return _of_loop(settings.REDIS_STATE_URL)


def loop_ticks() -> "redis.asyncio.Redis":
    return _of_loop(settings.REDIS_TICKS_URL)


def _of_loop(url: str) -> "redis.asyncio.Redis":
    clients = _of_loops.setdefault(asyncio.get_running_loop(), {})
    if url not in clients:
        clients[url] = _async_client(url)
    return clients[url]


async def close_loop_clients() -> None:
    """Closes what `loop_state` and `loop_ticks` opened in this loop; for tests and an orderly end."""
    for client in _of_loops.pop(asyncio.get_running_loop(), {}).values():
        await client.aclose()


def _client(url: str, timeout_s: float = TIMEOUT_S) -> "redis.Redis":
    client: redis.Redis = redis.Redis.from_url(
        read_nodes(url)[0],
        **connects(url),
        decode_responses=True,
        socket_timeout=timeout_s,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    return client


def _async_client(url: str) -> "redis.asyncio.Redis":
    """Its connections are made as they are needed; who finds all of them busy waits for one."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        read_nodes(url)[0],
        **connects(url, asynchronous=True),
        max_connections=CONNECTIONS,
        timeout=WAIT_S,
        decode_responses=True,
        socket_timeout=TIMEOUT_S,
        # a loop that is busy for half a second learns late that the connection is there
        socket_connect_timeout=TIMEOUT_S,
        retry=AsyncRetry(NoBackoff(), 0),
    )
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_pool(pool)
    return client
