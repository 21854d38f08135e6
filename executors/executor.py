"""The executor: one thread that owns one terminal and its journal, and everything that may touch them.

Precedes: `execution` (orders), `resolution` (unknown outcomes), `session` (the terminal), `ticker` (ticks out), `link`
(Redis). Follows: the supervisor forks the process, `worker` starts this thread beside Celery's. Orders go first; ticks and
account state share the thread.
"""

import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import setproctitle
from django.conf import settings

from executors import host_page
from executors.account_sync import AccountSync
from executors.alerts import AlertCode, Alerts
from executors.crashpoints import reached
from executors.drift_sync import DriftSync
from executors.errors import EpochPassed, TerminalError, TerminalUnavailable
from executors.execution import Execution
from executors.host_page import HostPage
from executors.inbox import Arrival, ExecutorClock, Item, RatesWish
from executors.journal import Journal
from executors.journal_reader import JournalReader
from executors.legs import LegRow
from executors.link import Link
from executors.link_events import (
    Compared,
    ConfigRead,
    Drained,
    Foreign,
    InstanceFacts,
    ModesRead,
    SettlementsRead,
    Shown,
)
from executors.listener import Listener
from executors.messages import ExecutionReport, Leg, TerminalConfig
from executors.orders import OrderState
from executors.outcomes import Outcomes
from executors.progress import Phase, Progress
from executors.reporting import heard
from executors.resolution import Resolution
from executors.session import Session
from executors.settling import Settling
from executors.sizing import strictest
from executors.symbols import to_broker
from executors.terminals.base import Rate, Terminal
from executors.terminals.watched import WatchedTerminal
from executors.ticker import Ticker
from executors.upkeep import Upkeep
from executors.waking import Inbox
from tradedist.clock import monotonic_ms, now_ms, now_us

logger = logging.getLogger(__name__)

LOOK_MS = 500
GUARD_MS = 100  # between looks at prices for trailing stops and break-even
RUN_MS = 100  # of orders in a row
REST_S = 0.8  # an idle thread moves at least so often: the watchdog shows one that stands still for a second
IDLE_MS = 4_000  # without any order it looks at nothing else but so often
HAND_OVER_MS = 1_000  # an executor that is asked to hand over waits so long for a moment without orders
INBOX_LIMIT = 10_000
OPENED_WITH = ("login", "server", "epoch", "kind", "path", "sealed_password", "server_timezone")
START_LIMIT_S = 20.0  # reading a long journal


