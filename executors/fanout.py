"""Wakes the executors of an accepted signal: datagrams at once, TCP frames some milliseconds and Celery tasks a grace later.

Precedes: listeners and `tasks.execute_order`. Follows: dispatch, once the store has recorded the signal. All of it may be
lost: the outbox has every leg. The graces (`graces`) keep executors from being woken again while they run the order.
With CELERY_DISPATCH=backup only orders that nobody has reported on after a longer grace become tasks.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import redis
import redis.asyncio
from celery import current_app
from django.conf import settings

from executors import graces
from executors.crashpoints import reached
from executors.messages import ExecutionReport, Leg, OpenSignal
from executors.orders import OrderState
from executors.state import SignalStore
from executors.wakeup import Sealed, Wakeup
from tradedist import keys
from tradedist.clock import monotonic_ms, now_ms
from tradedist.wire import DATAGRAM_MAX, Keyring

logger = logging.getLogger(__name__)

EXECUTE_TASK = "executors.tasks.execute_order"
CLOSE_PRIORITY, OPEN_PRIORITY = 0, 3  # Redis lists in Celery: 0 goes first
ADDRESSES_AGE_MS = 500
BESIDE_S = 0.02  # known ones are read again when the order that found them old is on its way
COLLECT_S = 0.02
MAX_LOOKS = 1000  # for addresses at once; beyond it the outbox alone wakes who is not known
MAX_PENDING = 10_000  # orders on their way to a task; of more only datagrams, frames and the outbox tell
BATCH = 500  # Celery messages in one pipeline
MAX_UNREPORTED = 5000  # orders that wait for a backup task


class Fanout:
    """One an event loop. `client` is its state Redis, `store` the signals in it."""

    def __init__(self, client: "redis.asyncio.Redis", store: SignalStore) -> None:
        self._redis = client
        self._store = store
        self._unreported: list[tuple[Leg, str]] = []
        self._backup: asyncio.Task[None] | None = None
        self._wakeup = Wakeup(Keyring({0: settings.WIRE_KEY}), boot_id=now_ms())
        self._addresses: dict[str, str] = {}
        self._read_ms = -ADDRESSES_AGE_MS * 2.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._frames: list[Sealed] = []  # go by TCP together
        self._collected: list[tuple[Leg, str]] = []  # become tasks together
        self._pending = 0  # orders whose tasks are not published yet
        self._progress = graces.Progress()
        self._open: dict[str, _Open] = {}  # by order_id: whose tasks wait for its outcome
        self._publisher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="celery-publish")

    def wake(self, legs: Sequence[tuple[Leg, str]]) -> None:
        """`legs`: each with its JSON. Returns at once; what takes time goes on in the background."""
        reached("wake-before-datagrams")
        room = self._pending + len(legs) <= MAX_PENDING
        if room:  # before any of them can be reported
            self._progress.begin(leg.order_id for leg, _ in legs)
        known = all(leg.terminal_id in self._addresses for leg, _ in legs)
        if known:
            self._send(legs)
        stale = not known or monotonic_ms() - self._read_ms > ADDRESSES_AGE_MS
        if stale and len(self._tasks) < MAX_LOOKS:
            self._read_ms = monotonic_ms()
            self._spawn(self._look_up(legs, sent=known))
        if not room:
            logger.warning("too many Celery tasks pending: the outbox has the orders too")
            return
        self._pending += len(legs)
        if not self._collected:
            self._spawn(self._publish_collected())
        self._collected += legs

    def reported(self, report: ExecutionReport) -> None:
        """What the process's hub reads. Without it all graces last as long as they may."""
        self._progress.reported(report)
        waits = self._open.get(report.order_id)
        if waits and self._progress.ended(report.order_id):
            del self._open[report.order_id]
            waits.ended()

    async def close(self) -> None:
        """Waits a little for what is in the background. What is left to wake, the outbox wakes."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)
        for task in self._tasks:
            task.cancel()
        self._wakeup.close()
        self._publisher.shutdown(wait=False)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _look_up(self, legs: Sequence[tuple[Leg, str]], *, sent: bool) -> None:
        if sent:
            await asyncio.sleep(BESIDE_S)
        await self._read_addresses({leg.terminal_id for leg, _ in legs})
        if not sent:
            self._send(legs)

    def _send(self, legs: Sequence[tuple[Leg, str]]) -> None:
        sealed = self._wakeup.datagrams(legs, self._addresses)
        self._wakeup.frames([item for item in sealed if len(item.raw) > DATAGRAM_MAX])
        first = not self._frames
        self._frames += [item for item in sealed if len(item.raw) <= DATAGRAM_MAX]
        if first and self._frames:
            self._spawn(self._send_frames())

    async def _send_frames(self) -> None:
        """To whom datagrams may not have reached; to who is only slow, among others that are at work, later."""
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(graces.frames_s(len(self._frames)))
        sealed, self._frames = self._frames, []
        taken, slow = self._progress.taken, self._progress.deaf
        unheard = [item for item in sealed if not taken(item.order_id)]
        at_work = len(unheard) < len(sealed)
        self._wakeup.frames([item for item in unheard if not at_work or slow(item.terminal_id)])
        reached("wake-after-frames")
        if waiting := [item for item in unheard if at_work and not slow(item.terminal_id)]:
            due = began + graces.last_frames_s(len(sealed))
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            self._wakeup.frames([item for item in waiting if not taken(item.order_id)])

    async def _publish_collected(self) -> None:
        """The tasks of some milliseconds' orders together: one by one they cost five times the processor time."""
        await asyncio.sleep(COLLECT_S)
        legs, self._collected = self._collected, []
        try:
            # a fan-out takes longer, and its workers would be woken into it
            await asyncio.sleep(settings.DISPATCH_GRACE_MS / 1000 + graces.tasks_s(len(legs)))
            self._wakeup.flush()
            if settings.CELERY_DISPATCH == "backup":
                self._back_up([item for item in legs if not self._progress.taken(item[0].order_id)])
            else:
                await self._outcomes(legs)
                await self._publish(legs)
        finally:
            self._pending -= len(legs)
            self._progress.end(leg.order_id for leg, _ in legs)

    async def _outcomes(self, legs: Sequence[tuple[Leg, str]]) -> None:
        """Returns when all have one, or their time is over."""
        without = [leg.order_id for leg, _ in legs if not self._progress.ended(leg.order_id)]
        if not without:
            return
        waits = _Open(len(without))
        self._open |= dict.fromkeys(without, waits)
        try:
            await asyncio.wait([waits.all_ended], timeout=graces.open_tasks_s(len(legs)))
        finally:
            for order_id in without:
                self._open.pop(order_id, None)

    async def _publish(self, legs: Sequence[tuple[Leg, str]]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._publisher, publish_tasks, legs)

    def _back_up(self, legs: Sequence[tuple[Leg, str]]) -> None:
        """All orders of a grace are looked at together, so that the look costs a busy process next to nothing."""
        if not legs or len(self._unreported) >= MAX_UNREPORTED:
            return  # the outbox has them
        self._unreported += legs
        if self._backup is None:
            self._backup = self._spawn(self._look_back())

    async def _look_back(self) -> None:
        await asyncio.sleep(settings.CELERY_BACKUP_MS / 2000)
        legs, self._unreported, self._backup = self._unreported, [], None
        await asyncio.sleep(settings.CELERY_BACKUP_MS / 1000)
        try:
            states = await self._store.look([keys.order(leg.order_id) for leg, _ in legs])
        except redis.RedisError as error:
            logger.warning("unreported orders could not be looked for: %s", error)
            return
        late = [leg for leg, state in zip(legs, states, strict=True) if state == OrderState.QUEUED]
        if late:
            await self._publish(late)

    async def _read_addresses(self, also: set[str]) -> None:
        self._read_ms = monotonic_ms()
        names = sorted(also | set(self._addresses))
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.hget(keys.instance(name), "address")
        try:
            found = cast(list[str | None], await cast(Any, pipe.execute()))
        except redis.RedisError as error:
            logger.warning("the executors' addresses could not be read: %s", error)
            return
        self._addresses = {name: address for name, address in zip(names, found, strict=True) if address}


