"""A terminal's positions, read so that a fill of a moment ago is among them: its lists lag behind its answers.

Precedes: closes freeze what is read here. Follows: execution notes every fill. Runs in the executor's thread.
"""

from collections.abc import Callable
from typing import Protocol

from executors.legs import LegRow, made_by, position_tickets
from executors.messages import CloseSignal, OpenSignal
from executors.queueing import covers
from executors.terminals.base import Position, Terminal

LAG_MS = 1_000  # a fill may be missing from the terminal's positions for so long
POLL_S = 0.02

Expected = list[tuple[float, LegRow]]  # an open, and until when (monotonic ms) its position is waited for


class Clock(Protocol):
    def monotonic_ms(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class LaggingPositions:
    """Remembers the fills that the terminal has not shown yet."""

    def __init__(self, terminal: Callable[[], Terminal], clock: Clock) -> None:
        self._terminal = terminal
        self._clock = clock
        self._fills: Expected = []

    def filled(self, row: LegRow) -> None:
        self._fills.append((self._clock.monotonic_ms() + LAG_MS, row))

    def meant_by(self, signal: CloseSignal) -> Expected:
        """The fresh fills whose positions the close means."""
        now = self._clock.monotonic_ms()
        self._fills = [item for item in self._fills if item[0] > now]
        return [
            (until, row)
            for until, row in self._fills
            if isinstance(row.leg.signal, OpenSignal)
            and (covers(signal, row.leg.signal) or signal.position_ticket in position_tickets(row))
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


def _shown(row: LegRow, held: tuple[Position, ...]) -> bool:
    return any(made_by(row, position) for position in held)
