"""RIS for a whole host: what the supervisor knows of its executors, in one pipelined call a second.

Precedes: the page, REST and the admin read it. Follows: the shared progress of each executor and the watchdog's verdict.
An executor itself writes only what changed, and its life sign when nobody else does.
"""

import logging
import signal
from collections.abc import Iterable
from typing import Any

import redis

from executors.alerts import AlertCode, Alerts
from executors.children import START_LIMIT_S, Child
from executors.messages import TerminalUpdate
from executors.progress import Phase
from executors.watchdog import look_at
from tradedist import keys
from tradedist.clock import monotonic_ms, now_ms

logger = logging.getLogger(__name__)


class Instances:
    def __init__(self, client: "redis.Redis", host_id: str, alerts: Alerts) -> None:
        self._redis = client
        self._host_id = host_id
        self._alerts = alerts
        self.offset_ms = 0  # Redis's time minus ours
        self._changed: dict[str, TerminalUpdate] = {}  # to be told at once

    # --- looking ---

    def watch(self, children: Iterable[Child]) -> None:
        """Judges each living executor; what stands still is shown as STUCK, what is past its limit is killed."""
        now = monotonic_ms()
        for child in children:
            sample = child.sample()
            if sample is None:
                if child.forked and now - child.started_ms > START_LIMIT_S * 1000:
                    logger.error(
                        "the executor of %s has not begun: killing pid %s", child.terminal_id, child.pid
                    )
                    child.signal(signal.SIGKILL)
                continue
            if child.alarmed and sample.phase > Phase.STARTING:
                child.alarmed = False
                self._alerts.end(AlertCode.EXECUTOR_FAILED, child.terminal_id)
                self._alerts.end(AlertCode.JOURNAL_UNWRITABLE, child.terminal_id)
            still = now - sample.at_ms > 500
            verdict = child.watchdog.judge(
                sample, look_at(sample.pid, sample.tid, now) if still else None, now
            )
            if bool(verdict.why) != bool(child.stuck):
                self._change(child, "STUCK" if verdict.why else sample.status, verdict.why)
            child.stuck = verdict.why
            if verdict.kill:
                self._alerts.raise_(
                    AlertCode.EXECUTOR_STUCK,
                    child.terminal_id,
                    f"{verdict.why} It was killed and is started again.",
                )
                child.signal(signal.SIGKILL)

    # --- telling ---

    def alarm(self, child: Child, code: AlertCode, text: str) -> None:
        """Its executor does not run, and an operator must know."""
        child.alarmed = True
        self._alerts.raise_(code, child.terminal_id, text)
        self.tell(child, "FAILED", text)

    def tell(self, child: Child, status: str, error: str) -> None:
        """A change of a terminal whose executor does not run."""
        child.error = error
        self._change(child, status, error)

    def _change(self, child: Child, status: str, error: str) -> None:
        self._changed[child.terminal_id] = TerminalUpdate.model_validate(
            {"terminal_id": child.terminal_id, "status": status, "last_error": error, "time_ms": now_ms()}
        )

    def flush(self) -> None:
        """Changes and alerts, as soon as Redis takes them. Raises redis.RedisError."""
        if self._changed:
            pipe = self._redis.pipeline(transaction=False)
            for terminal_id, update in self._changed.items():
                row: dict[Any, Any] = {"state": update.status, "last_error": update.last_error}
                if update.status == "STOPPED":
                    row["pid"] = 0
                pipe.hset(keys.instance(terminal_id), mapping=row)
                pipe.publish(keys.RTS_CHANGES, update.model_dump_json(exclude_none=True))
            pipe.execute()
            self._changed.clear()
        self._alerts.flush(self._redis)

    def show(self, children: Iterable[Child]) -> None:
        """The supervisor's own heartbeat and every executor's row. Raises redis.RedisError."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hset(keys.HEARTBEATS, f"terminals:{self._host_id}", now_ms() + self.offset_ms)
        wall = now_ms() + self.offset_ms - monotonic_ms()
        for child in children:
            if child.held and not child.running:
                continue  # its row belongs to the host that takes it
            row: dict[Any, Any] = {"restarts": child.restarts, "pid": child.pid, "host": self._host_id}
            sample = child.sample()
            if sample is not None and sample.tid:
                row["state"] = "STUCK" if child.stuck else sample.status
                row["seen_ms"] = round(wall + sample.at_ms)
                if child.stuck:
                    row["last_error"] = child.stuck
            elif not child.running:
                row["state"] = "FAILED" if child.given_up else "STARTING"
                row["last_error"] = child.error
            pipe.hset(keys.instance(child.terminal_id), mapping=row)
        pipe.execute()
