"""Celery tasks of accepted orders: collected, written in one go, and what a worker finds is what `send_task` would send."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
import redis
import redis.asyncio
from celery import current_app
from kombu import Queue

from executors import fanout
from executors.messages import Leg
from executors.state import SignalStore
from tests.simulated import make_close, make_leg, make_open
from tradedist import keys
from tradedist.celery import app
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
            connection.drain_events(timeout=5)
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
        async with asyncio.timeout(5):
            assert await published.get() == [leg.order_id for leg in legs[:3]]
            await asyncio.sleep(0.01)
            waker.wake(texts(legs[4]))
            assert await published.get() == [legs[4].order_id], "there is room again"
    finally:
        await waker.close()
        await client.aclose()


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
