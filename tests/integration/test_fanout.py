"""Celery tasks of accepted orders: collected, written in one go, and what a worker finds is what `send_task` would send."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import redis
import redis.asyncio
from celery import current_app
from kombu import Queue

from executors import fanout, graces
from executors.messages import ExecutionReport, Leg
from executors.state import SignalStore
from executors.wakeup import Sealed
from tests.simulated import make_close, make_leg, make_open
from tests.waiting import eventually
from tradedist import keys
from tradedist.celery import app
from tradedist.clock import monotonic_ms
from tradedist.redis import async_state

QUEUE = keys.terminal_queue("sim-1")


@pytest.fixture(autouse=True)
def celery() -> None:
    app.set_default()


def texts(*legs: Leg) -> list[tuple[Leg, str]]:
    return [(leg, leg.model_dump_json()) for leg in legs]


def taken(count: int) -> list[Any]:
    """Messages as a worker's consumer decodes them, in the order in which it gets them."""
    found: list[Any] = []

    def take(body: Any, message: Any) -> None:
        found.append((body, message))
        message.ack()

    with (
        current_app.connection_for_read() as connection,
        connection.Consumer(Queue(QUEUE), callbacks=[take], accept=["json"]),
    ):
        while len(found) < count:
            connection.drain_events(timeout=30)
    return found


def test_a_worker_finds_what_send_task_would_send(state_redis: "redis.Redis") -> None:
    open_leg, close_leg = make_leg(make_open(1), 1), make_leg(make_close(2, symbol="EURUSD"), 2)
    legs = texts(open_leg, close_leg)
    fanout.publish_tasks(legs)
    (first, close_message), (second, open_message) = taken(2)
    assert [first[0], second[0]] == [[legs[1][1]], [legs[0][1]]], "a close goes first"
    assert first[1] == {}
    current_app.send_task(
        fanout.EXECUTE_TASK, args=[legs[0][1]], argsrepr=repr(open_leg.order_id), kwargsrepr="",
        task_id=open_leg.order_id, queue=QUEUE, priority=fanout.OPEN_PRIORITY,
    )  # fmt: skip
    ((body, message),) = taken(1)
    assert body == second
    assert open_message.headers == message.headers | {"ignore_result": open_message.headers["ignore_result"]}
    assert open_message.headers["id"] == open_leg.order_id
    assert close_message.properties["priority"] == fanout.CLOSE_PRIORITY
    for name in ("correlation_id", "priority", "delivery_mode", "body_encoding"):
        assert open_message.properties[name] == message.properties[name], name
    assert (open_message.content_type, open_message.content_encoding) == (
        message.content_type,
        message.content_encoding,
    )


