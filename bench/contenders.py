"""Ours and the alternatives as the order benches see them: something that sends a signal, and a reader of what came of it.

Precedes: `orders.py`. Follows: `executors.dispatch.accept` for ours, `alternatives/` for the rest. One reader, the same for
all, waits on the result stream, so that everything after the result was written costs everyone the same.
"""

import asyncio
import contextlib
import importlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import redis.asyncio

from bench.alternatives import Sender
from bench.lab import Lab, terminal_name
from bench.workers import Workers

ENDS = {"DENIED", "REJECTED", "EXPIRED", "CANCELLED", "NOT_EXECUTED", "UNKNOWN"}
LIMIT_S = 60.0
TRIES = 5
ALTERNATIVES = (
    "celery_queue",
    "celery_queue-quiet",
    "dramatiq_queue",
    "rq_queue",
    "huey_queue",
    "taskiq_queue",
    "stream_queue",
)


class NotFilled(Exception):
    """An order came to another end: the bench measures something else than it should."""


def signal_of(number: int) -> dict[str, Any]:
    """Buys and sells by turns, so that no position grows."""
    return {
        "signal_id": str(uuid.uuid4()),
        "action": "open",
        "symbol": "EURUSD",
        "side": ("buy", "sell")[number % 2],
        "order_type": "market",
        "lots": 0.1,
    }


class Reader:
    """Waits on the result stream, for any number of signals at once."""

    def __init__(self) -> None:
        from django.conf import settings

        # without a time limit: the loop stands still while workers are started
        self._redis: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
            settings.REDIS_STATE_URL, decode_responses=True, socket_timeout=None
        )
        self._waiting: dict[str, tuple[int, asyncio.Future[None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self.reports: list[dict[str, Any]] = []  # of the fills, with their traces
        self.hub: Callable[[str], None] | None = None  # who hears every report in a web process, of ours

    async def __aenter__(self) -> "Reader":
        from tradedist import keys

        newest = await self._redis.xrevrange(keys.REPORTS, count=1)
        last = str(newest[0][0]) if newest else "0-0"
        self._task = asyncio.create_task(self._read(keys.REPORTS, last))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._ended = True  # not cancelled: the client may take that for itself and read on
        await self._task
        await self._redis.aclose()

    def expect(self, signal_id: str, orders: int) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[signal_id] = (orders, done)
        return done

    async def _read(self, stream: str, last: str) -> None:
        while not self._ended:
            answer = cast(Any, await self._redis.xread({stream: last}, count=500, block=500))
            for entry_id, fields in answer[0][1] if answer else ():
                last = entry_id
                report = json.loads(fields["report"])
                if self.hub is not None:
                    self.hub(fields["report"])
                state = report["state"]
                if state == "FILLED":
                    self._filled(report)
                elif state in ENDS and report["signal_id"] in self._waiting:
                    _, done = self._waiting.pop(report["signal_id"])
                    done.set_exception(NotFilled(f"{state} {report['code']}: {report['message']}"))

    def _filled(self, report: dict[str, Any]) -> None:
        left, done = self._waiting.get(report["signal_id"], (0, None))
        if done is None:
            return
        if "trace" in report:
            self.reports.append(report)
        if left > 1:
            self._waiting[report["signal_id"]] = (left - 1, done)
        else:
            del self._waiting[report["signal_id"]]
            done.set_result(None)


class Ours:
    """Accept in this process, as the web process does it."""

    def __init__(self, lab: Lab) -> None:
        self._user = lab.user

    async def send(self, terminals: Sequence[int], signal: dict[str, Any]) -> None:
        from executors.dispatch import accept
        from executors.errors import AcceptUnknown

        names = [terminal_name(index) for index in terminals]
        for tries_left in range(TRIES, 0, -1):
            try:
                await accept(signal | {"targets": {"terminals": names}}, self._user, source="bench")
                return
            except AcceptUnknown:  # a store that was slow for seconds: sent again, as every client does
                if tries_left == 1:
                    raise
                await asyncio.sleep(0.05)

    def heard(self, report: str) -> None:
        """As the hub of a web process gives it to accept's wake-ups."""
        from executors.dispatch import process
        from executors.messages import ExecutionReport

        process().fanout.reported(ExecutionReport.model_validate_json(report))


class Contender:
    """A sender, and the workers to which it sends; None: the executors, which are ours."""

    def __init__(self, name: str, sender: Sender, workers: Workers | None = None) -> None:
        self.name = name
        self.sender = sender
        self.workers = workers

    async def place(
        self, reader: Reader, terminals: Sequence[int], number: int, limit_s: float = LIMIT_S
    ) -> float:
        """Milliseconds until the last terminal's fill was read."""
        signal = signal_of(number)
        reader.hub = self.sender.heard if isinstance(self.sender, Ours) else None
        began = time.perf_counter()
        done = reader.expect(signal["signal_id"], len(terminals))
        await self.sender.send(terminals, signal)
        try:
            async with asyncio.timeout(limit_s):
                await done
        except TimeoutError:
            raise NotFilled(
                f"{self.name}: a signal to {len(terminals)} is not filled after {limit_s} s"
            ) from None
        return (time.perf_counter() - began) * 1000

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Its workers run meanwhile."""
        if self.workers is None:
            yield
            return
        self.workers.resume()
        time.sleep(0.2)
        try:
            yield
        finally:
            self.workers.pause()


def alternative(lab: Lab, name: str, terminals: int) -> Contender:
    """Its workers are not started yet: they are a context of their own."""
    from django.conf import settings

    plain, _, quiet = name.partition("-")
    module = importlib.import_module(f"bench.alternatives.{plain}")
    workers = Workers(lab, plain, terminals, BENCH_EVENTS="0" if quiet else "1")
    options = {"events": False} if quiet else {}
    label = f"{module.NAME}, no events" if quiet else module.NAME
    return Contender(label, module.Sender(settings.REDIS_STATE_URL, **options), workers)
