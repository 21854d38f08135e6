"""Daphne with bounds: compression, pings, message size, backlog and connections; and an end that tells the clients.

Follows: `manage.py run_web`. Precedes: the ASGI application. Daphne takes every message of an application at once,
however slowly the client reads; here `send` waits while the transport is full, so that states conflate in the
mailbox instead of piling up in memory.
"""

import asyncio
import logging
import signal
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from autobahn.util import encode_truncate
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from autobahn.websocket.protocol import WebSocketProtocol as Protocol
from daphne.server import Server
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet.interfaces import IPushProducer
from twisted.internet.tcp import Connection as TcpConnection
from zope.interface import implementer

from executors.messages import MAX_MESSAGE_BYTES
from tradedist.request_bounds import BoundedRequest

logger = logging.getLogger(__name__)

PING_S = 5
PONG_LIMIT_S = 5
BACKLOG_BYTES = 256 * 1024
KERNEL_BUFFER_BYTES = 64 * 1024
MAX_WAITING_IN = 64  # messages of one client that its consumer has not taken yet
STALLED_S = 10.0  # a client that takes nothing for this long is let go
CLOSE_LIMIT_S = 2  # a client that does not answer our close is dropped
TRY_AGAIN_LATER = 1013
STOP_LIMIT_S = 1.3  # for requests and sockets under way, when the process is asked to end
SMALL_BYTES = 256  # not worth compressing


@implementer(IPushProducer)
class Backpressure:
    """Told by the transport that it is full (64 KiB), and that it is empty again."""

    def __init__(self, socket: "BoundedSocket") -> None:
        self._socket = socket

    def pauseProducing(self) -> None:
        self._socket.full()

    def resumeProducing(self) -> None:
        self._socket.empty()

    def stopProducing(self) -> None:
        self._socket.empty()


class BoundedSocket(WebSocketProtocol):
    """One WebSocket. `send` of the application waits for `writable`."""

    def makeConnection(self, transport: Any) -> None:
        self._waiting: asyncio.Future[None] | None = None
        self._backlog = 0
        self._reading = True
        self._plain_tcp = isinstance(transport, TcpConnection) and not getattr(transport, "TLS", False)
        # What the kernel would hold for a client that does not read (megabytes, else) counts as backlog, too.
        transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER_BYTES)
        # The HTTP channel that the connection began with is registered still.
        transport.unregisterProducer()
        transport.registerProducer(Backpressure(self), True)
        super().makeConnection(transport)

    def full(self) -> None:
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
            self._backlog = 0

    def empty(self) -> None:
        if self._waiting is not None:
            self._waiting.set_result(None)
            self._waiting = None

    async def writable(self) -> None:
        """Returns when there is room again; TimeoutError from a client that takes nothing."""
        if self._waiting is not None:
            async with asyncio.timeout(STALLED_S):
                await asyncio.shield(self._waiting)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Every byte that goes out. Past the cap a client that ignores the waiting is let go."""
        if self._waiting is not None:
            if self._backlog > BACKLOG_BYTES:
                if self.state == Protocol.STATE_OPEN:
                    self._backlog = 0  # for the close frame itself
                    self.say_goodbye(TRY_AGAIN_LATER, "this connection reads too slowly; connect again")
                return
            self._backlog += len(data)
        elif self._plain_tcp:
            data = self._send_now(data)
        if data:
            self.transport.write(data)

    def _send_now(self, data: bytes) -> bytes:
        """What the kernel takes at once need not wait for the reactor's next round, after all other sockets'
        work. Returns the rest."""
        tcp = self.transport
        if tcp._tempDataLen or len(tcp.dataBuffer) > tcp.offset or tcp.disconnecting or not tcp.connected:
            return data  # something is before it
        taken = tcp.writeSomeData(data)
        return data[taken:] if isinstance(taken, int) else data

    def dataReceived(self, data: bytes) -> None:
        self._dataReceived(data)

    def serverSend(self, content: Any, binary: bool = False) -> None:
        """A message of the application; after the close began there is nobody to send it to."""
        if self.state != Protocol.STATE_OPEN:
            return
        payload: bytes = content if binary else content.encode()
        first = 0x82 if binary else 0x81  # one final frame
        deflate = self._perMessageCompress
        if deflate is not None and len(payload) >= SMALL_BYTES:
            deflate.start_compress_message()
            payload = deflate.compress_message_data(payload) + deflate.end_compress_message()
            first |= 0x40
        # autobahn's own `sendMessage` checks and logs a lot, and applies the bound on what comes in.
        self.sendData(frame_head(first, len(payload)) + payload)

    def handle_reply(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close" and self.state != self.STATE_CONNECTING:
            if self.state == Protocol.STATE_OPEN:
                self.say_goodbye(message.get("code") or 1000, message.get("reason") or "")
            return
        super().handle_reply(message)

    def say_goodbye(self, code: int, reason: str) -> None:
        """autobahn's own `sendClose` refuses the codes of the protocol, of which servers need 1012 and 1013."""
        self.sendCloseFrame(code=code, reasonUtf8=encode_truncate(reason, 123))

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        super().onMessage(payload, isBinary)
        if self._reading and self.application_queue.qsize() >= MAX_WAITING_IN:
            self._reading = False
            self.transport.pauseProducing()
            self._read_again_later()

    def _read_again_later(self) -> None:
        if self.state == Protocol.STATE_CLOSED:
            return
        if self.application_queue.qsize() < MAX_WAITING_IN // 2:
            self._reading = True
            self.transport.resumeProducing()
        else:
            asyncio.get_running_loop().call_later(0.01, self._read_again_later)

    def connectionLost(self, reason: Any) -> None:
        self.factory.server_class.tcp_closed()  # what the HTTP channel before the upgrade was counted as
        super().connectionLost(reason)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.empty()
        super().onClose(wasClean, code, reason)


