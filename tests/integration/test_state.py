"""Accept and publish as Lua on a real Valkey: atomic, idempotent, forward only."""

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import redis

from executors.legs import JournalReport
from executors.messages import ExecutionReport, Leg, OpenSignal, Targets
from executors.orders import SETTLED, OrderState, order_id
from executors.state import ExecutorStore, Recorded, SignalStore
from tests.valkey import Valkey
from tradedist import keys
from tradedist.redis import async_state
from tradedist.redis_line import Line

S = OrderState
TERMINALS = [("alpha", 1), ("beta", 1)]


@pytest.fixture(params=["a line", "redis-py alone"])
async def signals(state_redis: Any, request: pytest.FixtureRequest) -> AsyncIterator[SignalStore]:
    client = async_state()
    line = Line(client)
    store = SignalStore(client, line=line if request.param == "a line" else None)
    yield store
    await line.close()
    await client.aclose()


@pytest.fixture
def alpha(state_redis: Any) -> ExecutorStore:
    return ExecutorStore(state_redis, "alpha")


def signal(number: int = 1, **fields: Any) -> OpenSignal:
    values: dict[str, Any] = {"symbol": "EURUSD", "side": "buy", "lots": "0.1"}
    targets = Targets(terminals=["alpha", "beta"])
    return OpenSignal(signal_id=str(UUID(int=number)), targets=targets, **(values | fields))


async def accept(
    store: SignalStore,
    wish: OpenSignal,
    *,
    targets: list[tuple[str, int]] | None = None,
    user_id: int = 7,
    **more: Any,
) -> Recorded:
    return await store.record(
        wish,
        targets=TERMINALS if targets is None else targets,
        user_id=user_id,
        username="trader",
        source="socket",
        ttl_ms=more.pop("ttl_ms", 5_000),
        received_ms=1,
        **more,
    )


def journaled(leg: Leg, *states: OrderState, first: int = 1, position: int = 1) -> list[JournalReport]:
    """Reports about the leg's order as its executor's journal would have them, from `report_seq` first on."""
    found = []
    for offset, state in enumerate(states):
        report = ExecutionReport(
            order_id=leg.order_id,
            signal_id=leg.signal.signal_id,
            terminal_id=leg.terminal_id,
            report_seq=first + offset,
            state=state,
            action=leg.signal.action,
            symbol=leg.signal.symbol or "",
            lots=Decimal("0.1"),
            time_ms=leg.accepted_ms,
            position=position + offset,
            user_id=leg.user_id,
        )
        found.append(
            JournalReport(
                position + offset, report, report.model_dump_json(), leg.model_dump_json(), leg.deadline_ms
            )
        )
    return found


def first_leg(recorded: Recorded) -> Leg:
    return Leg.model_validate_json(recorded.legs[0])


def streamed(client: Any) -> list[tuple[str, int, str]]:
    rows = [json.loads(entry[1]["report"]) for entry in client.xrange(keys.REPORTS)]
    return [(row["order_id"], row["report_seq"], row["state"]) for row in rows]


def contents(client: Any) -> dict[str, Any]:
    """Every key with its value."""
    read = {
        "hash": client.hgetall,
        "string": client.get,
        "zset": lambda name: client.zrange(name, 0, -1, withscores=True),
        "stream": client.xrange,
    }
    return {name: read[client.type(name)](name) for name in client.scan_iter()}


# --- accept ---


async def test_accept_records_signal_legs_outbox_and_reports_in_one_step(
    signals: SignalStore, state_redis: Any
) -> None:
    recorded = await accept(signals, signal())
    assert recorded.status == "CREATED"
    legs = [Leg.model_validate_json(text) for text in recorded.legs]
    assert [(leg.terminal_id, leg.leg_seq, leg.epoch) for leg in legs] == [("alpha", 1, 1), ("beta", 1, 1)]
    assert all(leg.signal == signal() and leg.digest == signal().digest() for leg in legs)
    assert {leg.deadline_ms for leg in legs} == {recorded.accepted_ms + 5_000}
    for leg in legs:
        assert state_redis.zrange(keys.outbox(leg.terminal_id), 0, -1) == [leg.order_id]
        assert state_redis.hget(keys.order(leg.order_id), "state") == "QUEUED"
        assert state_redis.zscore(keys.UNSETTLED, leg.order_id) == leg.deadline_ms
        assert state_redis.ttl(keys.order(leg.order_id)) == -1
    assert streamed(state_redis) == [(leg.order_id, 0, "QUEUED") for leg in legs]
    view = await signals.view(signal().signal_id)
    assert view is not None
    assert [order.terminal_id for order in view.orders] == ["alpha", "beta"]


