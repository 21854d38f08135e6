"""accept.lua and publish.lua on a real Valkey beside `SimStore`, the model that the order protocol is proven with: the
same random accepts, publications, restarts of the journal and rollbacks leave both with the same contents."""

import asyncio
from typing import Any
from uuid import UUID

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executors.errors import EpochPassed
from executors.legs import JournalReport
from executors.messages import ExecutionReport, Leg, OpenSignal, Targets
from executors.orders import TRANSITIONS, OrderState, order_id
from executors.state import ExecutorStore, SignalStore
from tests.simulated import SimClock
from tests.simulated_store import SimStore
from tests.valkey import Valkey
from tradedist import keys
from tradedist.redis import async_state

TERMINALS = ("alpha", "beta")
S = OrderState

ACCEPT = st.tuples(st.just("accept"), st.integers(1, 4), st.sampled_from([("alpha",), ("beta",), TERMINALS]))
ACCEPT_OTHERWISE = st.tuples(st.just("conflict"), st.integers(1, 4), st.booleans())
REFUSE = st.tuples(st.just("refuse"), st.integers(1, 4))
REPORT = st.tuples(st.just("report"), st.sampled_from(TERMINALS), st.integers(1, 4), st.integers(0, 20))
PUBLISH = st.tuples(st.just("publish"), st.sampled_from(TERMINALS), st.integers(1, 4), st.booleans())
REWIND = st.tuples(st.just("rewind"), st.sampled_from(TERMINALS), st.integers(0, 12))
LOSE = st.tuples(st.just("lose"), st.sampled_from(TERMINALS))
MOVE = st.tuples(st.just("move"), st.sampled_from(TERMINALS))
OUTLIVED = st.tuples(st.just("outlived"), st.sampled_from(TERMINALS), st.integers(0, 4))
SNAPSHOT = st.tuples(st.just("snapshot"))
ROLL_BACK = st.tuples(st.just("roll back"))
STEPS = st.lists(
    st.one_of(
        ACCEPT, ACCEPT, REPORT, REPORT, REPORT, PUBLISH, PUBLISH, ACCEPT_OTHERWISE, REFUSE, REWIND, LOSE, MOVE,
        OUTLIVED, SNAPSHOT, ROLL_BACK,
    ),
    min_size=8,
    max_size=40,
)  # fmt: skip


def wish(number: int, lots: str = "0.1") -> OpenSignal:
    return OpenSignal.model_validate(
        {
            "signal_id": str(UUID(int=number)),
            "targets": Targets(terminals=list(TERMINALS)),
            "symbol": "EURUSD",
            "side": "buy",
            "lots": lots,
        }
    )


