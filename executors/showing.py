"""What a terminal holds and how its executor is, as Redis shows it: RTS and RIS.

Precedes: the page, REST, the admin. Follows: the executor, which leaves here what has changed; the link sends it.
"""

import threading
from typing import Any

import redis

from executors.link_events import InstanceFacts
from executors.messages import TerminalUpdate
from tradedist import keys
from tradedist.clock import now_ms

NAMES = ("state", "config_version", "last_error", "latency_us", "broker_us")


class Showing:
    """`leave` is called in any thread, all else in the link's."""

    def __init__(self, client: "redis.Redis", terminal_id: str, facts: InstanceFacts) -> None:
        self._redis = client
        self._terminal_id = terminal_id
        self._facts = facts
        self._update: TerminalUpdate | None = None
        self._lock = threading.Lock()
        self._shown: tuple[object, ...] = ()

    def leave(self, update: TerminalUpdate) -> None:
        """Parts that were not sent yet stay unless replaced."""
        with self._lock:
            old = self._update
            if old is not None:
                kept = {
                    name: getattr(old, name) for name in ("account", "positions", "pending_orders", "drift")
                }
                missing = {name: value for name, value in kept.items() if getattr(update, name) is None}
                update = update.model_copy(update=missing)
            self._update = update

    def show(self) -> None:
        """What the terminal holds. Raises redis.RedisError: then it is tried again."""
        with self._lock:
            update, self._update = self._update, None
        if update is None:
            return
        try:
            pipe = self._redis.pipeline(transaction=False)
            if update.account is not None:
                pipe.set(keys.account(self._terminal_id), update.account.model_dump_json())
            if update.drift is not None:
                pipe.set(keys.drift(self._terminal_id), update.drift.model_dump_json())
            for name, items in (
                (keys.positions(self._terminal_id), update.positions),
                (keys.pending_orders(self._terminal_id), update.pending_orders),
            ):
                if items is not None:
                    pipe.set(name, "[" + ",".join(item.model_dump_json() for item in items) + "]")
            pipe.publish(keys.RTS_CHANGES, update.model_dump_json(exclude_none=True))
            pipe.execute()
        except redis.RedisError:
            with self._lock:
                if self._update is None:
                    self._update = update
            raise

    def changed(self) -> bool:
        facts = self._facts
        return self._shown != (
            facts.status, facts.config_version, facts.last_error, facts.own_us, facts.broker_us, len(facts.extra),
        )  # fmt: skip

    def show_facts(self, offset_ms: int, *, alive: bool) -> bool:
        """What has changed of the executor; with `alive` its life sign in any case. Whether something was written."""
        if not (alive or self.changed()):
            return False
        facts = self._facts
        shown = (
            facts.status, facts.config_version, facts.last_error, facts.own_us, facts.broker_us, len(facts.extra),
        )  # fmt: skip
        changed: dict[Any, Any] = {}
        if shown != self._shown:
            changed = dict(zip(NAMES, shown, strict=False)) | facts.extra
        seen = (facts.moved_ms or now_ms()) + offset_ms
        self._redis.hset(keys.instance(self._terminal_id), mapping=changed | {"seen_ms": seen})
        self._shown = shown
        return True

    def forget(self) -> None:
        """The store may have lost it."""
        self._shown = ()
