"""Celery tasks: an order's wake-up and record, candles from a terminal, and the beat's housekeeping.

Precedes: the executor. Follows: dispatch, the candle query and beat. They decode, call and encode; no decisions here.
"""

import json
import logging
import queue
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, cast

from celery import shared_task

from executors import runtime
from executors.crashpoints import reached
from executors.errors import TerminalError
from executors.messages import Leg
from tradedist import keys
from tradedist.redis import state, ticks

logger = logging.getLogger(__name__)

ORDER_WAIT_S = 10.0
RATES_WAIT_S = 5.0


@shared_task(name="executors.tasks.execute_order", acks_late=True)
def execute_order(leg_json: str) -> dict[str, Any]:
    """Wakes the executor with a leg; the outcome, for Flower, is what the journal says."""
    leg = Leg.model_validate_json(leg_json)
    executor = runtime.current()
    reached("task-received")
    executor.submit(leg, "celery")
    report = executor.wait(leg.order_id, ORDER_WAIT_S)
    reached("task-answered")
    if report is None:
        return {"state": "QUEUED or under way", "waited_s": ORDER_WAIT_S}
    return {
        "state": report.state,
        "filled_lots": str(report.filled_lots),
        "price": str(report.price or ""),
        "code": report.code,
        "message": report.message,
    }


@shared_task(name="executors.tasks.read_candles", acks_late=False)
def read_candles(request_id: str, symbol: str, seconds: int, to_ms: int, count: int) -> int:
    """Reads the terminal's candles and pushes them as `[[open_ms,o,h,l,c,ticks],…]`; returns how many."""
    try:
        found = runtime.current().rates(symbol, seconds, to_ms, min(count, 5000), RATES_WAIT_S)
    except (TerminalError, FutureTimeoutError, queue.Full) as error:
        logger.warning("no candles of %s: %s", symbol, error, extra={"action": "candles"})
        return 0
    rows = [[rate.time_ms, rate.open, rate.high, rate.low, rate.close, rate.tick_volume] for rate in found]
    pipe = _ticks().pipeline(transaction=False)
    pipe.rpush(keys.candle_reply(request_id), json.dumps(rows))
    pipe.expire(keys.candle_reply(request_id), 30)
    pipe.execute()
    return len(rows)


# --- Housekeeping, by the beat; each may run twice or late without harm ---


@shared_task(name="executors.tasks.flag_overdue")
def flag_overdue() -> int:
    """Flags orders that are past their deadline and not settled. Only their executor may end them."""
    client = _state()
    seconds, micros = cast(tuple[int, int], client.time())
    now = seconds * 1000 + micros // 1000
    late = cast(list[str], client.zrangebyscore(keys.UNSETTLED, "-inf", now, start=0, num=1000))
    pipe = client.pipeline(transaction=False)
    for order_id in late:
        # should it settle at this very moment the flag stays on a settled order, which readers ignore
        pipe.hset(keys.order(order_id), "overdue", "1")
    pipe.execute()
    return len(late)


@shared_task(name="executors.tasks.snapshot_accounts")
def snapshot_accounts() -> int:
    """Keeps every account's state as it is now, for the equity curve; about 90 days at one in 5 minutes."""
    client = _state()
    terminal_ids = cast(list[str], client.hkeys(keys.CONFIGS))
    pipe = client.pipeline(transaction=False)
    for terminal_id in terminal_ids:
        pipe.get(keys.account(terminal_id))
    accounts = [row for row in pipe.execute() if row]
    pipe = client.pipeline(transaction=False)
    for account in accounts:
        pipe.xadd(
            keys.ACCOUNT_SNAPSHOTS,
            {"account": account},
            maxlen=26_000 * max(1, len(accounts)),
            approximate=True,
        )
    pipe.execute()
    return len(accounts)


@shared_task(name="executors.tasks.publish_configuration")
def publish_configuration() -> int:
    """Publishes the configuration again, should Redis have lost or missed it."""
    from executors import configuration  # needs Django's tables

    configuration.publish_access()
    return configuration.publish_all().changed


@shared_task(name="executors.tasks.note_settlements")
def note_settlements() -> int:
    """Puts the executors' answers to settlements by hand into the audit log."""
    from executors import settlement_desk  # needs Django's tables

    client = _state()
    return settlement_desk.collect(client, cast(list[str], client.hkeys(keys.CONFIGS)))


@shared_task(name="executors.tasks.clear_sessions")
def clear_sessions() -> None:
    """Deletes the sessions of the page that have ended."""
    from django.core.management import call_command

    call_command("clearsessions")


_clients: dict[str, Any] = {}


def _state() -> Any:
    if "state" not in _clients:
        _clients["state"] = state()
    return _clients["state"]


def _ticks() -> Any:
    if "ticks" not in _clients:
        _clients["ticks"] = ticks()
    return _clients["ticks"]
