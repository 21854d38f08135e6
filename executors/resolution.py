"""Orders whose outcome has to be looked up: UNKNOWN ones by sweeps, PLACED ones until their deals can be read.

Precedes: execution goes on with what is resolved. Follows: execution, and restarts. Never sends anything.
"""

import logging
from collections.abc import Callable, Iterable

from django.conf import settings

from executors.errors import Code, TerminalError
from executors.execution import Execution, new_row
from executors.legs import LegRow, RequestRow
from executors.messages import Leg, OpenSignal
from executors.orders import OrderState, Outcome, request_magic
from executors.plans import next_step
from executors.reconcile import Found, Sweep, SweepTracker, find
from executors.reporting import Trace
from executors.terminals.base import ZERO, Position

logger = logging.getLogger(__name__)
S = OrderState
DAY_MS = 86_400_000
FOREIGN_REQUESTS = 20  # magics looked up for an order that a lost journal may have sent


class Resolution:
    """Works on an Execution, in the same thread."""

    def __init__(self, execution: Execution, *, alarm: Callable[[str], None]) -> None:
        self.execution = execution
        self._alarm = alarm
        self._trackers: dict[tuple[str, int], SweepTracker] = {}
        self._answering_since_ms = 0
        self._foreign: set[str] = set()

    # --- after a start ---

    def recover(self) -> None:
        """INTENT without RESULT is UNKNOWN: killed before, in and after the send look alike."""
        for row in list(self.execution.open.values()):
            for request in row.requests:
                if request.outcome is Outcome.PENDING:
                    request.outcome = Outcome.UNKNOWN
                    request.result = {
                        "message": "The executor stopped between its decision to send and the answer."
                    }
                    self.execution.move(
                        row,
                        S.UNKNOWN,
                        self._trace(row),
                        request=request,
                        code=Code.OUTCOME_UNKNOWN,
                        message=request.result["message"],
                    )
        self.execution.breaker.unknown(len(self.execution.unknown()))

    def adopt_foreign(self, legs: Iterable[tuple[Leg, str, int]]) -> None:
        """The journal is new or restored and Redis knows unsettled orders: each may have been sent by the lost one.

        They become UNKNOWN over the magics that can be computed; opens are held until all are resolved.
        """
        for leg, state, report_seq in legs:
            if self.execution.journal.knows(leg.order_id):
                continue
            row = new_row(leg, self.execution.clock)
            row.report_seq = report_seq
            row.state = S(state)
            if row.state not in (S.QUEUED, S.INTENT, S.UNKNOWN):
                row.state = S.UNKNOWN  # PLACED, PARTIAL: their requests are looked up like the others
            row.plan = {"foreign": True}
            message = "Its journal was lost: whether it was sent is looked up."
            if row.state is S.QUEUED:
                self.execution.move(row, S.INTENT, self._trace(row), message=message)
            if row.state is S.INTENT:
                self.execution.move(
                    row, S.UNKNOWN, self._trace(row), code=Code.OUTCOME_UNKNOWN, message=message
                )
            lots = row.wanted_lots if isinstance(leg.signal, OpenSignal) else ZERO
            count = (
                self.execution.config.max_attempts if isinstance(leg.signal, OpenSignal) else FOREIGN_REQUESTS
            )
            for n in range(1, count + 1):
                magic = request_magic(settings.INSTALLATION_ID, leg.order_id, n)
                request = RequestRow(
                    n,
                    magic,
                    {"position": 0},
                    lots,
                    leg.accepted_ms,
                    Outcome.UNKNOWN,
                    result={"message": message},
                )
                row.requests.append(request)
                self.execution.journal.record(row, request=request)
            self.execution.open[row.order_id] = row
            self._foreign.add(row.order_id)
        if self._foreign:
            self.execution.hold = "The journal was lost: opens are held until earlier orders are looked up."
            self._alarm(f"journal lost: {len(self._foreign)} unsettled orders are looked up")

    # --- looking ---

    def answering(self, now_ms: int) -> None:
        """The terminal answers again, after a start or a loss."""
        self._answering_since_ms = now_ms
        for tracker in self._trackers.values():
            tracker.disturbed()

    def due(self) -> bool:
        """Whether anything waits for a look."""
        return any(
            request.outcome in (Outcome.UNKNOWN, Outcome.PLACED)
            for row in self.execution.open.values()
            for request in row.requests
        )

    def look(self) -> None:
        """One sweep and what follows from it. Raises TerminalError when a query failed: then it proves nothing."""
        waiting = [
            (row, request)
            for row in self.execution.open.values()
            for request in row.requests
            if request.outcome in (Outcome.UNKNOWN, Outcome.PLACED)
        ]
        if not waiting:
            return
        oldest = min(request.intent_ms for _, request in waiting)
        try:
            sweep = self._sweep(oldest)
        except TerminalError:
            for tracker in self._trackers.values():
                tracker.disturbed()
            raise
        now = round(self.execution.clock.monotonic_ms())
        config = self.execution.config
        ticket, heard_ms = self.execution.newest_ticket
        known = ticket if heard_ms >= oldest else 0
        clean = sweep.clean(login=config.login, server=config.server, newest_ticket=known)
        for row, request in waiting:
            found = find(request.magic, request.lots or ZERO, sweep)
            if found is not None:
                if found.outcome is not Outcome.PLACED or request.outcome is not Outcome.PLACED:
                    self._resolved(row, request, found)
            elif request.outcome is Outcome.UNKNOWN:
                tracker = self._trackers.setdefault(
                    (row.order_id, request.n), SweepTracker(settings.SWEEP_GAP_MS, settings.SWEEP_SETTLE_MS)
                )
                if not clean:
                    tracker.disturbed()
                elif tracker.absent(
                    now,
                    age_ms=self.execution.clock.now_ms() - request.intent_ms,
                    answering_ms=now - self._answering_since_ms,
                ):
                    self._resolved(
                        row,
                        request,
                        Found(
                            Outcome.NOT_EXECUTED,
                            message="Two clean looks at the terminal found nothing of it.",
                        ),
                    )
        for order in sweep.history_orders:
            if order.ticket > self.execution.newest_ticket[0]:
                self.execution.newest_ticket = (order.ticket, order.done_ms)
        self.execution.breaker.unknown(len(self.execution.unknown()))
        if self._foreign and not any(name in self.execution.open for name in self._foreign):
            self._foreign.clear()
            self.execution.hold = ""

    def _sweep(self, oldest_intent_ms: int) -> Sweep:
        terminal, now = self.execution.terminal, self.execution.clock.now_ms()
        window = (oldest_intent_ms - DAY_MS, now + DAY_MS)
        identity = terminal.identity()
        orders = terminal.orders()
        positions = terminal.positions()
        history = terminal.history_orders(*window)
        deals = terminal.history_deals(*window)
        # the connection is asked for last: what was read before a loss must not count as complete
        return Sweep(identity, terminal.status().connected, now, orders, positions, history, deals)

    # --- resolving ---

    def _resolved(self, row: LegRow, request: RequestRow, found: Found) -> None:
        was_unknown = row.state is S.UNKNOWN
        self._trackers.pop((row.order_id, request.n), None)
        request.outcome = found.outcome
        request.filled_lots = found.filled_lots
        request.price = found.price
        request.result = request.result | {
            "message": found.message or f"Found at the terminal: {found.outcome.value.lower()}.",
            "orders": list(found.order_tickets),
            "deals": list(found.deal_tickets),
            "positions": list(found.position_tickets),
            "retriable": False,
        }
        request.result_ms = self.execution.clock.now_ms()
        row.filled_lots = sum((item.filled_lots for item in row.requests), ZERO)
        if row.plan.get("foreign"):
            self._foreign_fold(row)
        if any(item.outcome is Outcome.UNKNOWN for item in row.requests):
            self.execution.journal.record(row, request=request)
            return
        trace = self._trace(row)
        more = not row.plan.get("foreign") and next_step(row, self.execution.config) is not None
        if was_unknown and more:
            self.execution.move(row, S.INTENT, trace, request=request, message=request.result["message"])
        elif row.state is S.INTENT or (not was_unknown and found.outcome is Outcome.PLACED):
            self.execution.journal.record(row, request=request)
        else:
            self.execution.conclude(row, trace, request=request)

    @staticmethod
    def _foreign_fold(row: LegRow) -> None:
        """Of an order whose plan is lost, what was found is what was wanted."""
        if not isinstance(row.leg.signal, OpenSignal) or row.filled_lots:
            row.wanted_lots = row.filled_lots

    def adopt_late(self, positions: tuple[Position, ...]) -> None:
        """A fill that shows up after NOT_EXECUTED is taken in, with an alarm."""
        for position in positions:
            order_id = self.execution.journal.order_of_magic(position.magic) if position.magic else None
            if order_id is None or order_id in self.execution.open:
                continue
            row = self.execution.journal.get(order_id)
            if row is None or row.state is not S.NOT_EXECUTED:
                continue
            request = next(item for item in row.requests if item.magic == position.magic)
            request.outcome = Outcome.FILLED
            request.filled_lots = position.volume
            request.price = position.price_open
            request.result = request.result | {
                "message": "It was executed after all: its position showed up late.",
                "positions": [position.ticket],
            }
            row.filled_lots = sum((item.filled_lots for item in row.requests), ZERO)
            self._alarm(f"order {order_id} was executed late: position {position.ticket} is adopted")
            self.execution.conclude(row, self._trace(row), request.result["message"], request=request)

    def _trace(self, row: LegRow) -> Trace:
        clock = self.execution.clock
        return Trace.begin(row.leg.trace, "restart", clock.now_ms, clock.monotonic_ms)
