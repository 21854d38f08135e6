"""Fills that show up after their request was looked for in vain: taken in, with an alarm.

Precedes: execution concludes the order anew. Follows: resolution's sweeps, and each reading of the positions. Works on an
Execution, in the same thread.
"""

from collections.abc import Callable

from executors.execution import Execution
from executors.legs import LegRow, RequestRow
from executors.lost_journal import execution_trace
from executors.orders import OrderState, Outcome, magic_of_comment
from executors.past import DAY_MS
from executors.reconcile import Found, Sweep, find
from executors.terminals.base import Deal, Order, Position

S = OrderState


class LateFills:
    """Of one Execution. `write`: puts what was found into the request and its order. `alarm(code, text)`."""

    def __init__(
        self,
        execution: Execution,
        *,
        write: Callable[[LegRow, RequestRow, Found], None],
        alarm: Callable[[str, str], None],
    ) -> None:
        self.execution = execution
        self._write = write
        self._alarm = alarm
        self._missing: dict[int, tuple[str, int]] = {}  # magic → (order_id, intent) of what was NOT_EXECUTED

    def recall(self) -> None:
        """After a start."""
        self._missing = self.execution.journal.not_executed()

    def miss(self, row: LegRow, request: RequestRow) -> None:
        """It is NOT_EXECUTED from now on."""
        self._missing[request.magic] = (row.order_id, request.intent_ms)

    def shown(self, positions: tuple[Position, ...]) -> None:
        """A fill that shows up after NOT_EXECUTED is taken in, with an alarm. A netting account's position is of several
        orders: its lots say nothing about one, so that there the next look at the history tells."""
        if not self._missing or not self.execution.preparation.is_hedging():
            return
        for position in positions:
            if (missing := self._missing_request(position.magic)) is not None:
                row, request = missing
                outcome = Outcome.FILLED if position.volume >= request.lots else Outcome.PARTIAL
                found = Found(
                    outcome, position.volume, position.price_open, position_tickets=(position.ticket,)
                )
                self._adopt_late(row, request, found)

    def look(self, sweep: Sweep) -> None:
        shown: tuple[Deal | Order, ...] = (*sweep.deals, *sweep.orders, *sweep.history_orders)
        magics = {item.magic for item in shown} | {magic_of_comment(item.comment) for item in shown}
        for magic in sorted(self._missing.keys() & magics):
            if (missing := self._missing_request(magic)) is not None:
                row, request = missing
                if (found := find(magic, request.lots, sweep)) is not None:
                    self._adopt_late(row, request, found)

    def _missing_request(self, magic: int) -> tuple[LegRow, RequestRow] | None:
        if magic not in self._missing:
            return None
        order_id, _ = self._missing[magic]
        row = self.execution.open.get(order_id) or self.execution.journal.get(order_id)
        if row is None:
            return None
        return row, next(item for item in row.requests if item.magic == magic)

    def _adopt_late(self, row: LegRow, request: RequestRow, found: Found) -> None:
        del self._missing[request.magic]
        if found.outcome is Outcome.REFUSED:
            return  # the broker took it and ended it without a fill: NOT_EXECUTED is true
        message = "It was executed after all: it showed up late."
        self._write(row, request, found)
        request.result["message"] = message
        self._alarm("LATE_FILL", f"order {row.order_id} was executed late and is adopted")
        if row.state is S.NOT_EXECUTED:
            self.execution.guard.adopt(row)
            self.execution.conclude(row, execution_trace(self.execution, row), message, request=request)
        else:  # other requests have decided its state; this one's truth is kept beside it
            self.execution.journal.record(row, request=request)

    def oldest(self) -> int | None:
        """The oldest intent among the requests of the last day that were NOT_EXECUTED."""
        since = self.execution.clock.now_ms() - DAY_MS
        return min((intent for _, intent in self._missing.values() if intent >= since), default=None)