class Executor(threading.Thread):
    """`submit`, `wait` and `rates` may be called from any thread; all else happens in this one."""

    def __init__(
        self,
        config: TerminalConfig,
        directory: Path,
        terminal: Terminal,
        progress: Progress | None = None,
        *,
        prove_disk: bool = False,
        store_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """`store_lost` is called, in another thread, when the state Redis does not answer any more."""
        super().__init__(name=f"executor-{config.terminal_id}", daemon=True)
        self.config = config
        self.directory = directory
        self.failed: BaseException | None = None
        self.stopped_by_us = False
        self.served = threading.Event()  # for the first time; also set at an end
        self._prove_disk = prove_disk
        self._store_lost = store_lost
        self._progress = progress or Progress(directory / "progress")
        self._terminal = WatchedTerminal(
            terminal,
            self._in_call,
            call_limit_s=settings.SEND_LIMIT_S,
            initialize_limit_s=settings.INITIALIZE_LIMIT_S,
        )
        self._host: HostPage | None = None
        with contextlib.suppress(OSError):  # of a full disk: then accounts are read while others' orders run
            self._host = HostPage(directory.parent / host_page.NAME)
        self._inbox: Inbox[Item] = Inbox(INBOX_LIMIT)
        self._ear: Listener | None = None
        self._frozen_limit_s: float = settings.FROZEN_LIMIT_S
        self._stopping = threading.Event()
        self._asked_to_hand_over_ms = 0.0
        self._facts = InstanceFacts(config_version=config.version)
        self._alerts = Alerts()
        self._outcomes = Outcomes()
        self._clock = ExecutorClock(self._progress)
        self._modes: list[str] = []
        self._resumed: int | None = None
        self._compared = False
        self._due_ticks = 0.0
        self._due_guard = 0.0
        self._due_look = 0.0
        self._drain_asked = 0
        self._gap_asked = 0  # the highest number that waited when the outbox was asked for

    # --- from any thread ---

    def submit(self, leg: Leg, path: str) -> bool:
        """Hand a leg over. False when the inbox is full: the outbox brings it later."""
        self._heard(leg)
        try:
            self._inbox.put(Arrival(leg, path))
        except queue.Full:
            logger.error("the executor's inbox is full", extra={"order_id": leg.order_id})
            return False
        return True

    def hear(self, listener: Listener) -> None:
        """From its start on the thread listens there itself, and closes it at its end."""
        self._ear = self._inbox.ear = listener

    def _heard(self, leg: Leg) -> None:
        heard(leg.trace, mono_us=round(monotonic_ms() * 1000), redis_us=now_us() + self._clock.offset_us())

    def wait(self, order_id: str, timeout_s: float) -> ExecutionReport | None:
        """The order's newest report once it has left QUEUED and INTENT; None when that takes longer."""
        return self._outcomes.wait(order_id, timeout_s)

    def rates(self, symbol: str, seconds: int, to_ms: int, count: int, timeout_s: float) -> tuple[Rate, ...]:
        """The terminal's candles of a canonical symbol. Raises TerminalError, TimeoutError or queue.Full."""
        answer: Future[tuple[Rate, ...]] = Future()
        self._inbox.put(RatesWish(symbol, seconds, to_ms, count, answer))
        return answer.result(timeout_s)

    def announce(self, **facts: str) -> None:
        """Facts for RIS that do not change while the process lives; before `start`."""
        self._facts.extra.update(facts)

    def hand_over(self) -> None:
        """End at the next moment without orders, or soon: a successor takes the terminal."""
        self.stopped_by_us = True
        self._asked_to_hand_over_ms = monotonic_ms()
        with contextlib.suppress(queue.Full):  # then it turns anyway
            self._inbox.put(None)

    def stop(self, timeout_s: float) -> None:
        """Finish the order in hand, publish, end."""
        self.stopped_by_us = True
        self._stopping.set()
        self._outcomes.close()
        try:
            self._inbox.put(None)
        except queue.Full:
            logger.warning("stopping with a full inbox")
        self.join(timeout_s)

    # --- the thread ---

    def run(self) -> None:
        setproctitle.setthreadtitle("orders")
        try:
            self._run()
        except BaseException as error:  # the process ends with its executor; the supervisor starts another
            self.failed = error
            logger.exception("the executor failed", extra={"action": "executor"})
        finally:
            self._stopping.set()
            self.served.set()
            self._outcomes.close()
            if self._ear is not None:
                self._ear.close()

    def _run(self) -> None:
        self._progress.begin(os.getpid(), threading.get_native_id(), START_LIMIT_S)
        path = self.directory / "journal.sqlite3"
        self._journal = Journal(
            path, installation=settings.INSTALLATION_ID, terminal_id=self.config.terminal_id
        )
        self._journal.prove_room()
        if self._prove_disk:
            self._journal.prove_writable()
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
            alerts=self._alerts,
            emit=self._inbox.tell,
            lost=self._store_lost,
            directory=self.directory,
        )
        self._clock.link = self._link
        self._resolution = Resolution(
            self._execution, alarm=lambda code, text: self._alarm(AlertCode(code), text)
        )
        self._settling = Settling(
            self._execution,
            self._resolution,
            answer=self._link.answer,
            alarm=lambda text: self._alarm(AlertCode.ORDER_UNRESOLVED, text),
        )
        self._drift = DriftSync(
            self._terminal, self._journal, alarm=lambda text: self._alarm(AlertCode.DRIFT, text)
        )
        self._session = Session(
            self._terminal,
            self.config,
            facts=self._facts,
            progress=self._progress,
            alerts=self._alerts,
            show=self._link.show,
            account_sync=AccountSync(
                self._terminal,
                self._journal,
                self._facts,
                drift=self._drift,
                show=self._link.show,
                seen=self._resolution.seen,
                protection_of=self._execution.guard.of,
            ),
        )
        self._upkeep = Upkeep(self._execution, self._journal, self._link, self._alerts, self._alarm)
        reached("before-recover")
        self._resolution.recover()
        if (tripped := self._journal.tripped()) is not None:
            self._execution.breaker.trip()
            self._resumed = self._upkeep.resumed = tripped  # a resume while this executor was down counts
        reached("after-recover")
        self._ticker = Ticker(self._terminal, self.config)
        self._link.start()
        try:
            while not self._stopping.is_set():
                self._turn()
        finally:
            self._link.stop(timeout_s=2)
            self._ticker.close()
            self._session.close()
            self._journal.close()
            if self._host is not None:
                self._host.close()

    def _turn(self) -> None:
        session = self._session
        serving = session.ready and self._compared
        self._progress.reached(Phase.SERVING if serving else Phase.RUNNING)
        if serving and not self._execution.queue.ready:
            self.served.set()
        self._moved()
        self._take_inbox()
        self._link.look_for_answers()
        if self._compared:  # a journal that was lost must not end what it may have sent
            self._execution.expire()
        self._run_orders()
        self._upkeep.judge()
        if (newest := self._execution.queue.newest()) > self._gap_asked:
            self._gap_asked, self._drain_asked = newest, self._link.ask_drain()
        if self._may_hand_over():
            self._stopping.set()
            return
        now = monotonic_ms()
        if not session.ready:
            if now >= session.due_connect_ms:
                self._connect()
            return
        try:
            if now >= self._due_ticks:
                self._ticker.poll()
                self._due_ticks = now + settings.TICK_POLL_MS
            if now >= self._due_guard and self._execution.guard.active:
                self._guard(now)
            if now >= session.due_sync_ms and not session.gives_way(self._last_order_ms(now)):
                session.sync()
                self._execution.specs.refresh(monotonic_ms())
            if now >= self._due_look and self._resolution.due():
                self._due_look = now + LOOK_MS
                self._resolution.look()
                self._execution.resume()
        except TerminalError as error:
            session.lost(error)
        self._upkeep.prune(now)
        self._upkeep.rest(now, self._last_order_ms(now))

    def _guard(self, now: float) -> None:
        """One stop loss at a time: orders that have come meanwhile go first."""
        moved = self._execution.guard.step(halted=self._execution.mode == "HALTED")
        self._due_guard = now if moved else now + GUARD_MS
        if moved:
            self._session.changed()

    def _moved(self) -> None:
        self._facts.moved_ms = now_ms()
        self._progress.moved(self._frozen_limit_s)

    def _in_call(self, call: str, limit_s: float) -> None:
        """Before and after each call to the terminal."""
        self._progress.moved(limit_s if call else self._frozen_limit_s, call)

    def _may_hand_over(self) -> bool:
        asked = self._asked_to_hand_over_ms
        if not asked:
            return False
        return not self._execution.queue.ready or monotonic_ms() - asked > HAND_OVER_MS

    def _run_orders(self) -> None:
        """What is ready, for a while: account state and ticks must not starve under a stream of orders."""
        until = monotonic_ms() + RUN_MS
        try:
            while self._session.ready and self._compared and monotonic_ms() < until:
                self._moved()
                if self._execution.queue.ready and self._host is not None:
                    self._host.begins()
                if not self._execution.run_next():
                    return
                self._take_inbox(wait=False)
        except TerminalError as error:
            self._session.lost(error)

    def _last_order_ms(self, now: float) -> float:
        """When an order last began on this host."""
        return self._host.last_ms(now) if self._host is not None else 0.0

    def _resume(self) -> None:
        try:
            self._execution.resume()
        except TerminalError as error:
            self._session.lost(error)

    def _take_inbox(self, *, wait: bool = True) -> None:
        if wait:
            self._handle(self._next_item())
        else:
            self._inbox.look()
        for _ in range(INBOX_LIMIT):
            if self._inbox.empty():
                return
            self._handle(self._inbox.take())

    def _next_item(self) -> Item:
        """None when something is due, or may be. A thread that has no order only shows that it lives."""
        execution = self._execution
        idle = self._session.ready and not (
            execution.open or execution.queue.waiting or execution.queue.ready
        )
        until = monotonic_ms() + (IDLE_MS if idle else 0.0)
        while True:
            due = self._next_due()
            timeout_s = min((due - monotonic_ms()) / 1000, REST_S)
            try:
                return self._inbox.get(timeout_s)
            except queue.Empty:
                if timeout_s <= 0 or monotonic_ms() >= min(until, due):
                    return None
            self._moved()
            self._upkeep.judge()

    def _next_due(self) -> float:
        session = self._session
        if self._execution.queue.ready and session.ready and self._compared:
            return 0.0
        if not session.ready:
            return session.due_connect_ms
        due = min(session.due_sync_ms, self._link.answers_due_ms())
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
            case EpochPassed():
                raise item
            case Foreign(legs, last_seq):
                self._resolution.lost_journal.adopt(legs, last_seq)
                self._link.adopted()
            case Compared():
                self._compared = True
                self._settling.begin()
                if self._session.ready:
                    self._resume()
            case Shown(account, positions, pending_orders, log):
                self._drift.begin(account, positions, pending_orders, log)
            case SettlementsRead(wishes):
                self._settling.take(wishes)
                if self._session.ready and self._compared:
                    self._resume()  # a close may have waited for the order
            case ConfigRead(config):
                self._configure(config)
            case ModesRead(modes, resumed):
                self._execution.mode = strictest(modes)
                if self._resumed is not None and resumed > self._resumed:
                    self._execution.breaker.resume()
                    self._journal.note_tripped(None)
                self._resumed = self._upkeep.resumed = resumed
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
        self._session.config = config
        self._ticker.configure(config)

    def _answer_rates(self, wish: RatesWish) -> None:
        if not wish.answer.set_running_or_notify_cancel():
            return
        if not self._session.ready:
            wish.answer.set_exception(TerminalUnavailable("copy_rates", (-10004, "No IPC connection")))
            return
        try:
            name = to_broker(self.config, wish.symbol)
            wish.answer.set_result(self._terminal.rates(name, wish.seconds, wish.to_ms, wish.count))
        except TerminalError as error:
            wish.answer.set_exception(error)

    def _connect(self) -> None:
        if not self._session.connect():
            return
        self._resolution.answering(round(monotonic_ms()))
        self._execution.specs.forget()
        if self._compared:
            self._resume()

    # --- telling ---

    def _recall(self, order_id: str) -> None:
        """A Celery task waits for an order that was reported before this process began."""
        if order_id not in self._outcomes and (report := self._journal.last_report(order_id)) is not None:
            self._outcomes.put(report)

    def _reported(self, row: LegRow, report: ExecutionReport) -> None:
        self._moved()
        self._outcomes.put(report)
        if report.state is OrderState.INTENT:  # its answer follows, and takes it along
            self._link.written(self._journal.newest)
        else:
            self._link.publish(self._journal.take_written(), self._journal.newest)
        self._facts.own_us, self._facts.broker_us = self._execution.own_us, self._execution.broker_us
        self._session.changed()

    def _alarm(self, code: AlertCode, text: str) -> None:
        self._alerts.raise_(code, self.config.terminal_id, text)
        self._facts.last_error = text
        self._link.notify()
