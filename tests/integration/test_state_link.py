"""The executor's line to Redis, turn by turn on a real Valkey: what it learns first, what it publishes when."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from executors.alerts import Alerts
from executors.errors import EpochPassed
from executors.execution import new_row
from executors.journal import Journal
from executors.journal_reader import JournalReader
from executors.legs import LegRow
from executors.link import Link
from executors.link_events import Compared, Drained, Foreign, InstanceFacts, ModesRead
from executors.messages import Leg
from executors.orders import OrderState
from executors.reporting import Trace, build_report
from executors.settlement import Answer, Settlement
from executors.state import ExecutorStore
from tests.simulated import SimClock, make_leg, make_open
from tradedist import keys

S = OrderState


class Rig:
    """A journal and its link, without the link's thread."""

    def __init__(self, path: Path, client: Any) -> None:
        self.journal = Journal(path, installation="tests", terminal_id="sim-1")
        self.events: list[Any] = []
        self.client = client
        self.link = Link(
            terminal_id="sim-1",
            epoch=1,
            reader=JournalReader(path),
            journal_id=self.journal.journal_id,
            facts=InstanceFacts(),
            alerts=Alerts(),
            emit=self.events.append,
        )

    def turn(self) -> list[Any]:
        self.events.clear()
        self.link._turn()
        return list(self.events)

    def report(self, row: LegRow, *states: OrderState) -> LegRow:
        clock = SimClock()
        for state in states:
            row.state = state
            trace = Trace.begin({}, "udp", clock.now_ms, clock.monotonic_ms)
            self.journal.record(row, build_report(row, state, seq=row.report_seq + 1, time_ms=1, trace=trace))
        return row

    def close(self) -> None:
        self.link._reports._reader.close()
        self.link._store.redis.close()
        self.journal.close()


Maker = Callable[[], Rig]


@pytest.fixture
def make_rig(tmp_path: Path, state_redis: Any) -> Iterator[Maker]:
    rigs: list[Rig] = []

    def make() -> Rig:
        rigs.append(Rig(tmp_path / f"{len(rigs)}.sqlite3", state_redis))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


def queued(client: Any, number: int) -> Leg:
    """As accept leaves a leg."""
    leg = make_leg(make_open(number), number)
    client.hset(
        keys.order(leg.order_id), mapping={"leg": leg.model_dump_json(), "state": "QUEUED", "report_seq": "0"}
    )
    client.zadd(keys.outbox("sim-1"), {leg.order_id: number})
    client.zadd(keys.UNSETTLED, {leg.order_id: leg.deadline_ms})
    client.set(keys.leg_seq("sim-1"), number)
    return leg


def shown(client: Any, leg: Leg) -> str | None:
    state: str | None = client.hget(keys.order(leg.order_id), "state")
    return state


