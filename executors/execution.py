"""The life of an order inside its executor: from a leg that arrived to its last report, journal first.

Precedes: the link publishes what the journal holds. Follows: any wake-up hands legs to `arrive`. Runs in the
executor's one thread; knows a terminal, a journal and a clock, no Redis and no Celery. What was sent and not answered
goes to `resolution`.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Protocol

from django.conf import settings

from executors import sending
from executors.answers import put_answer
from executors.breaker import Breaker
from executors.crashpoints import reached
from executors.endings import ending, levels_not_set
from executors.errors import Code, TerminalError, TerminalUnavailable
from executors.guard import Guard
from executors.journal import Journal
from executors.lagging import LAG_MS, LaggingHoldings
from executors.legs import ZERO, LegRow, RequestRow, order_tickets, unanswered
from executors.messages import ExecutionReport, Leg, Mode, OpenSignal, ProtectSignal, TerminalConfig
from executors.orders import OPEN_OUTCOMES, SETTLED, OrderState, Outcome, advance, request_magic
from executors.plans import (
    EXEMODE_MARKET,
    Step,
    build_request,
    jsonable,
    late,
    next_step,
)
from executors.preparing import Preparation
from executors.queueing import LegQueue
from executors.reporting import Trace, build_report
from executors.sizing import Denial, plain
from executors.specs import Specs
from executors.terminals.base import Order, SendReply, Terminal, TradeRequest
from executors.wishes import MODIFY, SLTP, Change

logger = logging.getLogger(__name__)
S = OrderState

RETRY_BACKOFF_S = 0.05  # doubles with each attempt


class Clock(Protocol):
    """Times for decisions; tests bring their own."""

    def now_ms(self) -> int:
        """UTC by this machine."""

    def redis_ms(self) -> int:
        """UTC by Redis: what deadlines are measured in."""

    def monotonic_ms(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class Execution:
    """One terminal's orders. `on_report` hears of every report after its commit."""

    def __init__(
        self,
        *,
        terminal: Terminal,
        journal: Journal,
        clock: Clock,
        config: TerminalConfig,
        on_report: Callable[[LegRow, ExecutionReport], None],
    ) -> None:
        self.terminal = terminal
        self.specs = Specs(terminal)
        self.journal = journal
        self.clock = clock
        self.config = config
        self._installation: str = settings.INSTALLATION_ID
        self.mode: Mode = "ACTIVE"
        self.skewed = ""  # why opens are held while this machine's clock is wrong
        self.hold = ""  # a reason of this executor's own to hold opens, beside the breaker's
        self.breaker = Breaker(settings.BREAKER_UNKNOWN, settings.BREAKER_REJECTIONS)
        self.queue = LegQueue(next_seq=journal.last_seq(config.epoch) + 1)
        self.open: dict[str, LegRow] = {row.order_id: row for row in journal.open_orders()}
        # (order_ticket, UTC ms) last heard of: a complete history holds it
        self.newest_ticket = journal.newest_ticket()
        self.own_us = 0  # of the last order: our part, and the broker's
        self.broker_us = 0
        self.adopted_seq = journal.adopted_seq()  # up to it a journal that was lost may have run legs
        self.adopt: Callable[[Leg], None] | None = None  # takes such a leg when the outbox still has it
        self.alarm: Callable[[str, str], None] = logger.error  # code, text
        self.holdings = LaggingHoldings(lambda: self.terminal, clock)
        self.holdings.recall(journal.answered_since(clock.now_ms() - LAG_MS))
        # pending orders that a look has seen at rest: order_id → (order_ticket, lots left). Until they are seen to
        # change they need no further look, and nothing waits for them.
        self.resting: dict[str, tuple[int, Decimal]] = {}
        self.preparation = Preparation(self)
        self.guard = Guard(
            terminal,
            journal,
            self.specs,
            belongs=self.preparation.belongs,
            asked=self._asked,
            holdings=self.holdings,
            monotonic_ms=clock.monotonic_ms,
        )
        self._on_report = on_report

    # --- arriving ---

    def arrive(self, leg: Leg, path: str) -> None:
        """Take a leg by any path. What the journal or the queue knows is a no-op."""
        if leg.terminal_id != self.config.terminal_id:
            logger.error(
                "a leg of another terminal arrived", extra={"order_id": leg.order_id, "action": "arrive"}
            )
            return
        if leg.epoch > self.config.epoch:  # its executor is on another host, or is started here in a moment
            logger.error(
                "a leg of epoch %s arrived at the executor of epoch %s",
                leg.epoch,
                self.config.epoch,
                extra={"order_id": leg.order_id, "action": "arrive"},
            )
            return
        row = self.open.get(leg.order_id)
        known = row.leg.digest if row else self.journal.digest(leg.order_id)
        if known is None:
            if leg.leg_seq > self.adopted_seq:
                self.queue.put(leg, path)
            elif path == "outbox" and self.adopt is not None:
                self.adopt(leg)
            return  # other paths may repeat what the lost journal has run; only the outbox knows what was not reported
        self.queue.pass_by(leg.leg_seq)
        if known != leg.digest:
            logger.error(
                "a known order came with another digest and is refused",
                extra={"order_id": leg.order_id, "code": Code.DIGEST_MISMATCH},
            )

    # --- running ---

    def expire(self) -> None:
        """End what waits past its deadline, whether the terminal is there or not."""
        now = self.clock.redis_ms()
        for leg, path in self.queue.pop_expired(now):
            if not self._knows(leg):
                self._end_unsent(
                    new_row(leg, self.clock), S.EXPIRED, self._trace(leg, path), Code.EXPIRED, late(leg, now)
                )
        for row in list(self.open.values()):
            if (
                row.state is S.INTENT
                and row.leg.deadline_ms <= now
                and not unanswered(row)
                and not self.preparation.waiting.waits(row)
            ):
                self.conclude(row, self._trace(row.leg, "restart"), late(row.leg, now), code=Code.EXPIRED)

    def run_next(self) -> bool:
        """Run the next leg, if there is one. Only while the terminal is connected and verified."""
        taken = self.queue.take(self.preparation.symbol_of)
        if taken is None:
            return False
        leg, path, superseded = taken
        for older, older_path in superseded:
            if not self._knows(older):
                self._end_unsent(
                    new_row(older, self.clock),
                    S.CANCELLED,
                    self._trace(older, older_path),
                    Code.SUPERSEDED,
                    f"Superseded by the {leg.signal.action} {leg.order_id} before it was sent.",
                )
        if self._knows(leg):
            return True  # it became known while it waited here: what the journal says holds
        reached("leg-taken")
        trace = self._trace(leg, path)
        row = new_row(leg, self.clock)
        try:
            denial = self.preparation.prepare(row)
            if denial is not None:
                self._end_unsent(row, S.DENIED, trace, denial.code, denial.message)
                reached("after-denial")
            else:
                self.pursue(row, trace)
        except TerminalError:
            if row.state is S.QUEUED:  # nothing is decided yet: it waits at its place for the terminal
                self.queue.put_back(leg, path)
            raise
        return True

    def resume(self) -> None:
        """Go on with orders that a restart or an unknown outcome interrupted between two requests."""
        for row in list(self.open.values()):
            if row.state is S.INTENT and not unanswered(row) and not self.preparation.waiting.waits(row):
                self.pursue(row, self._trace(row.leg, "restart"))

    def pursue(self, row: LegRow, trace: Trace) -> None:
        """Send request after request until the order needs no more, or the outcome of one is not known."""
        while True:
            step = next_step(row, self.config)
            if step is None:
                if self.preparation.waiting.waits(row):
                    self._wait(row, trace)
                    return
                if not row.plan.get("waiting"):
                    self.conclude(row, trace, "" if row.requests else row.plan.get("nothing", ""))
                    return
                self.preparation.waiting.plan_anew(row)  # may raise: nothing is changed until then
                continue
            if step.attempt > 1:
                self.clock.sleep(RETRY_BACKOFF_S * 2 ** (step.attempt - 2))
            if not self._request(row, step, trace):
                return

    def _request(self, row: LegRow, step: Step, trace: Trace) -> bool:
        """One request: INTENT on disk, send, RESULT on disk. True when the next one may follow."""
        n = len(row.requests) + 1
        magic = request_magic(self._installation, row.order_id, n)
        spec = tick = None
        if step.change is not None:
            whole = self.preparation.completion.of(row, step.change)
            if whole is None:
                return True  # what it is about has become another thing: the plan says what to do
            if isinstance(whole, Denial):
                return self._unasked(row, step.change, n, magic, trace, whole)
            step = replace(step, change=whole)
        else:
            spec = self.specs.get(step.symbol, self.clock.monotonic_ms())
            instant = spec is not None and spec.exemode < EXEMODE_MARKET and step.needs_price
            tick = self.terminal.tick(step.symbol) if instant else None
            if spec is None or (instant and tick is None):
                return self._unpriced(row, step, n, magic, trace)
        if spec is not None and not step.position and step.attempt > 1 and step.lots < spec.volume_min:
            self.conclude(row, trace, f"The rest of {plain(step.lots)} lots is below the broker's minimum.")
            return False
        if row.state is not S.QUEUED:
            allowed = self._stopped_since(row, step)
            if isinstance(allowed, Denial):
                self.conclude(row, trace, allowed.message, code=allowed.code)
                return False
            step = allowed
        request = build_request(step, row, self.config, spec, tick, magic)
        now = self.clock.redis_ms()
        if now >= row.leg.deadline_ms:
            if row.requests or row.state is not S.QUEUED:
                self.conclude(row, trace, late(row.leg, now), code=Code.EXPIRED)
            else:
                self._end_unsent(row, S.EXPIRED, trace, Code.EXPIRED, late(row.leg, now))
            return False
        made = RequestRow(n, magic, jsonable(request), step.lots, self.clock.now_ms(), Outcome.PENDING)
        row.requests.append(made)
        trace.intent()
        reached("before-intent")
        self.move(row, S.INTENT, trace, request=made)
        reached("after-intent")
        reply = self._send(request, trace)
        reached("after-send")
        self._note(row, made, step, request, reply)
        if made.outcome is Outcome.UNKNOWN:
            message = made.result["message"]
            self.move(row, S.UNKNOWN, trace, request=made, code=Code.OUTCOME_UNKNOWN, message=message)
            self.breaker.unknown(len(self.unknown()))
            reached("after-result")
            return False
        if next_step(row, self.config) is None and not row.plan.get("waiting"):
            self.conclude(row, trace, request=made)
            reached("after-result")
            return False
        self.move(row, S.INTENT, trace, request=made, message=made.result["message"])
        reached("after-result")
        if reply.result is None:
            # nothing was sent for want of a connection: the order goes on when the terminal is back, or expires
            raise TerminalUnavailable("order_send", reply.error)
        return True

    def _stopped_since(self, row: LegRow, step: Step) -> Step | Denial:
        """What was said, and what was closed by others, after the order's first step counts for the next one as for a
        new order. Raises TerminalError."""
        denial = self.preparation.forbidden(row.leg.signal)
        if denial is not None:
            return denial
        if step.change is not None or not step.position:
            return step
        lots = self.preparation.still_left(row, step)
        return lots if isinstance(lots, Denial) else replace(step, lots=lots)

    def _unpriced(self, row: LegRow, step: Step, n: int, magic: int, trace: Trace) -> bool:
        """Nothing can be asked of the broker for this step. A close goes on with its other positions."""
        message = f"The terminal has no price for {step.symbol}. Try again when the market gives one."
        if row.state is S.QUEUED and len(row.plan.get("tickets", [])) < 2:
            self._end_unsent(row, S.DENIED, trace, Code.NO_PRICE, message)
            return False
        if not step.position:
            self.conclude(row, trace, message, code=Code.NO_PRICE)
            return False
        asked = {"symbol": step.symbol, "position": step.position}
        result = {"message": message, "retriable": False, "code": Code.NO_PRICE.value}
        made = RequestRow(n, magic, asked, step.lots, self.clock.now_ms(), Outcome.REFUSED, result=result)
        row.requests.append(made)
        self.move(row, S.INTENT, trace, request=made, message=message)
        return True

    def _unasked(self, row: LegRow, change: Change, n: int, magic: int, trace: Trace, denial: Denial) -> bool:
        """A change that cannot be asked of the broker (any more). The order goes on with its others."""
        if row.state is S.QUEUED and len(row.plan["changes"]) < 2:
            self._end_unsent(row, S.DENIED, trace, denial.code, denial.message)
            return False
        asked = {name: change[name] for name in change.keys() & {"position", "order"}}
        result = {"message": denial.message, "retriable": False, "code": denial.code.value}
        made = RequestRow(n, magic, asked, ZERO, self.clock.now_ms(), Outcome.REFUSED, result=result)
        row.requests.append(made)
        self.move(row, S.INTENT, trace, request=made, message=denial.message)
        return True

    def _send(self, request: TradeRequest, trace: Trace) -> SendReply:
        trace.sent()
        reply = sending.send(self.terminal, request)
        trace.answered()
        return reply

    def _note(
        self, row: LegRow, made: RequestRow, step: Step, request: TradeRequest, reply: SendReply
    ) -> None:
        """Put what the reply says into the request and the order."""
        put_answer(made, row, step, request, reply)
        if reply.result is not None and made.filled_lots and reply.result.order > self.newest_ticket[0]:
            self.newest_ticket = (reply.result.order, self.clock.now_ms())
        earlier = row.requests[:-1]
        row.filled_lots = (
            sum((item.filled_lots for item in earlier), made.filled_lots) if earlier else made.filled_lots
        )
        if made.filled_lots and not step.position:
            self.holdings.filled(row)
        if step.pending and made.outcome is Outcome.PLACED:
            self.holdings.placed(row)
        if made.outcome in (Outcome.DONE, Outcome.UNKNOWN) and request.action in (SLTP, MODIFY):
            self.holdings.changed(request)

    # --- ends ---

    def conclude(
        self,
        row: LegRow,
        trace: Trace,
        message: str = "",
        *,
        request: RequestRow | None = None,
        code: str = "",
    ) -> None:
        """The end, or for now the standing, that its requests add up to. `code`: why no more will come, if not by the
        broker."""
        end = ending(row, message=message, code=code)
        self.own_us, self.broker_us = trace.own_us(), trace.broker_us
        self._record(row, end.steps, trace, request)
        if text := levels_not_set(row):
            self.alarm("LEVELS_NOT_SET", text)
        if end.counts_as_rejection:
            self.breaker.rejected(self.clock.monotonic_ms())

    def _end_unsent(self, row: LegRow, state: OrderState, trace: Trace, code: Code, message: str) -> None:
        self.move(row, state, trace, code=code, message=message)

    def move(
        self,
        row: LegRow,
        state: OrderState,
        trace: Trace,
        *,
        request: RequestRow | None = None,
        code: str = "",
        message: str = "",
    ) -> None:
        """One step along the transition table, with its report, in one commit."""
        self._record(row, [(state, code, message)], trace, request)

    def _record(
        self,
        row: LegRow,
        steps: list[tuple[OrderState, str, str]],
        trace: Trace,
        request: RequestRow | None,
    ) -> None:
        """Steps along the transition table as (state, code, message), each with its report, in one commit: a crash
        leaves all of them or none."""
        if request is not None and request.outcome is not Outcome.PENDING:
            request.result_ms = self.clock.now_ms()
        reports: list[ExecutionReport] = []
        for state, code, message in steps:
            row.state = advance(row.state, state)
            reports.append(
                build_report(
                    row,
                    state,
                    seq=row.report_seq + 1 + len(reports),
                    time_ms=self.clock.now_ms(),
                    position=self.journal.newest + 1 + len(reports),
                    trace=trace,
                    code=code,
                    message=message,
                )
            )
        with self.journal.together():
            self.journal.record(row, *reports, request=request)
            self._protect(row)
        if row.state in SETTLED:
            self.open.pop(row.order_id, None)
            self.resting.pop(row.order_id, None)
        else:
            self.open[row.order_id] = row
        for report in reports:
            self._on_report(row, report)

    def _protect(self, row: LegRow) -> None:
        """Trailing and break-even are armed in the commit that says so."""
        signal = row.leg.signal
        if isinstance(signal, OpenSignal):
            self.guard.follow(row)
        elif isinstance(signal, ProtectSignal) and row.state is S.DONE:
            wish = row.plan.get("protect", {"positions": [], "opens": []})
            self.guard.arm(signal, positions=dict(wish["positions"]), opens=wish["opens"])

    def _wait(self, row: LegRow, trace: Trace) -> None:
        self.move(row, S.INTENT, trace, message="Waits for an earlier order whose outcome is not known yet.")

    # --- small parts ---

    def _knows(self, leg: Leg) -> bool:
        return leg.order_id in self.open or self.journal.knows(leg.order_id)

    def _asked(self) -> set[int]:
        """Positions whose levels a request of an order may still change."""
        return {
            item.request["position"]
            for row in self.open.values()
            for item in row.requests
            if item.outcome in OPEN_OUTCOMES and item.request.get("action") == SLTP
        }

    def watch(self, orders: tuple[Order, ...]) -> None:
        """The active orders, just read: a pending order that has changed or is not there any more needs a look."""
        active = {item.ticket: item.volume_current for item in orders}
        for name, (ticket, lots) in list(self.resting.items()):
            if active.get(ticket) != lots:
                del self.resting[name]

    def open_of(self, order_ticket: int) -> str | None:
        """The open that placed a pending order, as long as its end is not known."""
        found = (row for row in self.open.values() if isinstance(row.leg.signal, OpenSignal))
        return next((row.order_id for row in found if order_ticket in order_tickets(row)), None)

    def unknown(self) -> list[LegRow]:
        return [row for row in self.open.values() if row.state is S.UNKNOWN]

    def _trace(self, leg: Leg, path: str) -> Trace:
        return Trace.begin(leg.trace, path, self.clock.now_ms, self.clock.monotonic_ms)


def new_row(leg: Leg, clock: Clock) -> LegRow:
    lots = leg.signal.lots if isinstance(leg.signal, OpenSignal) else ZERO
    return LegRow(leg, S.QUEUED, lots, ZERO, {}, 0, clock.now_ms())
