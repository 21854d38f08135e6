"""The pipe between this process and its paper terminal: one blocking TCP connection, one question at a time.

Precedes: `client.py`. A failure is MetaTrader's: -10001 when it could not be sent, -10002 when the answer did not come, then
-10004 until `initialize` connects again.
"""

import ctypes
import errno
import os
import socket
import threading
from typing import Any

from executors.terminals.paper import wire

CONNECT_TIMEOUT_S = 5.0
RECEIVE_BYTES = 65_536
HOLD_GIL = os.environ.get("PAPER_HOLD_GIL") == "1"
SEND_FAILED = (-10001, "IPC send failed")
RECEIVE_FAILED = (-10002, "IPC recv failed")
MISMATCH = (-10000, "IPC call failed")
NOT_CONNECTED = (-10004, "No IPC connection")


def _wait_holding_gil(descriptor: int) -> None:
    """Until something can be read the whole process stands still, watchdog threads included: as with the real package."""
    libc = ctypes.PyDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(1)
    peek = int(socket.MSG_PEEK)
    while libc.recv(descriptor, buffer, 1, peek) < 0 and ctypes.get_errno() == errno.EINTR:
        pass


class LinkError(Exception):
    """Carries MetaTrader's last_error pair."""

    def __init__(self, error: tuple[int, str]) -> None:
        super().__init__(error[1])
        self.error = error


class Link:
    def __init__(self, url: str) -> None:
        self._sequence = 0
        self._left = b""  # received, and of a later frame
        # The real package never lets another thread in during a call, since it holds the GIL
        self._lock = threading.Lock()
        self._socket: socket.socket | None = socket.create_connection(wire.address(url), CONNECT_TIMEOUT_S)
        if self._socket.getsockname() == self._socket.getpeername():
            # nobody listens, and the port that we were given is the one that we asked for: it would keep the broker from it
            self._socket.close()
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(None)

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(self, method: str, *arguments: Any) -> Any:
        """The value, or LinkError with what the broker or the pipe said."""
        with self._lock:
            return self._exchange(method, arguments)

    def _exchange(self, method: str, arguments: tuple[Any, ...]) -> Any:
        if self._socket is None:
            raise LinkError(NOT_CONNECTED)
        self._sequence += 1
        try:
            self._socket.sendall(wire.question(self._sequence, method, list(arguments)))
        except OSError:
            self.close()
            raise LinkError(SEND_FAILED) from None
        try:
            sequence, body = self._receive()
        except OSError:
            self.close()
            raise LinkError(RECEIVE_FAILED) from None
        except KeyboardInterrupt:
            self.close()  # the answer would be taken for the next question's
            raise
        if sequence != self._sequence & 0xFFFFFFFF:
            self._discard()
            raise LinkError(MISMATCH)
        code, text, value = wire.read_answer(body)
        if code != 1:
            raise LinkError((1 if code == wire.RACED else code, text))
        return value

    def _receive(self) -> tuple[int, bytes]:
        """The next frame's number and body; mostly it comes in one piece. What follows it is kept for the next."""
        raw, head = self._left, wire.HEAD.size
        while len(raw) < head:
            raw += self._more(RECEIVE_BYTES)
        length, sequence = wire.HEAD.unpack_from(raw)
        end = head + length
        if len(raw) < end:
            parts, missing = [raw], end - len(raw)
            while missing > 0:
                parts.append(self._more(min(missing, 1 << 20)))
                missing -= len(parts[-1])
            raw = b"".join(parts)
        self._left = raw[end:]
        return sequence, raw[head:end]

    def _more(self, most: int) -> bytes:
        assert self._socket is not None
        if HOLD_GIL:
            _wait_holding_gil(self._socket.fileno())
        received = self._socket.recv(most)
        if not received:
            raise ConnectionError("the broker closed the connection")
        return received

    def _discard(self) -> None:
        """After an answer that was not ours: what else has come is dropped, so that the next question can be heard."""
        assert self._socket is not None
        self._left = b""
        self._socket.settimeout(0.2)
        try:
            while self._socket.recv(1 << 16):
                pass
        except OSError:
            pass
        self._socket.settimeout(None)
