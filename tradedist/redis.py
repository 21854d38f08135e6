"""Redis clients. Two servers: `state` (orders, queues: nothing may be lost) and `ticks` (a cache).

Commands are never retried by the client: a reply that was lost may mean that the command ran, and only scripts
keyed by an id may run twice. Callers that may repeat a command say so in their own code.
"""

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 0.5


def state() -> "redis.Redis":
    """A client of the state Redis, answers decoded as text."""
    return _client(settings.REDIS_STATE_URL)


def ticks() -> "redis.Redis":
    """A client of the tick Redis, answers decoded as text."""
    return _client(settings.REDIS_TICKS_URL)


def async_state() -> "redis.asyncio.Redis":
    return _async_client(settings.REDIS_STATE_URL)


def async_ticks() -> "redis.asyncio.Redis":
    return _async_client(settings.REDIS_TICKS_URL)


def _client(url: str) -> "redis.Redis":
    client: redis.Redis = redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    return client


def _async_client(url: str) -> "redis.asyncio.Redis":
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=AsyncRetry(NoBackoff(), 0),
    )
    return client
