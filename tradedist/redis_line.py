"""One Redis connection for many commands at once, at a third of the processor time of redis-py's asynchronous client.

Precedes: accept and the hub's reader of results, which each order passes. Follows: redis-py opens the connection (address,
password, TLS) and names the errors. A command is never sent twice: what was under way on a connection that is lost raises,
and whether it ran is not known. The next command opens a new connection.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis
import redis
import redis.asyncio
from redis.connection import DefaultParser

from tradedist.redis import TIMEOUT_S

UNDER_WAY = 256  # commands of one line; further ones wait
_NOTHING = object()
_pack: Callable[[tuple[str | int | float, ...]], bytes] = cast(Any, hiredis).pack_command
_Waiting = tuple["asyncio.Future[Any]", float]  # the reply, and when it is late


class Line:
    """One an event loop. It is opened by the first command, with the settings of `client`."""

    def __init__(self, client: "redis.asyncio.Redis", *, timeout_s: float = TIMEOUT_S) -> None:
        self._pool = client.connection_pool
        self._timeout_s = timeout_s
        self._room = asyncio.Semaphore(UNDER_WAY)
        self._end: _End | None = None
        self._opening: asyncio.Task[_End] | None = None

    async def call(self, *command: str | int | float) -> Any:
        """The reply, its texts decoded. Raises redis.RedisError, of a reply that is an error as redis-py does."""
        async with self._room:
            end = self._end
            if end is None or end.lost:
                end = await self._open()
            reply = await end.send(_pack(command))
        if isinstance(reply, Exception):
            if end.turned_away(reply):
                self.drop()  # it is no primary any more; who answers next may be
            raise reply
        return reply

    @property
    def under_way(self) -> int:
        """Commands without a reply."""
        return self._end.under_way if self._end is not None else 0

    def drop(self) -> None:
        """Gives the connection up; the next command opens a new one. What is under way raises."""
        if self._end is not None:
            self._end.give_up(redis.exceptions.ConnectionError, "the connection was given up")
            self._end = None

    async def close(self) -> None:
        """For good: an opening that is under way ends as well."""
        opening = self._opening
        if opening is not None:
            opening.cancel()
            await asyncio.wait([opening])
        self.drop()
        await asyncio.sleep(0)  # the socket is closed in the loop's next round

    async def _open(self) -> "_End":
        """Those who wait for it at once share one."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._connect())
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    def _opened(self, opening: "asyncio.Task[_End]") -> None:
        self._opening = None
        if not opening.cancelled() and opening.exception() is None:
            self._end = opening.result()

    async def _connect(self) -> "_End":
        connection = cast(Any, self._pool).make_connection()
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return _End(connection, self._timeout_s)


class _End(asyncio.Protocol):
    """Our end of an open connection, taken over from redis-py."""

    def __init__(self, connection: Any, timeout_s: float) -> None:
        self.lost = False
        self._connection = connection  # kept: it would close the socket when it goes
        self._transport: asyncio.Transport = connection._writer.transport
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._reader = hiredis.Reader(
            protocolError=redis.exceptions.InvalidResponse,
            replyError=DefaultParser.parse_error,
            encoding="utf-8",
            errors="replace",
            notEnoughData=_NOTHING,
        )
        self._transport.set_protocol(self)

    @property
    def under_way(self) -> int:
        return len(self._waiting)

    def send(self, packed: bytes) -> "asyncio.Future[Any]":
        """What the server replies: errors, too, are results. Cancelling it leaves the command where it is."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((reply, self._loop.time() + self._timeout_s))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._look)
        self._transport.write(packed)
        return reply

    def give_up(self, kind: type[Exception], text: str) -> None:
        """What was not sent yet is not sent any more."""
        self._transport.abort()
        self._lose(kind, text)

    def turned_away(self, error: Exception) -> bool:
        """Whether the server says by it that it takes no writes."""
        asked = getattr(
            self._connection, "turned_away", None
        )  # a socket file's connection knows no other server
        return bool(asked(error)) if asked else isinstance(error, redis.exceptions.ReadOnlyError)

    # --- the transport's side ---

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (found := self._reader.gets()) is not _NOTHING:
                if isinstance(found, hiredis.PushNotification):
                    continue  # nobody asked for it
                reply, _ = self._waiting.popleft()
                if not reply.done():
                    reply.set_result(found)
        except (redis.RedisError, IndexError, ValueError) as error:
            self.give_up(redis.exceptions.InvalidResponse, f"the server's answer cannot be read: {error}")

    def eof_received(self) -> bool:
        return False  # closes it: `connection_lost` follows

    def connection_lost(self, error: Exception | None) -> None:
        self._lose(
            redis.exceptions.ConnectionError, f"the connection was lost: {error or 'the server closed it'}"
        )

    # --- inside ---

    def _look(self) -> None:
        """One timer for all: it comes again for the oldest that waits."""
        self._timer = None
        if not self._waiting:
            return
        late = self._waiting[0][1]
        if self._loop.time() < late:
            self._timer = self._loop.call_at(late, self._look)
            return
        if silent := getattr(self._connection, "silent", None):
            silent()
        self.give_up(redis.exceptions.TimeoutError, f"no answer in {self._timeout_s:g} s")

    def _lose(self, kind: type[Exception], text: str) -> None:
        self.lost = True
        self._connection._close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, deque()
        for reply, _ in waiting:
            if not reply.done():
                reply.set_exception(kind(text))
