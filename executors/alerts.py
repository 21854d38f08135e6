"""Alerts: what an operator must know of a terminal, by a stable code, told once.

Precedes: the admin, the page, Prometheus. Follows: executors and supervisor raise and end them. They are logged at once
(`ALARM`), and written to the state Redis by whoever calls `flush`, which may fail and be called again.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import redis
from pydantic import ValidationError

from executors.messages import INSTANCE_STATUSES, Alert, TerminalUpdate
from tradedist import keys
from tradedist.clock import now_ms

logger = logging.getLogger(__name__)

KEPT = 1_000  # entries of the stream
WAITING = 200  # changes kept while Redis is gone
EVENT_MS = 24 * 3_600_000  # an alert that nothing ends is shown for so long

_SCRIPT = (Path(__file__).parent / "lua" / "alert.lua").read_text()


class AlertCode(StrEnum):
    """docs/alerts.md says of each what to do; a test compares."""

    EXECUTOR_FAILED = "EXECUTOR_FAILED"  # three failed starts in a row: stopped
    EXECUTOR_STUCK = "EXECUTOR_STUCK"  # stood still past its limit and was killed
    EXECUTOR_OUTLIVED = "EXECUTOR_OUTLIVED"  # it lived on after its terminal was moved; stopped
    TERMINAL_DISCONNECTED = "TERMINAL_DISCONNECTED"  # no connection after several tries
    WRONG_ACCOUNT = "WRONG_ACCOUNT"  # logged in to another account than configured
    BREAKER = "BREAKER"  # opens are held
    CLOCK_SKEW = "CLOCK_SKEW"  # this machine's clock differs from Redis's
    JOURNAL_LOST = "JOURNAL_LOST"  # what the lost journal may have sent is looked up
    JOURNAL_UNWRITABLE = "JOURNAL_UNWRITABLE"  # full or broken disk: nothing is sent
    JOURNAL_LARGE = "JOURNAL_LARGE"  # above its limit: settled orders are forgotten sooner
    ORDER_UNRESOLVED = "ORDER_UNRESOLVED"  # a look at the broker and its answer contradict each other
    LATE_FILL = "LATE_FILL"  # executed after it was given up; adopted
    LEVELS_NOT_SET = (
        "LEVELS_NOT_SET"  # of a pending order that was filled while a modify's answer was missing
    )
    DRIFT = "DRIFT"  # something at the terminal that no order of ours explains
    RESTART_STOPPED = "RESTART_STOPPED"  # a rolling restart went no further


# What tells of an event, and is shown for a while; all others are ended by whoever raised them.
EVENTS = frozenset(
    {
        AlertCode.EXECUTOR_STUCK,
        AlertCode.EXECUTOR_OUTLIVED,
        AlertCode.JOURNAL_LOST,
        AlertCode.ORDER_UNRESOLVED,
        AlertCode.LATE_FILL,
        AlertCode.LEVELS_NOT_SET,
        AlertCode.DRIFT,
        AlertCode.RESTART_STOPPED,
    }
)


class Alerts:
    """One a process; any thread may raise and end, one thread flushes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._raised: dict[tuple[str, AlertCode], str] = {}  # what this process has told; "" = has ended
        self._waiting: deque[tuple[str, Alert]] = deque(maxlen=WAITING)

    def raise_(self, code: AlertCode, terminal_id: str, text: str) -> None:
        """The same text again is not told again before it has ended."""
        with self._lock:
            if self._raised.get((terminal_id, code)) == text:
                return
            self._raised[terminal_id, code] = text
            now = now_ms()
            until = now + EVENT_MS if code in EVENTS else None
            alert = Alert(code=code, terminal_id=terminal_id, text=text, time_ms=now, until_ms=until)
            self._waiting.append(("raise", alert))
        logger.error("ALARM %s %s: %s", code, terminal_id, text, extra={"action": "alarm"})

    def end(self, code: AlertCode, terminal_id: str) -> None:
        """What an earlier process of this terminal raised ends as well."""
        with self._lock:
            if self._raised.get((terminal_id, code)) == "":
                return
            told = self._raised.get((terminal_id, code))
            self._raised[terminal_id, code] = ""
            alert = Alert(code=code, terminal_id=terminal_id, text="", time_ms=now_ms(), until_ms=None)
            self._waiting.append(("end", alert))
        if told:
            logger.info("the alarm %s of %s has ended", code, terminal_id)

    def flush(self, client: "redis.Redis") -> None:
        """Raises redis.RedisError; what was not written then waits for the next call."""
        while self._waiting:
            op, alert = self._waiting[0]
            if _write(client, op, alert):
                _show(client, alert.terminal_id)
            with self._lock:
                if self._waiting and self._waiting[0][1] is alert:
                    self._waiting.popleft()


def _write(client: "redis.Redis", op: str, alert: Alert) -> bool:
    script = client.register_script(_SCRIPT)
    answer = script(
        keys=[keys.ALERTS, keys.open_alerts(alert.terminal_id), keys.ALERT_COUNTS],
        args=[
            op,
            alert.code,
            alert.model_dump_json(),
            now_ms(),
            KEPT,
            f"{alert.terminal_id} {alert.code}",
        ],
    )
    return bool(answer)


def _show(client: "redis.Redis", terminal_id: str) -> None:
    """Tells the page: open alerts travel with the terminal's update."""
    pipe = client.pipeline(transaction=False)
    pipe.hmget(keys.instance(terminal_id), ["state", "last_error"])
    pipe.hvals(keys.open_alerts(terminal_id))
    (status, error), found = pipe.execute()
    update = TerminalUpdate(
        terminal_id=terminal_id,
        status=status if status in INSTANCE_STATUSES else "STARTING",
        last_error=error or "",
        alerts=read_alerts(found),
        time_ms=now_ms(),
    )
    client.publish(keys.RTS_CHANGES, update.model_dump_json(exclude_none=True))


def read_alerts(texts: Iterable[str]) -> list[Alert]:
    """Those that are not over, newest first."""
    found = []
    for text in texts:
        try:
            alert = Alert.model_validate_json(text)
        except ValidationError as error:
            logger.error("an alert cannot be read: %s", error)
            continue
        if alert.until_ms is None or alert.until_ms > now_ms():
            found.append(alert)
    return sorted(found, key=lambda alert: -alert.time_ms)


def recent(client: "redis.Redis", limit: int = 100) -> list[Alert]:
    """What was raised and ended lately, newest first; an empty text is an end."""
    rows = cast(list[tuple[str, dict[str, str]]], client.xrevrange(keys.ALERTS, count=limit))
    return [Alert.model_validate_json(fields["alert"]) for _, fields in rows]


def counts(client: "redis.Redis") -> dict[tuple[str, str], int]:
    """(terminal_id, code) → how often it was raised."""
    held = cast(dict[str, Any], client.hgetall(keys.ALERT_COUNTS))
    return {(name.partition(" ")[0], name.partition(" ")[2]): int(value) for name, value in held.items()}
