"""A journal that was lost or restored: every order that it may have run is in doubt, and opens are held meanwhile.

Precedes: resolution looks the orders up. Follows: the link tells that Redis knows another journal, or a later position of this
one. Works on an Execution, in the same thread. See docs/adr/0007.
"""

from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings

from executors.errors import Code
from executors.execution import Execution, new_row
from executors.legs import LegRow, RequestRow
from executors.messages import CancelSignal, CloseBySignal, Leg, ModifySignal, OpenSignal
from executors.orders import MOST_REQUESTS, OPEN_OUTCOMES, OrderState, Outcome, request_magic
from executors.plans import target_of
from executors.reporting import Trace
from executors.terminals.base import ZERO

S = OrderState
PLAN_LOST = "plan_lost"  # the request of a change of which nobody knows any more what it was about
LOST = "Its journal was lost: whether it was sent is looked up."


class LostJournal:
    """Of one Execution. `alarm(code, text)`: codes as in executors.alerts."""

    def __init__(self, execution: Execution, *, alarm: Callable[[str, str], None]) -> None:
        self.execution = execution
        self._alarm = alarm
        self._foreign: set[str] = set()

    def recall(self) -> None:
        """After a start: what was adopted before it is still looked for."""
        self._foreign |= {name for name, row in self.execution.open.items() if row.plan.get("foreign")}
        self.hold()

    def adopt(self, legs: Iterable[tuple[Leg, str, int]], last_seq: int | None = None) -> None:
        """The journal is new or restored and Redis knows unsettled orders: each may have been sent by the lost one.

        They become UNKNOWN over the magics that can be computed; opens are held until all are resolved. `legs`: with
        state and report_seq as Redis has them. `last_seq`: the last leg_seq given out, read before `legs`; what this
        journal doesn't know up to there is never run (None: `legs` are single ones that came up later). All of it is
        one commit: a crash leaves it to be done again.
        """
        execution = self.execution
        before = len(self._foreign)
        last_seen = last_seq or 0
        with execution.journal.together():
            for leg, state, report_seq in legs:
                known = execution.open.get(leg.order_id)
                if known is not None:
                    known.report_seq = max(known.report_seq, report_seq)
                elif not execution.journal.knows(leg.order_id) and (
                    state != S.QUEUED or last_seq is None or leg.leg_seq <= last_seq
                ):
                    self._take(leg, state, report_seq)
                    last_seen = max(last_seen, leg.leg_seq)
            execution.journal.note_adopted(last_seen)
            if last_seq is not None:
                # a restored journal does not know what its open orders sent after it was copied
                for row in list(execution.open.values()):
                    if not row.plan.get("foreign"):
                        self._doubt(row)
        execution.adopted_seq = execution.journal.adopted_seq()
        execution.queue.drop_through(last_seq or 0)
        for name in execution.open:
            execution.queue.drop(name)
        self.hold()
        execution.breaker.unknown(len(execution.unknown()))
        if len(self._foreign) > before or last_seq is not None:
            self._alarm(
                "JOURNAL_LOST",
                f"journal lost: {len(self._foreign)} unsettled orders are looked up; trailing stops and break-evens"
                " that it had must be armed again",
            )

    def _take(self, leg: Leg, state: str, report_seq: int) -> None:
        row = new_row(leg, self.execution.clock)
        row.report_seq = report_seq
        row.state = S(state)
        if row.state is S.QUEUED:
            self.execution.move(row, S.INTENT, execution_trace(self.execution, row), message=LOST)
        self._doubt(row)

    def _doubt(self, row: LegRow) -> None:
        """Whatever requests the lost journal may have made for the order are UNKNOWN."""
        lots = row.wanted_lots if isinstance(row.leg.signal, OpenSignal) else ZERO
        asked: list[dict[str, Any]] = [{"position": 0}] * MOST_REQUESTS
        if isinstance(row.leg.signal, (ModifySignal, CancelSignal, CloseBySignal)):
            asked = _doubtful(row)
            row.plan = {"changes": []} | row.plan
        row.plan = row.plan | {"foreign": True, "waiting": []}
        row.plan_kept = False
        if row.state is not S.UNKNOWN:
            self.execution.move(
                row, S.UNKNOWN, execution_trace(self.execution, row), code=Code.OUTCOME_UNKNOWN, message=LOST
            )
        for n, about in enumerate(asked, len(row.requests) + 1):
            magic = request_magic(settings.INSTALLATION_ID, row.order_id, n)
            request = RequestRow(
                n,
                magic,
                dict(about),
                lots,
                row.leg.accepted_ms,
                Outcome.UNKNOWN,
                result={"message": LOST},
            )
            row.requests.append(request)
            self.execution.journal.record(row, request=request)
        self.execution.open[row.order_id] = row
        self._foreign.add(row.order_id)

    def hold(self) -> None:
        """Opens are held while an order of a lost journal is not looked up. A pending order that was found at rest is,
        and a change that cannot be told opens nothing."""
        known = self.execution.open
        self._foreign = {name for name in self._foreign if name in known and _is_looked_for(known[name])}
        self.execution.hold = (
            "The journal was lost: opens are held until earlier orders are looked up."
            if self._foreign
            else ""
        )


def _doubtful(row: LegRow) -> list[dict[str, Any]]:
    """Which changes a lost journal may have asked for after the copy that is left, as far as that has the plan."""
    last = {target_of(item.request): item for item in row.requests}
    planned = [] if row.plan.get("waiting") else row.plan.get("changes", [])
    found = []
    for change in planned:
        made = last.get(target_of(change))
        if made is None or made.result.get("retriable"):
            found.append(change)
    if found or any(item.outcome in OPEN_OUTCOMES for item in row.requests):
        return found
    return [{"position": 0, PLAN_LOST: True}]


def execution_trace(execution: Execution, row: LegRow) -> Trace:
    """Of what is found out about an order long after its wake-up."""
    return Trace.begin(row.leg.trace, "restart", execution.clock.now_ms, execution.clock.monotonic_ms)


def _is_looked_for(row: LegRow) -> bool:
    return any(item.outcome in OPEN_OUTCOMES and not item.result.get("absent") for item in row.requests)
