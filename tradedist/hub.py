"""The web process's only reader of live data: one connection a source, each message given to every socket's callback.

Follows: executors publish to RTRS and RTS, the feed to the tick Redis. Precedes: the consumers, which subscribe to
topics (the names in `keys`). The readers heal by themselves; the result stream goes on after its last entry, so that
a Redis that was away loses nothing, and whoever listens to `watch` is told.
"""

import asyncio
import logging
import secrets
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import redis
import redis.asyncio

from tradedist import keys, metrics
from tradedist.clock import monotonic_ms
from tradedist.mailbox import Pace
from tradedist.rates import Buckets
from tradedist.redis import close_loop_clients, loop_state, loop_ticks
from tradedist.redis_line import Line

logger = logging.getLogger(__name__)

T = TypeVar("T")
Source = Literal["state", "ticks"]

RETRY_FIRST_S, RETRY_MAX_S = 0.05, 0.25
CANCEL_AGAIN_S = 0.5
BLOCK_MS = 1_000  # below the client's socket timeout, so that a hung server is noticed
PAGE = 500
TURNS = 3
# pages of reports: an order by itself is read at once, a burst of many in pages 5 ms apart, which costs both sides less
READS_A_SECOND, READS_AT_ONCE = 200, 12
SILENT_POLLS = 3  # seconds after which a channel reader that hears not even its pongs starts anew
OPEN_LIMIT_S = 1.0  # for the first answer on a new connection


class Event:
    """One message of a topic. `once` lets the first of its readers do the decoding for all."""

    __slots__ = ("_made", "entry_id", "text", "topic")

    def __init__(self, topic: str, text: str, entry_id: str = "") -> None:
        self.topic = topic
        self.text = text
        self.entry_id = entry_id
        self._made: dict[Any, Any] = {}

    def once(self, make: Callable[["Event"], T]) -> T:
        if make not in self._made:
            self._made[make] = make(self)
        return cast(T, self._made[make])


@dataclass(frozen=True, slots=True)
class Change:
    """A source went away or came back. `reset`: the result stream is another one now, cursors are void."""

    source: Source
    up: bool
    reset: bool = False


class Subscription:
    """One callback on one topic, until closed."""

    def __init__(
        self, callbacks: dict[str, list[Callable[[Any], None]]], topic: str, call: Callable[[Any], None]
    ):
        self._callbacks = callbacks
        self._topic = topic
        self._call = call
        callbacks.setdefault(topic, []).append(call)

    def close(self) -> None:
        calls = self._callbacks.get(self._topic, [])
        if self._call in calls:
            calls.remove(self._call)
        if not calls:
            self._callbacks.pop(self._topic, None)


def read_entries(answer: Any) -> list[tuple[str, str]]:
    """(entry id, report) of XREAD's reply of one stream, which is a map or a list by the protocol's version."""
    if not answer:
        return []
    [(_, entries)] = answer.items() if isinstance(answer, dict) else answer
    return [
        (entry_id, dict(zip(fields[::2], fields[1::2], strict=True)).get("report", ""))
        for entry_id, fields in entries
    ]


