"""Accept as the web process calls it, on a real Valkey: many at once, replicas that confirm or do not, a full store."""

import asyncio
import contextlib
import importlib.util
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async

import tradedist.celery  # noqa: F401  as in the web process: accept sends tasks
from executors import dispatch
from executors.configuration import access_changed
from executors.errors import AcceptUnknown, Code, Refused
from executors.fanout import Fanout
from executors.messages import Leg
from executors.models import GlobalMode, Member, Terminal, TerminalGrant
from executors.orders import OrderState
from executors.state import ExecutorStore
from tests.integration.bodies import an_open
from tests.integration.people import World
from tests.integration.test_state import journaled
from tests.valkey import Valkey
from tests.waiting import wait_until
from tradedist import keys

pytestmark = pytest.mark.django_db(transaction=True)

S = OrderState


@pytest.fixture
async def ted(transactional_db: None, state_redis: Any, settings: Any) -> AsyncIterator[Any]:
    settings.ORDERS_PER_SECOND = 100_000
    dispatch._rate._buckets.clear()
    world = await sync_to_async(World)()
    yield world.ted
    await dispatch.close_process()


@contextlib.contextmanager
def other_web_process() -> Iterator[Callable[..., Any]]:
    """Accept in a fresh copy of its module, on another loop: nothing is shared with this process but the store."""
    spec = importlib.util.find_spec("executors.dispatch")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["elsewhere_dispatch"] = module  # its dataclasses look it up
    spec.loader.exec_module(module)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def elsewhere(body: Any, user: Any) -> Any:
        made = asyncio.run_coroutine_threadsafe(module.accept(body, user, source="rest"), loop)
        return await asyncio.wrap_future(made)

    try:
        yield elsewhere
    finally:
        asyncio.run_coroutine_threadsafe(module.close_process(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
        del sys.modules["elsewhere_dispatch"]


async def test_five_hundred_signals_at_once_are_all_accepted(
    ted: Any, state_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradedist.redis.WAIT_S", 30.0)  # a busy machine's minute is not what is tested
    await dispatch.close_process()
    bodies = [an_open() for _ in range(500)]
    said = await asyncio.gather(
        *(dispatch.accept(body, ted, source="rest") for body in bodies), return_exceptions=True
    )
    answers = [answer for answer in said if isinstance(answer, dispatch.Accepted)]
    assert [answer for answer in said if answer not in answers] == []
    assert [answer.view.signal_id for answer in answers] == [body["signal_id"] for body in bodies]
    assert all(answer.created and answer.view.durability == "full" for answer in answers)
    assert state_redis.zcard(keys.outbox("london")) == 500
    pool: Any = dispatch.process().client.connection_pool
    assert len(pool._available_connections) + len(pool._in_use_connections) <= 32


async def test_a_store_that_hangs_answers_everybody_within_bounds(
    ted: Any, state_server: Valkey, state_redis: Any
) -> None:
    await dispatch.accept(an_open(), ted, source="rest")
    state_server.freeze()
    began = time.monotonic()
    try:
        answers = await asyncio.gather(
            *(dispatch.accept(an_open(), ted, source="rest") for _ in range(200)), return_exceptions=True
        )
    finally:
        state_server.cont()
    assert {type(answer).__name__ for answer in answers} == {"AcceptUnknown"}
    assert time.monotonic() - began < 30


async def test_an_older_send_that_comes_after_the_refusal_of_a_later_one_records_nothing(
    ted: Any, state_redis: Any
) -> None:
    """It was on its way in another connection: its sender has been told that nothing is recorded."""
    body = an_open(ttl_ms=5_000)
    for age_ms in (6_000, 10):
        with pytest.raises(Refused) as refusal:
            await dispatch.accept(body | {"age_ms": age_ms}, ted, source="rest")
        assert refusal.value.code is Code.TOO_OLD
    assert not state_redis.exists(keys.signal(body["signal_id"]))
    known = an_open(ttl_ms=5_000)
    await dispatch.accept(known, ted, source="rest")
    for age_ms in (6_000, 10):  # what is recorded is answered, however old the send
        assert not (await dispatch.accept(known | {"age_ms": age_ms}, ted, source="rest")).created


async def test_neither_does_one_that_another_web_process_was_about_to_record(
    ted: Any, state_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood still with the older send in its hands: only the store can know what another process has said."""
    store, asked, go_on = dispatch.process().store, asyncio.Event(), asyncio.Event()
    record = store.record

    async def slowly(*args: Any, **more: Any) -> Any:
        asked.set()
        await go_on.wait()
        return await record(*args, **more)

    monkeypatch.setattr(store, "record", slowly)
    body = an_open(ttl_ms=5_000)
    first = asyncio.ensure_future(dispatch.accept(body, ted, source="rest"))
    await asked.wait()
    with other_web_process() as elsewhere:
        with pytest.raises(Refused) as refusal:
            await elsewhere(body | {"age_ms": 6_000}, ted)
        assert refusal.value.code is Code.TOO_OLD
        go_on.set()
        with pytest.raises(Refused) as refusal:
            await first
        assert refusal.value.code is Code.TOO_OLD
        assert not state_redis.exists(keys.signal(body["signal_id"]))
        assert 0 < state_redis.ttl(keys.refused(ted.pk, body["signal_id"])) <= 3_600
        # and the other way round: what was recorded before is answered, not refused
        second = an_open(ttl_ms=5_000)
        assert (await dispatch.accept(second, ted, source="rest")).created
        assert not (await elsewhere(second | {"age_ms": 6_000}, ted)).created


# --- what was recorded is answered, whatever would refuse it now ---


def _role_is_taken(world: World) -> None:
    Member.objects.filter(user=world.ted).update(role="viewer")


def _grant_is_taken(world: World) -> None:
    TerminalGrant.objects.filter(user=world.ted).delete()


def _terminals_are_off(world: World) -> None:
    Terminal.objects.update(enabled=False)


def _all_is_halted(world: World) -> None:
    GlobalMode.objects.update_or_create(defaults={"mode": "HALTED"})


REFUSALS = {
    Code.FORBIDDEN: _role_is_taken,
    Code.UNKNOWN_GROUP: _grant_is_taken,
    Code.NO_TERMINALS: _terminals_are_off,
    Code.TRADING_HALTED: _all_is_halted,
}


async def _refused_from_now_on(world: World, code: Code, *, told: bool = True) -> None:
    await sync_to_async(REFUSALS[code])(world)
    if told:
        await sync_to_async(access_changed)()
    dispatch.process().targets.forget()


@pytest.fixture
async def world(ted: Any) -> World:
    found = World.__new__(World)
    found.ted = ted
    return found


@pytest.mark.parametrize("code", REFUSALS)
async def test_a_signal_that_is_recorded_is_answered_whatever_would_refuse_it_now(
    world: World, state_redis: Any, code: Code
) -> None:
    body = an_open()
    first = await dispatch.accept(body, world.ted, source="rest")
    await _refused_from_now_on(world, code)
    again = await dispatch.accept(body | {"age_ms": 30}, world.ted, source="rest")
    assert (again.created, again.view.accepted_ms) == (False, first.view.accepted_ms)
    with pytest.raises(Refused) as refusal:
        await dispatch.accept(an_open(), world.ted, source="rest")
    assert refusal.value.code is code


@pytest.mark.parametrize("code", REFUSALS)
async def test_what_another_web_process_was_about_to_record_is_not_recorded_after_a_refusal(
    world: World, state_redis: Any, monkeypatch: pytest.MonkeyPatch, code: Code
) -> None:
    """It stood still with the first send in its hands. The store has not heard yet that rights have changed."""
    store, asked, go_on = dispatch.process().store, asyncio.Event(), asyncio.Event()
    record = store.record

    async def slowly(*args: Any, **more: Any) -> Any:
        asked.set()
        await go_on.wait()
        return await record(*args, **more)

    monkeypatch.setattr(store, "record", slowly)
    body = an_open()
    first = asyncio.ensure_future(dispatch.accept(body, world.ted, source="rest"))
    await asked.wait()
    await _refused_from_now_on(world, code, told=False)
    with other_web_process() as elsewhere:
        with pytest.raises(Refused) as refusal:
            await elsewhere(body, world.ted)
        assert refusal.value.code is code
    go_on.set()
    with pytest.raises(Refused) as refusal:
        await first
    assert refusal.value.code is code
    assert not state_redis.exists(keys.signal(body["signal_id"]))


async def test_the_same_signal_may_be_sent_again_when_rights_were_given(
    world: World, state_redis: Any
) -> None:
    body = an_open()
    await _refused_from_now_on(world, Code.FORBIDDEN)
    with pytest.raises(Refused):
        await dispatch.accept(body, world.ted, source="rest")
    await sync_to_async(Member.objects.filter(user=world.ted).update)(role="trader")
    await sync_to_async(access_changed)()
    assert (await dispatch.accept(body, world.ted, source="rest")).created


async def test_while_the_first_send_is_on_its_way_here_a_later_one_is_told_to_ask_again(
    world: World, state_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, asked, go_on = dispatch.process().store, asyncio.Event(), asyncio.Event()
    record = store.record

    async def slowly(*args: Any, **more: Any) -> Any:
        answer = await record(*args, **more)  # recorded, and then the store loses it
        state_redis.delete(keys.signal(args[0].signal_id))
        asked.set()
        await go_on.wait()
        return answer

    monkeypatch.setattr(store, "record", slowly)
    body = an_open()
    first = asyncio.ensure_future(dispatch.accept(body, world.ted, source="rest"))
    await asked.wait()
    await _refused_from_now_on(world, Code.FORBIDDEN)
    with pytest.raises(AcceptUnknown):
        await dispatch.accept(body, world.ted, source="rest")
    go_on.set()
    assert (await first).created


async def test_what_was_accepted_and_lost_is_given_back_whatever_was_refused_meanwhile(
    ted: Any, state_redis: Any
) -> None:
    """The acceptance was promised; a send that came while the store had lost it was told that it is too old."""
    body = an_open(ttl_ms=60_000)
    await dispatch.accept(body, ted, source="rest")
    pipe = state_redis.pipeline()
    pipe.flushall().set(keys.refused(ted.pk, body["signal_id"]), 1).execute()
    await asyncio.to_thread(wait_until, lambda: state_redis.exists(keys.signal(body["signal_id"])), 30)
    assert not (await dispatch.accept(body | {"age_ms": 60_000}, ted, source="rest")).created


async def test_refusals_as_too_old_are_rate_limited_for_each_is_remembered(
    ted: Any, state_redis: Any, settings: Any
) -> None:
    settings.ORDERS_PER_SECOND = 2
    dispatch._rate._buckets.clear()
    codes = []
    for _ in range(6):
        with pytest.raises(Refused) as refusal:
            await dispatch.accept(an_open(ttl_ms=5_000, age_ms=6_000), ted, source="rest")
        codes.append(refusal.value.code)
    assert codes[:2] == [Code.TOO_OLD] * 2
    assert Code.RATE_LIMITED in codes
    assert len(state_redis.keys(keys.refused(ted.pk, "*"))) == codes.count(Code.TOO_OLD)


# --- replicas ---


async def test_durability_says_whether_the_replicas_have_it(
    ted: Any,
    state_server: Valkey,
    make_valkey: Callable[..., Valkey],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tradedist.redis.TIMEOUT_S", 60.0)  # longer than the waits below
    settings.REPLICAS_CONFIRM = 1
    settings.REPLICAS_WAIT_MS = 30_000  # a busy machine's disk: it has all the time when it is there
    replica = make_valkey(durable=True)
    replica.follow(state_server)
    body = an_open()
    first = await dispatch.accept(body, ted, source="rest")
    assert first.view.durability == "full"
    with replica.client() as client:
        assert client.hget(keys.signal(body["signal_id"]), "digest")
    replica.freeze()
    settings.REPLICAS_WAIT_MS = 50
    await dispatch.close_process()  # the settings are read at a process's start
    late = an_open()
    began = time.monotonic()
    answer = await dispatch.accept(late, ted, source="rest")
    assert (answer.created, answer.view.durability) == (True, "degraded")
    assert time.monotonic() - began < 20  # not as long as the replica stands still
    assert (await dispatch.accept(late, ted, source="rest")).view.durability == "degraded"
    replica.cont()
    settings.REPLICAS_WAIT_MS = 30_000
    await dispatch.close_process()
    again = await dispatch.accept(late, ted, source="rest")  # the same id again says how it is now
    assert (again.created, again.view.durability) == (False, "full")


async def test_a_forgotten_script_is_loaded_with_replicas_too(
    ted: Any, state_redis: Any, settings: Any
) -> None:
    settings.REPLICAS_CONFIRM = 1
    settings.REPLICAS_WAIT_MS = 1
    for _ in range(2):
        state_redis.script_flush()
        answer = await dispatch.accept(an_open(), ted, source="rest")
        assert (answer.created, answer.view.durability) == (True, "degraded")  # there is no replica


# --- a full store ---


async def test_a_full_store_refuses_with_its_own_code_and_recovers(ted: Any, state_redis: Any) -> None:
    known = an_open()
    await dispatch.accept(known, ted, source="rest")
    before = state_redis.dbsize()
    state_redis.config_set("maxmemory", "1")
    close = {"signal_id": str(uuid4()), "action": "close", "all": True, "targets": {"groups": ["desk"]}}
    try:
        for body in (an_open(), close):
            with pytest.raises(Refused) as refusal:
                await dispatch.accept(body, ted, source="rest")
            assert (refusal.value.code, refusal.value.status) == (Code.STORE_FULL, 503)
        assert not (await dispatch.accept(known, ted, source="rest")).created
        assert state_redis.dbsize() == before
        assert set(dispatch.process().spool.entries) & {close["signal_id"]} == set()
    finally:
        state_redis.config_set("maxmemory", "64mb")
    assert (await dispatch.accept(close, ted, source="rest")).created


# --- Celery tasks as a backup ---


async def test_as_a_backup_only_unreported_orders_become_tasks(
    ted: Any, state_redis: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, published = asyncio.get_running_loop(), asyncio.Queue[list[str]]()
    monkeypatch.setattr(
        "executors.fanout.publish_tasks",  # called by a thread
        lambda legs: loop.call_soon_threadsafe(published.put_nowait, [leg.order_id for leg, _ in legs]),
    )
    settings.CELERY_DISPATCH, settings.CELERY_BACKUP_MS, settings.DISPATCH_GRACE_MS = "backup", 1_000, 1
    done, waiting = an_open(), an_open()
    for body in (done, waiting):
        await dispatch.accept(body, ted, source="rest")
    for terminal_id in ("london", "tokyo"):
        leg = Leg.model_validate_json(
            state_redis.hget(keys.order(f"{done['signal_id']}:{terminal_id}"), "leg")
        )
        ExecutorStore(state_redis, terminal_id).publish("j", 1, journaled(leg, S.INTENT, S.FILLED), after=0)
    backed_up: list[str] = []
    async with asyncio.timeout(60):
        while len(backed_up) < 2:
            backed_up += await published.get()
    await asyncio.sleep(0.2)
    assert published.empty()
    assert sorted(backed_up) == [f"{waiting['signal_id']}:{name}" for name in ("london", "tokyo")]


async def test_by_default_every_order_becomes_a_task(
    ted: Any, state_redis: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[str] = []
    monkeypatch.setattr(
        "executors.fanout.publish_tasks", lambda legs: published.extend(leg.order_id for leg, _ in legs)
    )
    body = an_open()
    await dispatch.accept(body, ted, source="rest")
    here: Fanout = dispatch.process().fanout
    await asyncio.wait(here._tasks, timeout=30)
    assert sorted(published) == [f"{body['signal_id']}:{name}" for name in ("london", "tokyo")]
