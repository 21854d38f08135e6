"""A terminal's positions and pending orders, read so that those of a moment ago are among them: its lists lag behind its
answers.

Precedes: plans freeze what is read here. Follows: execution notes every fill and placing. Runs in the executor's thread.
"""

from collections.abc import Callable
from typing import Protocol

from executors.legs import LegRow, made_by, order_tickets, position_tickets
from executors.messages import AnySignal, OpenSignal
from executors.queueing import means
from executors.terminals.base import Order, Position, Terminal

LAG_MS = 1_000  # a fill may be missing from the terminal's positions for so long
POLL_S = 0.02

Expected = list[tuple[float, LegRow]]  # an open, and until when (monotonic ms) its position is waited for


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

    def filled(self, row: LegRow) -> None:
        now = self._clock.monotonic_ms()
        self._fills = [*(item for item in self._fills if item[0] > now), (now + LAG_MS, row)]

    def placed(self, row: LegRow) -> None:
        now = self._clock.monotonic_ms()
        self._placed = [*(item for item in self._placed if item[0] > now), (now + LAG_MS, row)]

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
