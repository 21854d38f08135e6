"""What is left of an open on a netting account, asked of the terminal's history and the journal whenever it matters: so
that a restart, a close of another hand or one whose answer was lost count for it.

Precedes: preparing freezes closes of one open, and looks again before each of their further requests. Follows: netting
decides. Runs in the executor's thread.
"""

from typing import TYPE_CHECKING

from executors.errors import Code
from executors.legs import LegRow
from executors.netting import Left, left_of
from executors.past import DAY_MS, shown
from executors.sizing import Denial
from executors.symbols import to_canonical
from executors.terminals.base import Position

if TYPE_CHECKING:
    from executors.execution import Execution

NOT_READ = (
    "What is left of that open is not known: the terminal does not show its history. Try again, or close the"
    " position by its ticket or symbol."
)


class Remainders:
    def __init__(self, execution: "Execution") -> None:
        self._execution = execution

    def of(self, opened: LegRow, position: Position) -> Left | Denial:
        """Raises TerminalUnavailable. A history that cannot be read denies: it must not hold up other orders."""
        execution = self._execution
        read, now = execution.terminal.history_deals, execution.clock.redis_ms()
        deals = shown(read, position.time_ms, now, action="close")
        if deals is None:
            return Denial(Code.LOTS_NOT_KNOWN, NOT_READ)
        symbol = to_canonical(execution.config, position.symbol)
        trades = execution.journal.trades(position.symbol, symbol, position.time_ms - DAY_MS)
        return left_of(opened.order_id, position, deals, trades)
