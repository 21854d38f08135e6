"""Remembers, for a moment, which terminals a user's targets mean, so that an order does not wait for the database.

Precedes: the store, whose Lua compares the version under which a thing was remembered with the current one, so that a
changed grant, role, user or terminal counts for the very next order. Follows: `grants.resolve_targets`, the only rule.
"""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import redis
import redis.asyncio
from channels.db import database_sync_to_async  # sockets have no request at whose end connections are checked

from executors import grants
from executors.errors import Refused
from executors.messages import Targets
from tradedist import keys
from tradedist.clock import monotonic_ms

SIZE = 1000
REFRESH_MS = 5_000  # from then on it is read again beside the order that it serves
BESIDE_S = 0.02
# A trader who watches the chart for minutes should not wait for the database when he acts. The version guards what is
# remembered; should one have been missed (the store was away at the change), it is repaired every 30 seconds.
AGE_MS = 600_000

Key = tuple[Any, ...]

# Threads of its own: those that a request lends to its database calls end with it, while others wait for the same answer.
_readers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="targets")


@dataclass(frozen=True, slots=True)
class Resolved:
    targets: list[tuple[str, int]]  # terminal_id, epoch
    version: str
    at_ms: float


class TargetCache:
    """One an event loop."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client
        self._known: OrderedDict[Key, Resolved] = OrderedDict()
        self._asking: dict[Key, asyncio.Task[Resolved]] = {}  # a burst of orders asks once

    async def resolve(self, user: Any, targets: Targets, *, cancels: bool = False) -> Resolved:
        """Raises Refused, as `grants.resolve_targets` does (never remembered), or redis.RedisError."""
        scope = getattr(user, "token_scope", None)
        key = (user.pk, scope, tuple(targets.groups), tuple(targets.terminals), cancels)
        known = self._known.get(key)
        age_ms = monotonic_ms() - known.at_ms if known else AGE_MS
        if known is None or age_ms >= AGE_MS:
            return await asyncio.shield(self._ask(key, user, targets, cancels))
        if age_ms > REFRESH_MS:
            # so that a stream of orders never waits for it; a moment later, when this one has its turn no more
            self._ask(key, user, targets, cancels, BESIDE_S)
        return known

    def forget(self) -> None:
        self._known.clear()
        self._asking.clear()  # what is being read may be from before the change: nobody new waits for it

    def _ask(
        self, key: Key, user: Any, targets: Targets, cancels: bool, after_s: float = 0.0
    ) -> "asyncio.Task[Resolved]":
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.ensure_future(self._read(user, targets, cancels, after_s))
            task.add_done_callback(partial(self._answered, key))
        return task

    def _answered(self, key: Key, task: "asyncio.Task[Resolved]") -> None:
        failed = task.cancelled() or task.exception() is not None
        if self._asking.get(key) is not task:
            return  # forgotten meanwhile
        del self._asking[key]
        self._known.pop(key, None)
        if not failed:
            self._known[key] = task.result()
            while len(self._known) > SIZE:
                self._known.popitem(last=False)

    async def _read(self, user: Any, targets: Targets, cancels: bool, after_s: float) -> Resolved:
        await asyncio.sleep(after_s)
        at_ms = monotonic_ms()
        # before the tables are read: a change in between makes this version old, never new
        version = cast(str | None, await cast(Any, self._redis.get(keys.ACCESS_VERSION))) or "0"
        resolve = database_sync_to_async(grants.resolve_targets, thread_sensitive=False, executor=_readers)
        try:
            return Resolved(await resolve(user, targets, cancels=cancels), version, at_ms)
        except Refused as refused:
            refused.version = version
            raise