class Both:
    """The real store and the model, given the same."""

    def __init__(self, client: Any, binary: Any) -> None:
        self.client = client
        self.binary = binary  # the same server, answers undecoded
        self.model = SimStore(SimClock())
        self.stores = {name: ExecutorStore(client, name) for name in TERMINALS}
        self.journals: dict[str, list[JournalReport]] = {name: [] for name in TERMINALS}
        self.ids = dict.fromkeys(TERMINALS, 1)
        self.published = dict.fromkeys(TERMINALS, 0)
        self.epochs = dict.fromkeys(TERMINALS, 1)
        self.legs: dict[str, Leg] = {}
        self.states: dict[str, tuple[OrderState, int]] = {}
        self.kept: tuple[dict[str, Any], Any] = ({}, self.model.snapshot())

    def accept(self, number: int, terminals: tuple[str, ...], *, lots: str = "0.1", user_id: int = 7) -> None:
        targets = [(name, 1) for name in terminals]

        async def real() -> Any:
            client = async_state()
            try:
                return await SignalStore(client).record(
                    wish(number, lots),
                    targets=targets,
                    user_id=user_id,
                    username="trader",
                    source="test",
                    ttl_ms=60_000,
                    received_ms=1,
                )
            finally:
                await client.aclose()

        recorded = asyncio.run(real())
        status, legs = self.model.accept(wish(number, lots), targets, user_id=user_id)
        assert recorded.status == status
        found = [Leg.model_validate_json(text) for text in recorded.legs]
        assert [(leg.order_id, leg.leg_seq) for leg in found] == [(leg.order_id, leg.leg_seq) for leg in legs]
        self.legs |= {leg.order_id: leg for leg in found}

    def refuse(self, number: int) -> None:
        signal_id = wish(number).signal_id

        async def real() -> bool:
            client = async_state()
            try:
                return await SignalStore(client).refuse(signal_id, 7)
            finally:
                await client.aclose()

        assert asyncio.run(real()) == self.model.refuse(signal_id, 7)

    def report(self, terminal: str, number: int, choice: int) -> None:
        """The executor moves an order on, legally."""
        name = order_id(wish(number).signal_id, terminal)
        if name not in self.legs:
            return
        leg = self.legs[name]
        state, seq = self.states.get(name, (S.QUEUED, 0))
        moves = sorted(TRANSITIONS[state])
        if not moves:
            return
        state, seq = moves[choice % len(moves)], seq + 1
        self.states[name] = (state, seq)
        journal = self.journals[terminal]
        report = ExecutionReport(
            order_id=name,
            signal_id=leg.signal.signal_id,
            terminal_id=terminal,
            report_seq=seq,
            state=state,
            action="open",
            time_ms=1,
            position=len(journal) + 1,
            user_id=7,
        )
        item = JournalReport(
            len(journal) + 1, report, report.model_dump_json(), leg.model_dump_json(), leg.deadline_ms
        )
        journal.append(item)

    def publish(self, terminal: str, count: int, *, compare: bool) -> None:
        at = self.published[terminal]
        reports = self.journals[terminal][at : at + count]
        after = at if compare else None
        if not reports and not compare:
            return
        journal_id = f"j{self.ids[terminal]}"
        epoch = self.epochs[terminal]
        real = self.stores[terminal].publish(journal_id, epoch, reports, after=after)
        assert real == self.model.publish(terminal, journal_id, reports, after, epoch)
        if real < 0:
            self.published[terminal] = -1 - real
        elif reports:
            self.published[terminal] = reports[-1].position

    def lose(self, terminal: str) -> None:
        """Another journal, whose reports count on from what the store has."""
        self.ids[terminal] += 1
        self.journals[terminal] = []
        self.published[terminal] = 0

    def move(self, terminal: str) -> None:
        """To another host, whose journal is new."""
        self.epochs[terminal] += 1
        self.lose(terminal)

    def outlived(self, terminal: str, count: int) -> None:
        """The executor of the epoch before publishes: as long as the store has not heard of the move, it may."""
        epoch = self.epochs[terminal] - 1
        reports = self.journals[terminal][:count]
        answers: list[Any] = []
        try:
            answers.append(self.stores[terminal].publish("j0", epoch, reports, after=0))
        except EpochPassed as passed:
            answers.append(("passed", passed.since))
        try:
            answers.append(self.model.publish(terminal, "j0", reports, 0, epoch))
        except EpochPassed as passed:
            answers.append(("passed", passed.since))
        assert answers[0] == answers[1]

    def snapshot(self) -> None:
        self.kept = (
            {name: self.binary.dump(name) for name in self.binary.scan_iter()},
            self.model.snapshot(),
        )

    def roll_back(self) -> None:
        self.binary.flushdb()
        for name, content in self.kept[0].items():
            self.binary.restore(name, 0, content)
        self.model.roll_back(self.kept[1])

    def compare(self) -> None:
        client, now = self.client, self.model.now
        real_orders = {
            name.removeprefix(keys.order("")): tuple(client.hmget(name, ["state", "report_seq"]))
            for name in client.scan_iter(match=keys.order("*"), count=1000)
        }
        assert real_orders == {
            name: (record.state.value, str(record.report_seq)) for name, record in now.orders.items()
        }
        assert set(client.zrange(keys.UNSETTLED, 0, -1)) == set(now.unsettled)
        for terminal in TERMINALS:
            box = client.zrange(keys.outbox(terminal), 0, -1, withscores=True)
            assert {name: int(seq) for name, seq in box} == now.outbox.get(terminal, {})
            assert self.stores[terminal].last_leg_seq() == now.counters.get(terminal, 0)
            assert self.stores[terminal].published(self.epochs[terminal]) == now.instances.get(
                terminal, ("", 0)
            )
        stream = [
            ExecutionReport.model_validate_json(item["report"]) for _, item in client.xrange(keys.REPORTS)
        ]
        assert [(item.order_id, item.report_seq, item.state) for item in stream] == now.stream
        signals = {
            name.removeprefix(keys.signal("")): client.hmget(name, ["digest", "user_id", "partial"])
            for name in client.scan_iter(match=keys.signal("*"), count=1000)
        }
        assert {
            name: (digest, int(user), partial == "1") for name, (digest, user, partial) in signals.items()
        } == now.signals


def test_the_scripts_and_the_model_agree(state_server: Valkey, state_redis: Any) -> None:
    binary = redis.Redis.from_url(state_server.url)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(steps=STEPS)
    def run(steps: list[tuple[Any, ...]]) -> None:
        state_redis.flushdb()
        both = Both(state_redis, binary)
        for step in steps:
            match step:
                case ("accept", number, terminals):
                    both.accept(number, terminals)
                case ("conflict", number, foreign):
                    if foreign:
                        both.accept(number, ("alpha",), user_id=8)
                    else:
                        both.accept(number, ("alpha",), lots="0.2")
                case ("refuse", number):
                    both.refuse(number)
                case ("report", terminal, number, choice):
                    both.report(terminal, number, choice)
                case ("publish", terminal, count, compare):
                    both.publish(terminal, count, compare=compare)
                case ("rewind", terminal, position):
                    both.published[terminal] = min(position, both.published[terminal])
                case ("lose", terminal):
                    both.lose(terminal)
                case ("move", terminal):
                    both.move(terminal)
                case ("outlived", terminal, count):
                    both.outlived(terminal, count)
                case ("snapshot",):
                    both.snapshot()
                case ("roll back",):
                    both.roll_back()
            both.compare()

    run()
    binary.close()
