"""Orders whose outcome has to be looked up: UNKNOWN ones by sweeps, PLACED ones until their deals can be read.

Precedes: execution goes on with what is resolved. Follows: execution, and restarts. Never sends anything.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.conf import settings

from executors.comparing import compare, is_change, lasting, wish_of
from executors.crashpoints import reached
from executors.errors import Code, TerminalError
from executors.execution import Execution, new_row
from executors.foreign import Lost, told
from executors.legs import LegRow, RequestRow
from executors.messages import CancelSignal, CloseBySignal, Leg, ModifySignal, OpenSignal
from executors.orders import (
    MOST_REQUESTS,
    OPEN_OUTCOMES,
    OrderState,
    Outcome,
    magic_of_comment,
    request_magic,
)
from executors.past import DAY_MS, HOUR_MS
from executors.plans import is_pending, next_step, target_of
from executors.reconcile import Found, Sweep, SweepTracker, find
from executors.reporting import Trace
from executors.terminals.base import ZERO, Deal, Order, Position, SymbolSpec

logger = logging.getLogger(__name__)
S = OrderState
LATE_LOOK_MS = 60_000  # how often requests that were NOT_EXECUTED within the last day are looked for again
PLAN_LOST = "plan_lost"  # the request of a change of which nobody knows any more what it was about
NOT_TOLD = (
    "Its journal was lost, and what the terminal holds does not tell whether it was done."
    " Look at the terminal and settle it by hand."
)
LOST = "Its journal was lost: whether it was sent is looked up."


class Resolution:
    """Works on an Execution, in the same thread. `alarm(code, text)`: codes as in executors.alerts."""

    def __init__(self, execution: Execution, *, alarm: Callable[[str, str], None]) -> None:
        self.execution = execution
        self._alarm = alarm
        self._trackers: dict[tuple[str, int], SweepTracker] = {}
        self._answering_since_ms = 0
        self._looked_ms = 0.0
        self._foreign: set[str] = set()
        self._missing: dict[int, tuple[str, int]] = {}  # magic → (order_id, intent) of what was NOT_EXECUTED
        execution.alarm = alarm
        execution.adopt = lambda leg: self.adopt_foreign([(leg, S.QUEUED, 0)])

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
            if row.plan.get("foreign"):
                self._foreign.add(row.order_id)
        self._missing = self.execution.journal.not_executed()
        self._hold_foreign()
        self.execution.breaker.unknown(len(self.execution.unknown()))

    def adopt_foreign(self, legs: Iterable[tuple[Leg, str, int]], last_seq: int | None = None) -> None:
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
                    self._adopt(leg, state, report_seq)
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
        self._hold_foreign()
        execution.breaker.unknown(len(execution.unknown()))
        if len(self._foreign) > before or last_seq is not None:
            self._alarm(
                "JOURNAL_LOST",
                f"journal lost: {len(self._foreign)} unsettled orders are looked up; trailing stops and break-evens"
                " that it had must be armed again",
            )

    def _adopt(self, leg: Leg, state: str, report_seq: int) -> None:
        row = new_row(leg, self.execution.clock)
        row.report_seq = report_seq
        row.state = S(state)
        if row.state is S.QUEUED:
            self.execution.move(row, S.INTENT, self._trace(row), message=LOST)
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
            self.execution.move(row, S.UNKNOWN, self._trace(row), code=Code.OUTCOME_UNKNOWN, message=LOST)
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

    def _hold_foreign(self) -> None:
        """Opens are held while an order of a lost journal is not looked up. A pending order that was found at rest is,
        and a change that cannot be told opens nothing."""
        known = self.execution.open
        self._foreign = {name for name in self._foreign if name in known and _is_looked_for(known[name])}
        self.execution.hold = (
            "The journal was lost: opens are held until earlier orders are looked up."
            if self._foreign
            else ""
        )

    # --- looking ---

    def seen(self, positions: tuple[Position, ...], orders: tuple[Order, ...]) -> None:
        """What the terminal holds, just read between two orders."""
        self.adopt_late(positions)
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
        return bool(self._missing) and since >= LATE_LOOK_MS and self._oldest_missing() is not None

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
        if (missing := self._oldest_missing()) is not None:
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
        self._look_for_late(sweep)
        for order in sweep.history_orders:
            if order.ticket > self.execution.newest_ticket[0]:
                self.execution.newest_ticket = (order.ticket, order.done_ms or order.setup_ms)
        self.execution.breaker.unknown(len(self.execution.unknown()))
        self._hold_foreign()

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
                row, row.state, self._trace(row), request=request, code=Code.NOT_SHOWN, message=message
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
        self._hold_foreign()

    # --- resolving ---

    def _resolved(self, row: LegRow, request: RequestRow, found: Found) -> None:
        was_unknown = row.state is S.UNKNOWN
        reached("before-resolve")
        self._trackers.pop((row.order_id, request.n), None)
        self._write(row, request, found)
        has_magic = not is_change(request.request) and PLAN_LOST not in request.request
        if found.outcome is Outcome.NOT_EXECUTED and has_magic:
            self._missing[request.magic] = (row.order_id, request.intent_ms)
        if any(item.outcome is Outcome.UNKNOWN for item in row.requests):
            self.execution.journal.record(row, request=request)
            return
        trace = self._trace(row)
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

    # --- what shows up after NOT_EXECUTED ---

    def adopt_late(self, positions: tuple[Position, ...]) -> None:
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

    def _look_for_late(self, sweep: Sweep) -> None:
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
            self.execution.conclude(row, self._trace(row), message, request=request)
        else:  # other requests have decided its state; this one's truth is kept beside it
            self.execution.journal.record(row, request=request)

    def _oldest_missing(self) -> int | None:
        """The oldest intent among the requests of the last day that were NOT_EXECUTED."""
        since = self.execution.clock.now_ms() - DAY_MS
        return min((intent for _, intent in self._missing.values() if intent >= since), default=None)

    def _trace(self, row: LegRow) -> Trace:
        clock = self.execution.clock
        return Trace.begin(row.leg.trace, "restart", clock.now_ms, clock.monotonic_ms)


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


def _is_looked_for(row: LegRow) -> bool:
    return any(item.outcome in OPEN_OUTCOMES and not item.result.get("absent") for item in row.requests)
