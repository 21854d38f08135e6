"""One client's socket: frames in pieces become questions, each in its turn.

Precedes: the server, which answers. Follows: asyncio. A frame that nobody of ours sends ends the connection.
"""

import asyncio
import json
from typing import Any, Protocol

from executors.terminals.paper import wire
from executors.terminals.paper.broker.broker import Broker
from executors.terminals.paper.broker.session import Session


class Asked(Protocol):
    """What takes the questions."""

    broker: Broker
    connections: set["Connection"]

    def ask(self, connection: "Connection", sequence: int, method: Any, arguments: Any) -> None: ...


class Connection(asyncio.Protocol):
    """One client. Frames may arrive in pieces or several at once."""

    def __init__(self, server: Asked) -> None:
        self._server = server
        self._buffer = bytearray()
        self.transport: asyncio.Transport
        self.session = Session(server.broker)
        self.closed = False
        self.stuck = False  # its terminal died without breaking the pipe: every call fails from now on

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= wire.HEAD.size:
            length, sequence = wire.HEAD.unpack_from(buffer)
            if length > wire.MAX_QUESTION:
                self.transport.abort()
                return
            end = wire.HEAD.size + length
            if len(buffer) < end:
                return
            body = bytes(buffer[wire.HEAD.size : end])
            del buffer[:end]
            try:
                method, arguments = json.loads(body)
            except (ValueError, TypeError):
                self.transport.abort()
                return
            self._server.ask(self, sequence, method, arguments)
