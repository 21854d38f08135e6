"""The order protocol under everything that can go wrong, in random order: one executor's real execution, resolution and
journal over a simulated venue, clock and store.

A quick profile runs with the tests; `ORDER_MODEL_EXAMPLES` and `ORDER_MODEL_STEPS` set another (2000 and 50 is the full
one). Hypothesis prints the steps that broke an invariant.
"""

import logging
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

from django.test import override_settings
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from executors.legs import LegRow
from executors.messages import Leg
from executors.orders import SETTLED, TRANSITIONS, OrderState, Outcome, order_id
from tests.property.searching import search
from tests.simulated import (
    FILL,
    HALF,
    LOST_AFTER,
    LOST_BEFORE,
    NO_DEAL,
    NOT_CONNECTED,
    REJECT,
    REQUOTE,
    Fault,
    make_close,
    make_open,
)
from tests.simulated_store import Contents, Machine

EXAMPLES = int(os.environ.get("ORDER_MODEL_EXAMPLES", "40"))
STEPS = int(os.environ.get("ORDER_MODEL_STEPS", "40"))
# without shrinking a failure is shown at once, as it was found
PHASES = [Phase.explicit, Phase.generate] if "ORDER_MODEL_NO_SHRINK" in os.environ else list(Phase)
S = OrderState
ZERO = Decimal(0)
SETTLE_MS = 15_000
LOADING_MS = 12_000  # a terminal that is connected again shows its whole history only so much later
SETTINGS = override_settings(
    INSTALLATION_ID="tests",
    SWEEP_GAP_MS=5_000,
    SWEEP_SETTLE_MS=SETTLE_MS,
    BREAKER_UNKNOWN=0,
    BREAKER_REJECTIONS=0,
)
FAULTS = [
    FILL,
    HALF,
    REQUOTE,
    REJECT,
    NO_DEAL,
    NOT_CONNECTED,
    LOST_BEFORE,
    LOST_AFTER,
    Fault(reply=10012),
    Fault(reply=10031),
    Fault(ZERO, reply=10012),
    Fault(reply=SystemError("returned a result with an exception set")),
    Fault(Decimal("0.5"), reply=-10002),
    Fault(reply=-10005, drops_magic=True),
    Fault(after_ms=2_000, reply=-10005),
    Fault(after_ms=9_000, reply=10008),
]
LATE = [Fault(after_ms=40_000, reply=-10005), Fault(Decimal("0.5"), after_ms=30_000, reply=10012)]


@dataclass(frozen=True, slots=True)
class Wish:
    close: bool
    symbol: str | None
    lots: str
    ttl_ms: int
    faults: list[Fault]


SYMBOLS = st.sampled_from(["EURUSD", "EURUSD", "USDJPY"])
WISHES = st.builds(
    Wish,
    close=st.sampled_from([False, False, True]),
    symbol=st.one_of(SYMBOLS, st.none()),
    lots=st.sampled_from(["0.1", "1", "0.33"]),
    ttl_ms=st.sampled_from([3_000, 60_000, 600_000]),
    faults=st.lists(st.sampled_from(FAULTS), max_size=3),
)
PATHS = st.lists(st.sampled_from(["udp", "tcp", "celery"]), max_size=3)
OUTAGES = [
    "terminal", "link", "account", "store",
    "positions", "orders", "history_orders", "history_deals", "spec", "status",
]  # fmt: skip


class Killed(BaseException):
    """SIGKILL: nothing after it runs."""


