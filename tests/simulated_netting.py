"""A SimVenue whose account nets: one position a symbol, that opposite orders reduce, close or turn over.

Precedes: the model of netting accounts. What a hand or the broker does is shown at once, so that it can be known.
"""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from executors.terminals.base import ZERO, Position, SendReply, TradeRequest
from tests.simulated import Entry, Fault, SimClock, SimVenue

LONG_AGO_MS = 1e9
IN, OUT, INOUT = 0, 1, 2


class SimNetting(SimVenue):
    """`on_send` hears of every request before anything comes of it."""

    def __init__(self, clock: SimClock) -> None:
        super().__init__(clock)
        self.margin_mode = 0
        self.on_send: Callable[[TradeRequest], None] = lambda request: None

    def send(self, request: TradeRequest) -> SendReply:
        self.on_send(request)
        return super().send(request)

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

    def _enter(self, request: TradeRequest, magic: int, lots: Decimal, fault: Fault) -> Entry:
        held = next((item for item in self._open.values() if item.symbol == request.symbol), None)
        if held is None:
            return super()._enter(request, magic, lots, fault)
        order = self.new_order(magic, request.symbol, request.type, request.volume, request.comment)
        rest = request.volume - lots
        order = replace(order, state=2 if rest else 4, volume_current=rest, position_id=held.identifier)
        if fault.drops_magic:
            order = replace(order, magic=0)
        side, left = self._net(held, order.ticket, request.type, lots)
        if left is None:
            del self._open[held.ticket]
        else:
            self._open.pop(held.ticket)
            self.hold(replace(left, magic=order.magic))
        deal = self.new_deal(order, lots, held.identifier, entry=side, reason=3, comment=request.comment)
        self.entries.append(Entry(magic, order, [deal], self.clock.mono + self.lag_ms))
        return self.entries[-1]

    def _net(self, held: Position, ticket: int, side: int, lots: Decimal) -> tuple[int, Position | None]:
        """The deal's entry, and what the position becomes."""
        if held.type == side:
            return IN, replace(held, volume=held.volume + lots)
        if lots == held.volume:
            return OUT, None
        if lots < held.volume:
            return OUT, replace(held, volume=held.volume - lots)
        return INOUT, replace(
            held, ticket=ticket, type=side, volume=lots - held.volume, time_ms=self.clock.redis_ms(), sl=ZERO
        )
