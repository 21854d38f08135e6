"""Plain Celery: `send_task` to solo workers like the platform's own, task events on. BENCH_EVENTS=0: off."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery
from celery.signals import worker_ready

from bench.work import Work
from executors.warm import MODULES as PLATFORM_WARM

NAME = "plain Celery"
WARM = tuple(name for name in PLATFORM_WARM if name.startswith(("billiard", "celery", "kombu", "encodings")))
EVENTS = os.environ.get("BENCH_EVENTS", "1") == "1"
TASK = "bench.place"


def make(url: str) -> Celery:
    app = Celery("bench", broker=url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=EVENTS,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
    )
    return app


def queue_name(index: int) -> str:
    return f"bench.celery{'' if EVENTS else '.quiet'}.{index}"


class Sender:
    def __init__(self, url: str, *, events: bool = True) -> None:
        self._app = make(url)
        self._suffix = "" if events else ".quiet"

    async def send(self, terminals: Sequence[int], signal: dict[str, Any]) -> None:
        for index in terminals:
            self._app.send_task(TASK, args=[signal], queue=f"bench.celery{self._suffix}.{index}")


def serve(index: int, ready: Callable[[], None]) -> None:
    work = Work(f"celery{EVENTS:d}", index)
    os.environ.pop(
        "DJANGO_SETTINGS_MODULE", None
    )  # a plain worker: Celery would set all of Django up in each
    app = make(os.environ["BENCH_REDIS"])
    app.task(name=TASK)(work.run)
    worker_ready.connect(lambda **_: ready(), weak=False)
    app.Worker(
        hostname=f"bench{EVENTS:d}-{index}@localhost",
        queues=[queue_name(index)],
        pool="solo",
        concurrency=1,
        task_events=EVENTS,
        without_gossip=True,
        without_mingle=True,
        heartbeat_interval=30,
        loglevel="WARNING",
        optimization="fair",
    ).start()