class OrderProtocol(RuleBasedStateMachine):
    """What the world does, one step at a time. A simulated trader sends, Redis and the network carry, MetaTrader errs."""

    @initialize()
    def begin(self) -> None:
        SETTINGS.enable()
        logging.disable(logging.CRITICAL)  # a thousand failing terminals say the same
        self.directory = Path(tempfile.mkdtemp(prefix="order-model-"))
        self.machine = self._machine()
        self.number = 0
        self.legs: dict[
            str, Leg
        ] = {}  # accepted by a store that has not forgotten it, as its sender knows it
        self.senders: list[Any] = []
        self.snapshots: list[Contents] = [self.machine.store.snapshot()]
        self.projected: dict[str, int] = {}
        self.history: dict[str, list[OrderState]] = {}
        self.checked = 0
        self.behind = False  # the store was rolled back and has not got the lost reports yet
        self.lost = False  # a journal
        self.machine.link()
        self.machine.turn()

    def _machine(self) -> Machine:
        return Machine(self.directory)

    # --- the trader ---

    @rule(wishes=st.lists(WISHES, min_size=1, max_size=4), by=PATHS)
    def trade(self, wishes: list[Wish], by: list[str]) -> None:
        for wish in wishes:
            self.number += 1
            if wish.close:
                self._send(make_close(self.number, symbol=wish.symbol), wish.ttl_ms, wish.faults, by)
            else:
                signal = make_open(self.number, wish.symbol or "EURUSD", wish.lots)
                self._send(signal, wish.ttl_ms, wish.faults, by)

    @rule(wish=WISHES)
    def trade_one(self, wish: Wish) -> None:
        self.trade([wish], ["udp", "tcp"])

    @rule(symbol=SYMBOLS)
    def somebody_else_trades(self, symbol: str) -> None:
        if len(self.machine.venue.held()) < 5:
            self.machine.venue.trade_by_hand(symbol)

    def _send(self, signal: Any, ttl_ms: int, faults: list[Fault], by: list[str]) -> None:
        self.machine.venue.script.extend(faults)
        self._accept(signal, ttl_ms)
        name = order_id(signal.signal_id, "sim-1")
        for path in by:
            if self.machine.running and name in self.legs:
                self.machine.execution.arrive(self.legs[name], path)
        if by:
            self._go_on()

    @precondition(lambda self: self.senders)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """The page has had no answer and repeats the same signal_id."""
        signal, ttl_ms = data.draw(st.sampled_from(self.senders))
        self._accept(signal, ttl_ms)

    def _accept(self, signal: Any, ttl_ms: int) -> None:
        if (signal, ttl_ms) not in self.senders:
            self.senders.append((signal, ttl_ms))
        if self.machine.store.up:
            _, legs = self.machine.store.accept(signal, [("sim-1", 1)], ttl_ms=ttl_ms)
            self.legs |= {leg.order_id: leg for leg in legs}

    # --- the ways of a leg ---

    @precondition(lambda self: self.legs and self.machine.running)
    @rule(data=st.data(), path=st.sampled_from(["udp", "tcp", "celery"]))
    def deliver(self, data: st.DataObject, path: str) -> None:
        """A copy that was late, or is repeated."""
        leg = data.draw(st.sampled_from(sorted(self.legs.values(), key=lambda leg: leg.leg_seq)))
        self.machine.execution.arrive(leg, path)

    @rule(rounds=st.integers(1, 8), step_ms=st.sampled_from([100, 1_000, 6_000]))
    def run(self, rounds: int, step_ms: int) -> None:
        for _ in range(rounds):
            self.machine.clock.advance(step_ms)
            self._go_on()

    def _go_on(self) -> None:
        """A turn of link and executor, if they live."""
        if self.machine.running:
            self.machine.link()
            self.behind = self.behind and not (self.machine.store.up and self.machine.published >= 0)
            self.machine.turn()

    @rule(milliseconds=st.sampled_from([50, 500, 5_000, 70_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.machine.clock.advance(milliseconds)
        self.machine.venue.happen()

    @rule(ahead_ms=st.sampled_from([-3_600_000, 0, 40_000, 3_600_000]))
    def this_machines_clock_is_set(self, ahead_ms: int) -> None:
        """Broker and Redis keep the right time, and the link has measured the difference."""
        clock = self.machine.clock
        clock.utc += ahead_ms + clock.skew_ms
        clock.skew_ms = -ahead_ms

    # --- MetaTrader ---

    @rule(lag_ms=st.sampled_from([0, 0, 300, 2_000, 8_000]), deal_lag_ms=st.sampled_from([0, 700, 4_000]))
    def history_lags(self, lag_ms: int, deal_lag_ms: int) -> None:
        self.machine.venue.lag_ms, self.machine.venue.deal_lag_ms = lag_ms, deal_lag_ms

    @rule(fault=st.sampled_from(LATE))
    def a_fill_will_come_late(self, fault: Fault) -> None:
        self.machine.venue.script.append(fault)

    @rule(
        what=st.sampled_from(OUTAGES), milliseconds=st.sampled_from([500, 3_000, 20_000]), ends=st.booleans()
    )
    def outage(self, what: str, milliseconds: int, *, ends: bool) -> None:
        """Something is not there for a while, or until the outage of something else ends."""
        machine = self.machine
        self._set(what, works=False)
        for _ in range(3):
            machine.clock.advance(milliseconds / 3)
            self._go_on()
        if ends:
            for name in OUTAGES:
                self._set(name, works=True)

    def _set(self, what: str, *, works: bool) -> None:
        venue = self.machine.venue
        match what:
            case "terminal":
                venue.up = works
                venue.load_history(LOADING_MS)
            case "link":
                venue.linked = works
                venue.load_history(LOADING_MS)
            case "account":
                venue.login = self.machine.config.login if works else 99
                self.machine.ready = False
            case "store":
                self.machine.store.up = works
            case query:
                venue.failing = venue.failing - {query} if works else venue.failing | {query}

    @precondition(lambda self: self.machine.venue.held())
    @rule()
    def stop_out(self) -> None:
        self.machine.venue.stop_out(self.machine.venue.held()[0].ticket)

    # --- the process and its store ---

    @precondition(lambda self: self.machine.running)
    @rule(restarts=st.booleans())
    def crash(self, *, restarts: bool) -> None:
        self.machine.crash()
        if restarts:
            self.machine.start()

    @precondition(lambda self: self.machine.running)
    @rule(sends=st.integers(1, 2), executed=st.booleans(), close=st.booleans())
    def crash_around_a_send(self, sends: int, *, executed: bool, close: bool) -> None:
        """Killed at the broker's door, before or after it took the request."""
        venue, left = self.machine.venue, [sends]

        def kill(request: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                venue.before_send = lambda request: None
                if executed and venue.up and not (request.position and not _holds(venue, request.position)):
                    venue.script.appendleft(FILL)
                    venue.send(request)
                raise Killed

        self.number += 1
        self._accept(self._next_signal(close=close), 60_000)
        venue.before_send = kill
        self._until_killed()
        venue.before_send = lambda request: None

    @precondition(lambda self: self.machine.running)
    @rule(
        commits=st.integers(1, 4), close=st.booleans(), faults=st.lists(st.sampled_from(FAULTS), max_size=2)
    )
    def crash_after_a_commit(self, commits: int, faults: list[Fault], *, close: bool) -> None:
        journal, left = self.machine.journal, [commits]
        record = journal.record

        def kill(row: LegRow, *reports: Any, **more: Any) -> None:
            record(row, *reports, **more)
            left[0] -= 1
            if left[0] <= 0 and not journal._transaction.depth:
                raise Killed

        self.number += 1
        self.machine.venue.script.extend(faults)
        self._accept(self._next_signal(close=close), 60_000)
        with patch.object(journal, "record", kill):
            self._until_killed()

    def _next_signal(self, *, close: bool) -> Any:
        return make_close(self.number) if close else make_open(self.number)

    def _until_killed(self) -> None:
        try:
            self.machine.link()
            self.machine.turn()
            self.machine.link()
        except Killed:
            self.machine.crash()

    @precondition(lambda self: not self.machine.running)
    @rule()
    def start(self) -> None:
        self.machine.start()

    @precondition(
        lambda self: (
            self.machine.running
            and self.machine.store.up
            and not self.behind
            and self.legs.keys() <= self.machine.store.now.orders.keys()
        )
    )
    @rule()
    def the_journal_is_lost(self) -> None:
        """Its disk; together with a store that forgets, it would be beyond what can be healed."""
        self.machine.lose_journal()
        self.machine.start()
        self.snapshots = [self.machine.store.snapshot()]
        self.history.clear()
        self.checked = 0
        self.lost = True

    @rule()
    def a_replica_has_come_so_far(self) -> None:
        self.snapshots = [*self.snapshots[-3:], self.machine.store.snapshot()]

    @rule(data=st.data(), seen=st.booleans())
    def the_store_is_rolled_back(self, data: st.DataObject, *, seen: bool) -> None:
        """A failover to a replica that was behind; the connection may break with it, or not."""
        self.machine.store.roll_back(data.draw(st.sampled_from(self.snapshots)))
        self.snapshots = [self.machine.store.snapshot()]
        self.projected = {}
        self.behind = True
        if seen and self.machine.running:
            self.machine.published = -1

    # --- what must hold at every moment ---

    @invariant()
    def nothing_is_doubled_and_everything_moves_forward(self) -> None:
        self._check_broker()
        if self.machine.running:
            self._check_journal()
        self._check_projection()

    def _check_broker(self) -> None:
        """One send and one broker order a request."""
        venue = self.machine.venue
        sent = Counter(request.magic for request in venue.sends if request.magic)
        assert all(count == 1 for count in sent.values()), "a request was sent twice"
        entered = Counter(entry.magic for entry in venue.entries if entry.magic)
        assert all(count == 1 for count in entered.values()), "the broker has two orders of one request"

    def _check_journal(self) -> None:
        """Reports are legal and without gaps, and what they tell was executed, never more than wished."""
        changed = set()
        for item in self.machine.reader.reports_after(self.checked, 100_000):
            states = self.history.get(item.report.order_id)
            if states is None:
                # a new journal counts on from what the lost one had published
                seq = item.report.report_seq if self.lost else 1
                # of an order that was UNKNOWN when its journal was lost, the first news may be its end at the broker
                ended = item.report.state in (S.CANCELLED, S.EXPIRED)
                states = [S.QUEUED] if seq == 1 else [S.UNKNOWN if ended else S.INTENT] * seq
                self.history[item.report.order_id] = states
            assert item.report.report_seq == len(states)
            assert item.report.state in TRANSITIONS[states[-1]], f"{states} → {item.report.state}"
            states.append(item.report.state)
            changed.add(item.report.order_id)
            self.checked = item.position
        for name in sorted(changed):
            row = self.machine.row(name)
            assert row.state is self.history[name][-1]
            executed = sum((self.machine.venue.executed(item.magic) for item in row.requests), ZERO)
            if row.leg.signal.action == "open":
                assert executed <= row.leg.signal.lots, f"{name} was executed {executed}"
            sent_at = [self.machine.venue.sent_at.get(item.magic, 0) for item in row.requests]
            assert all(at < row.leg.deadline_ms for at in sent_at), f"{name} was sent too late"
            for request in row.requests:
                if request.outcome is Outcome.NOT_EXECUTED:
                    until = self.machine.clock.redis_ms() - SETTLE_MS
                    seen = self.machine.venue.executed(request.magic, until_ms=until)
                    assert not seen, f"{name} was executed and is called NOT_EXECUTED"
            told = sum((item.filled_lots for item in row.requests), ZERO)
            assert told == row.filled_lots <= executed

    def _check_projection(self) -> None:
        now = self.machine.store.now
        for name, record in now.orders.items():
            assert record.report_seq >= self.projected.get(name, 0)
            self.projected[name] = record.report_seq
            assert (name in now.unsettled) == (record.state not in SETTLED)
            assert (name in now.outbox.get("sim-1", {})) == (record.state is S.QUEUED)

    # --- and in the end ---

    def teardown(self) -> None:
        if not hasattr(self, "machine"):
            return
        try:
            self.machine.venue.script.clear()
            self.machine.venue.lag_ms = self.machine.venue.deal_lag_ms = 0
            self.machine.venue.before_send = lambda request: None
            self.machine.store.up = True
            for (
                signal,
                ttl_ms,
            ) in self.senders:  # every sender repeats what was not answered, the spool what was
                self._accept(signal, ttl_ms)
            self._heal()
            self._check_healed()
            self.nothing_is_doubled_and_everything_moves_forward()
        finally:
            self.machine.crash()
            shutil.rmtree(self.directory)
            logging.disable(logging.NOTSET)
            SETTINGS.disable()

    def _heal(self) -> None:
        self.machine.heal(limit_ms=400_000)

    def _check_healed(self) -> None:
        machine = self.machine
        for _ in range(3):  # fills that came late are looked for once a minute
            machine.clock.advance(61_000)
            machine.link()
            machine.turn()
            machine.link()
        for name in self.legs:
            record = machine.store.now.orders[name]
            if self.lost and not machine.journal.knows(name):
                assert record.state in SETTLED, "it was settled before the journal was lost"
                continue
            row = machine.row(name)
            assert row.state in SETTLED, f"{name} is {row.state}: {row}"
            assert (record.state, record.report_seq) == (row.state, row.report_seq)
            for item in row.requests:
                assert item.outcome not in (Outcome.PENDING, Outcome.UNKNOWN, Outcome.PLACED)
                assert item.filled_lots == machine.venue.executed(item.magic), f"{name} tells another truth"
            if row.state is S.FILLED:
                assert row.filled_lots >= row.wanted_lots > 0


def _holds(venue: Any, ticket: int) -> bool:
    return any(item.ticket == ticket for item in venue.held())


def test_no_order_is_lost_or_doubled_whatever_happens() -> None:
    search(OrderProtocol, examples=EXAMPLES, steps=STEPS, phases=PHASES)