def test_modes_and_redis_time_are_known_before_the_first_order_may_run(
    make_rig: Maker, state_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_redis.hset(keys.MODES, mapping={"global": "HALTED"})
    rig = make_rig()
    monkeypatch.setattr(rig.link._store, "time_us", lambda: 5_000_000_000_000_000)
    seen: list[int] = []

    def emit(event: Any) -> None:
        rig.events.append(event)
        seen.append(rig.link.clock.offset_ms)

    rig.link._emit = emit
    kinds = [type(event) for event in rig.turn()]
    assert kinds.index(ModesRead) < kinds.index(Compared) < kinds.index(Drained)
    assert rig.events[0].modes == ["HALTED"]
    assert min(seen) > 1_000_000_000_000


def test_the_store_knows_the_journal_before_the_first_order_may_run(
    make_rig: Maker, state_redis: Any
) -> None:
    rig = make_rig()
    held: list[str | None] = []
    rig.link._emit = lambda event: held.append(
        state_redis.hget(keys.instance("sim-1"), "journal_id") if isinstance(event, Compared) else None
    )
    rig.turn()
    assert rig.journal.journal_id in held


def test_what_the_journal_holds_is_published_at_the_next_turn(make_rig: Maker, state_redis: Any) -> None:
    leg = queued(state_redis, 1)
    rig = make_rig()
    rig.turn()
    rig.report(new_row(leg, SimClock()), S.INTENT, S.FILLED)
    rig.turn()
    assert shown(state_redis, leg) == "FILLED"
    assert state_redis.zcard(keys.outbox("sim-1")) == 0
    assert state_redis.hget(keys.instance("sim-1"), "position") == "2"


def test_another_journal_is_told_of_once_and_nothing_is_published_before_it_is_adopted(
    make_rig: Maker, state_redis: Any
) -> None:
    first = make_rig()
    leg = queued(state_redis, 1)
    first.turn()
    first.report(new_row(leg, SimClock()), S.INTENT)
    first.turn()
    later = queued(state_redis, 2)
    second = make_rig()
    events = second.turn()
    foreign = [event for event in events if isinstance(event, Foreign)]
    assert len(foreign) == 1
    assert foreign[0].last_seq == 2
    assert {(found.order_id, state, seq) for found, state, seq in foreign[0].legs} == {
        (leg.order_id, "INTENT", 1),
        (later.order_id, "QUEUED", 0),
    }
    assert [type(event) for event in events if isinstance(event, Foreign | Compared)] == [Foreign, Compared]
    second.report(new_row(later, SimClock()), S.INTENT, S.UNKNOWN)
    second.turn()
    assert shown(state_redis, later) == "QUEUED"
    assert state_redis.hget(keys.instance("sim-1"), "journal_id") == first.journal.journal_id
    second.link.adopted()
    assert not any(isinstance(event, Foreign) for event in second.turn())
    assert shown(state_redis, later) == "UNKNOWN"
    assert state_redis.hget(keys.instance("sim-1"), "journal_id") == second.journal.journal_id


def test_an_adoption_without_orders_still_makes_the_journal_ours(make_rig: Maker, state_redis: Any) -> None:
    make_rig().turn()
    second = make_rig()
    assert any(isinstance(event, Foreign) for event in second.turn())
    second.link.adopted()
    second.turn()
    assert state_redis.hget(keys.instance("sim-1"), "journal_id") == second.journal.journal_id


def test_a_position_behind_the_stores_is_a_foreign_journal_too(make_rig: Maker, state_redis: Any) -> None:
    rig = make_rig()
    state_redis.hset(keys.instance("sim-1"), mapping={"journal_id": rig.journal.journal_id, "position": "5"})
    assert any(isinstance(event, Foreign) for event in rig.turn())


@pytest.mark.parametrize("at_once", [True, False])
def test_what_a_rollback_lost_is_published_again(make_rig: Maker, state_redis: Any, *, at_once: bool) -> None:
    """Seen by the next report, or by the comparison of every second; the connection did not break."""
    legs = [queued(state_redis, number) for number in (1, 2, 3)]
    rig = make_rig()
    rig.turn()
    rows = [new_row(leg, SimClock()) for leg in legs]
    rig.report(rows[0], S.INTENT, S.FILLED)
    rig.turn()
    state_redis.flushdb()
    if at_once:
        rig.report(rows[1], S.INTENT)
    else:
        rig.link._due.compare = 0
    rig.turn()
    assert shown(state_redis, legs[0]) == "FILLED"
    assert shown(state_redis, legs[1]) == ("INTENT" if at_once else None)


def test_a_read_that_had_begun_does_not_count_for_a_later_wish(
    make_rig: Maker, state_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig()
    rig.turn()
    wishes = [rig.link.ask_drain()]
    read = ExecutorStore.waiting_legs

    def slow(store: ExecutorStore, limit: int) -> list[Leg]:
        found = read(store, limit)
        wishes.append(rig.link.ask_drain())  # a gap is seen while the read is under way
        monkeypatch.undo()
        return found

    monkeypatch.setattr(ExecutorStore, "waiting_legs", slow)
    asked = [event.asked for _ in range(2) for event in rig.turn() if isinstance(event, Drained)]
    assert asked == wishes
    assert wishes[1] > wishes[0]


def test_wishes_before_the_read_are_one(make_rig: Maker) -> None:
    rig = make_rig()
    rig.turn()
    assert rig.link.ask_drain() == rig.link.ask_drain()


# --- a terminal that was moved while its executor lived ---


def moved(client: Any) -> None:
    """As the configuration's publication says it."""
    client.hset(keys.instance("sim-1"), mapping={"epoch": "2"})


@pytest.mark.parametrize("before", ["claim", "report", "look"])
def test_an_executor_of_an_earlier_epoch_writes_nothing_and_is_told_to_end(
    make_rig: Maker, state_redis: Any, before: str
) -> None:
    leg = queued(state_redis, 1)
    rig = make_rig()
    rig.turn()
    moved(state_redis)
    rig.report(new_row(leg, SimClock()), S.INTENT, S.FILLED)
    if before == "claim":
        rig.link._reports.claim = True
    elif before == "look":
        rig.link._reports.published = -1
    held = state_redis.hgetall(keys.instance("sim-1"))
    rig.events.clear()
    rig.link._serve()  # ends by itself
    assert [type(event) for event in rig.events] == [EpochPassed]
    assert "epoch 2" in str(rig.events[0])
    assert shown(state_redis, leg) == "QUEUED"
    assert state_redis.hgetall(keys.instance("sim-1")) == held
    assert state_redis.hexists(keys.open_alerts("sim-1"), "EXECUTOR_OUTLIVED")
    assert rig.link.published < 0  # what is written from now on has no way to the store


def test_reports_that_leave_at_once_are_not_taken_from_an_earlier_epoch(
    make_rig: Maker, state_redis: Any
) -> None:
    leg = queued(state_redis, 1)
    rig = make_rig()
    rig.turn()
    row = rig.report(new_row(leg, SimClock()), S.INTENT)
    moved(state_redis)
    rig.link.publish(rig.journal.take_written(), rig.journal.newest)
    rig.report(row, S.FILLED)
    rig.events.clear()
    rig.link._serve()
    assert [type(event) for event in rig.events] == [EpochPassed]
    assert shown(state_redis, leg) == "QUEUED"


def test_a_settlement_is_not_answered_by_an_executor_of_an_earlier_epoch(
    make_rig: Maker, state_redis: Any
) -> None:
    rig = make_rig()
    rig.turn()
    wish = Settlement(
        settlement_id="settled-1", order_id="some:sim-1", terminal_id="sim-1", truth="not_executed", by="admin",
        reason="looked", evidence="none", report_seq=1, asked_ms=1,
    )  # fmt: skip
    state_redis.hset(keys.settlements("sim-1"), wish.order_id, wish.model_dump_json())
    moved(state_redis)
    with pytest.raises(EpochPassed):
        rig.link._store.answer(wish, Answer(settlement_id="settled-1", done=True, message="", time_ms=1), 1)
    assert state_redis.hexists(keys.settlements("sim-1"), wish.order_id)
    assert not state_redis.exists(keys.settlement_answers("sim-1"))