def entry_order(entry_id: str) -> tuple[int, int]:
    """A stream id as something that compares."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


class Hub:
    """All methods belong to one event loop. Callbacks run in it and must not block."""

    def __init__(self) -> None:
        self.state: redis.asyncio.Redis = loop_state()
        self.ticks: redis.asyncio.Redis = loop_ticks()
        self._line = Line(self.state)
        self._reads = Buckets(READS_A_SECOND, READS_AT_ONCE)
        self.pace = Pace()
        self.epoch = ""  # the life of the result stream: another one after its Redis was wiped
        self.last_id = "0-0"  # the newest entry given to the callbacks
        self.closing = False
        self._up: dict[str, bool] = {}
        self._working: set[str] = set()  # readers that have been up since they last began
        self._unheard: set[str] = set()  # readers that broke off and may have missed something
        self._more_urgent: Callable[[], object] = lambda: False
        self._callbacks: dict[str, list[Callable[[Any], None]]] = {}
        self._watchers: dict[str, list[Callable[[Any], None]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._ready: dict[Source, asyncio.Event] = {"state": asyncio.Event(), "ticks": asyncio.Event()}
        self.subscribe(keys.REPORTS, metrics.on_report)
        self.subscribe(keys.RTS_CHANGES, metrics.on_terminal)

    # --- For the consumers ---

    def subscribe(self, topic: str, call: Callable[[Event], None]) -> Subscription:
        return Subscription(self._callbacks, topic, call)

    def watch(self, call: Callable[[Change], None]) -> Subscription:
        return Subscription(self._watchers, "", call)

    def gives_way_to(self, urgent: Callable[[], object]) -> None:
        """While that is true, a page of reports waits for a few turns of the loop."""
        self._more_urgent = urgent

    def is_up(self, source: Source) -> bool:
        readers = ("reports", "state") if source == "state" else ("ticks",)
        return all(self._up.get(reader, False) for reader in readers)

    async def ready(self, source: Source, timeout_s: float) -> bool:
        """Whether the source is read, waiting a little for it (a hub that has just started, a short outage)."""
        try:
            await asyncio.wait_for(self._ready[source].wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    # --- Life ---

    def start(self) -> None:
        if self._tasks:
            return
        state_channels = ((keys.RTS_CHANGES, keys.CONFIG_CHANGES), ())
        self._tasks = [
            asyncio.create_task(self._for_ever("reports", self._read_reports)),
            asyncio.create_task(
                self._for_ever("state", lambda: self._read_channels("state", *state_channels))
            ),
            asyncio.create_task(
                self._for_ever("ticks", lambda: self._read_channels("ticks", (), (keys.MARKET_PATTERN,)))
            ),
            asyncio.create_task(self._measure_lateness()),
        ]

    def shut(self) -> None:
        """Tell every socket that this process ends; they close with 1012 and their clients connect elsewhere."""
        self.closing = True
        for call in list(self._watchers.get("", ())):
            call(Change("state", up=self.is_up("state")))

    async def close(self) -> None:
        """Cancelled until they end: at the end of a time limit of its own the client may take one for that."""
        while running := [task for task in self._tasks if not task.done()]:
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
        self._tasks = []
        await self._line.close()
        await close_loop_clients()

    # --- Readers ---

    async def _for_ever(self, reader: str, read: Callable[[], Awaitable[None]]) -> None:
        """A reader that worked and fails tries once again before anybody is told: a process that was held up for
        seconds sees time-outs of servers that are well."""
        delay = RETRY_FIRST_S
        while True:
            self._working.discard(reader)
            try:
                await read()
            except (redis.RedisError, OSError, TimeoutError) as error:
                if self._up.get(reader, True):
                    logger.warning("the %s reader lost Redis: %s", reader, error)
                metrics.hub_reconnects.labels(reader).inc()
                await self._forget_connections(reader)
                if reader in self._working:
                    self._unheard.add(reader)
                    delay = RETRY_FIRST_S
                    continue
                self._set(reader, up=False)
            except Exception:
                logger.exception("the %s reader failed and starts anew", reader)
                self._set(reader, up=False)
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, RETRY_MAX_S)

    async def _forget_connections(self, reader: str) -> None:
        """The pool's idle connections went to the server that is gone."""
        if reader == "reports":
            self._line.drop()
        client = self.ticks if reader == "ticks" else self.state
        await client.connection_pool.disconnect(inuse_connections=False)

    def _set(self, reader: str, *, up: bool, reset: bool = False) -> None:
        source: Source = "ticks" if reader == "ticks" else "state"
        before = self.is_up(source)
        if up and self._up.get(reader) is False:
            logger.info("the %s reader has Redis again", reader)
        if up:
            self._working.add(reader)
            # What channels said while nobody listened is gone; the stream keeps what it has.
            reset = reset or (reader in self._unheard and reader != "reports")
        self._unheard.discard(reader)
        self._up[reader] = up
        after = self.is_up(source)
        if after:
            self._ready[source].set()
        else:
            self._ready[source].clear()
        if before != after or reset:
            for call in list(self._watchers.get("", ())):
                self._call(call, Change(source, up=after, reset=reset))

    async def _read_reports(self) -> None:
        async with asyncio.timeout(OPEN_LIMIT_S):
            reset = await self._find_place()
        self._set("reports", up=True, reset=reset)
        while True:
            await self._wait_for_a_page()
            entries = read_entries(
                await self._line.call(
                    "XREAD", "COUNT", PAGE, "BLOCK", BLOCK_MS, "STREAMS", keys.REPORTS, self.last_id
                )
            )
            if not entries:
                # A stream that was deleted under a living connection says nothing: look.
                if await self._find_place():
                    self._set("reports", up=True, reset=True)
                continue
            await self._give_way()
            for entry_id, text in entries:
                self.last_id = entry_id
                self._dispatch(Event(keys.REPORTS, text, entry_id))

    async def _wait_for_a_page(self) -> None:
        while wait_s := self._reads.take(keys.REPORTS, monotonic_ms()):  # noqa: ASYNC110  it says for how long
            await asyncio.sleep(wait_s)

    async def _give_way(self) -> None:
        """The store answers an accept and shows its first reports at once: the executors are woken before those are read."""
        for _ in range(TURNS):
            if not self._more_urgent():
                break
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # its reply has come: now it has its turn

    async def _find_place(self) -> bool:
        """Where to read on. True when the stream is not the one read before (wiped, or rolled back behind us)."""
        async with self.state.pipeline(transaction=True) as pipe:
            pipe.set(keys.REPORTS_EPOCH, secrets.token_hex(8), nx=True)
            pipe.get(keys.REPORTS_EPOCH)
            pipe.xrevrange(keys.REPORTS, count=1)
            _, epoch, newest = await pipe.execute()
        newest_id = newest[0][0] if newest else "0-0"
        first = not self.epoch
        if not first and epoch == self.epoch and entry_order(newest_id) >= entry_order(self.last_id):
            return False
        if not first and epoch == self.epoch and newest_id == "0-0":
            return False  # trimmed to nothing: ids go on rising
        if not first:
            logger.warning("the result stream is another one than before; sockets get a new snapshot")
        self.epoch = epoch
        self.last_id = newest_id
        return not first

    async def _read_channels(self, reader: str, channels: tuple[str, ...], patterns: tuple[str, ...]) -> None:
        client = self.ticks if reader == "ticks" else self.state
        loop = asyncio.get_running_loop()
        async with client.pubsub() as pubsub:
            if channels:
                await pubsub.subscribe(*channels)
            if patterns:
                await pubsub.psubscribe(*patterns)
            missing = len(channels) + len(patterns)
            opened = pinged = loop.time()
            silent = 0  # counted, not timed: when this process was held up, the answers are there afterwards
            while silent < SILENT_POLLS:
                message = await pubsub.get_message(timeout=BLOCK_MS / 1000)
                silent = 0 if message else silent + 1
                kind = message["type"] if message else ""
                if message and kind in ("message", "pmessage"):
                    self._dispatch(Event(message["channel"], message["data"]))
                elif kind in ("subscribe", "psubscribe"):
                    missing -= 1
                    if missing == 0:
                        self._set(reader, up=True)
                now = loop.time()
                if missing and now - opened > OPEN_LIMIT_S:
                    break
                if now - pinged > BLOCK_MS / 1000:
                    pinged = now
                    await pubsub.ping()
            raise TimeoutError("the server says nothing")

    def _dispatch(self, event: Event) -> None:
        for call in list(self._callbacks.get(event.topic, ())):
            self._call(call, event)

    def _call(self, call: Callable[[Any], None], argument: Any) -> None:
        try:
            call(argument)
        except Exception:  # one socket's fault must not stop the reader of all
            logger.exception("a hub callback failed")

    async def _measure_lateness(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.1
            await asyncio.sleep(0.1)
            now = loop.time()
            self.pace.late(now - due, now)


_hubs: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hub]" = weakref.WeakKeyDictionary()


def current() -> Hub:
    """The running event loop's hub, started. A web process has one loop and so one hub."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        hub = _hubs[loop] = Hub()
        hub.start()
    return hub


async def close_current() -> None:
    """End the running loop's hub, if it has one."""
    if hub := _hubs.pop(asyncio.get_running_loop(), None):
        await hub.close()