async def test_orders_of_a_moment_become_tasks_together(
    state_redis: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    client = async_state()
    waker = fanout.Fanout(client, SignalStore(client))
    loop, published = asyncio.get_running_loop(), asyncio.Queue[list[str]]()

    def publish(legs: Sequence[tuple[Leg, str]]) -> None:  # in the publisher's thread
        loop.call_soon_threadsafe(published.put_nowait, [leg.order_id for leg, _ in legs])

    monkeypatch.setattr(fanout, "publish_tasks", publish)
    monkeypatch.setattr(fanout, "MAX_PENDING", 3)
    legs = [make_leg(make_open(number), number) for number in range(1, 6)]
    try:
        waker.wake(texts(legs[0]))
        waker.wake(texts(*legs[1:3]))
        waker.wake(texts(legs[3]))  # more than may be pending
        assert published.empty(), "not before the grace"
        async with asyncio.timeout(30):
            assert await published.get() == [leg.order_id for leg in legs[:3]]
            await asyncio.sleep(0.01)
            waker.wake(texts(legs[4]))
            assert await published.get() == [legs[4].order_id], "there is room again"
    finally:
        await waker.close()
        await client.aclose()


def reported(leg: Leg, state: str, woken_by: Any = "udp") -> ExecutionReport:
    return ExecutionReport(
        order_id=leg.order_id, signal_id=leg.signal.signal_id, terminal_id=leg.terminal_id, report_seq=1,
        state=state, action="open", time_ms=1, woken_by=woken_by,
    )  # fmt: skip


class Sent:
    """What goes by which way, in place of the network."""

    def __init__(self, waker: fanout.Fanout, monkeypatch: pytest.MonkeyPatch) -> None:
        self.datagrams: list[str] = []
        self.frames: list[str] = []
        self.tasks: list[str] = []
        wakeup = waker._wakeup
        waker._addresses = {f"sim-{number}": "127.0.0.1:9" for number in range(10)}
        waker._read_ms = monotonic_ms() + 60_000

        def datagrams(legs: Sequence[tuple[Leg, str]], addresses: dict[str, str]) -> list[Sealed]:
            self.datagrams += [leg.order_id for leg, _ in legs]
            return [Sealed("127.0.0.1:9", b"x", leg.order_id, leg.terminal_id) for leg, _ in legs]

        def frames(sealed: Sequence[Sealed]) -> None:
            self.frames += [item.order_id for item in sealed]

        def publish(legs: Sequence[tuple[Leg, str]]) -> None:
            self.tasks += [leg.order_id for leg, _ in legs]

        monkeypatch.setattr(wakeup, "datagrams", datagrams)
        monkeypatch.setattr(wakeup, "frames", frames)
        monkeypatch.setattr(fanout, "publish_tasks", publish)


@pytest.fixture
async def waker(state_redis: "redis.Redis") -> AsyncIterator[fanout.Fanout]:
    client = async_state()
    made = fanout.Fanout(client, SignalStore(client))
    yield made
    await made.close()
    await client.aclose()


async def test_frames_go_to_whom_no_report_names(
    waker: fanout.Fanout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reported: all of them soon. Some did: the others only after the longer grace, the deaf one at once."""
    sent = Sent(waker, monkeypatch)
    lone = make_leg(make_open(1), 1, terminal_id="sim-1")
    waker.wake(texts(lone))
    await eventually(lambda: sent.frames)
    assert sent.frames == [lone.order_id]
    waker.reported(reported(lone, "FILLED", "tcp"))  # sim-1 hears no datagrams

    sent.frames.clear()
    legs = [make_leg(make_open(2), number, terminal_id=f"sim-{number}") for number in range(1, 4)]
    deaf, quick, slow = legs
    monkeypatch.setattr(graces, "EACH_HEARD_FRAME_S", 0.05)
    waker.wake(texts(*legs))
    waker.reported(reported(quick, "INTENT"))
    await eventually(lambda: sent.frames)
    assert sent.frames == [deaf.order_id]
    await eventually(lambda: len(sent.frames) > 1)
    assert sent.frames == [deaf.order_id, slow.order_id]
    assert len(sent.datagrams) == 4


async def test_an_order_on_which_its_executor_has_reported_gets_no_frame_but_its_task(
    waker: fanout.Fanout, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(waker, monkeypatch)
    leg = make_leg(make_open(1), 1)
    waker.wake(texts(leg))
    waker.reported(reported(leg, "FILLED"))
    await eventually(lambda: sent.tasks)
    assert (sent.frames, sent.tasks) == ([], [leg.order_id])
    assert len(waker._progress) == 0


async def test_tasks_of_a_fan_out_wait_for_its_outcomes_up_to_a_bound(
    waker: fanout.Fanout, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(waker, monkeypatch)
    legs = [make_leg(make_open(1), number, terminal_id=f"sim-{number}") for number in range(1, 6)]
    monkeypatch.setattr(graces, "EACH_OPEN_TASK_S", 60.0)
    waker.wake(texts(*legs))
    for leg in legs[:4]:
        waker.reported(reported(leg, "FILLED"))
    waker.reported(reported(legs[4], "INTENT"))
    await asyncio.sleep(0.15)
    assert sent.tasks == []
    waker.reported(reported(legs[4], "REJECTED"))
    await eventually(lambda: sent.tasks)
    assert sent.tasks == [leg.order_id for leg in legs]

    monkeypatch.setattr(graces, "EACH_OPEN_TASK_S", 0.001)
    sent.tasks.clear()
    silent = make_leg(make_open(2), 9)
    waker.wake(texts(silent))
    await eventually(lambda: sent.tasks)
    assert sent.tasks == [silent.order_id]


async def test_a_backup_is_not_even_looked_up_of_an_order_that_was_reported(
    waker: fanout.Fanout, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.CELERY_DISPATCH, settings.CELERY_BACKUP_MS = "backup", 10
    Sent(waker, monkeypatch)
    looked: list[str] = []

    async def look(names: list[str]) -> list[str]:
        looked.extend(names)
        return ["FILLED"] * len(names)

    monkeypatch.setattr(waker._store, "look", look)
    done, silent = make_leg(make_open(1), 1), make_leg(make_open(2), 2)
    waker.wake(texts(done, silent))
    waker.reported(reported(done, "INTENT"))
    await eventually(lambda: looked)
    assert looked == [keys.order(silent.order_id)]


def test_a_broker_that_is_gone_is_logged_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(legs: object) -> None:
        raise redis.ConnectionError("gone")

    monkeypatch.setattr(fanout, "_write_tasks", gone)
    fanout.publish_tasks(texts(make_leg(make_open(1), 1)))
    assert "could not be published" in caplog.text


def test_the_message_is_json_and_nothing_else(state_redis: "redis.Redis") -> None:
    fanout.publish_tasks(texts(make_leg(make_open(1), 1)))
    raw = [name for name in state_redis.keys("*") if str(name).startswith(QUEUE)]
    (message,) = (json.loads(text) for name in raw for text in state_redis.lrange(name, 0, -1))
    assert message["content-type"] == "application/json"
