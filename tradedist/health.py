"""GET /api/health: the state of each part, within a second even when a part hangs.

Follows: heartbeats in RIS, the two Redis servers, the database. Precedes: load balancers, `make run`, monitoring. It
needs no login, so that it names no terminal; its answer is kept for half a second, so that asking often costs little.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import redis
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection

from executors.models import Terminal
from tradedist import keys
from tradedist.clock import monotonic_ms, now_ms
from tradedist.redis import loop_state, loop_ticks

logger = logging.getLogger(__name__)

LIMIT_S = 0.8  # for each part
KEEP_MS = 500
FRESH_MS = 5_000  # a heartbeat that is older is a process that hangs or is gone
NEEDED = frozenset(
    {"state_redis", "database", "terminals", "executors"}
)  # without one of these nobody trades
OK = "ok"


class Health:
    """One check at a time; who asks meanwhile gets the same answer."""

    def __init__(self) -> None:
        self._answer: tuple[float, int, dict[str, Any]] | None = None
        self._running: asyncio.Task[tuple[int, dict[str, Any]]] | None = None

    async def check(self) -> tuple[int, dict[str, Any]]:
        if self._answer is not None and monotonic_ms() - self._answer[0] < KEEP_MS:
            return self._answer[1], self._answer[2]
        loop = asyncio.get_running_loop()
        if self._running is None or self._running.done() or self._running.get_loop() is not loop:
            self._running = loop.create_task(self._look())
        return await asyncio.shield(self._running)

    async def _look(self) -> tuple[int, dict[str, Any]]:
        enabled: dict[str, str] = {}
        parts = dict(
            zip(
                ("state_redis", "tick_redis", "database"),
                await asyncio.gather(
                    _bounded(_ping_state), _bounded(_ping_ticks), _bounded(lambda: _database(enabled))
                ),
                strict=True,
            )
        )
        if parts["state_redis"] == OK:
            beats: dict[str, str] = {}
            trouble = await _bounded(lambda: _heartbeats(beats))
            parts["terminals"] = trouble if trouble != OK else _supervisors(beats, set(enabled.values()))
            parts["feed"] = await _bounded(_feed)
            parts["executors"] = await _bounded(lambda: _executors(list(enabled)))
        else:
            parts |= dict.fromkeys(("terminals", "feed", "executors"), "not known without state_redis")
        wrong = {name for name, said in parts.items() if said != OK}
        partly = parts["executors"].startswith("partly")
        down = (wrong & NEEDED) - ({"executors"} if partly else set())
        status = 503 if down else 200
        body = {
            "status": "down" if down else "degraded" if wrong else OK,
            "parts": parts,
            "time_ms": now_ms(),
        }
        self._answer = (monotonic_ms(), status, body)
        return status, body


async def _bounded(look: Callable[[], Awaitable[str]]) -> str:
    try:
        return await asyncio.wait_for(look(), LIMIT_S)
    except TimeoutError:
        return "does not answer"
    except (redis.RedisError, DatabaseError, OSError) as error:
        logger.warning("health: %s", error)
        return f"fails: {type(error).__name__}"


async def _ping_state() -> str:
    await cast(Awaitable[Any], loop_state().ping())
    return OK


async def _ping_ticks() -> str:
    await cast(Awaitable[Any], loop_ticks().ping())
    return OK


async def _database(enabled: dict[str, str]) -> str:
    def look() -> dict[str, str]:
        try:
            return dict(Terminal.objects.active().filter(enabled=True).values_list("pk", "host_id"))
        finally:
            connection.close()  # this thread is of a pool and may not come back here

    # A thread of its own: the one that requests share may be what hangs.
    enabled |= await sync_to_async(look, thread_sensitive=False)()
    return OK


async def _heartbeats(beats: dict[str, str]) -> str:
    beats |= await cast(Awaitable[dict[str, str]], loop_state().hgetall(keys.HEARTBEATS))
    return OK


async def _feed() -> str:
    """The feed's heartbeat expires with it; it lies in the tick Redis, where the feed writes anyway."""
    return OK if await cast(Awaitable[Any], loop_ticks().exists(keys.FEED_HEARTBEAT)) else "silent"


def _supervisors(beats: dict[str, str], hosts: set[str]) -> str:
    missing = [host for host in hosts if _age_ms(beats.get(f"terminals:{host}")) > FRESH_MS]
    if not hosts:
        return _freshest(beats, "terminals:")
    return f"{len(missing)} of {len(hosts)} supervisors silent" if missing else OK


def _freshest(beats: dict[str, str], prefix: str) -> str:
    age = min((_age_ms(beat) for name, beat in beats.items() if name.startswith(prefix)), default=None)
    if age is None:
        return "never heard of"
    return OK if age <= FRESH_MS else f"silent for {age // 1000} s"


async def _executors(terminal_ids: list[str]) -> str:
    if not terminal_ids:
        return OK
    async with loop_state().pipeline(transaction=False) as pipe:
        for terminal_id in terminal_ids:
            pipe.hmget(keys.instance(terminal_id), ["state", "seen_ms"])
        rows = await pipe.execute()
    ready = sum(state in ("READY", "HALTED") and _age_ms(seen) <= FRESH_MS for state, seen in rows)
    if ready == len(terminal_ids):
        return OK
    return f"{'partly: ' if ready else ''}{ready} of {len(terminal_ids)} ready"


def _age_ms(beat: str | None) -> int:
    try:
        return now_ms() - int(beat or 0)
    except ValueError:
        return now_ms()
