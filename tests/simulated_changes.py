"""What SimVenue does with requests other than market orders: pending orders, levels, changes, removals, close by.

Precedes: tests.simulated, which answers with the fault's reply. Faults decide whether it is done, now or later.
"""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from executors.terminals.base import ZERO, Order, Position, SendReply, SendResult, TradeRequest

if TYPE_CHECKING:
    from tests.simulated import Entry, Fault, SimVenue

DONE, PLACED, INVALID, NO_CHANGES, POSITION_CLOSED = 10009, 10008, 10013, 10025, 10036
PENDING, SLTP, MODIFY, REMOVE, CLOSE_BY = 5, 6, 7, 8, 10
LEVELS = ("sl", "tp", "price_open", "price_stoplimit", "type_time", "expiration_ms")
T = TypeVar("T", Position, Order)


@dataclass(frozen=True, slots=True)
class Changed:
    """A change of levels. `at`: monotonic ms. `late`: it reached the server after the answer. `answered`: and that told the
    truth."""

    magic: int
    ticket: int
    before: dict[str, Any]
    after: dict[str, Any]
    at: float
    late: bool
    answered: bool


def send(venue: "SimVenue", request: TradeRequest, fault: "Fault") -> SendReply:
    """The truth about the request, whatever the caller is told."""
    if not fault.executes:
        return _reply(DONE)
    if fault.after_ms:
        venue.due(fault.after_ms, lambda: _do(venue, request, fault))
        return _reply(PLACED)
    return _do(venue, request, fault)


def _do(venue: "SimVenue", request: TradeRequest, fault: "Fault") -> SendReply:
    kinds = {PENDING: _place, SLTP: _levels, MODIFY: _modify, REMOVE: _remove, CLOSE_BY: _close_by}
    reply = kinds[request.action](venue, request, fault)
    if reply.result is not None and reply.result.retcode == DONE:
        ticket = request.position or request.order or reply.result.order
        venue.applied.append((request.magic, ticket, venue.clock.redis_ms()))
    return reply


def _place(venue: "SimVenue", request: TradeRequest, fault: "Fault") -> SendReply:
    order = venue.new_order(request.magic, request.symbol, request.type, request.volume, request.comment)
    order = replace(
        order,
        state=1,
        magic=0 if fault.drops_magic else order.magic,
        price_open=request.price,
        price_stoplimit=request.stoplimit,
        sl=request.sl,
        tp=request.tp,
        type_time=request.type_time,
        expiration_ms=request.expiration_ms,
    )
    venue.add(request.magic, order, [])
    return _reply(DONE, order.ticket)


def _levels(venue: "SimVenue", request: TradeRequest, fault: "Fault") -> SendReply:
    held = venue.position(request.position)
    if held is None:
        return _reply(POSITION_CLOSED)
    if (held.sl, held.tp) == (request.sl, request.tp):
        return _reply(NO_CHANGES)
    if not request.magic:  # the executor's own move
        venue.guarded.append((held.type, held.sl, request.sl))
    now = replace(held, sl=request.sl, tp=request.tp)
    _note(venue, request, held, now, fault)
    venue.hold(now)
    return _reply(DONE)


def _modify(venue: "SimVenue", request: TradeRequest, fault: "Fault") -> SendReply:
    entry = _working(venue, request.order)
    if entry is None:
        return _reply(INVALID)
    changed = replace(
        entry.order,
        price_open=request.price,
        price_stoplimit=request.stoplimit,
        sl=request.sl,
        tp=request.tp,
        type_time=request.type_time,
        expiration_ms=request.expiration_ms,
    )
    if changed == entry.order:
        return _reply(NO_CHANGES)
    _note(venue, request, entry.order, changed, fault)
    entry.order = changed
    return _reply(DONE)


def _note(venue: "SimVenue", request: TradeRequest, before: T, after: T, fault: "Fault") -> None:
    was, now = (
        {name: getattr(item, name) for name in LEVELS if hasattr(item, name)} for item in (before, after)
    )
    late, answered = bool(fault.after_ms), fault.reply == "truth"
    venue.changes.append(Changed(request.magic, before.ticket, was, now, venue.clock.mono, late, answered))


def _remove(venue: "SimVenue", request: TradeRequest, fault: "Fault") -> SendReply:
    entry = _working(venue, request.order)
    if entry is None:
        return _reply(INVALID)
    entry.order = replace(entry.order, state=2, done_ms=venue.clock.redis_ms())
    return _reply(DONE)


def _close_by(venue: "SimVenue", request: TradeRequest, fault: "Fault") -> SendReply:
    one, other = venue.position(request.position), venue.position(request.position_by)
    if one is None or other is None:
        return _reply(POSITION_CLOSED)
    if one.symbol != other.symbol or one.type == other.type:
        return _reply(INVALID)
    lots = min(one.volume, other.volume)
    order = venue.new_order(0, one.symbol, 8, lots, "")
    order = replace(order, state=4, volume_current=ZERO, position_id=one.ticket, position_by_id=other.ticket)
    deals = [venue.new_deal(order, lots, item.ticket, entry=3, reason=3, comment="") for item in (one, other)]
    for item in (one, other):
        _reduce(venue, item, lots)
    venue.add(0, order, deals)
    return _reply(DONE, order.ticket)


def trigger(venue: "SimVenue", ticket: int, lots: Decimal | None = None) -> None:
    """The price of a pending order has come: all or some of what is left of it is filled."""
    entry = _working(venue, ticket)
    if entry is None:
        return
    order = entry.order
    lots = min(order.volume_current, lots or order.volume_current)
    left = order.volume_current - lots
    side = 0 if order.type in (2, 4, 6) else 1
    entry.order = order = replace(
        order, state=3 if left else 4, volume_current=left, position_id=ticket, done_ms=venue.clock.redis_ms()
    )
    deal = replace(venue.new_deal(order, lots, ticket, entry=0, reason=3, comment=order.comment), type=side)
    entry.deals.append(replace(deal, price=order.price_open))
    held = venue.position(ticket)
    if held is not None:
        venue.hold(replace(held, volume=held.volume + lots))
        return
    now = venue.clock.redis_ms()
    venue.hold(
        Position(
            ticket,
            ticket,
            order.symbol,
            side,
            order.magic,
            lots,
            order.price_open,
            order.price_open,
            order.sl,
            order.tp,
            ZERO,
            ZERO,
            order.comment,
            now,
            now,
        )
    )


def end(venue: "SimVenue", ticket: int, state: int) -> None:
    """The broker ends a pending order: 2 cancelled, 5 rejected, 6 expired."""
    entry = _working(venue, ticket)
    if entry is not None:
        entry.order = replace(entry.order, state=state, done_ms=venue.clock.redis_ms())


def working(venue: "SimVenue") -> list[Order]:
    """The truth about pending orders, without lag."""
    return [item.order for item in venue.entries if item.order.state in (1, 3) and item.order.type >= 2]


def _working(venue: "SimVenue", ticket: int) -> "Entry | None":
    return next(
        (item for item in venue.entries if item.order.ticket == ticket and item.order.state in (1, 3)), None
    )


def _reduce(venue: "SimVenue", position: Position, lots: Decimal) -> None:
    if lots == position.volume:
        venue.release(position.ticket)
    else:
        venue.hold(replace(position, volume=position.volume - lots))


def _reply(code: int, order: int = 0) -> SendReply:
    return SendReply(SendResult(code, 0, order, ZERO, ZERO, ZERO, ZERO, f"simulated {code}", 1))
