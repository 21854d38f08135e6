"""RQ with SimpleWorker, which runs jobs in its own process instead of forking for each."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import redis
from rq import Queue, SimpleWorker

from bench.work import Work

NAME = "RQ"
WARM = ("rq.worker",)
_work: list[Work] = []


def place(signal: dict[str, Any]) -> None:
    _work[0].run(signal)


class Sender:
    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)
        self._queues: dict[int, Queue] = {}

    async def send(self, terminals: Sequence[int], signal: dict[str, Any]) -> None:
        for index in terminals:
            if index not in self._queues:
                self._queues[index] = Queue(f"bench-{index}", connection=self._redis)
            self._queues[index].enqueue(place, signal, result_ttl=0, description="")


def serve(index: int, ready: Callable[[], None]) -> None:
    _work.append(Work("rq", index))
    connection = redis.Redis.from_url(os.environ["BENCH_REDIS"], socket_timeout=None)
    worker = SimpleWorker(
        [Queue(f"bench-{index}", connection=connection)],
        connection=connection,
        name=f"bench-{index}-{os.getpid()}",
    )
    worker.log_result_lifespan = False
    ready()
    worker.work(logging_level="WARNING")
