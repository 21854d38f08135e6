"""dramatiq with its Redis broker, one worker thread a terminal. It polls its queues."""

import os
import signal as signals
from collections.abc import Callable, Sequence
from typing import Any, cast

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.work import Work

NAME = "dramatiq"
WARM = ("dramatiq.worker",)


def make(url: str) -> RedisBroker:
    broker: RedisBroker = cast(Any, RedisBroker)(url=url, namespace="bench-dramatiq")
    return broker


class Sender:
    def __init__(self, url: str) -> None:
        self._broker = make(url)
        self._actors: dict[int, Any] = {}

    async def send(self, terminals: Sequence[int], signal: dict[str, Any]) -> None:
        for index in terminals:
            if index not in self._actors:
                self._actors[index] = actor(self._broker, index, lambda _: None)
            self._actors[index].send(signal)


def actor(broker: RedisBroker, index: int, run: Callable[[dict[str, Any]], None]) -> Any:
    made = dramatiq.actor(
        actor_name=f"place-{index}", queue_name=f"terminal-{index}", broker=broker, max_retries=0
    )
    return made(run)


def serve(index: int, ready: Callable[[], None]) -> None:
    broker = make(os.environ["BENCH_REDIS"])
    actor(broker, index, Work("dramatiq", index).run)
    worker = dramatiq.Worker(broker, queues={f"terminal-{index}"}, worker_threads=1)
    worker.start()
    ready()
    while True:
        signals.pause()