class _Open:
    """Orders whose tasks wait together until the last of them has an outcome."""

    def __init__(self, orders: int) -> None:
        self._left = orders
        self.all_ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ended(self) -> None:
        self._left -= 1
        if not self._left and not self.all_ended.done():
            self.all_ended.set_result(None)


def publish_tasks(legs: Sequence[tuple[Leg, str]]) -> None:
    """One Celery task an order, on its terminal's queue. A failure is only logged: the outbox has the leg."""
    reached("celery-before-publish")
    try:
        _write_tasks(legs)
    except Exception:  # whatever the broker library raises, the order goes on by the outbox
        logger.exception("Celery tasks could not be published", extra={"action": "wake"})
    reached("celery-after-publish")


def _write_tasks(legs: Sequence[tuple[Leg, str]]) -> None:
    """What `send_task` would write, in one pipeline and at a tenth of its processor time: the publisher's thread
    competes with the orders that come next."""
    with current_app.producer_pool.acquire(block=True, timeout=2) as producer:
        channel: Any = producer.channel
        with contextlib.closing(channel.create_publish_batch(max_size=BATCH)) as batch:
            for leg, text in legs:
                task = current_app.amqp.as_task_v2(
                    leg.order_id, EXECUTE_TASK, args=(text,), argsrepr=repr(leg.order_id), kwargsrepr=""
                )
                message = channel.prepare_message(
                    json.dumps(task.body),
                    priority=OPEN_PRIORITY if isinstance(leg.signal, OpenSignal) else CLOSE_PRIORITY,
                    content_type="application/json",
                    content_encoding="utf-8",
                    headers=task.headers,
                    properties=task.properties | {"delivery_mode": 2},
                )
                batch.publish(message, exchange="", routing_key=keys.terminal_queue(leg.terminal_id))
            batch.flush()
