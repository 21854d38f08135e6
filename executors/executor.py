"""The executor: one thread that owns one terminal and its journal, and everything that may touch them.

Precedes: `execution` (orders), `resolution` (unknown outcomes), `ticker` (ticks out), `link` (Redis). Follows: the
supervisor forks the process, `worker` starts this thread beside Celery's. Orders go first; ticks and account state share the
thread.
"""

import logging
import queue
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from executors.account_sync import AccountSync
from executors.crashpoints import reached
from executors.errors import TerminalError, TerminalUnavailable
from executors.execution import Execution
from executors.journal import Journal, JournalReader
from executors.legs import LegRow
from executors.link import (
    Compared,
    ConfigRead,
    Drained,
    Event,
    Foreign,
    InstanceFacts,
    Link,
    ModesRead,
    SettlementsRead,
)
from executors.messages import ExecutionReport, InstanceStatus, Leg, TerminalConfig, TerminalUpdate
from executors.orders import OrderState
from executors.progress import Progress
from executors.reporting import heard
from executors.resolution import Resolution
from executors.settling import Settling
from executors.sizing import strictest
from executors.symbols import to_broker
from executors.terminals.base import Rate, Terminal
from executors.ticker import Ticker
from tradedist.clock import monotonic_ms, now_ms, now_us

logger = logging.getLogger(__name__)

RECONNECT_S = 5.0
QUICK_S = (
    0.0,
    0.5,
    1.0,
    1.5,
    2.0,
)  # the first tries: a bridge or broker that restarts is back within a moment
TRIES_BEFORE_ALARM = 3  # of the slow ones
LOOK_MS = 500
GUARD_MS = 100  # between looks at prices for trailing stops and break-even
SYNC_AFTER_MS = 30
RUN_MS = 100  # of orders in a row
TURN_LIMIT_S = 10.0  # a turn without a broker call that takes longer is stuck
INBOX_LIMIT = 10_000
OPENED_WITH = ("login", "server", "epoch", "kind", "path", "sealed_password", "server_timezone")
WATCHED = 2_000  # finished orders whose last report is kept for a Celery task that still comes


@dataclass(frozen=True, slots=True)
class Arrival:
    leg: Leg
    path: str


@dataclass(frozen=True, slots=True)
class RatesWish:
    symbol: str
    seconds: int
    to_ms: int
    count: int
    answer: "Future[tuple[Rate, ...]]"


Item = Arrival | RatesWish | Event | None