async def test_the_same_signal_again_changes_nothing(signals: SignalStore, state_redis: Any) -> None:
    await accept(signals, signal())
    before = contents(state_redis)
    assert (await accept(signals, signal(age_ms=900))).status == "KNOWN"
    assert contents(state_redis) == before


async def test_another_body_is_a_conflict_and_another_user_learns_nothing(signals: SignalStore) -> None:
    await accept(signals, signal())
    assert (await accept(signals, signal(lots="0.2"))).status == "CONFLICT"
    foreign = await accept(signals, signal(), user_id=8)
    assert foreign == Recorded("FOREIGN")


async def test_the_senders_age_shortens_the_deadline(signals: SignalStore) -> None:
    recorded = await accept(signals, signal(age_ms=1_200))
    assert recorded.deadline_ms == recorded.accepted_ms + 3_800


async def test_targets_resolved_under_an_older_access_version_are_not_recorded(
    signals: SignalStore, state_redis: Any
) -> None:
    state_redis.set(keys.ACCESS_VERSION, "5")
    assert (await accept(signals, signal(), access_version="4")).status == "STALE"
    assert state_redis.exists(keys.signal(signal().signal_id)) == 0
    assert (await accept(signals, signal(), access_version="5")).status == "CREATED"


async def test_numbers_have_no_gaps_under_concurrent_accepts(signals: SignalStore, state_redis: Any) -> None:
    wishes = [signal(number) for number in range(1, 101)]
    targets = [[("alpha", 1)], [("beta", 1)], [("alpha", 1), ("beta", 1)]]
    copies = [(wish, targets[index % 3]) for index, wish in enumerate(wishes) for _ in range(3)]
    at_once = asyncio.Semaphore(50)

    async def send(wish: OpenSignal, chosen: list[tuple[str, int]]) -> Recorded:
        async with at_once:
            return await accept(signals, wish, targets=chosen)

    answers = await asyncio.gather(*(send(wish, chosen) for wish, chosen in copies))
    assert sum(answer.status == "CREATED" for answer in answers) == 100
    legs = [Leg.model_validate_json(text) for answer in answers for text in answer.legs]
    for terminal_id in ("alpha", "beta"):
        seqs = sorted(leg.leg_seq for leg in legs if leg.terminal_id == terminal_id)
        assert seqs == list(range(1, len(seqs) + 1))
        assert [
            int(score) for _, score in state_redis.zrange(keys.outbox(terminal_id), 0, -1, withscores=True)
        ] == seqs


async def test_the_stores_life_is_named(signals: SignalStore, state_redis: Any) -> None:
    assert await signals.life() == state_redis.info("replication")["master_replid"]


async def test_accept_after_a_script_flush_loads_itself_again(signals: SignalStore, state_redis: Any) -> None:
    await accept(signals, signal(1))
    state_redis.script_flush()
    assert (await accept(signals, signal(2))).status == "CREATED"


# --- publish ---


async def test_publish_moves_the_order_and_leaves_outbox_and_unsettled_as_they_must_be(
    signals: SignalStore, alpha: ExecutorStore, state_redis: Any
) -> None:
    leg = first_leg(await accept(signals, signal()))
    assert alpha.publish("j1", 1, journaled(leg, S.INTENT)) == 1
    assert state_redis.zcard(keys.outbox("alpha")) == 0
    assert state_redis.zscore(keys.UNSETTLED, leg.order_id) == leg.deadline_ms
    state_redis.hset(keys.order(leg.order_id), "overdue", "1")
    assert alpha.publish("j1", 1, journaled(leg, S.FILLED, first=2, position=2)) == 1
    assert state_redis.zscore(keys.UNSETTLED, leg.order_id) is None
    assert state_redis.hmget(keys.order(leg.order_id), ["state", "report_seq", "overdue"]) == [
        "FILLED",
        "2",
        "0",
    ]
    assert alpha.published(1) == ("j1", 2)
    assert state_redis.hget(keys.instance("alpha"), "epoch") == "1"


