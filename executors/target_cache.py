"""Remembers, for a moment, which terminals a user's targets mean, so that an order does not wait for the database.

Precedes: the store, whose Lua compares the version under which a thing was remembered with the current one, so that a
changed grant, role, user or terminal counts for the very next order. Follows: `grants.resolve_targets`, the only rule.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, cast

import redis
import redis.asyncio
from channels.db import database_sync_to_async  # sockets have no request at whose end connections are checked

from executors import grants
from executors.messages import Targets
from tradedist import keys
from tradedist.clock import monotonic_ms

SIZE = 1000
AGE_MS = 1_000  # should a version be missed (the store was away at the change), for no longer than this


@dataclass(frozen=True, slots=True)
class Resolved:
    targets: list[tuple[str, int]]  # terminal_id, epoch
    version: str
    at_ms: float


class TargetCache:
    """One an event loop."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client
        self._known: OrderedDict[tuple[Any, ...], Resolved] = OrderedDict()

    async def resolve(self, user: Any, targets: Targets) -> Resolved:
        """Raises Refused, as `grants.resolve_targets` does (never remembered), or redis.RedisError."""
        key = (user.pk, getattr(user, "token_scope", None), tuple(targets.groups), tuple(targets.terminals))
        known = self._known.get(key)
        if known is not None and monotonic_ms() - known.at_ms < AGE_MS:
            return known
        at_ms = monotonic_ms()
        # before the tables are read: a change in between makes this version old, never new
        version = cast(str | None, await cast(Any, self._redis.get(keys.ACCESS_VERSION))) or "0"
        found = Resolved(await database_sync_to_async(grants.resolve_targets)(user, targets), version, at_ms)
        self._known[key] = found
        while len(self._known) > SIZE:
            self._known.popitem(last=False)
        return found

    def forget(self) -> None:
        self._known.clear()
