"""Pure: what a look at the terminal says about a request that leaves no magic: stop loss and take profit, a changed or
removed pending order, a close by. Its wish is compared with the state of what it was about.

Precedes: resolution records what came of it. Follows: a sweep. None: the old state is still there, which counts as
absence once it lasts over clean sweeps.
"""

from decimal import Decimal
from typing import Any

from executors.legs import LegRow, RequestRow
from executors.orders import Outcome
from executors.plans import target_of
from executors.reconcile import (
    ORDER_STATE_CANCELED,
    ORDER_STATE_EXPIRED,
    ORDER_STATE_FILLED,
    ORDER_STATE_REJECTED,
    Found,
    Sweep,
)
from executors.terminals.base import Deal, Order
from executors.wishes import CLOSE_BY, MODIFY, REMOVE, SLTP, TIME_SPECIFIED

NOT_SO = "Two clean looks at the terminal did not find it so: it was not done, or a later change has taken its place."
NAMED = frozenset(
    {"price", "stoplimit", "sl", "tp", "type_time"}
)  # what a modify may wish of a pending order
CHANGES = frozenset({SLTP, MODIFY, REMOVE, CLOSE_BY})
OUT_BY = 3  # DEAL_ENTRY_OUT_BY
REASONS = {4: "by its stop loss", 5: "by its take profit", 6: "by stop-out"}
ENDS = {
    ORDER_STATE_CANCELED: "was cancelled",
    ORDER_STATE_FILLED: "was filled",
    ORDER_STATE_REJECTED: "was rejected",
    ORDER_STATE_EXPIRED: "expired",
}


def is_change(request: dict[str, Any]) -> bool:
    return request.get("action") in CHANGES


def compare(wish: dict[str, Any], sweep: Sweep) -> Found | None:
    """`wish`: the change as its plan has it. What it does not name may have changed since, by others, and counts for
    nothing."""
    kinds = {SLTP: _levels, MODIFY: _modified, REMOVE: _removed, CLOSE_BY: _closed_by}
    return kinds[wish["action"]](wish, sweep)


def wish_of(row: LegRow, request: RequestRow) -> dict[str, Any]:
    """What a request was to bring about: of its fields only those that the plan names."""
    target = target_of(request.request)
    changes: list[dict[str, Any]] = row.plan.get("changes", [])
    return next((item for item in changes if target_of(item) == target), request.request)


def lasting(wish: dict[str, Any], sweep: Sweep) -> Found:
    """What it means when clean sweeps have gone on showing what `compare` calls nothing."""
    ticket = wish.get("order", 0)
    if wish["action"] == REMOVE and all(item.ticket != ticket for item in sweep.orders):
        return Found(Outcome.DONE, message=f"Order {ticket} is no longer at the broker.")
    return Found(Outcome.NOT_EXECUTED, message=NOT_SO)


def _levels(wish: dict[str, Any], sweep: Sweep) -> Found | None:
    ticket = wish["position"]
    held = next((item for item in sweep.positions if item.ticket == ticket), None)
    if held is None:
        return _closed(ticket, sweep)
    if _are(wish, {"sl": held.sl, "tp": held.tp}):
        return _reached(positions=(ticket,))
    return None


def _modified(wish: dict[str, Any], sweep: Sweep) -> Found | None:
    ticket = wish["order"]
    order = next((item for item in sweep.orders if item.ticket == ticket), None)
    if order is not None:
        return _reached(orders=(ticket,)) if _is_as_wished(wish, order) else None
    past = _past(ticket, sweep)
    if past is None:
        return None
    filled = past.volume_current < past.volume_initial
    if filled and NAMED & wish.keys() and _is_as_wished(wish, past):
        return _reached(orders=(ticket,))  # its position has begun with that
    return Found(
        Outcome.REFUSED,
        order_tickets=(ticket,),
        message=f"Order {ticket} {ENDS.get(past.state, 'has ended')} meanwhile.",
        left={"sl": str(past.sl), "tp": str(past.tp)} if filled else None,
    )


def _is_as_wished(wish: dict[str, Any], order: Order) -> bool:
    if not _are(wish, {"price": order.price_open, "sl": order.sl, "tp": order.tp}):
        return False
    limit = Decimal(wish.get("stoplimit", "0"))
    if limit and limit != order.price_stoplimit:
        return False
    if "type_time" in wish:
        timed = order.type_time >= TIME_SPECIFIED
        if wish["type_time"] != order.type_time:
            return False
        if timed and wish["expiration_ms"] // 1000 != order.expiration_ms // 1000:
            return False
    return True


def _are(wish: dict[str, Any], now: dict[str, Decimal]) -> bool:
    return all(Decimal(wish[name]) == price for name, price in now.items() if name in wish)


def _removed(request: dict[str, Any], sweep: Sweep) -> Found | None:
    ticket = request["order"]
    if any(item.ticket == ticket for item in sweep.orders):
        return None
    past = _past(ticket, sweep)
    if past is None:
        return None
    if past.state == ORDER_STATE_FILLED:
        return Found(
            Outcome.REFUSED, order_tickets=(ticket,), message=f"Order {ticket} was filled meanwhile."
        )
    return _reached(orders=(ticket,))


def _closed_by(request: dict[str, Any], sweep: Sweep) -> Found | None:
    one, other = request["position"], request["position_by"]
    for order in sweep.history_orders:
        if {order.position_id, order.position_by_id} == {one, other}:
            deals = tuple(deal.ticket for deal in sweep.deals if deal.order == order.ticket)
            return _reached(positions=(one, other), orders=(order.ticket,), deals=deals)
    held = {item.ticket for item in sweep.positions}
    if {one, other} <= held:
        return None
    for ticket in (one, other):
        if ticket not in held and (gone := _closed(ticket, sweep)) is not None:
            netted = any(deal.entry == OUT_BY for deal in _outs(ticket, sweep))
            return None if netted else gone  # its own order may be shown later than its deals
    return None


def _reached(
    positions: tuple[int, ...] = (), orders: tuple[int, ...] = (), deals: tuple[int, ...] = ()
) -> Found:
    return Found(
        Outcome.DONE,
        deal_tickets=deals,
        order_tickets=orders,
        position_tickets=positions,
        message="Found at the terminal as wished.",
    )


def _closed(ticket: int, sweep: Sweep) -> Found | None:
    """The position is not there: how it ended, by its last deal. Without one the look proves nothing yet."""
    outs = _outs(ticket, sweep)
    if not outs:
        return None
    how = REASONS.get(outs[-1].reason, "meanwhile")
    return Found(
        Outcome.REFUSED,
        position_tickets=(ticket,),
        message=f"Position {ticket} was closed {how} before that.",
    )


def _outs(ticket: int, sweep: Sweep) -> list[Deal]:
    """Deals that took from the position. On a netting account that was turned over, deals name the identifier that it had
    before; they take from this one since the order that gave it its ticket."""
    made = _past(ticket, sweep)
    identifier = (made.position_id if made is not None else 0) or ticket
    since = max((deal.ticket for deal in sweep.deals if deal.order == ticket), default=0)
    return [
        deal for deal in sweep.deals if deal.position_id == identifier and deal.entry and deal.ticket > since
    ]


def _past(ticket: int, sweep: Sweep) -> Order | None:
    return next((item for item in sweep.history_orders if item.ticket == ticket), None)