class ExecutorClock:
    """This machine's clock, and Redis's by the offset that the link measures."""

    def __init__(self) -> None:
        self.link: Link | None = None

    def now_ms(self) -> int:
        return now_ms()

    def redis_ms(self) -> int:
        return now_ms() + (self.link.offset_ms if self.link else 0)

    def offset_us(self) -> int:
        return self.link.offset_us if self.link else 0

    def monotonic_ms(self) -> float:
        return monotonic_ms()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Executor(threading.Thread):
    """`submit`, `wait` and `rates` may be called from any thread; all else happens in this one."""

    def __init__(self, config: TerminalConfig, directory: Path, terminal: Terminal) -> None:
        super().__init__(name=f"executor-{config.terminal_id}", daemon=True)
        self.config = config
        self.directory = directory
        self.failed: BaseException | None = None
        self.stopped_by_us = False
        self._terminal = terminal
        self._inbox: queue.Queue[Item] = queue.Queue(INBOX_LIMIT)
        self._stopping = threading.Event()
        self._facts = InstanceFacts(config_version=config.version)
        self._settled_look: threading.Condition = threading.Condition()
        self._latest: OrderedDict[str, ExecutionReport] = OrderedDict()
        self._progress = Progress(directory / "progress")
        self._clock = ExecutorClock()
        self._modes: list[str] = []
        self._resumed: int | None = None
        self._ready = False
        self._compared = False
        self._tries = 0
        self._trouble = ""  # why the last try to connect failed
        self._due_connect = 0.0
        self._due_sync = 0.0
        self._sync_took_ms = 0.0
        self._due_ticks = 0.0
        self._due_guard = 0.0
        self._due_look = 0.0
        self._drain_asked = 0
        self._breaker_told = ""
        self._gap_asked = 0  # the highest number that waited when the outbox was asked for

    # --- from any thread ---

    def submit(self, leg: Leg, path: str) -> bool:
        """Hand a leg over. False when the inbox is full: the outbox brings it later."""
        self._heard(leg)
        try:
            self._inbox.put_nowait(Arrival(leg, path))
        except queue.Full:
            logger.error("the executor's inbox is full", extra={"order_id": leg.order_id})
            return False
        return True

    def _heard(self, leg: Leg) -> None:
        heard(leg.trace, mono_us=round(monotonic_ms() * 1000), redis_us=now_us() + self._clock.offset_us())

    def wait(self, order_id: str, timeout_s: float) -> ExecutionReport | None:
        """The order's newest report once it has left QUEUED and INTENT; None when that takes longer."""
        deadline = time.monotonic() + timeout_s
        with self._settled_look:
            while True:
                report = self._latest.get(order_id)
                if report is not None and report.state not in (OrderState.QUEUED, OrderState.INTENT):
                    return report
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._settled_look.wait(left)

    def rates(self, symbol: str, seconds: int, to_ms: int, count: int, timeout_s: float) -> tuple[Rate, ...]:
        """The terminal's candles of a canonical symbol. Raises TerminalError, TimeoutError or queue.Full."""
        answer: Future[tuple[Rate, ...]] = Future()
        self._inbox.put_nowait(RatesWish(symbol, seconds, to_ms, count, answer))
        return answer.result(timeout_s)

    def announce(self, **facts: str) -> None:
        """Facts for RIS that do not change while the process lives; before `start`."""
        self._facts.extra.update(facts)

    def stop(self, timeout_s: float) -> None:
        """Finish the order in hand, publish, end."""
        self.stopped_by_us = True
        self._stopping.set()
        try:
            self._inbox.put_nowait(None)
        except queue.Full:
            logger.warning("stopping with a full inbox")
        self.join(timeout_s)

    # --- the thread ---

    def run(self) -> None:
        try:
            self._run()
        except (
            BaseException
        ) as error:  # the process must end with its executor; the supervisor starts another
            self.failed = error
            logger.exception("the executor failed", extra={"action": "executor"})
        finally:
            self._stopping.set()

    def _run(self) -> None:
        path = self.directory / "journal.sqlite3"
        self._journal = Journal(
            path, installation=settings.INSTALLATION_ID, terminal_id=self.config.terminal_id
        )
        self._execution = Execution(
            terminal=self._terminal,
            journal=self._journal,
            clock=self._clock,
            config=self.config,
            on_report=self._reported,
        )
        self._link = Link(
            terminal_id=self.config.terminal_id,
            epoch=self.config.epoch,
            reader=JournalReader(path),
            journal_id=self._journal.journal_id,
            facts=self._facts,
            emit=self._inbox.put,
        )
        self._clock.link = self._link
        self._resolution = Resolution(self._execution, alarm=self._alarm)
        self._settling = Settling(
            self._execution, self._resolution, answer=self._link.answer, alarm=self._alarm
        )
        self._account_sync = AccountSync(
            self._terminal,
            self._journal,
            self._facts,
            show=self._link.show,
            seen=self._resolution.seen,
            protection_of=self._execution.guard.of,
        )
        reached("before-recover")
        self._resolution.recover()
        if (tripped := self._journal.tripped()) is not None:
            self._execution.breaker.trip()
            self._resumed = tripped  # a resume while this executor was down counts
        reached("after-recover")
        self._ticker = Ticker(self._terminal, self.config)
        self._link.start()
        try:
            while not self._stopping.is_set():
                self._turn()
        finally:
            self._link.stop(timeout_s=2)
            self._ticker.close()
            if self._ready:
                self._terminal.disconnect()
            self._journal.close()

    def _turn(self) -> None:
        self._progress.moved(TURN_LIMIT_S)
        self._take_inbox()
        if self._compared:  # a journal that was lost must not end what it may have sent
            self._execution.expire()
        self._run_orders()
        self._tell_breaker()
        if (newest := self._execution.queue.newest()) > self._gap_asked:
            self._gap_asked, self._drain_asked = newest, self._link.ask_drain()
        now = monotonic_ms()
        if not self._ready:
            if now >= self._due_connect:
                self._connect()
            return
        try:
            if now >= self._due_ticks:
                self._ticker.poll()
                self._due_ticks = now + settings.TICK_POLL_MS
            if now >= self._due_guard and self._execution.guard.active:
                self._guard(now)
            if now >= self._due_sync:
                self._account_sync.run(self.config)
                self._execution.specs.refresh(monotonic_ms())
                self._sync_took_ms = monotonic_ms() - now
                self._due_sync = now + max(settings.ACCOUNT_SYNC_MS, 10 * self._sync_took_ms)
            if now >= self._due_look and self._resolution.due():
                self._due_look = now + LOOK_MS
                self._resolution.look()
                self._execution.resume()
        except TerminalError as error:
            self._lost(error)

    def _guard(self, now: float) -> None:
        """One stop loss at a time: orders that have come meanwhile go first."""
        self._progress.moved(settings.SEND_LIMIT_S)
        moved = self._execution.guard.step(halted=self._execution.mode == "HALTED")
        self._due_guard = now if moved else now + GUARD_MS
        if moved:
            self._due_sync = min(self._due_sync, monotonic_ms() + max(SYNC_AFTER_MS, 10 * self._sync_took_ms))

    def _tell_breaker(self) -> None:
        """An alarm when opens are held from now on, and a note that a restart does not forget."""
        breaker = self._execution.breaker
        if breaker.reason == self._breaker_told:
            return
        self._breaker_told = breaker.reason
        if breaker.until_resumed and self._journal.tripped() is None:
            self._journal.note_tripped(self._resumed or 0)
        if breaker.reason:
            self._alarm(breaker.reason)

    def _run_orders(self) -> None:
        """What is ready, for a while: account state and ticks must not starve under a stream of orders."""
        until = monotonic_ms() + RUN_MS
        try:
            while self._ready and self._compared and monotonic_ms() < until:
                self._progress.moved(settings.SEND_LIMIT_S)
                if not self._execution.run_next():
                    return
                self._take_inbox(wait=False)
        except TerminalError as error:
            self._lost(error)

    def _resume(self) -> None:
        try:
            self._execution.resume()
        except TerminalError as error:
            self._lost(error)

    def _take_inbox(self, *, wait: bool = True) -> None:
        timeout_s = max(0.0, (self._next_due() - monotonic_ms()) / 1000) if wait else 0.0
        try:
            item = self._inbox.get(timeout=min(timeout_s, 1.0)) if timeout_s > 0 else self._inbox.get_nowait()
            for _ in range(INBOX_LIMIT):
                self._handle(item)
                item = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _next_due(self) -> float:
        if self._execution.queue.ready and self._ready and self._compared:
            return 0.0
        if not self._ready:
            return self._due_connect
        due = self._due_sync
        if self.config.tick_priority:
            due = min(due, self._due_ticks)
        if self._resolution.due():
            due = min(due, self._due_look)
        if self._execution.guard.active:
            due = min(due, self._due_guard)
        return due

    def _handle(self, item: Item) -> None:
        match item:
            case Arrival(leg, path):
                reached("leg-arrived")
                self._execution.arrive(leg, path)
                if path == "celery":
                    self._recall(leg.order_id)
            case Drained(legs, asked, whole):
                for leg in legs:
                    self._heard(leg)
                    self._execution.arrive(leg, "outbox")
                if asked >= self._drain_asked:
                    if whole:
                        self._execution.queue.close_gaps({leg.leg_seq for leg in legs}, below=self._gap_asked)
                    self._gap_asked = 0  # what still waits asks again
            case Foreign(legs, last_seq):
                self._resolution.adopt_foreign(legs, last_seq)
                self._link.adopted()
            case Compared():
                self._compared = True
                self._settling.begin()
                if self._ready:
                    self._resume()
            case SettlementsRead(wishes):
                self._settling.take(wishes)
                if self._ready and self._compared:
                    self._resume()  # a close may have waited for the order
            case ConfigRead(config):
                self._configure(config)
            case ModesRead(modes, resumed):
                self._execution.mode = strictest(modes)
                if self._resumed is not None and resumed > self._resumed:
                    self._execution.breaker.resume()
                    self._journal.note_tripped(None)
                self._resumed = resumed
            case RatesWish():
                self._answer_rates(item)
            case None:
                pass

    def _configure(self, config: TerminalConfig) -> None:
        """Apply a new configuration between two orders. What the terminal was opened with never changes under a running
        executor."""
        if changed := [name for name in OPENED_WITH if getattr(config, name) != getattr(self.config, name)]:
            logger.warning(
                "%s changed: the executor stops so that the supervisor starts it anew", ", ".join(changed)
            )
            self._stopping.set()
            return
        self.config = config
        self._execution.config = config
        self._ticker.configure(config)

    def _answer_rates(self, wish: RatesWish) -> None:
        if not wish.answer.set_running_or_notify_cancel():
            return
        if not self._ready:
            wish.answer.set_exception(TerminalUnavailable("copy_rates", (-10004, "No IPC connection")))
            return
        try:
            name = to_broker(self.config, wish.symbol)
            wish.answer.set_result(self._terminal.rates(name, wish.seconds, wish.to_ms, wish.count))
        except TerminalError as error:
            wish.answer.set_exception(error)

    # --- the terminal ---

    def _connect(self) -> None:
        self._status("CONNECTING", self._trouble)
        self._progress.moved(settings.INITIALIZE_LIMIT_S)
        try:
            identity = self._terminal.connect()
        except TerminalError as error:
            self._lost(error)
            return
        if stranger := identity.stranger(self.config.login, self.config.server):
            self._terminal.disconnect()
            self._failed("FAILED", RECONNECT_S, stranger, TRIES_BEFORE_ALARM)
            return
        self._ready = True
        self._tries, self._trouble = 0, ""
        self._resolution.answering(round(monotonic_ms()))
        self._execution.specs.forget()
        self._status("READY")
        if self._compared:
            self._resume()

    def _lost(self, error: TerminalError) -> None:
        """The terminal does not answer: orders wait or expire until it does."""
        self._ready = False
        pause_s = QUICK_S[self._tries] if self._tries < len(QUICK_S) else RECONNECT_S
        self._failed("DISCONNECTED", pause_s, str(error), len(QUICK_S) + TRIES_BEFORE_ALARM)

    def _failed(self, status: InstanceStatus, pause_s: float, why: str, alarm_at: int) -> None:
        """Another try that brought nothing. What is shown says so until one does."""
        self._tries += 1
        self._due_connect = monotonic_ms() + pause_s * 1000
        alarmed = f"not connected after {alarm_at} tries, nothing is traded here: {why}"
        self._trouble = why if self._tries < alarm_at else alarmed
        self._status(status, self._trouble)
        if self._tries == alarm_at:
            self._alarm(alarmed)

    # --- telling ---

    def _recall(self, order_id: str) -> None:
        """A Celery task waits for an order that was reported before this process began."""
        if order_id not in self._latest and (report := self._journal.last_report(order_id)) is not None:
            self._remember(report)

    def _remember(self, report: ExecutionReport) -> None:
        with self._settled_look:
            self._latest[report.order_id] = report
            self._latest.move_to_end(report.order_id)
            while len(self._latest) > WATCHED:
                self._latest.popitem(last=False)
            self._settled_look.notify_all()

    def _reported(self, row: LegRow, report: ExecutionReport) -> None:
        self._progress.moved(
            settings.SEND_LIMIT_S
        )  # a close of many positions is many calls, each with its limit
        self._remember(report)
        if (
            report.state is not OrderState.INTENT
        ):  # its answer follows; the link must not compete with the send
            self._link.notify()
        self._facts.own_us, self._facts.broker_us = self._execution.own_us, self._execution.broker_us
        # what changed is shown soon, but never in the way of the next order of a burst
        self._due_sync = min(self._due_sync, monotonic_ms() + max(SYNC_AFTER_MS, 10 * self._sync_took_ms))

    def _status(self, status: InstanceStatus, error: str = "") -> None:
        if error and error != self._facts.last_error:
            logger.warning("%s: %s", status, error, extra={"action": "terminal"})
        self._facts.status = status
        self._facts.last_error = error
        self._link.show(
            TerminalUpdate(
                terminal_id=self.config.terminal_id, status=status, last_error=error, time_ms=now_ms()
            )
        )

    def _alarm(self, text: str) -> None:
        logger.error("ALARM %s: %s", self.config.terminal_id, text, extra={"action": "alarm"})
        self._facts.last_error = text
