"""Orders whose outcome has to be looked up: UNKNOWN ones by sweeps, PLACED ones until their deals can be read.

Precedes: execution goes on with what is resolved. Follows: execution, and restarts. Never sends anything.
"""

import logging
from collections.abc import Callable, Iterator

from django.conf import settings

from executors.comparing import compare, is_change, lasting, wish_of
from executors.crashpoints import reached
from executors.errors import Code, TerminalError
from executors.execution import Execution
from executors.foreign import Lost, told
from executors.late_fills import LateFills
from executors.legs import LegRow, RequestRow
from executors.lost_journal import PLAN_LOST, LostJournal, execution_trace
from executors.messages import CancelSignal, CloseBySignal, ModifySignal, OpenSignal
from executors.orders import OrderState, Outcome
from executors.past import DAY_MS, HOUR_MS
from executors.plans import is_pending, next_step
from executors.reconcile import Found, Sweep, SweepTracker, find
from executors.terminals.base import ZERO, Order, Position, SymbolSpec

logger = logging.getLogger(__name__)
S = OrderState
LATE_LOOK_MS = 60_000  # how often requests that were NOT_EXECUTED within the last day are looked for again
NOT_TOLD = (
    "Its journal was lost, and what the terminal holds does not tell whether it was done."
    " Look at the terminal and settle it by hand."
)


