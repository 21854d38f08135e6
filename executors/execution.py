"""The life of an order inside its executor: from a leg that arrived to its last report, journal first.

Precedes: the link publishes what the journal holds. Follows: any wake-up hands legs to `arrive`. Runs in the
executor's one thread; knows a terminal, a journal and a clock, no Redis and no Celery. What was sent and not answered
goes to `resolution`.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from typing import Any, Protocol

from django.conf import settings

from executors import retcodes
from executors.breaker import Breaker
from executors.crashpoints import reached
from executors.errors import Code, TerminalError, TerminalUnavailable
from executors.journal import Journal
from executors.legs import ZERO, LegRow, RequestRow
from executors.messages import ExecutionReport, Leg, Mode, OpenSignal, TerminalConfig
from executors.orders import SETTLED, OrderState, Outcome, advance, fold, request_magic
from executors.plans import EXEMODE_MARKET, Step, already_closed, build_request, freeze_close, next_step
from executors.queueing import LegQueue, covers
from executors.reporting import Trace, build_report
from executors.sizing import Denial, RateBucket, check_mode, check_trade_mode, size
from executors.symbols import to_broker
from executors.terminals.base import SendReply, Terminal, TradeRequest

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
        self.journal = journal
        self.clock = clock
        self.config = config
        self.mode: Mode = "ACTIVE"
        self.hold = ""  # a reason of this executor's own to hold opens, beside the breaker's
        self.breaker = Breaker(settings.BREAKER_UNKNOWN, settings.BREAKER_REJECTIONS)
        self.queue = LegQueue(next_seq=journal.last_seq(config.epoch) + 1)
        self.open: dict[str, LegRow] = {row.order_id: row for row in journal.open_orders()}
        self.newest_ticket = (0, 0)  # (order_ticket, UTC ms) last heard of: a complete history holds it
        self.own_us = 0  # of the last order: our part, and the broker's
        self.broker_us = 0
        self._bucket = RateBucket()
        self._on_report = on_report

    # --- arriving ---

    def arrive(self, leg: Leg, path: str) -> None:
        """Take a leg by any path. What the journal or the queue knows is a no-op."""
        if leg.terminal_id != self.config.terminal_id:
            logger.error(
                "a leg of another terminal arrived", extra={"order_id": leg.order_id, "action": "arrive"}
            )
            return
        known = self.open.get(leg.order_id) or self.journal.get(leg.order_id)
        if known is None:
            self.queue.put(leg, path)
        elif known.leg.digest != leg.digest:
            logger.error(
                "a known order came with another digest and is refused",
                extra={"order_id": leg.order_id, "code": Code.DIGEST_MISMATCH},
            )

    # --- running ---

    def expire(self) -> None:
        """End what waits past its deadline, whether the terminal is there or not."""
        now = self.clock.redis_ms()
        for leg, path in self.queue.pop_expired(now):
            self._end_unsent(
                new_row(leg, self.clock), S.EXPIRED, self._trace(leg, path), Code.EXPIRED, late(leg, now)
            )
        for row in list(self.open.values()):
            if (
                row.state is S.INTENT
                and row.leg.deadline_ms <= now
                and not unanswered(row)
                and not self._waits(row)
            ):
                self.conclude(row, self._trace(row.leg, "restart"), late(row.leg, now))

    def run_next(self) -> bool:
        """Run the next leg, if there is one. Only while the terminal is connected and verified."""
        taken = self.queue.take()
        if taken is None:
            return False
        leg, path, superseded = taken
        for older, older_path in superseded:
            self._end_unsent(
                new_row(older, self.clock),
                S.CANCELLED,
                self._trace(older, older_path),
                Code.SUPERSEDED,
                f"Superseded by the close {leg.order_id} before it was sent.",
            )
        trace = self._trace(leg, path)
        row = new_row(leg, self.clock)
        try:
            denial = self._prepare(row)
            if denial is not None:
                self._end_unsent(row, S.DENIED, trace, denial.code, denial.message)
            else:
                self.pursue(row, trace)
        except TerminalError:
            if row.state is S.QUEUED:  # nothing is decided yet: it waits at its place for the terminal
                self.queue.ready.insert(0, (leg, path))
            raise
        return True

    def resume(self) -> None:
        """Go on with orders that a restart or an unknown outcome interrupted between two requests."""
        for row in list(self.open.values()):
            if row.state is S.INTENT and not unanswered(row) and not self._waits(row):
                self.pursue(row, self._trace(row.leg, "restart"))

    def pursue(self, row: LegRow, trace: Trace) -> None:
        """Send request after request until the order needs no more, or the outcome of one is not known."""
        while True:
            step = next_step(row, self.config)
            if step is None:
                if self._waits(row):
                    self._wait(row, trace)
                    return
                if not self._plan_after_waiting(row):
                    self.conclude(row, trace)
                    return
                continue
            now = self.clock.redis_ms()
            if now >= row.leg.deadline_ms:
                if row.requests or row.state is not S.QUEUED:
                    self.conclude(row, trace, late(row.leg, now))
                else:
                    self._end_unsent(row, S.EXPIRED, trace, Code.EXPIRED, late(row.leg, now))
                return
            if step.attempt > 1:
                self.clock.sleep(RETRY_BACKOFF_S * 2 ** (step.attempt - 2))
            if not self._request(row, step, trace):
                return

    def _prepare(self, row: LegRow) -> Denial | None:
        """Modes, limits and sizing of a new leg; sets what is wanted."""
        signal = row.leg.signal
        denial = check_mode(self.mode, opens=isinstance(signal, OpenSignal))
        if denial is not None:
            return denial
        if not isinstance(signal, OpenSignal):
            row.plan = {
                "tickets": freeze_close(signal, self.config, self.terminal.positions()),
                "waiting": [
                    other.order_id
                    for other in self.unknown()
                    if isinstance(other.leg.signal, OpenSignal) and covers(signal, other.leg.signal)
                ],
            }
            row.wanted_lots = sum((Decimal(item[3]) for item in row.plan["tickets"]), ZERO)
            return None
        if reason := self.hold or self.breaker.reason:
            return Denial(Code.HALTED, reason)
        name = to_broker(self.config, signal.symbol)
        if self.config.symbols and signal.symbol not in self.config.symbols:
            return Denial(
                Code.SYMBOL_NOT_ALLOWED,
                f"{signal.symbol} is not among the terminal's allowed symbols. Choose another or allow it.",
            )
        spec = self.terminal.spec(name)
        if spec is None:
            return Denial(
                Code.SYMBOL_NOT_ALLOWED,
                f"The broker has no symbol {name}. Correct the symbol or its mapping.",
            )
        denial = check_trade_mode(spec, signal.side)
        if denial is not None:
            return denial
        limits = self.config.limits
        if not self._bucket.take(limits.orders_per_second, self.clock.monotonic_ms()):
            return Denial(
                Code.TOO_MANY_ORDERS,
                f"More than {limits.orders_per_second} orders a second. Slow down or raise the terminal's limit.",
            )
        if limits.max_positions and len(self.terminal.positions()) >= limits.max_positions:
            return Denial(
                Code.TOO_MANY_POSITIONS,
                f"{limits.max_positions} positions are open, the terminal's limit. Close some or raise it.",
            )
        lots = size(signal.lots, self.config.sizing, limits, spec)
        if isinstance(lots, Denial):
            return lots
        row.wanted_lots = lots
        return None

    def _request(self, row: LegRow, step: Step, trace: Trace) -> bool:
        """One request: INTENT on disk, send, RESULT on disk. True when the next one may follow."""
        n = len(row.requests) + 1
        magic = request_magic(settings.INSTALLATION_ID, row.order_id, n)
        spec = self.terminal.spec(step.symbol)
        tick = self.terminal.tick(step.symbol) if spec and spec.exemode < EXEMODE_MARKET else None
        if spec is None or (spec.exemode < EXEMODE_MARKET and tick is None):
            message = f"The terminal has no price for {step.symbol}. Try again when the market gives one."
            if row.requests:
                self.conclude(row, trace, message)
            else:
                self._end_unsent(row, S.DENIED, trace, Code.NO_PRICE, message)
            return False
        request = build_request(step, row, self.config, spec, tick, magic)
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

    def _send(self, request: TradeRequest, trace: Trace) -> SendReply:
        trace.sent()
        try:
            reply = self.terminal.send(request)
        except Exception as error:
            logger.exception("order_send raised", extra={"action": "send", "magic": request.magic})
            reply = SendReply(None, (-1, f"{type(error).__name__}: {error}"))
        trace.answered()
        return reply

    def _note(
        self, row: LegRow, made: RequestRow, step: Step, request: TradeRequest, reply: SendReply
    ) -> None:
        """Put what the reply says into the request and the order."""
        verdict = retcodes.judge(request, reply)
        made.outcome = verdict.outcome
        made.filled_lots = retcodes.filled_lots(verdict, request, reply)
        made.result = {"message": verdict.message, "retriable": verdict.retriable}
        if reply.result is not None:
            result = reply.result
            made.retcode = result.retcode
            made.price = result.price
            made.result["comment"] = result.comment
            made.result["orders"] = [result.order] if result.order else []
            if made.filled_lots and result.order:
                self.newest_ticket = (result.order, self.clock.now_ms())
            made.result["deals"] = [result.deal] if result.deal else []
            if step.position:
                made.result["positions"] = [step.position]
            elif result.order and made.filled_lots:
                made.result["positions"] = [
                    result.order
                ]  # a hedging account's position has its order's ticket
            if already_closed(step, result.retcode):
                made.outcome = Outcome.DONE
                made.result["message"] = "The position was closed already."
                row.wanted_lots -= step.lots
        else:
            made.result["error"] = list(reply.error)
        row.filled_lots = sum((item.filled_lots for item in row.requests), ZERO)

    # --- ends ---

    def conclude(
        self, row: LegRow, trace: Trace, message: str = "", *, request: RequestRow | None = None
    ) -> None:
        """The fold over the requests, when no more will come."""
        state = (
            fold([item.view for item in row.requests], row.wanted_lots, more=False)
            if row.requests
            else S.DONE
        )
        if not row.requests:
            message = message or "There was no position to close."
            if row.state is S.QUEUED:
                self.move(row, S.INTENT, trace)
        message = message or (row.requests[-1].result.get("message", "") if row.requests else "")
        code = {S.REJECTED: Code.BROKER_REFUSED, S.NOT_EXECUTED: Code.NOT_EXECUTED}.get(state, "")
        working = any(item.outcome is Outcome.PLACED for item in row.requests)
        if state is S.PARTIAL and not working:
            self.move(row, S.PARTIAL, trace, request=request, message=message)
            request = None
            state, code = S.CANCELLED, Code.BROKER_REFUSED
            message = f"{row.filled_lots:f} of {row.wanted_lots:f} lots were executed; the rest was given up. {message}"
        self.move(row, state, trace, request=request, code=code, message=message)
        self.own_us, self.broker_us = trace.own_us(), trace.broker_us
        if state is S.REJECTED:
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
        if request is not None and request.outcome is not Outcome.PENDING:
            request.result_ms = self.clock.now_ms()
        row.state = advance(row.state, state)
        report = build_report(
            row,
            state,
            seq=row.report_seq + 1,
            time_ms=self.clock.now_ms(),
            trace=trace,
            code=code,
            message=message,
        )
        self.journal.record(row, report, request=request)
        if state in SETTLED:
            self.open.pop(row.order_id, None)
        else:
            self.open[row.order_id] = row
        self._on_report(row, report)

    # --- a close that waits for an UNKNOWN open ---

    def _waits(self, row: LegRow) -> bool:
        """Whether an open that the close covers still has an unknown outcome."""
        return any(
            name in self.open and self.open[name].state is S.UNKNOWN for name in row.plan.get("waiting", [])
        )

    def _wait(self, row: LegRow, trace: Trace) -> None:
        self.move(row, S.INTENT, trace, message="Waits for an open order whose outcome is not known yet.")

    def _plan_after_waiting(self, row: LegRow) -> bool:
        """What the covered opens left, once their outcome is known; True when there is more to close."""
        signal = row.leg.signal
        if not row.plan.get("waiting") or isinstance(signal, OpenSignal):
            return False
        row.plan["waiting"] = []
        planned = {item[0] for item in row.plan["tickets"]}
        held = freeze_close(signal, self.config, self.terminal.positions())
        fresh = [item for item in held if item[0] not in planned]
        row.plan["tickets"] += fresh
        row.wanted_lots += sum((Decimal(str(item[3])) for item in fresh), ZERO)
        return bool(fresh)

    # --- small parts ---

    def unknown(self) -> list[LegRow]:
        return [row for row in self.open.values() if row.state is S.UNKNOWN]

    def _trace(self, leg: Leg, path: str) -> Trace:
        return Trace.begin(leg.trace, path, self.clock.now_ms, self.clock.monotonic_ms)


def new_row(leg: Leg, clock: Clock) -> LegRow:
    lots = leg.signal.lots if isinstance(leg.signal, OpenSignal) else ZERO
    return LegRow(leg, S.QUEUED, lots, ZERO, {}, 0, clock.now_ms())


def unanswered(row: LegRow) -> bool:
    return any(item.outcome in (Outcome.PENDING, Outcome.UNKNOWN) for item in row.requests)


def late(leg: Leg, now_ms: int) -> str:
    return (
        f"Its deadline passed {now_ms - leg.deadline_ms} ms before it could be sent."
        " Send a new signal if you still want it."
    )


def jsonable(request: TradeRequest) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Decimal) else value for name, value in asdict(request).items()
    }
