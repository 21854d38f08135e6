"""What both sockets share: who may connect, one writer a socket, numbered messages, bounded work, an orderly end.

Follows: asgi routes a connection here after `socket_auth` has named its user. Precedes: the consumers of the apps,
which say what a socket subscribes to and what its messages mean.
"""

import asyncio
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any, ClassVar

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from executors.errors import Code
from executors.messages import MAX_MESSAGE_BYTES
from tradedist import hub as hubs
from tradedist import metrics
from tradedist.clock import now_ms, now_us
from tradedist.hub import Change, Hub, Source, Subscription
from tradedist.mailbox import TRY_AGAIN_LATER, Item, Mailbox, Stamp
from tradedist.socket_auth import LoginSource

logger = logging.getLogger(__name__)

NOT_SIGNED_IN = 4401
TOO_MANY_SOCKETS = 4429
SERVICE_RESTART = 1012
GOING_AWAY = 1001
INTERNAL_ERROR = 1011
RECHECK_S = 60.0
MAX_PENDING = 32  # messages of one client in work at once; more wait in the transport
READY_LIMIT_S = 2.0
SHUTDOWN_GRACE_S = 1.0

_open: Counter[tuple[str, Any]] = Counter()


class LiveSocket(AsyncWebsocketConsumer):
    """A socket of one kind for one signed-in user. Subclasses implement `opened`, `handle` and the callbacks."""

    kind: ClassVar[str]
    source: ClassVar[Source]  # the Redis that its live messages come from
    messages: ClassVar[TypeAdapter[Any]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mailbox = Mailbox()
        self.sent = 0  # the `n` of the last message
        self.user: Any = None
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._flush_due = 0.0
        self._slots = asyncio.Semaphore(MAX_PENDING)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._work: set[asyncio.Task[Any]] = set()  # of these, messages being handled
        self._idle = asyncio.Event()
        self._subscriptions: list[Subscription] = []
        self._counted: tuple[str, Any] | None = None
        self._closed = False
        self._close_sent = False
        self._up: bool | None = None  # the source, as the client was told; None before it is looked at
        self._checked_at = 0.0

    # --- For the subclasses ---

    async def opened(self, up: bool) -> None:
        """The user is known and the writer runs: subscribe, send the first message. `up`: the source is read."""
        raise NotImplementedError

    async def handle(self, message: Any) -> None:
        """One valid message of the client. Runs beside others."""
        raise NotImplementedError

    def source_came(self) -> None:
        """The source is back, or is another one: what was shown may be outdated. The client is told already."""
        raise NotImplementedError

    async def access_checked(self) -> None:
        """The user was read again; what he may see may have changed."""

    def subscribe(self, topic: str, call: Any) -> Subscription:
        """Ends with the socket at the latest."""
        subscription = self.hub.subscribe(topic, call)
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        subscription.close()
        self._subscriptions.remove(subscription)

    def post(self, message: dict[str, Any]) -> None:
        self.post_text(to_json(message).decode())

    def post_text(self, body: str, stamp: Stamp | None = None) -> None:
        """A JSON object as text; its `n` is added when it is sent."""
        self.mailbox.put(Item(body, stamp))
        self._posted()

    def post_latest(self, key: Any, value: Any) -> None:
        self.mailbox.put_latest(key, value)
        self._wake.set()

    def post_ahead(self, body: str) -> None:
        """Ahead of what is held during a catch-up: a part of it, or an answer to this client alone."""
        self.mailbox.put_ahead(Item(body))
        self._idle.clear()
        self._posted()

    def _posted(self) -> None:
        self._wake.set()
        if self.mailbox.overflowed and not self._close_sent:
            self.spawn(self._send_close())  # the writer waits for a client that does not read

    async def drained(self) -> None:
        """Returns when what was posted ahead has been sent."""
        if self.mailbox.has_events:
            await self._idle.wait()

    def release(self) -> None:
        self.mailbox.release()
        self._wake.set()

    def answer(self, message: dict[str, Any]) -> None:
        self.post_ahead(to_json(message).decode())

    def error(self, code: Code, message: str) -> None:
        self.answer({"type": "error", "code": code, "message": message})

    def pong(self, at: float) -> None:
        """`at` goes back as it came; NaN and infinity are no JSON."""
        if math.isfinite(at):
            self.answer({"type": "pong", "at": at, "time_ms": now_us() / 1000})
        else:
            self.error(Code.INVALID, "at: give a finite number.")

    def end(self, code: int, reason: str) -> None:
        """Close after what is already waiting has gone out."""
        self.mailbox.close(code, reason)
        self._wake.set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work that ends with the socket at the latest; what it raises is logged and told."""
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def hub(self) -> Hub:
        return hubs.current()

    @property
    def login(self) -> LoginSource:
        source: LoginSource = self.scope["login"]
        return source

    def distrust(self) -> None:
        """Something about users or grants has changed: the login is read again before it counts."""
        self._checked_at = -math.inf

    async def recheck_user(self, *, max_age_s: float = 0.0) -> bool:
        """Whether the login still holds; the socket ends when it does not."""
        expires_ms = self.login.expires_ms
        expired = expires_ms is not None and now_ms() >= expires_ms
        if not expired and time.monotonic() - self._checked_at < max_age_s:
            return True
        asked_at = time.monotonic()
        user = await self.login.user()
        if user is None:
            self.error(Code.NOT_SIGNED_IN, "Your session has ended. Sign in again.")
            self.end(NOT_SIGNED_IN, "session ended")
            return False
        self.user = user
        self._checked_at = asked_at
        return True

    # --- Channels' side ---

    async def dispatch(self, message: dict[str, Any]) -> None:
        """As in Channels, without its hop to a database thread before each message."""
        kind = message["type"]
        if kind == "websocket.receive":
            await self._received(message)
        elif kind == "websocket.connect":
            await self._connected()
        elif kind == "websocket.disconnect":
            await self._disconnected()
        else:
            raise ValueError(f"no handler for {kind}")

    async def _connected(self) -> None:
        await self.accept()
        self.spawn(self._write())
        try:
            await self._admit()
        except Exception:
            logger.exception("a %s socket could not be opened", self.kind)
            self.error(
                Code.INTERNAL, "The connection could not be opened because of a fault of ours. Try again."
            )
            self.end(INTERNAL_ERROR, "a fault of ours; connect again")

    async def _admit(self) -> None:
        self.user = await self.login.user()
        self._checked_at = time.monotonic()
        if self.user is None:
            self.error(Code.NOT_SIGNED_IN, "Sign in first, then connect again.")
            self.end(NOT_SIGNED_IN, "not signed in")
            return
        if not self._count():
            self.error(
                Code.RATE_LIMITED,
                f"You have {settings.SOCKETS_PER_USER} {self.kind} sockets open. Close one, then connect again.",
            )
            self.end(TOO_MANY_SOCKETS, "too many sockets")
            return
        self._subscriptions.append(self.hub.watch(self._source_changed))
        self.spawn(self._recheck())
        await self._open_up()

    async def _received(self, message: dict[str, Any]) -> None:
        if self.mailbox.closing:
            return
        text = message.get("text")
        if text is None:
            self.error(Code.NOT_JSON, "Binary messages are not understood. Send JSON as text.")
            return
        if len(text) > MAX_MESSAGE_BYTES:
            self.error(Code.TOO_LARGE, f"A message may have {MAX_MESSAGE_BYTES} bytes. Send less at once.")
            return
        try:
            parsed = self.messages.validate_json(text)
        except ValidationError as error:
            self.error(*explain(error))
            return
        await self._slots.acquire()
        task = self.spawn(self.handle(parsed))
        self._work.add(task)
        task.add_done_callback(self._handled)

    def _handled(self, task: asyncio.Task[Any]) -> None:
        self._work.discard(task)
        self._slots.release()

    async def _disconnected(self) -> None:
        await self._finish()
        raise StopConsumer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As in Channels, whose loop listens to a channel layer as well: three more turns of the event loop a message."""
        self.scope = scope
        self.base_send = send
        try:
            while True:
                await self.dispatch(await receive())
        except StopConsumer:
            return
        finally:
            await self._finish()

    async def _finish(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.mailbox.close(GOING_AWAY, "")
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions.clear()
        if self._timer:
            self._timer.cancel()
        if self._counted:
            _open[self._counted] -= 1
            if _open[self._counted] <= 0:
                del _open[self._counted]
            metrics.sockets_open.labels(self.kind).dec()
            metrics.session_closed(self.login.name)
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- Its own parts ---

    def _count(self) -> bool:
        key = (self.kind, self.user.pk)
        if _open[key] >= settings.SOCKETS_PER_USER:
            return False
        _open[key] += 1
        self._counted = key
        metrics.sockets_open.labels(self.kind).inc()
        metrics.session_opened(self.login.name)
        return True

    async def _open_up(self) -> None:
        self._up = await self.hub.ready(self.source, READY_LIMIT_S)
        if not self._up:
            self._tell_source()
        await self.opened(self._up)

    def _source_changed(self, change: Change) -> None:
        if self.hub.closing:
            self.spawn(self._leave())
        elif change.source == self.source and self._up is not None:
            if change.up != self._up:
                self._up = change.up
                self._tell_source()
            if change.up:
                self.source_came()

    def _tell_source(self) -> None:
        self.answer({"type": "status", "redis": "up" if self._up else "down"})

    async def _leave(self) -> None:
        """This process ends: let what was asked be answered, then send the client to another one."""
        if self._work:
            await asyncio.wait(self._work, timeout=SHUTDOWN_GRACE_S)
        self.end(SERVICE_RESTART, "the server restarts; connect again")

    async def _recheck(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_S * random.uniform(0.8, 1.0))  # not all sockets at once
            try:
                if not await self.recheck_user():
                    return
                await self.access_checked()
            except Exception:  # the database is away: orders are checked for themselves, and this again
                logger.exception("the access of a %s socket could not be checked", self.kind)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            logger.exception("a %s socket failed at a message", self.kind)
            self.error(Code.INTERNAL, "This could not be done because of a fault of ours. Try again.")

    async def _write(self) -> None:
        """The only place that sends. Waits while the transport is full; states conflate meanwhile."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (item := self.mailbox.take_event()) is not None:
                    await self._send(item.body, item.stamp)
                self._idle.set()
                if self.mailbox.closing:
                    break
                if not self.mailbox.has_latest:
                    continue
                now = loop.time()
                if now < self._flush_due:
                    if self._timer is None:
                        self._timer = loop.call_at(self._flush_due, self._timer_fired)
                    continue
                self._flush_due = now + self.hub.pace.interval_s(now)
                for value in self.mailbox.take_latest():
                    await self._send(value.body, value.stamp)
        except TimeoutError:  # of the server, whose client takes nothing
            self.mailbox.close(TRY_AGAIN_LATER, "this connection takes nothing; connect again")
        except Exception:
            logger.exception("a %s socket cannot be written", self.kind)
            self.mailbox.close(INTERNAL_ERROR, "a fault of ours; connect again")
        await self._send_close()

    async def _send_close(self) -> None:
        if self._close_sent:
            return
        self._close_sent = True
        code, reason = self.mailbox.closing or (GOING_AWAY, "")
        metrics.socket_closes.labels(self.kind, str(code)).inc()
        await self.close(code=code, reason=reason)

    def _timer_fired(self) -> None:
        self._timer = None
        self._wake.set()

    async def _send(self, body: str, stamp: Stamp | None) -> None:
        self.sent += 1
        text = f'{{"n":{self.sent},{body[1:]}'
        await self.base_send({"type": "websocket.send", "text": text})
        if stamp is not None:
            stamp.histogram.observe(max(0.0, time.time() - stamp.source_ms / 1000))


def explain(error: ValidationError) -> tuple[Code, str]:
    """The code and sentence for a message that could not be read."""
    faults = error.errors(include_url=False, include_context=True, include_input=False)
    first = faults[0]
    if first["type"] == "json_invalid":
        return Code.NOT_JSON, f"The message is not JSON ({first['ctx']['error']}). Send one JSON object."
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        expected = first.get("ctx", {}).get("expected_tags", "")
        wanted = f": {expected}" if expected else ""
        return Code.UNKNOWN_TYPE, f"The message needs a `type` that this socket knows{wanted}."
    parts = []
    for fault in faults[:5]:
        where = ".".join(str(part) for part in fault["loc"][1:])
        parts.append(f"{where}: {fault['msg']}" if where else fault["msg"])
    return Code.INVALID, "; ".join(parts)
