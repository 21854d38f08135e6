"""The order socket's first message, and whether the result stream still holds what a client missed.

Precedes: executors.consumers. Follows: readmodel reads each part. Every read may raise redis.RedisError.
"""

import json
from collections.abc import Mapping
from typing import Any, cast

import redis.asyncio
from channels.db import database_sync_to_async

from executors import grants, readmodel
from executors.grants import Standing, TerminalRef
from executors.messages import OrderView, public_json
from executors.state import order_view
from tradedist import keys
from tradedist.clock import now_ms
from tradedist.hub import entry_order

RECENT_SIGNALS = 100
MAX_OPEN = 500  # orders shown that are not settled; more belong to the lists of REST

Refs = Mapping[str, TerminalRef]


async def access(user: Any) -> tuple[Standing, Refs]:
    """What the user is, and the terminals that he may see, now."""
    access: tuple[Standing, Refs] = await database_sync_to_async(_access)(user)
    return access


def _access(user: Any) -> tuple[Standing, Refs]:
    return grants.standing(user), grants.visible_terminals(user)


async def snapshot(client: "redis.asyncio.Redis", user: Any, who: Standing, refs: Refs) -> str:
    """A JSON object: the snapshot message without cursor and number."""
    terminals = []
    for view in await readmodel.terminals(client, refs):
        can_trade = "true" if view.level == "trade" else "false"
        terminals.append(f'{public_json(view)[:-1]},"can_trade":{can_trade}}}')
    parts = {
        "terminals": terminals,
        "positions": [public_json(item) for item in await readmodel.positions(client, refs)],
        "pending_orders": [public_json(item) for item in await readmodel.pending_orders(client, refs)],
        "orders": [public_json(item) for item in await orders(client, refs)],
    }
    about = {
        "type": "snapshot",
        "user": {"name": user.get_username(), "role": who.role, "may_trade": who.may_trade},
        "modes": await readmodel.modes(client, refs),
        "time_ms": now_ms(),
    }
    lists = ",".join(f'"{name}":[{",".join(items)}]' for name, items in parts.items())
    return f"{json.dumps(about)[:-1]},{lists}}}"


async def orders(client: "redis.asyncio.Redis", refs: Refs) -> list[OrderView]:
    """The open ones and those of the newest signals, on terminals that are visible; newest first."""
    async with client.pipeline(transaction=False) as pipe:
        pipe.zrange(keys.UNSETTLED, 0, 10 * MAX_OPEN, desc=True)
        pipe.zrange(keys.SIGNALS, 0, RECENT_SIGNALS - 1, desc=True)
        unsettled, signal_ids = cast(tuple[list[str], list[str]], await pipe.execute())
    wanted = dict.fromkeys([name for name in unsettled if _terminal(name) in refs][:MAX_OPEN])
    async with client.pipeline(transaction=False) as pipe:
        for signal_id in signal_ids:
            pipe.hget(keys.signal(signal_id), "orders")
        for names in await pipe.execute():
            wanted |= dict.fromkeys(name for name in json.loads(names or "[]") if _terminal(name) in refs)
    async with client.pipeline(transaction=False) as pipe:
        for name in wanted:
            pipe.hmget(keys.order(name), ["report", "overdue"])
        views = [order_view(row[0], row[1]) for row in await pipe.execute() if row[0]]
    return sorted(
        views, key=lambda view: view.report.trace.get("accepted", view.report.time_ms), reverse=True
    )


def _terminal(order_id: str) -> str:
    return order_id.rpartition(":")[2]


async def reaches_back(client: "redis.asyncio.Redis", entry_id: str) -> bool:
    """Whether every report after `entry_id` is still in the result stream."""
    try:
        stream = await client.xinfo_stream(keys.REPORTS)
    except redis.asyncio.RedisError as error:
        if "no such key" in str(error):
            return True  # nothing was ever reported
        raise
    if stream["entries-added"] == stream["length"]:
        return True  # nothing was ever trimmed
    first = stream["first-entry"]
    return first is not None and entry_order(entry_id) >= entry_order(first[0])
