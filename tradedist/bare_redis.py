"""A Redis connection for who must not wait: commands go out at once, replies are read when they have come.

Beside `tradedist.redis`, whose clients cost 110 to 200 µs of processor time a call where this one takes 35 to 60. Precedes:
executors' reports. Connects as a client does: address, TLS, user, database. One thread at a time.
"""

import contextlib
import ssl
from collections.abc import Callable
from typing import Any, cast

import hiredis
import redis

from tradedist.redis import TIMEOUT_S

RECEIVE_BYTES = 65_536
_pack: Callable[[tuple[str | int | bytes, ...]], bytes] = cast(Any, hiredis).pack_command


class BareRedis:
    """Every fault is a redis.RedisError, after which the connection is of no use."""

    def __init__(self, client: "redis.Redis") -> None:
        self._connection: Any = cast(Any, client.connection_pool).make_connection()
        self._connection.connect()
        self._socket = (
            self._connection._sock
        )  # the handshake is over: from here on the client's parser reads nothing
        self._timeout_s = -1.0  # not known
        self._reader = hiredis.Reader(replyError=redis.ResponseError)

    def ask(self, *command: str | int | bytes) -> Any:
        """The command's answer; waits for it as long as a client does. Nothing else may be under way."""
        try:
            self._waits(TIMEOUT_S)
            self._socket.sendall(packed(*command))
            while (answer := self._reader.gets()) is False:
                self._feed(self._socket.recv(RECEIVE_BYTES))
        except OSError as error:
            raise redis.ConnectionError(str(error)) from error
        if isinstance(answer, redis.RedisError):
            raise answer
        return answer

    def send(self, *command: str | int | bytes) -> None:
        """Does not wait: neither for the answer nor for room."""
        raw = packed(*command)
        try:
            self._waits(0)
            sent = self._socket.send(raw)
        except OSError as error:
            raise redis.ConnectionError(str(error)) from error
        if sent < len(raw):
            raise redis.ConnectionError("Redis takes no more just now")

    def answers(self) -> list[Any]:
        """Those that have come, in the order of the commands; a refused one's is a redis.ResponseError."""
        self._waits(0)
        try:
            while True:
                received = self._socket.recv(RECEIVE_BYTES)
                self._feed(received)
                if len(received) < RECEIVE_BYTES:
                    break
        except (BlockingIOError, ssl.SSLWantReadError):
            pass  # that was all of it
        except OSError as error:
            raise redis.ConnectionError(str(error)) from error
        found = []
        while (answer := self._reader.gets()) is not False:
            if not isinstance(answer, hiredis.PushNotification):  # the server's own news is no answer
                found.append(answer)
        return found

    def close(self) -> None:
        with contextlib.suppress(OSError, redis.RedisError):
            self._connection.disconnect()

    def _waits(self, timeout_s: float) -> None:
        """Setting it is a system call, and an order should make none without need."""
        if self._timeout_s != timeout_s:
            self._socket.settimeout(timeout_s)
            self._timeout_s = timeout_s

    def _feed(self, received: bytes) -> None:
        if not received:
            raise redis.ConnectionError("Redis closed the connection")
        try:
            self._reader.feed(received)
        except hiredis.HiredisError as error:
            raise redis.ConnectionError(str(error)) from error


def packed(*command: str | int | bytes) -> bytes:
    return _pack(command)