async def test_publishing_again_changes_nothing(
    signals: SignalStore, alpha: ExecutorStore, state_redis: Any
) -> None:
    leg = first_leg(await accept(signals, signal()))
    reports = journaled(leg, S.INTENT, S.UNKNOWN, S.FILLED)
    assert alpha.publish("j1", 1, reports) == 3
    before = contents(state_redis)
    for part in (reports, reports[1:], reports[2:]):
        assert alpha.publish("j1", 1, part) == 0
    assert contents(state_redis) == before


async def test_an_older_report_never_moves_an_order_back(
    signals: SignalStore, alpha: ExecutorStore, state_redis: Any
) -> None:
    leg = first_leg(await accept(signals, signal()))
    reports = journaled(leg, S.INTENT, S.FILLED)
    alpha.publish("j1", 1, [reports[1]])
    assert alpha.publish("j1", 1, [reports[0]]) == 0
    assert state_redis.hget(keys.order(leg.order_id), "state") == "FILLED"


@pytest.mark.parametrize("ended", sorted(SETTLED - {S.NOT_EXECUTED}))
async def test_what_has_ended_does_not_open_again(
    signals: SignalStore, alpha: ExecutorStore, state_redis: Any, ended: OrderState
) -> None:
    """A journal restored from a backup counts on from behind and looks its orders up again."""
    leg = first_leg(await accept(signals, signal()))
    alpha.publish("j1", 1, journaled(leg, ended))
    assert alpha.publish("j1", 1, journaled(leg, S.UNKNOWN, first=2, position=2)) == 0
    assert state_redis.hget(keys.order(leg.order_id), "state") == ended
    assert state_redis.zscore(keys.UNSETTLED, leg.order_id) is None


async def test_a_late_fill_opens_what_was_not_executed(
    signals: SignalStore, alpha: ExecutorStore, state_redis: Any
) -> None:
    leg = first_leg(await accept(signals, signal()))
    states = [S.INTENT, S.UNKNOWN, S.NOT_EXECUTED, S.PLACED]
    assert alpha.publish("j1", 1, journaled(leg, *states)) == 4
    assert state_redis.zscore(keys.UNSETTLED, leg.order_id) is not None


async def test_lost_records_are_made_again_from_the_journal(
    signals: SignalStore, alpha: ExecutorStore, state_redis: Any
) -> None:
    leg = first_leg(await accept(signals, signal()))
    reports = journaled(leg, S.INTENT, S.UNKNOWN)
    state_redis.flushdb()
    assert alpha.publish("j1", 1, reports) == 2
    assert Leg.model_validate_json(state_redis.hget(keys.order(leg.order_id), "leg")) == leg
    assert state_redis.zscore(keys.UNSETTLED, leg.order_id) == leg.deadline_ms
    view = await signals.view(leg.signal.signal_id)
    assert view is not None
    assert view.signal == leg.signal
    assert [(order.order_id, order.state) for order in view.orders] == [(leg.order_id, S.UNKNOWN)]
    assert state_redis.zscore(keys.SIGNALS, leg.signal.signal_id) == leg.accepted_ms


async def test_accept_completes_a_signal_that_an_executor_made_again_without_moving_its_order_back(
    signals: SignalStore, alpha: ExecutorStore, state_redis: Any
) -> None:
    """After a rollback the client sends again what one executor has executed and another has never seen."""
    leg = first_leg(await accept(signals, signal()))
    state_redis.flushdb()
    alpha.publish("j1", 1, journaled(leg, S.INTENT, S.FILLED))
    assert (await accept(signals, signal(), user_id=8)).status == "FOREIGN"
    assert (await accept(signals, signal(lots="0.2"))).status == "CONFLICT"
    again = await accept(signals, signal())
    assert again.status == "CREATED"
    assert [ExecutionReport.model_validate_json(text).state for text in again.reports] == [S.FILLED, S.QUEUED]
    assert state_redis.hget(keys.order(leg.order_id), "state") == "FILLED"
    assert state_redis.zrange(keys.outbox("alpha"), 0, -1) == []
    assert state_redis.zrange(keys.outbox("beta"), 0, -1) == [order_id(signal().signal_id, "beta")]
    assert (await accept(signals, signal())).status == "KNOWN"


