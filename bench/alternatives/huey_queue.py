"""huey with its Redis storage and a blocking consumer of one thread, without scheduler and results."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from huey import RedisHuey
from huey.consumer import Consumer

from bench.work import Work

NAME = "huey"
WARM = ("huey.consumer_options",)


def make(url: str, index: int) -> Any:
    return RedisHuey(f"bench-{index}", url=url, results=False, blocking=True)


class Sender:
    def __init__(self, url: str) -> None:
        self._url = url
        self._tasks: dict[int, Any] = {}

    async def send(self, terminals: Sequence[int], signal: dict[str, Any]) -> None:
        for index in terminals:
            if index not in self._tasks:
                self._tasks[index] = make(self._url, index).task(name="place")(nothing)
            self._tasks[index](signal)


def nothing(signal: dict[str, Any]) -> None:
    """The sender's side of the task: only its name counts."""


def serve(index: int, ready: Callable[[], None]) -> None:
    work = Work("huey", index)
    queue = make(os.environ["BENCH_REDIS"], index)

    def place(signal: dict[str, Any]) -> None:
        work.run(signal)

    place.__module__ = nothing.__module__  # huey names a task by module and name
    queue.task(name="place")(place)
    ready()
    Consumer(queue, workers=1, periodic=False, worker_type="thread").run()
