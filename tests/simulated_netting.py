"""A SimVenue whose account nets: one position a symbol, that opposite orders reduce, close or turn over.

Precedes: the model of netting accounts. What a hand or the broker does is shown at once, so that it can be known.
"""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from executors.terminals.base import ZERO, Order, Position, SendReply, TradeRequest
from tests import simulated_changes
from tests.simulated import Entry, Fault, SimClock, SimVenue

LONG_AGO_MS = 1e9
IN, OUT, INOUT = 0, 1, 2


class SimNetting(SimVenue):
    """`on_send` hears of every request before anything comes of it."""

    def __init__(self, clock: SimClock) -> None:
        super().__init__(clock)
        self.margin_mode = 0
        self.on_send: Callable[[TradeRequest], None] = lambda request: None
        self.quick_hands: list[tuple[str, str, int]] = []  # what a hand trades right after the next request

    def send(self, request: TradeRequest) -> SendReply:
        self.on_send(request)
        reply = super().send(request)
        for symbol, lots, side in self.quick_hands:
            self.trade_by_hand(symbol, lots, side)
        self.quick_hands = []
        return reply

    def trade_by_hand(self, symbol: str = "EURUSD", lots: str = "1", side: int = 0) -> int:
        request = TradeRequest(action=1, symbol=symbol, volume=Decimal(lots), type=side)
        entry = self._enter(request, 0, Decimal(lots), Fault())
        entry.seen_ms = self.clock.mono - LONG_AGO_MS
        return entry.order.ticket

    def stop_out(self, ticket: int) -> None:
        identifier = self._open[ticket].identifier
        super().stop_out(ticket)
        entry = self.entries[-1]
        entry.seen_ms = self.clock.mono - LONG_AGO_MS
        entry.order = replace(entry.order, position_id=identifier)
        entry.deals = [replace(deal, position_id=identifier) for deal in entry.deals]

    def trigger(self, ticket: int) -> None:
        """The price of a pending order has come: it is filled, and nets."""
        entry = next(item for item in self.entries if item.order.ticket == ticket)
        order, lots = entry.order, entry.order.volume_current
        held = next((item for item in self._open.values() if item.symbol == order.symbol), None)
        if held is None:
            simulated_changes.trigger(self, ticket)
            return
        kind = 0 if order.type in (2, 4, 6) else 1
        now = self.clock.redis_ms()
        entry.order = replace(order, state=4, volume_current=ZERO, position_id=held.identifier, done_ms=now)
        side = self._net(held, entry.order, kind, lots)
        deal = self.new_deal(entry.order, lots, held.identifier, entry=side, reason=3, comment=order.comment)
        entry.deals.append(replace(deal, type=kind))

    def _enter(self, request: TradeRequest, magic: int, lots: Decimal, fault: Fault) -> Entry:
        held = next((item for item in self._open.values() if item.symbol == request.symbol), None)
        if held is None:
            return super()._enter(request, magic, lots, fault)
        order = self.new_order(magic, request.symbol, request.type, request.volume, request.comment)
        rest = request.volume - lots
        order = replace(order, state=2 if rest else 4, volume_current=rest, position_id=held.identifier)
        if fault.drops_magic:
            order = replace(order, magic=0)
        side = self._net(held, order, request.type, lots)
        deal = self.new_deal(order, lots, held.identifier, entry=side, reason=3, comment=request.comment)
        self.entries.append(Entry(magic, order, [deal], self.clock.mono + self.lag_ms))
        return self.entries[-1]

    def _net(self, held: Position, order: Order, side: int, lots: Decimal) -> int:
        """The deal's entry; the position becomes what is left."""
        del self._open[held.ticket]
        held = replace(held, magic=order.magic)
        if held.type == side:
            self.hold(replace(held, volume=held.volume + lots))
            return IN
        if lots < held.volume:
            self.hold(replace(held, volume=held.volume - lots))
        elif lots > held.volume:
            now, volume = self.clock.redis_ms(), lots - held.volume
            self.hold(replace(held, ticket=order.ticket, type=side, volume=volume, time_ms=now, sl=ZERO))
            return INOUT
        return OUT