class Resolution:
    """Works on an Execution, in the same thread. `alarm(code, text)`: codes as in executors.alerts."""

    def __init__(self, execution: Execution, *, alarm: Callable[[str, str], None]) -> None:
        self.execution = execution
        self._alarm = alarm
        self._trackers: dict[tuple[str, int], SweepTracker] = {}
        self._answering_since_ms = 0
        self._looked_ms = 0.0
        self.lost_journal = LostJournal(execution, alarm=alarm)
        self._late = LateFills(execution, write=self._write, alarm=alarm)
        execution.alarm = alarm
        execution.adopt = lambda leg: self.lost_journal.adopt([(leg, S.QUEUED, 0)])

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
                        execution_trace(self.execution, row),
                        request=request,
                        code=Code.OUTCOME_UNKNOWN,
                        message=request.result["message"],
                    )
        self._late.recall()
        self.lost_journal.recall()
        self.execution.breaker.unknown(len(self.execution.unknown()))

    # --- looking ---

    def seen(self, positions: tuple[Position, ...], orders: tuple[Order, ...]) -> None:
        """What the terminal holds, just read between two orders."""
        self._late.shown(positions)
        self.execution.watch(orders)
        self.execution.preparation.note_held(positions, orders)
        self.execution.guard.see(positions)

    def answering(self, now_ms: int) -> None:
        """The terminal answers again, after a start or a loss. `now_ms` is monotonic, as of the execution's clock."""
        self._answering_since_ms = now_ms
        for tracker in self._trackers.values():
            tracker.disturbed()

    def due(self) -> bool:
        """Whether anything waits for a look."""
        since = self.execution.clock.monotonic_ms() - self._looked_ms
        for _, request in self._open_requests():
            if not request.result.get("absent") or since >= LATE_LOOK_MS:
                return True
        return since >= LATE_LOOK_MS and self._late.oldest() is not None

    def _open_requests(self) -> Iterator[tuple[LegRow, RequestRow]]:
        """What has no final outcome. Pending orders at rest are watched instead."""
        for row in self.execution.open.values():
            for request in row.requests:
                if request.outcome is Outcome.UNKNOWN or (
                    request.outcome is Outcome.PLACED and row.order_id not in self.execution.resting
                ):
                    yield row, request

    def look(self) -> None:
        """One sweep and what follows from it. Raises TerminalError when a query failed: then it proves nothing."""
        waiting = list(self._open_requests())
        intents = [request.intent_ms for _, request in waiting]
        if (missing := self._late.oldest()) is not None:
            intents.append(missing)
        if not intents:
            return
        reached("before-look")
        oldest = min(intents)
        self._looked_ms = self.execution.clock.monotonic_ms()
        try:
            sweep = self._sweep(oldest)
        except TerminalError:
            self.answering(round(self.execution.clock.monotonic_ms()))
            raise
        now = round(self.execution.clock.monotonic_ms())
        config = self.execution.config
        ours = sweep.of(login=config.login, server=config.server)
        if not sweep.connected or not ours:
            self.answering(now)  # the time that absence must last begins anew
        if not ours:
            return
        ticket, heard_ms = self.execution.newest_ticket
        known = ticket if heard_ms >= oldest - DAY_MS + HOUR_MS else 0
        clean = sweep.clean(login=config.login, server=config.server, newest_ticket=known)
        for row, request in waiting:
            self._look_for(row, request, sweep, now, clean=clean)
        self._late.look(sweep)
        for order in sweep.history_orders:
            if order.ticket > self.execution.newest_ticket[0]:
                self.execution.newest_ticket = (order.ticket, order.done_ms or order.setup_ms)
        self.execution.breaker.unknown(len(self.execution.unknown()))
        self.lost_journal.hold()

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

    def _look_for(self, row: LegRow, request: RequestRow, sweep: Sweep, now: int, *, clean: bool) -> None:
        wish = wish_of(row, request) if is_change(request.request) else None
        if wish is not None:
            found = compare(wish, sweep)
        else:
            found = find(request.magic, request.lots, sweep, order_tickets=request.result.get("orders", ()))
        if found is not None:
            self._trackers.pop((row.order_id, request.n), None)
            news = found.outcome is not Outcome.PLACED or found.filled_lots != request.filled_lots
            if news or request.outcome is not Outcome.PLACED:
                self._resolved(row, request, found)
            self._rest(row, request, found, sweep)
            return
        tracker = self._trackers.setdefault(
            (row.order_id, request.n),
            SweepTracker(settings.SWEEP_GAP_MS, settings.SWEEP_SETTLE_MS, since_ms=now),
        )
        if not clean:
            tracker.disturbed()
        elif not tracker.absent(
            now, age_ms=now - tracker.since_ms, answering_ms=now - self._answering_since_ms
        ):
            return
        elif request.outcome is Outcome.UNKNOWN:
            message = "Two clean looks at the terminal found nothing of it."
            ended: Found | None = Found(Outcome.NOT_EXECUTED, message=message)
            if wish is not None:
                ended = lasting(wish, sweep)
            elif PLAN_LOST in request.request:
                ended = told(self._lost(row), sweep, self._spec)
            if ended is not None:
                self._resolved(row, request, ended)
            elif not request.result.get("absent"):
                self._not_told(row, request)
        elif not request.result.get("absent"):
            self._not_shown(row, request)

    def _rest(self, row: LegRow, request: RequestRow, found: Found, sweep: Sweep) -> None:
        """A pending order that is at the broker and waits for its price."""
        if found.outcome is not Outcome.PLACED or not is_pending(row):
            return
        for order in sweep.orders:
            if (
                order.ticket in found.order_tickets
                and order.volume_initial - order.volume_current == found.filled_lots
            ):
                self.execution.resting[row.order_id] = (order.ticket, order.volume_current)

    def _not_shown(self, row: LegRow, request: RequestRow) -> None:
        """It was promised by an answer, so that only an operator may give it up."""
        request.result["absent"] = True
        message = (
            "The broker's answer said that it is placed, but the terminal shows nothing of it."
            " Look at the terminal and settle it by hand."
        )
        if row.state in (S.PLACED, S.PARTIAL):
            self.execution.move(
                row,
                row.state,
                execution_trace(self.execution, row),
                request=request,
                code=Code.NOT_SHOWN,
                message=message,
            )
        else:
            self.execution.journal.record(row, request=request)
        self._alarm(
            "ORDER_UNRESOLVED",
            f"order {row.order_id} was placed by its answer, but the terminal shows nothing of it",
        )

    def _not_told(self, row: LegRow, request: RequestRow) -> None:
        """It stays UNKNOWN; further looks are few. Only an operator may say what became of it."""
        request.result |= {"absent": True, "message": NOT_TOLD}
        self.execution.journal.record(row, request=request)
        self._alarm("ORDER_UNRESOLVED", f"order {row.order_id} cannot be told: {NOT_TOLD}")

    def _lost(self, row: LegRow) -> Lost:
        signal = row.leg.signal
        assert isinstance(signal, (ModifySignal, CancelSignal, CloseBySignal))
        return Lost(signal, row.leg.accepted_ms, self.execution.preparation.meaning(signal))

    def _spec(self, symbol: str) -> SymbolSpec | None:
        return self.execution.specs.get(symbol, self.execution.clock.monotonic_ms())

    def recount(self) -> None:
        """An order was ended by hand: what waited for it, or was held because of it, may go on."""
        self._trackers = {key: item for key, item in self._trackers.items() if key[0] in self.execution.open}
        self.execution.breaker.unknown(len(self.execution.unknown()))
        self.lost_journal.hold()

    # --- resolving ---

    def _resolved(self, row: LegRow, request: RequestRow, found: Found) -> None:
        was_unknown = row.state is S.UNKNOWN
        reached("before-resolve")
        self._trackers.pop((row.order_id, request.n), None)
        self._write(row, request, found)
        has_magic = not is_change(request.request) and PLAN_LOST not in request.request
        if found.outcome is Outcome.NOT_EXECUTED and has_magic:
            self._late.miss(row, request)
        if any(item.outcome is Outcome.UNKNOWN for item in row.requests):
            self.execution.journal.record(row, request=request)
            return
        trace = execution_trace(self.execution, row)
        more = not row.plan.get("foreign") and next_step(row, self.execution.config) is not None
        if was_unknown and (more or row.plan.get("waiting")):
            self.execution.move(row, S.INTENT, trace, request=request, message=request.result["message"])
        elif row.state is S.INTENT or (
            found.outcome is Outcome.PLACED and not was_unknown and not found.filled_lots
        ):
            self.execution.journal.record(row, request=request)
        else:
            self.execution.conclude(row, trace, request=request)
        reached("after-resolve")

    def _write(self, row: LegRow, request: RequestRow, found: Found) -> None:
        """What was found, into the request and its order."""
        request.outcome = found.outcome
        request.filled_lots = found.filled_lots
        request.price = found.price
        request.result = request.result | {
            "message": found.message or f"Found at the terminal: {found.outcome.value.lower()}.",
            "orders": list(found.order_tickets) or request.result.get("orders", []),
            "deals": list(found.deal_tickets),
            "positions": list(found.position_tickets) or request.result.get("positions", []),
            "retriable": False,
            "left": found.left,
            "looked": True,
            "absent": False,
            "ended": found.ended.value if found.ended is not None else "",
        }
        request.result_ms = self.execution.clock.now_ms()
        row.filled_lots = sum((item.filled_lots for item in row.requests), ZERO)
        if found.filled_lots and isinstance(row.leg.signal, OpenSignal):
            self.execution.holdings.filled(row)  # its deals may be shown before its position is
        lost_plan = row.plan.get("foreign") and "tickets" not in row.plan
        if lost_plan and (row.filled_lots or not isinstance(row.leg.signal, OpenSignal)):
            row.wanted_lots = (
                row.filled_lots
            )  # of an order whose plan is lost, what was found is what was wanted
