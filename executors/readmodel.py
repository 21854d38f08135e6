"""What REST and the sockets read: RTSS, RTS and RIS as one user may see them. Asynchronous, and reads only.

Precedes: `api` and `consumers` encode what comes from here. Follows: accept and the executors wrote it. Every function
takes the client of the caller's event loop and may raise redis.RedisError; lists are paged and each read is bounded.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import redis.asyncio
from asgiref.sync import sync_to_async
from pydantic import BaseModel, TypeAdapter, ValidationError

from executors import grants
from executors.alerts import AlertCode, read_alerts
from executors.configuration import GLOBAL, strictest, terminal_mode
from executors.grants import Standing, TerminalRef
from executors.messages import (
    INSTANCE_STATUSES,
    AccountState,
    Alert,
    DriftLog,
    InstanceStatus,
    Message,
    Mode,
    OrderView,
    PendingOrderState,
    PositionState,
    SignalView,
    TerminalUpdate,
)
from executors.orders import OrderState
from executors.state import order_view, signal_view
from tradedist import keys
from tradedist.clock import now_ms

logger = logging.getLogger(__name__)

Redis = redis.asyncio.Redis
M = TypeVar("M", bound=BaseModel)

STALE_MS = 5_000  # an executor that has not been heard of for so long is shown as stale
SCAN_PAGE = 100
SCAN_LIMIT = 2_000  # signals looked at for one answer; the cursor goes on from there

POSITIONS: TypeAdapter[list[PositionState]] = TypeAdapter(list[PositionState])
PENDING: TypeAdapter[list[PendingOrderState]] = TypeAdapter(list[PendingOrderState])


class TerminalView(Message):
    """A terminal as a user sees it: its configuration in short, and what it last said."""

    terminal_id: str
    label: str
    kind: str
    login: int
    server: str
    host_id: str
    groups: list[str]
    level: str  # view or trade
    enabled: bool
    mode: Mode  # of the terminal itself
    effective_mode: Mode  # the strictest of its own, the global one, and what a wrong clock allows
    status: InstanceStatus
    stale: bool  # nothing heard of its executor for 5 s
    seen_ms: int | None
    last_error: str
    restarts: int
    config_version: int | None  # that the executor runs with
    latency_us: int | None  # our own part of the last order
    broker_us: int | None
    account: AccountState | None
    drift: DriftLog | None  # what at the terminal no order of ours explains
    alerts: list[Alert]  # open ones, newest first


class SignalPage(Message):
    items: list[SignalView]
    cursor: str | None  # of the next page; None at the end


# --- Who sees what ---


async def standing(user: Any) -> Standing:
    return await sync_to_async(grants.standing)(user)


async def visible_terminals(user: Any) -> dict[str, TerminalRef]:
    return await sync_to_async(grants.visible_terminals)(user)


async def visible_ids(user: Any) -> frozenset[str]:
    return frozenset(await visible_terminals(user))


# --- Signals ---


async def signal(client: Redis, signal_id: str, visible: Iterable[str], user_id: int) -> SignalView | None:
    """The signal with the orders he may see. None when there is none, or nothing of it is his to see."""
    views = await _signals(client, [signal_id], frozenset(visible), user_id)
    return views[0] if views else None


async def signals(
    client: Redis,
    visible: Iterable[str],
    user_id: int,
    *,
    limit: int,
    after: str | None = None,
    terminal_id: str | None = None,
    state: OrderState | None = None,
) -> SignalPage:
    """Newest first. `after` is a signal_id: what is older than it follows. A page may hold fewer than `limit` and
    still have a cursor, when few of the signals looked at are his."""
    seen = frozenset(visible)
    found: list[SignalView] = []
    scanned, last = 0, after
    start = await _rank_after(client, after)
    while start is not None and scanned < SCAN_LIMIT:
        names = cast(list[str], await client.zrange(keys.SIGNALS, start, start + SCAN_PAGE - 1, desc=True))
        for view in await _signals(client, names, seen, user_id):
            matches = not (terminal_id or state) or any(
                (terminal_id is None or order.terminal_id == terminal_id)
                and (state is None or order.state is state)
                for order in view.orders
            )
            if matches:
                found.append(view)
            if len(found) == limit:
                return SignalPage(items=found, cursor=view.signal_id)
        if len(names) < SCAN_PAGE:
            return SignalPage(items=found, cursor=None)
        scanned, start, last = scanned + len(names), start + len(names), names[-1]
    return SignalPage(items=found, cursor=last if start is not None else None)


async def _rank_after(client: Redis, signal_id: str | None) -> int | None:
    """Where the list goes on. None when the signal is no longer listed: nothing older is either."""
    if signal_id is None:
        return 0
    rank = cast(int | None, await cast(Any, client.zrevrank(keys.SIGNALS, signal_id)))
    return None if rank is None else rank + 1


async def _signals(
    client: Redis, signal_ids: Sequence[str], visible: frozenset[str], user_id: int
) -> list[SignalView]:
    """Two round trips for any number: the records, then the orders that may be seen."""
    if not signal_ids:
        return []
    async with client.pipeline(transaction=False) as pipe:
        for signal_id in signal_ids:
            pipe.hgetall(keys.signal(signal_id))
        records = cast(list[dict[str, str]], await pipe.execute())
    wanted: list[tuple[str, dict[str, str], list[str]]] = []
    for signal_id, record in zip(signal_ids, records, strict=True):
        if record:
            shown = [name for name in json.loads(record["orders"]) if name.rpartition(":")[2] in visible]
            if shown or record["user_id"] == str(user_id):
                wanted.append((signal_id, record, shown))
    if not wanted:
        return []
    async with client.pipeline(transaction=False) as pipe:
        for _, _, shown in wanted:
            for name in shown:
                pipe.hmget(keys.order(name), ["report", "overdue"])
        rows = iter(await pipe.execute())
    views = []
    for signal_id, record, shown in wanted:
        answers = [next(rows) for _ in shown]
        orders: list[OrderView] = [order_view(row[0], row[1]) for row in answers if row[0]]
        views.append(signal_view(record, orders, signal_id))
    return views


# --- Terminals and what they hold ---


async def terminals(client: Redis, refs: Mapping[str, TerminalRef]) -> list[TerminalView]:
    ids = list(refs)
    async with client.pipeline(transaction=False) as pipe:
        pipe.hmget(keys.MODES, [GLOBAL, *map(terminal_mode, ids)])
        for terminal_id in ids:
            pipe.hgetall(keys.instance(terminal_id))
            pipe.mget([keys.account(terminal_id), keys.drift(terminal_id)])
            pipe.hvals(keys.open_alerts(terminal_id))
        modes, *rows = await pipe.execute()
    now = now_ms()
    return [
        _terminal(
            refs[terminal_id],
            modes[0],
            modes[place + 1],
            rows[3 * place],
            rows[3 * place + 1],
            rows[3 * place + 2],
            now,
        )
        for place, terminal_id in enumerate(ids)
    ]


def _terminal(
    ref: TerminalRef,
    all_mode: str | None,
    mode: str | None,
    said: dict[str, str],
    held: list[str | None],
    open_alerts: list[str],
    now: int,
) -> TerminalView:
    alerts = read_alerts(open_alerts)
    skewed = "REDUCING" if any(alert.code == AlertCode.CLOCK_SKEW for alert in alerts) else None
    seen_ms = _int(said.get("seen_ms"))
    account, drift = held
    return TerminalView(
        terminal_id=ref.terminal_id,
        label=ref.label,
        kind=ref.kind,
        login=ref.login,
        server=ref.server,
        host_id=ref.host_id,
        groups=list(ref.groups),
        level=ref.level,
        enabled=ref.enabled,
        mode=cast(Mode, strictest(mode or ref.mode)),
        effective_mode=cast(Mode, strictest(mode or ref.mode, all_mode, skewed)),
        status=_status(said.get("state")),
        stale=seen_ms is None or now - seen_ms > STALE_MS,
        seen_ms=seen_ms,
        last_error=said.get("last_error", ""),
        restarts=_int(said.get("restarts")) or 0,
        config_version=_int(said.get("config_version")),
        latency_us=_int(said.get("latency_us")),
        broker_us=_int(said.get("broker_us")),
        account=_one(AccountState, account),
        drift=_one(DriftLog, drift),
        alerts=alerts,
    )


async def positions(client: Redis, terminal_ids: Iterable[str]) -> list[PositionState]:
    """By terminal and ticket."""
    found = await _lists(client, POSITIONS, [keys.positions(terminal_id) for terminal_id in terminal_ids])
    return sorted(found, key=lambda item: (item.terminal_id, item.position_ticket))


async def pending_orders(client: Redis, terminal_ids: Iterable[str]) -> list[PendingOrderState]:
    found = await _lists(client, PENDING, [keys.pending_orders(terminal_id) for terminal_id in terminal_ids])
    return sorted(found, key=lambda item: (item.terminal_id, item.order_ticket))


async def _lists(client: Redis, kind: TypeAdapter[list[M]], names: list[str]) -> list[M]:
    if not names:
        return []
    found: list[M] = []
    for name, text in zip(names, await client.mget(names), strict=True):
        if text:
            try:
                found += kind.validate_json(text)
            except ValidationError:
                logger.exception("what is kept cannot be read", extra={"key": name})
    return found


async def terminal_updates(client: Redis, terminal_ids: Iterable[str]) -> list[TerminalUpdate]:
    """What each terminal last said, whole, in the words of its live updates."""
    ids = sorted(terminal_ids)
    async with client.pipeline(transaction=False) as pipe:
        for terminal_id in ids:
            pipe.hgetall(keys.instance(terminal_id))
            pipe.mget(
                [
                    keys.account(terminal_id),
                    keys.positions(terminal_id),
                    keys.pending_orders(terminal_id),
                    keys.drift(terminal_id),
                ]
            )
            pipe.hvals(keys.open_alerts(terminal_id))
        rows = await pipe.execute()
    updates = []
    for terminal_id, said, (account, held, pending, drift), alerts in zip(
        ids, rows[::3], rows[1::3], rows[2::3], strict=True
    ):
        updates.append(
            TerminalUpdate(
                terminal_id=terminal_id,
                status=_status(said.get("state")),
                account=_one(AccountState, account),
                positions=_many(POSITIONS, held),
                pending_orders=_many(PENDING, pending),
                drift=_one(DriftLog, drift),
                alerts=read_alerts(alerts),
                latency_us=_int(said.get("latency_us")),
                broker_us=_int(said.get("broker_us")),
                last_error=said.get("last_error", ""),
                time_ms=_int(said.get("seen_ms")) or 0,
            )
        )
    return updates


async def modes(client: Redis, terminal_ids: Iterable[str]) -> dict[str, Any]:
    """`{"global": mode, "terminals": {terminal_id: mode}}`, as the executors read them."""
    ids = sorted(terminal_ids)
    held = cast(
        list[str | None], await cast(Any, client.hmget(keys.MODES, [GLOBAL, *map(terminal_mode, ids)]))
    )
    return {
        "global": strictest(held[0] or "ACTIVE"),
        "terminals": {
            terminal_id: strictest(mode or "ACTIVE") for terminal_id, mode in zip(ids, held[1:], strict=True)
        },
    }


def _status(text: str | None) -> InstanceStatus:
    return cast(InstanceStatus, text if text in INSTANCE_STATUSES else "STOPPED")


def _int(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _one(kind: type[M], text: str | None) -> M | None:
    if not text:
        return None
    try:
        return kind.model_validate_json(text)
    except ValidationError:
        logger.exception("what is kept cannot be read", extra={"kind": kind.__name__})
        return None


def _many(kind: TypeAdapter[list[M]], text: str | None) -> list[M] | None:
    if not text:
        return None
    try:
        return kind.validate_json(text)
    except ValidationError:
        logger.exception("what is kept cannot be read", extra={"kind": str(kind)})
        return None
