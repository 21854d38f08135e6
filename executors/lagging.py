"""A terminal's positions and pending orders, read so that those of a moment ago are among them: its lists lag behind its
answers.

Precedes: plans freeze what is read here, and requests are completed with it. Follows: execution notes every fill, placing
and change of levels, guard its moves. Runs in the executor's thread.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from executors.holdings import TIME_SPECIFIED
from executors.legs import LegRow, made_by, order_tickets, position_tickets
from executors.messages import AnySignal, OpenSignal
from executors.orders import Outcome
from executors.queueing import means
from executors.terminals.base import Order, Position, Terminal, TradeRequest

LAG_MS = 1_000  # a fill may be missing from the terminal's positions for so long
POLL_S = 0.02
SLTP, MODIFY = 6, 7  # TRADE_ACTION_*
MAY_BE = frozenset({Outcome.DONE, Outcome.PENDING, Outcome.UNKNOWN})

Expected = list[tuple[float, LegRow]]  # an open, and until when (monotonic ms) its position is waited for
Levels = tuple[Decimal | int, ...]


T = TypeVar("T", Position, Order)


class Clock(Protocol):
    def monotonic_ms(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class LaggingHoldings:
    """Remembers the fills and pending orders that the terminal has not shown yet."""

    def __init__(self, terminal: Callable[[], Terminal], clock: Clock) -> None:
        self._terminal = terminal
        self._clock = clock
        self._fills: Expected = []
        self._placed: Expected = []
        self._changed: dict[int, tuple[float, Levels]] = {}  # ticket → until when, what an answer promised

    def filled(self, row: LegRow) -> None:
        now = self._clock.monotonic_ms()
        self._fills = [*(item for item in self._fills if item[0] > now), (now + LAG_MS, row)]

    def placed(self, row: LegRow) -> None:
        now = self._clock.monotonic_ms()
        self._placed = [*(item for item in self._placed if item[0] > now), (now + LAG_MS, row)]

    def recall(self, rows: Iterable[LegRow]) -> None:
        """After a restart: orders that were sent or answered within the last moment."""
        for row in rows:
            if not isinstance(row.leg.signal, OpenSignal):
                for item in row.requests:
                    if item.outcome in MAY_BE and item.request.get("action") in (SLTP, MODIFY):
                        self.changed(_request(item.request))
            elif row.filled_lots:
                self.filled(row)
            elif any(item.outcome is Outcome.PLACED for item in row.requests):
                self.placed(row)

    def changed(self, request: TradeRequest) -> None:
        """The broker has answered that a position or pending order has these levels now, or its answer was lost: a
        request that repeats what is shown until then would take them back."""
        now = self._clock.monotonic_ms()
        self._changed = {ticket: item for ticket, item in self._changed.items() if item[0] > now}
        self._changed[request.order or request.position] = (now + LAG_MS, _levels(request))

    def is_behind(self, item: Position | Order) -> bool:
        """Whether it is shown without the levels that an answer has promised a moment ago."""
        until, levels = self._changed.get(item.ticket, (0.0, ()))
        behind = until > self._clock.monotonic_ms() and levels != _levels(item)
        if not behind:
            self._changed.pop(item.ticket, None)
        return behind

    def position(self, ticket: int) -> Position | None:
        """As it is now, its fresh levels among that. Raises TerminalError."""
        return self._newest(ticket, lambda: self._terminal().positions())

    def order(self, ticket: int) -> Order | None:
        """As `position`, of an active order."""
        return self._newest(ticket, lambda: self._terminal().orders())

    def _newest(self, ticket: int, read: Callable[[], tuple[T, ...]]) -> T | None:
        while True:
            found = next((item for item in read() if item.ticket == ticket), None)
            if found is None or not self.is_behind(found):
                return found
            self._clock.sleep(POLL_S)

    def meant_by(self, signal: AnySignal) -> Expected:
        """The fresh fills whose positions the signal means."""
        now = self._clock.monotonic_ms()
        self._fills = [item for item in self._fills if item[0] > now]
        return [
            (until, row)
            for until, row in self._fills
            if isinstance(row.leg.signal, OpenSignal)
            and (means(signal, row.leg.signal) or _tickets(signal) & position_tickets(row))
        ]

    def unseen_fills(self, positions: tuple[Position, ...]) -> list[str]:
        """Symbols of the fills of a moment ago whose positions are not among these."""
        now = self._clock.monotonic_ms()
        rows = [row for until, row in self._fills if until > now and not _shown(row, positions)]
        return [row.leg.signal.symbol for row in rows if isinstance(row.leg.signal, OpenSignal)]

    def unseen_orders(self, orders: tuple[Order, ...]) -> int:
        """Pending orders that were placed a moment ago and are not among these, nor filled since."""
        now, tickets = self._clock.monotonic_ms(), {item.ticket for item in orders}
        return sum(
            until > now and not row.filled_lots and not order_tickets(row) & tickets
            for until, row in self._placed
        )

    def soon(self, rows: list[LegRow]) -> Expected:
        """Opens whose positions should be there within the lag from now on."""
        return [(self._clock.monotonic_ms() + LAG_MS, row) for row in rows]

    def read(self, expected: Expected) -> tuple[Position, ...]:
        """What is held, once the positions of `expected` show up or their time is over. Raises TerminalError."""
        while True:
            held = self._terminal().positions()
            now = self._clock.monotonic_ms()
            self._fills = [item for item in self._fills if not _shown(item[1], held)]
            expected = [item for item in expected if item[0] > now and not _shown(item[1], held)]
            if not expected:
                return held
            self._clock.sleep(POLL_S)

    def orders(self, signal: AnySignal) -> tuple[Order, ...]:
        """The active orders, once the fresh ones that the signal means show up or their time is over."""
        now = self._clock.monotonic_ms()
        self._placed = [item for item in self._placed if item[0] > now]
        expected = [
            (until, row)
            for until, row in self._placed
            if isinstance(row.leg.signal, OpenSignal)
            and (means(signal, row.leg.signal) or _tickets(signal) & order_tickets(row))
        ]
        while True:
            active = self._terminal().orders()
            now = self._clock.monotonic_ms()
            tickets = {item.ticket for item in active}
            expected = [item for item in expected if item[0] > now and not order_tickets(item[1]) & tickets]
            if not expected:
                return active
            self._clock.sleep(POLL_S)


def _tickets(signal: AnySignal) -> set[int]:
    names = ("position_ticket", "by_position_ticket", "order_ticket")
    return {ticket for name in names if (ticket := getattr(signal, name, None)) is not None}


def _shown(row: LegRow, held: tuple[Position, ...]) -> bool:
    return any(made_by(row, position) for position in held)


def _request(kept: dict[str, Any]) -> TradeRequest:
    """As the journal has it."""
    prices: dict[str, Any] = {
        name: Decimal(kept[name]) for name in ("volume", "price", "stoplimit", "sl", "tp") if name in kept
    }
    return TradeRequest(**kept | prices)


def _levels(item: TradeRequest | Position | Order) -> Levels:
    """Of a pending order also its entry and how long it stays."""
    if isinstance(item, Position) or (isinstance(item, TradeRequest) and item.position):
        return (item.sl, item.tp)
    price, limit = (
        (item.price, item.stoplimit)
        if isinstance(item, TradeRequest)
        else (item.price_open, item.price_stoplimit)
    )
    until = item.expiration_ms // 1000 if item.type_time >= TIME_SPECIFIED else 0
    return (item.sl, item.tp, price, limit, item.type_time, until)