async def test_a_completed_signal_keeps_an_order_of_a_terminal_that_is_no_target_any_more(
    signals: SignalStore, alpha: ExecutorStore, state_redis: Any
) -> None:
    leg = first_leg(await accept(signals, signal()))
    state_redis.flushdb()
    alpha.publish("j1", 1, journaled(leg, S.FILLED))
    await accept(signals, signal(), targets=[("beta", 1)])
    view = await signals.view(signal().signal_id)
    assert view is not None
    assert {order.terminal_id for order in view.orders} == {"alpha", "beta"}


async def test_a_rolled_back_store_takes_nothing_before_what_it_lost(
    signals: SignalStore, alpha: ExecutorStore, state_redis: Any
) -> None:
    leg = first_leg(await accept(signals, signal()))
    reports = journaled(leg, S.INTENT, S.UNKNOWN, S.FILLED)
    assert alpha.publish("j1", 1, reports[:1], after=0) == 1
    assert alpha.publish("j1", 1, reports[2:], after=2) == -1 - 1
    assert alpha.published(1) == ("j1", 1)
    assert alpha.publish("j1", 1, reports[1:], after=1) == 2
    assert alpha.publish("j2", 1, reports[2:], after=2) == -1


async def test_publishing_no_report_only_tells_whose_journal_it_is(
    signals: SignalStore, alpha: ExecutorStore
) -> None:
    leg = first_leg(await accept(signals, signal()))
    alpha.publish("j1", 1, journaled(leg, S.INTENT))
    assert alpha.publish("j2", 1, [], after=0) == 0
    assert alpha.published(1) == ("j2", 0)


# --- what an executor reads ---


async def test_waiting_and_unsettled_legs_are_this_terminals_in_order(
    signals: SignalStore, alpha: ExecutorStore
) -> None:
    for number in (3, 1, 2):
        await accept(signals, signal(number))
    assert [leg.leg_seq for leg in alpha.waiting_legs()] == [1, 2, 3]
    assert [leg.signal.signal_id for leg in alpha.waiting_legs(limit=1)] == [signal(3).signal_id]
    assert alpha.last_leg_seq() == 3
    leg = alpha.waiting_legs()[0]
    alpha.publish("j1", 1, journaled(leg, S.INTENT))
    assert sorted((leg.leg_seq, state, seq) for leg, state, seq in alpha.unsettled_legs()) == [
        (1, "INTENT", 1),
        (2, "QUEUED", 0),
        (3, "QUEUED", 0),
    ]


async def test_a_leg_that_cannot_be_read_does_not_hide_the_others(
    signals: SignalStore, alpha: ExecutorStore, state_redis: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bad = first_leg(await accept(signals, signal(1)))
    good = first_leg(await accept(signals, signal(2)))
    state_redis.hset(keys.order(bad.order_id), "leg", '{"signal": "of another version"}')
    assert [leg.order_id for leg in alpha.waiting_legs()] == [good.order_id]
    assert [leg.order_id for leg, _, _ in alpha.unsettled_legs()] == [good.order_id]
    assert "cannot be read" in caplog.text


async def test_a_full_store_records_nothing_of_a_signal(make_valkey: Any) -> None:
    server: Valkey = make_valkey(durable=True)
    client = server.client()
    client.config_set("maxmemory", "1")
    store = ExecutorStore(client, "alpha")
    leg = Leg(
        signal=signal(),
        digest=signal().digest(),
        terminal_id="alpha",
        epoch=1,
        leg_seq=1,
        accepted_ms=1,
        deadline_ms=2,
        user_id=7,
    )
    with pytest.raises(redis.RedisError):
        store.publish("j1", 1, journaled(leg, S.INTENT))
    assert client.dbsize() == 0
    client.config_set("maxmemory", "64mb")
    assert store.publish("j1", 1, journaled(leg, S.INTENT)) == 1
    client.close()


async def test_numbers_of_orders_that_were_made_again_are_not_given_out_twice(
    signals: SignalStore, alpha: ExecutorStore, state_redis: Any
) -> None:
    for number in (1, 2, 3):
        leg = first_leg(await accept(signals, signal(number)))
    state_redis.flushdb()
    alpha.publish("j1", 1, journaled(leg, S.FILLED))
    assert alpha.last_leg_seq() == 3
    assert first_leg(await accept(signals, signal(4))).leg_seq == 4
