"""The executor's side of settling by hand: the journal takes an operator's statement, or says why not.

Precedes: the link publishes the report, and the answer behind it. Follows: `settlement_desk` leaves the wish in the
state Redis, the link reads it with the configuration. Works on an Execution, in the same thread; never sends anything.
"""

import logging
from collections.abc import Callable, Iterable

from executors.crashpoints import reached
from executors.errors import Code
from executors.execution import Execution, new_row
from executors.legs import LegRow
from executors.messages import Leg
from executors.orders import OrderState
from executors.reporting import Trace, build_report
from executors.resolution import Resolution
from executors.settlement import Answer, Settlement, apply, objection, taken

logger = logging.getLogger(__name__)
S = OrderState


class Settling:
    """`answer` hears what became of each wish, after it is on disk."""

    def __init__(
        self,
        execution: Execution,
        resolution: Resolution,
        *,
        answer: Callable[[Settlement, Answer], None],
        alarm: Callable[[str], None],
    ) -> None:
        self._execution = execution
        self._resolution = resolution
        self._answer = answer
        self._alarm = alarm
        self._begun = False
        self._waiting: dict[str, Settlement] = {}

    def begin(self) -> None:
        """Journal and Redis have been compared: the journal knows every order that it can know."""
        self._begun = True
        waiting, self._waiting = self._waiting, {}
        self.take(waiting.values())

    def take(self, wishes: Iterable[Settlement]) -> None:
        for wish in wishes:
            if not self._begun:
                self._waiting[wish.order_id] = wish
                continue
            refusal = self._settle(wish)
            if refusal:
                logger.warning("not settled by hand: %s", refusal, extra={"order_id": wish.order_id})
            answer = Answer(
                settlement_id=wish.settlement_id,
                done=not refusal,
                message=refusal or "It is settled; the executor's journal has it.",
                time_ms=self._execution.clock.now_ms(),
            )
            self._answer(wish, answer)

    def _settle(self, wish: Settlement) -> str:
        """Journals it. Returns why not."""
        execution = self._execution
        row = execution.open.get(wish.order_id) or execution.journal.get(wish.order_id)
        if row is None:
            if not (wish.forced and wish.leg):
                return "Its executor does not know the order: it was not taken out of the outbox yet."
            row = new_row(Leg.model_validate_json(wish.leg), execution.clock)
            row.report_seq = wish.report_seq
            row.plan = {"foreign": True}
            execution.queue.drop(wish.order_id)
        if taken(row, wish):
            return ""
        if refusal := objection(row, wish):
            if wish.forced and row.state is not S.MANUAL:
                self._contradict(row, wish)
            return refusal
        logger.warning("settled by hand by %s", wish.by, extra={"order_id": row.order_id})
        reached("before-settle")
        with execution.journal.together():
            for request in apply(row, wish):
                execution.journal.record(row, request=request)
            execution.move(row, S.MANUAL, self._trace(row), code=Code.SETTLED_BY_HAND, message=wish.sentence)
        reached("after-settle")
        self._resolution.recount()
        return ""

    def _contradict(self, row: LegRow, wish: Settlement) -> None:
        """An executor that was stated to be dead is back and knows better: it says once more what its journal has,
        with a number behind the forced report's."""
        self._alarm(f"order {row.order_id} was settled by force, but its journal says {row.state}")
        report = build_report(
            row,
            row.state,
            seq=row.report_seq + 1,
            time_ms=self._execution.clock.now_ms(),
            trace=self._trace(row),
            message=f"The executor is back and its journal stands, not the settlement by {wish.by}.",
        )
        self._execution.journal.record(row, report)

    def _trace(self, row: LegRow) -> Trace:
        clock = self._execution.clock
        return Trace.begin(row.leg.trace, "", clock.now_ms, clock.monotonic_ms)
