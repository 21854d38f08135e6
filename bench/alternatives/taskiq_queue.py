"""taskiq with its Redis stream broker, whose messages are acknowledged after the work as Celery's are here."""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any

from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker

from bench.work import Work

NAME = "taskiq"
WARM = ("taskiq.receiver",)


def make(url: str, index: int) -> RedisStreamBroker:
    return RedisStreamBroker(url, queue_name=f"bench-taskiq-{index}", consumer_id="0", socket_timeout=None)


class Sender:
    """One broker object: the queue is a label of the message."""

    def __init__(self, url: str) -> None:
        self._task = make(url, 0).register_task(nothing, task_name="place")

    async def send(self, terminals: Sequence[int], signal: dict[str, Any]) -> None:
        for index in terminals:
            await self._task.kicker().with_labels(queue_name=f"bench-taskiq-{index}").kiq(signal)


def nothing(signal: dict[str, Any]) -> None:
    """The sender's side of the task: only its name counts."""


def serve(index: int, ready: Callable[[], None]) -> None:
    work = Work("taskiq", index)
    broker = make(os.environ["BENCH_REDIS"], index)

    async def place(signal: dict[str, Any]) -> None:
        work.run(signal)

    broker.register_task(place, task_name="place")

    async def main() -> None:
        await broker.startup()
        ready()
        await run_receiver_task(broker, max_async_tasks=1)

    asyncio.run(main())
