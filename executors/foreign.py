"""Pure: what a look says of a modify, cancel or close by whose journal, and with it its plan, was lost.

Precedes: resolution records it, or tells an operator that it cannot be known. Follows: clean sweeps. Such an order leaves no
magic: only what it was about can tell, as far as it is known which positions and pending orders those were.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from executors.comparing import compare, lasting
from executors.levels import freeze_modify
from executors.messages import CancelSignal, CloseBySignal, ModifySignal
from executors.orders import Outcome
from executors.reconcile import ORDER_STATE_CANCELED, ORDER_STATE_FILLED, PENDING_TYPES, Found, Sweep
from executors.sizing import Denial
from executors.symbols import to_broker
from executors.terminals.base import Order, Position, SymbolSpec
from executors.wishes import (
    BUY,
    CLOSE_BY,
    MODIFY,
    REMOVE,
    SELL,
    SLTP,
    Change,
    Meaning,
    filled_from,
    orders_meant,
    positions_meant,
)

SLACK_MS = 10_000  # between the broker's clock and Redis'
CLOSE_BY_TYPE = 8  # ORDER_TYPE_CLOSE_BY

Told = ModifySignal | CancelSignal | CloseBySignal
T = TypeVar("T", Position, Order)


@dataclass(frozen=True, slots=True)
class Lost:
    """An order as far as it is known."""

    signal: Told
    accepted_ms: int
    meaning: Meaning

    @property
    def certain(self) -> bool:
        """Whether what it means is named, so that it does not matter since when that is there."""
        return getattr(self.signal, "all", None) is None and self.signal.symbol is None


def told(lost: Lost, sweep: Sweep, spec: Callable[[str], SymbolSpec | None]) -> Found | None:
    """Of a look that others have confirmed; None: it cannot be told."""
    if isinstance(lost.signal, ModifySignal):
        return _modified(lost, lost.signal, sweep, spec)
    if isinstance(lost.signal, CancelSignal):
        return _cancelled(lost, lost.signal, sweep)
    return _closed_by(lost, lost.signal, sweep)


def _modified(
    lost: Lost, signal: ModifySignal, sweep: Sweep, spec: Callable[[str], SymbolSpec | None]
) -> Found | None:
    positions = positions_meant(signal, sweep.positions, lost.meaning)
    positions += filled_from(signal, sweep.positions, sweep.orders)
    orders = _orders(lost, signal, sweep.orders)
    if signal.position_ticket is not None and not positions:
        return compare({"action": SLTP, "position": signal.position_ticket}, sweep)
    if signal.order_ticket is not None and not positions and not orders:
        return compare({"action": MODIFY, "order": signal.order_ticket}, sweep)
    held = [item for item in positions if not _later(lost, item.time_ms)]
    pending = [item for item in orders if not _later(lost, item.setup_ms)]
    changes = freeze_modify(signal, held, pending, spec, 0)
    if isinstance(changes, Denial) or not changes:
        return None
    reached = [_is_so(change, sweep) for change in changes]
    if all(reached):
        return Found(
            Outcome.DONE,
            order_tickets=tuple(item.ticket for item in pending),
            position_tickets=tuple(item.ticket for item in held),
            message="Found at the terminal as wished.",
        )
    since = [item.time_ms for item in held] + [item.setup_ms for item in pending]
    if any(reached) or not all(_earlier(lost, at) for at in since):
        return None
    return lasting(changes[0], sweep)


def _cancelled(lost: Lost, signal: CancelSignal, sweep: Sweep) -> Found | None:
    if signal.order_ticket is not None:
        wish: Change = {"action": REMOVE, "order": signal.order_ticket}
        return compare(wish, sweep) or lasting(wish, sweep)
    standing = [item for item in _orders(lost, signal, sweep.orders) if not _later(lost, item.setup_ms)]
    past = _orders(lost, signal, sweep.history_orders)
    if not standing:
        if lost.certain and any(item.state == ORDER_STATE_FILLED for item in past):
            return Found(Outcome.REFUSED, message="The pending order was filled meanwhile.")
        return Found(Outcome.DONE, message="No pending order that it means is at the broker any more.")
    since = lost.accepted_ms - SLACK_MS
    if any(item.state == ORDER_STATE_CANCELED and item.done_ms >= since for item in past):
        return None  # by it, and it was stopped halfway, or by others
    if not all(_earlier(lost, item.setup_ms) for item in standing):
        return None
    return lasting({"action": REMOVE, "order": standing[0].ticket}, sweep)


def _closed_by(lost: Lost, signal: CloseBySignal, sweep: Sweep) -> Found | None:
    if signal.position_ticket is not None:
        wish: Change = {
            "action": CLOSE_BY,
            "position": signal.position_ticket,
            "position_by": signal.by_position_ticket,
        }
        both = {signal.position_ticket, signal.by_position_ticket} <= {
            item.ticket for item in sweep.positions
        }
        return compare(wish, sweep) or (lasting(wish, sweep) if both else None)
    name = to_broker(lost.meaning.config, signal.symbol or "")
    since = lost.accepted_ms - SLACK_MS
    made = [
        item
        for item in sweep.history_orders
        if item.type == CLOSE_BY_TYPE and item.symbol == name and item.setup_ms >= since
    ]
    held = [item for item in sweep.positions if item.symbol == name]
    opposite = {item.type for item in held if not _later(lost, item.time_ms)} == {BUY, SELL}
    if made and not opposite:
        return Found(
            Outcome.DONE,
            order_tickets=tuple(item.ticket for item in made),
            message="Closed by each other at the broker.",
        )
    if made or {item.type for item in held if _earlier(lost, item.time_ms)} != {BUY, SELL}:
        return None
    return lasting({"action": CLOSE_BY}, sweep)


def _orders(lost: Lost, signal: ModifySignal | CancelSignal, orders: Iterable[Order]) -> tuple[Order, ...]:
    return orders_meant(signal, (item for item in orders if item.type in PENDING_TYPES), lost.meaning)


def _is_so(change: Change, sweep: Sweep) -> bool:
    found = compare(change, sweep)
    return found is not None and found.outcome is Outcome.DONE


def _later(lost: Lost, at_ms: int) -> bool:
    """Surely not what was meant: it came after the order."""
    return not lost.certain and at_ms > lost.accepted_ms + SLACK_MS


def _earlier(lost: Lost, at_ms: int) -> bool:
    """Surely there when the order came."""
    return lost.certain or at_ms < lost.accepted_ms - SLACK_MS
