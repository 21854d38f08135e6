"""The state Redis in memory, and one executor put together over simulated parts.

`SimStore` keeps the rules of accept.lua and publish.lua; tests/integration/test_state_model.py holds the two against
each other. `Machine` does what `executor` and `link` do, in one thread and without waiting.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from executors.errors import EpochPassed, TerminalError
from executors.execution import Execution
from executors.journal import Journal
from executors.journal_reader import JournalReader
from executors.legs import JournalReport, LegRow
from executors.messages import AnySignal, ExecutionReport, Leg, TerminalConfig
from executors.orders import SETTLED, OrderState, order_id
from executors.resolution import Resolution
from tests.simulated import SimClock, SimVenue, make_config

LOOK_MS = 500


class StoreDown(Exception):
    """The store does not answer."""


@dataclass(slots=True)
class OrderRecord:
    leg: Leg
    state: OrderState = OrderState.QUEUED
    report_seq: int = 0


@dataclass(slots=True)
class Contents:
    signals: dict[str, tuple[str, int, bool]] = field(default_factory=dict)  # id → digest, user, partial
    refused: set[tuple[int, str]] = field(default_factory=set)  # user, signal_id
    orders: dict[str, OrderRecord] = field(default_factory=dict)
    outbox: dict[str, dict[str, int]] = field(default_factory=dict)  # terminal → order → leg_seq
    unsettled: dict[str, int] = field(default_factory=dict)  # order → deadline
    counters: dict[str, int] = field(default_factory=dict)
    instances: dict[str, tuple[str, int]] = field(default_factory=dict)  # terminal → journal_id, position
    epochs: dict[str, int] = field(default_factory=dict)
    stream: list[tuple[str, int, OrderState]] = field(default_factory=list)


class SimStore:
    def __init__(self, clock: SimClock) -> None:
        self.clock = clock
        self.up = True
        self.now = Contents()

    def snapshot(self) -> Contents:
        return copy.deepcopy(self.now)

    def roll_back(self, to: Contents) -> None:
        self.now = copy.deepcopy(to)

    def accept(
        self,
        signal: AnySignal,
        terminals: Iterable[tuple[str, int]],
        *,
        ttl_ms: int = 60_000,
        user_id: int = 1,
    ) -> tuple[str, list[Leg]]:
        """accept.lua."""
        self._check()
        now = self.now
        known = now.signals.get(signal.signal_id)
        if known is not None:
            if known[1] != user_id:
                return "FOREIGN", []
            if known[0] != signal.digest():
                return "CONFLICT", []
            if not known[2]:
                return "KNOWN", []
        elif (user_id, signal.signal_id) in now.refused:
            return "TOO_OLD", []
        at_ms = self.clock.redis_ms()
        deadline = at_ms + ttl_ms - signal.age_ms
        legs = []
        for terminal_id, epoch in terminals:
            name = order_id(signal.signal_id, terminal_id)
            if name in now.orders:
                legs.append(now.orders[name].leg)
                continue
            seq = now.counters.get(terminal_id, 0) + 1
            now.counters[terminal_id] = seq
            leg = Leg(
                signal=signal,
                digest=signal.digest(),
                terminal_id=terminal_id,
                epoch=epoch,
                leg_seq=seq,
                accepted_ms=at_ms,
                deadline_ms=deadline,
                user_id=user_id,
            )
            now.orders[name] = OrderRecord(leg)
            now.outbox.setdefault(terminal_id, {})[name] = seq
            now.unsettled[name] = deadline
            now.stream.append((name, 0, OrderState.QUEUED))
            legs.append(leg)
        now.signals[signal.signal_id] = (signal.digest(), user_id, False)
        return "CREATED", legs

    def refuse(self, signal_id: str, user_id: int = 1) -> bool:
        """refuse.lua."""
        self._check()
        if signal_id in self.now.signals:
            return False
        self.now.refused.add((user_id, signal_id))
        return True

    def publish(
        self,
        terminal_id: str,
        journal_id: str,
        reports: list[JournalReport],
        after: int | None = None,
        epoch: int = 1,
    ) -> int:
        """publish.lua: how many were new; below 0: -1 - the position that the store has. Raises EpochPassed."""
        self._check()
        now = self.now
        if (passed := now.epochs.get(terminal_id, 0)) > epoch:
            raise EpochPassed(terminal_id, epoch, passed)
        held_id, held = now.instances.get(terminal_id, ("", 0))
        held = held if held_id == journal_id else 0
        if after is not None and held < after:
            return -1 - held
        fresh = 0
        position = after or 0
        for item in reports:
            report = item.report
            position = item.position
            record = now.orders.get(report.order_id)
            settled = report.state in SETTLED
            new = record is None
            if record is None:
                leg = Leg.model_validate_json(item.leg_json)
                record = now.orders[report.order_id] = OrderRecord(leg)
                now.counters[terminal_id] = max(now.counters.get(terminal_id, 0), leg.leg_seq)
                now.signals.setdefault(report.signal_id, (leg.digest, leg.user_id, True))
                now.stream.append((report.order_id, 0, OrderState.QUEUED))
            ended = record.state in SETTLED and record.state is not OrderState.NOT_EXECUTED
            if new or (record.report_seq < report.report_seq and not (ended and not settled)):
                record.state, record.report_seq = report.state, report.report_seq
                now.stream.append((report.order_id, report.report_seq, report.state))
                now.outbox.get(terminal_id, {}).pop(report.order_id, None)
                if settled:
                    now.unsettled.pop(report.order_id, None)
                else:
                    now.unsettled[report.order_id] = item.deadline_ms
                fresh += 1
        now.instances[terminal_id] = (journal_id, position)
        now.epochs[terminal_id] = epoch
        return fresh

    def published(self, terminal_id: str) -> tuple[str, int]:
        self._check()
        return self.now.instances.get(terminal_id, ("", 0))

    def waiting_legs(self, terminal_id: str) -> list[Leg]:
        self._check()
        box = self.now.outbox.get(terminal_id, {})
        return [self.now.orders[name].leg for name in sorted(box, key=lambda name: box[name])]

    def unsettled_legs(self, terminal_id: str) -> list[tuple[Leg, str, int]]:
        self._check()
        return [
            (record.leg, record.state, record.report_seq)
            for name in self.now.unsettled
            if (record := self.now.orders[name]).leg.terminal_id == terminal_id
        ]

    def last_leg_seq(self, terminal_id: str) -> int:
        self._check()
        return self.now.counters.get(terminal_id, 0)

    def _check(self) -> None:
        if not self.up:
            raise StoreDown


class Machine:
    """One terminal's executor over a venue, a clock and a store. `crash()` then `start()` is a kill and a restart."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: SimClock | None = None,
        venue: SimVenue | None = None,
        store: SimStore | None = None,
        config: TerminalConfig | None = None,
    ) -> None:
        self.clock = clock or SimClock()
        self.venue = venue or SimVenue(self.clock)
        self.store = store or SimStore(self.clock)
        self.config = config or make_config()
        self.path = directory / f"{self.config.terminal_id}.sqlite3"
        self.reports: list[ExecutionReport] = []
        self.alarms: list[str] = []
        self.running = False
        self.start()

    # --- the process ---

    def start(self) -> None:
        self.journal = Journal(self.path, installation="tests", terminal_id=self.config.terminal_id)
        self.reader = JournalReader(self.path)
        self.execution = Execution(
            terminal=self.venue,
            journal=self.journal,
            clock=self.clock,
            config=self.config,
            on_report=lambda row, report: self.reports.append(report),
        )
        self.resolution = Resolution(self.execution, alarm=lambda _code, text: self.alarms.append(text))
        self.resolution.recover()
        self.ready = False
        self.compared = False
        self.held = False  # a foreign journal was told of and is not adopted yet
        self.published = -1
        self.due_look = 0.0
        self.running = True

    def crash(self) -> None:
        if self.running:
            self.reader.close()
            self.journal.close()
            self.running = False

    def lose_journal(self) -> None:
        self.crash()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    # --- as the link does ---

    def link(self) -> None:
        """One turn with the store: compare, publish, drain."""
        name = self.config.terminal_id
        try:
            if self.published < 0:
                self._compare_first()
            self._publish()
            legs = self.store.waiting_legs(name)
        except StoreDown:
            self.published = -1
            return
        asked = self.execution.queue.newest()
        for leg in legs:
            self.execution.arrive(leg, "outbox")
        self.execution.queue.close_gaps({leg.leg_seq for leg in legs}, below=asked)

    def _compare_first(self) -> None:
        name = self.config.terminal_id
        journal_id, position = self.store.published(name)
        own = self.reader.position()
        foreign = journal_id not in ("", self.journal.journal_id) or (
            journal_id == self.journal.journal_id and position > own
        )
        if foreign and not self.compared:
            last = self.store.last_leg_seq(name)
            self.resolution.lost_journal.adopt(self.store.unsettled_legs(name), last)
            self.store.publish(name, self.journal.journal_id, [])
        elif not journal_id:
            self.store.publish(name, self.journal.journal_id, [], 0)
        self.compared = True
        self.published = 0 if foreign or not journal_id else position

    def _publish(self) -> None:
        name = self.config.terminal_id
        while True:
            reports = self.reader.reports_after(self.published, 3)
            answer = self.store.publish(name, self.journal.journal_id, reports, self.published)
            if answer < 0:
                self.published = -1 - answer
                continue
            if not reports:
                return
            self.published = reports[-1].position

    # --- as the executor's thread does ---

    def turn(self) -> None:
        """Expire, connect, run what is ready, look."""
        if self.compared:
            self.execution.expire()
        try:
            if not self.ready:
                self.venue.connect()
                self.ready = True
                self.resolution.answering(round(self.clock.monotonic_ms()))
                if self.compared:
                    self.execution.resume()
            while self.compared and self.execution.run_next():
                pass
            if self.clock.monotonic_ms() >= self.due_look and self.resolution.due():
                self.due_look = self.clock.monotonic_ms() + LOOK_MS
                self.resolution.look()
                self.execution.resume()
            self.resolution.seen(self.venue.positions(), self.venue.orders())
            while self.execution.guard.step(halted=self.execution.mode == "HALTED"):
                pass
        except TerminalError:
            self.ready = False

    def heal(self, limit_ms: float = 120_000, step_ms: float = 1_000) -> None:
        """Everything works from now on; time passes until nothing is open, or `limit_ms` are over."""
        self.store.up = self.venue.up = self.venue.linked = True
        self.venue.login = self.config.login
        self.venue.failing.clear()
        if not self.running:
            self.start()
        until = self.clock.monotonic_ms() + limit_ms
        while True:
            self.link()
            self.turn()
            self.link()
            idle = not self.execution.open and not self.execution.queue.ready and not self.venue.pending()
            if (idle and not self.execution.queue.waiting) or self.clock.monotonic_ms() >= until:
                return
            self.clock.advance(step_ms)

    # --- what tests ask ---

    def send(self, signal: AnySignal, *, ttl_ms: int = 60_000, run: bool = True) -> str:
        """Accept a signal, let it arrive by the outbox and run; its order id."""
        self.store.accept(signal, [(self.config.terminal_id, self.config.epoch)], ttl_ms=ttl_ms)
        if run:
            self.link()
            self.turn()
            self.link()
        return order_id(signal.signal_id, self.config.terminal_id)

    def row(self, name: str) -> LegRow:
        row = self.journal.get(name)
        assert row is not None, f"{name} is not in the journal"
        return row

    def states(self, name: str) -> list[str]:
        return [report.state.value for report in self.reports if report.order_id == name]

    def last(self, name: str) -> ExecutionReport:
        """The newest report of the order."""
        return [report for report in self.reports if report.order_id == name][-1]

    def looks_until(self, name: str, state: str) -> float:
        """Milliseconds of time until the order is in that state, a look every half second."""
        began = self.clock.monotonic_ms()
        self.until(lambda: self.states(name)[-1] == state)
        return self.clock.monotonic_ms() - began

    def until(self, done: Callable[[], Any], *, limit_ms: float = 120_000, step_ms: float = 500) -> None:
        """Turns with time passing until `done`."""
        until = self.clock.monotonic_ms() + limit_ms
        while not done():
            assert self.clock.monotonic_ms() < until, "it does not come to that"
            self.clock.advance(step_ms)
            self.link()
            self.turn()