def frame_head(first: int, length: int) -> bytes:
    """Of a server's frame: not masked."""
    if length < 126:
        return bytes((first, length))
    if length < 1 << 16:
        return struct.pack("!BBH", first, 126, length)
    return struct.pack("!BBQ", first, 127, length)


def accept_deflate(offers: Sequence[Any]) -> PerMessageDeflateOfferAccept | None:
    """permessage-deflate with small windows: some 32 KiB a socket instead of 256, as good on messages like ours."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            window = min(12, offer.request_max_window_bits or 12)
            return PerMessageDeflateOfferAccept(  # type: ignore[no-untyped-call]  # autobahn has no types
                offer,
                request_max_window_bits=12 if offer.accept_max_window_bits else 0,
                window_bits=window,
                mem_level=5,
                max_message_size=MAX_MESSAGE_BYTES,
            )
    return None


class WebServer(Server):
    """Daphne's server with our protocol and our end."""

    def __init__(
        self,
        application: Any,
        *,
        endpoints: list[str],
        max_connections: int,
        on_start: Callable[[], None],
        on_stop: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(
            application,
            endpoints=endpoints,
            signal_handlers=False,
            ping_interval=10**9,  # autobahn pings, to the second
            websocket_timeout=-1,  # the session decides how long a socket lives
            application_close_timeout=10,
            ready_callable=self._ready,
            server_name="",
        )
        self.failed = False
        self._max_connections = max_connections
        self._tcp_open = 0
        self._build_channel: Callable[[Any], Any]
        self._on_start = on_start
        self._on_stop = on_stop
        self._ports: list[Any] = []
        self._stopping: asyncio.Task[None] | None = None

    def _ready(self) -> None:
        """Daphne has made its factories and has not yet run: the place to set ours."""
        self.ws_factory.protocol = BoundedSocket
        self.ws_factory.setProtocolOptions(
            perMessageCompressionAccept=accept_deflate,
            failByDrop=False,
            maxMessagePayloadSize=MAX_MESSAGE_BYTES,
            maxFramePayloadSize=MAX_MESSAGE_BYTES,
            autoPingInterval=PING_S,
            autoPingTimeout=PONG_LIMIT_S,
            closeHandshakeTimeout=CLOSE_LIMIT_S,
            tcpNoDelay=True,
        )
        self._build_channel = self.http_factory.buildProtocol
        self.http_factory.buildProtocol = self._build_counted
        loop = asyncio.get_event_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        loop.call_soon(self._on_start)

    def _build_counted(self, address: Any) -> Any:
        """A protocol for a new TCP connection; None closes it. Idle connections count, whatever they become."""
        if self._tcp_open >= self._max_connections:
            logger.warning("a connection was refused: %d are open", self._tcp_open)
            return None
        channel = self._build_channel(address)
        channel.requestFactory = BoundedRequest
        lost = channel.connectionLost

        def connection_lost(reason: Any) -> None:
            self.tcp_closed()
            lost(reason)

        channel.connectionLost = connection_lost
        self._tcp_open += 1
        return channel

    def tcp_closed(self) -> None:
        self._tcp_open -= 1

    def listen_success(self, port: Any) -> None:
        self._ports.append(port)
        super().listen_success(port)

    def listen_error(self, failure: Any) -> None:
        self.failed = True
        super().listen_error(failure)

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        await super().handle_reply(protocol, message)
        if message["type"] == "websocket.send" and isinstance(protocol, BoundedSocket):
            await protocol.writable()

    # --- The end ---

    def end(self) -> None:
        """SIGTERM: nothing new, tell the sockets, finish what is under way, go."""
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._end())

    async def _end(self) -> None:
        for port in self._ports:
            port.stopListening()
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                await self._on_stop()
                while self._under_way():  # noqa: ASYNC110  daphne has no event for it
                    await asyncio.sleep(0.02)
        except TimeoutError:
            logger.warning("%d connections did not end in time", len(self.connections))
        except Exception:
            logger.exception("the orderly end failed")
        self.stop()

    def _under_way(self) -> bool:
        return any(not details.get("disconnected") for details in self.connections.values())

    def kill_all_applications(self) -> Any:
        """Daphne's own stumbles over connections whose application has finished."""
        self.connections: dict[Any, Any] = {
            protocol: details
            for protocol, details in self.connections.items()
            if "application_instance" in details
        }
        return super().kill_all_applications()
