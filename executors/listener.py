"""The executor's ear: authenticated datagrams and frames that bring legs ahead of their Celery tasks.

Precedes: the executor's inbox. Follows: dispatch (web) and the supervisor's drain. Nothing is answered and nothing is
parsed before a frame verifies; journal and deadline are the defence against replays. A thread of its own, so that no
Redis or Celery outage deafens it.
"""

import logging
import selectors
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable

import setproctitle
from pydantic import ValidationError

from executors.crashpoints import reached
from executors.messages import Leg
from tradedist.wire import DATAGRAM_MAX, FRAME_MAX, Frame, Keyring, Kind, StreamDecoder, WireError, open_frame

logger = logging.getLogger(__name__)

CONNECTIONS = 64
RECEIVE_BYTES = 65_536
RECENT = 64  # frames whose copy by the other way is known by its bytes
RECEIVE_BUFFER = 4 * 1024 * 1024  # a burst of legs waits here while a broker call holds the interpreter


class Listener(threading.Thread):
    """Listens on one port by UDP and TCP. `submit(leg, path)` is called for each authentic leg of this terminal.

    `sockets`: (TCP, UDP) from `bind`, which the supervisor keeps open over restarts; else it binds its own.
    """

    def __init__(
        self,
        terminal_id: str,
        keyring: Keyring,
        submit: Callable[[Leg, str], object],
        sockets: tuple[socket.socket, socket.socket] | None = None,
    ) -> None:
        super().__init__(name="listener", daemon=True)
        self.terminal_id = terminal_id
        self.refused = 0  # frames that did not verify, or were not a leg of this terminal
        self._keyring = keyring
        self._submit = submit
        self._selector = selectors.DefaultSelector()
        self._tcp, self._udp = sockets or bind()
        self._decoders: dict[socket.socket, StreamDecoder] = {}
        self._recent: OrderedDict[bytes, None] = OrderedDict()
        self._proven: set[socket.socket] = set()  # connections that have brought an authentic leg
        self._stop_reader, self._stop_writer = socket.socketpair()
        for listening in (self._tcp, self._udp, self._stop_reader):
            listening.setblocking(False)
            self._selector.register(listening, selectors.EVENT_READ)

    @property
    def address(self) -> str:
        host, port = self._udp.getsockname()
        return f"{host}:{port}"

    def run(self) -> None:
        setproctitle.setthreadtitle(self.name)
        while True:
            for key, _ in self._selector.select():
                ready = key.fileobj
                if ready is self._stop_reader:
                    self._close()
                    return
                if ready is self._udp:
                    self._read_datagrams()
                elif ready is self._tcp:
                    self._accept()
                elif isinstance(ready, socket.socket) and ready in self._decoders:
                    self._read_stream(ready)

    def stop(self) -> None:
        self._stop_writer.send(b"x")
        self.join(1)

    def _read_datagrams(self) -> None:
        for _ in range(256):
            try:
                raw = self._udp.recv(RECEIVE_BYTES)
            except OSError:  # nothing more, or an error of the network's: neither may deafen the executor
                return
            self._take(raw, "udp")

    def _accept(self) -> None:
        try:
            connection, _ = self._tcp.accept()
        except OSError:
            return
        if len(self._decoders) >= CONNECTIONS:
            # strangers must not keep senders out: the oldest connection that has brought nothing authentic goes
            stranger = next((item for item in self._decoders if item not in self._proven), None)
            if stranger is None:
                connection.close()
                return
            self._drop(stranger)
        connection.setblocking(False)
        self._decoders[connection] = StreamDecoder(FRAME_MAX)
        self._selector.register(connection, selectors.EVENT_READ)

    def _read_stream(self, connection: socket.socket) -> None:
        try:
            received = connection.recv(RECEIVE_BYTES)
            if received:
                for raw in self._decoders[connection].feed(received):
                    if self._take(raw, "tcp"):
                        self._proven.add(connection)
                return
        except BlockingIOError:
            return
        except WireError:
            self.refused += 1
        except OSError as error:
            logger.debug("a connection ended: %s", error)
        self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._decoders[connection]
        self._proven.discard(connection)
        connection.close()

    def _take(self, raw: bytes, path: str) -> bool:
        """Whether it was authentic. The executor took the leg when `submit` says True; its copy is left unread."""
        if raw in self._recent:
            return True
        try:
            frame: Frame = open_frame(raw, self._keyring)
            if frame.kind is not Kind.LEG or frame.sender != self.terminal_id:
                raise WireError("not a leg of this terminal")
            leg = Leg.model_validate_json(frame.payload)
        except (WireError, ValidationError):
            self.refused += 1
            return False
        reached("leg-heard")
        if self._submit(leg, path) is True and len(raw) <= DATAGRAM_MAX:
            self._recent[raw] = None
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)
        return True

    def _close(self) -> None:
        for open_socket in (*self._decoders, self._tcp, self._udp, self._stop_reader, self._stop_writer):
            open_socket.close()
        self._selector.close()


def bind(host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
    """One free port number for both. Without SO_REUSEADDR: two executors must never share a UDP port."""
    for _ in range(20):
        tcp = socket.create_server((host, 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
            continue
        return tcp, udp
    raise OSError("no port is free for both UDP and TCP")
