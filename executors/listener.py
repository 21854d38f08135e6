"""The executor's ear: authenticated datagrams and frames that bring legs ahead of their Celery tasks.

Precedes: the executor's inbox. Follows: dispatch (web) and the supervisor's drain. Nothing is answered and nothing is
parsed before a frame verifies; journal and deadline are the defence against replays. The executor's own thread waits here,
so that no leg is handed from one thread to another, and no Redis or Celery outage deafens it.
"""

import contextlib
import logging
import selectors
import socket
from collections import OrderedDict
from collections.abc import Callable

from pydantic import ValidationError

from executors.crashpoints import reached
from executors.messages import Leg
from tradedist.wire import DATAGRAM_MAX, FRAME_MAX, Frame, Keyring, Kind, StreamDecoder, WireError, open_frame

logger = logging.getLogger(__name__)

CONNECTIONS = 64
RECEIVE_BYTES = 65_536
RECENT = 64  # frames whose copy by the other way is known by its bytes
RECEIVE_BUFFER = 4 * 1024 * 1024  # a burst of legs waits here while a broker call holds the interpreter


class Listener:
    """Listens on one port by UDP and TCP. `submit(leg, path)` is called for each authentic leg of this terminal, within
    `listen`. One thread's, but for `wake`. While that is busy, datagrams and frames wait in the sockets.

    `sockets`: (TCP, UDP) from `bind`, which the supervisor keeps open over restarts; else it binds its own.
    """

    def __init__(
        self,
        terminal_id: str,
        keyring: Keyring,
        submit: Callable[[Leg, str], object],
        sockets: tuple[socket.socket, socket.socket] | None = None,
    ) -> None:
        self.terminal_id = terminal_id
        self.refused = 0  # frames that did not verify, or were not a leg of this terminal
        self._keyring = keyring
        self._submit = submit
        self._selector = selectors.DefaultSelector()
        self._tcp, self._udp = sockets or bind()
        self._decoders: dict[socket.socket, StreamDecoder] = {}
        self._recent: OrderedDict[bytes, None] = OrderedDict()
        self._proven: set[socket.socket] = set()  # connections that have brought an authentic leg
        self._waiting = False
        self._woken, self._waker = socket.socketpair()
        for listening in (self._tcp, self._udp, self._woken, self._waker):
            listening.setblocking(False)
        for listening in (self._tcp, self._udp, self._woken):
            self._selector.register(listening, selectors.EVENT_READ)

    @property
    def address(self) -> str:
        host, port = self._udp.getsockname()
        return f"{host}:{port}"

    def listen(self, timeout_s: float, there_is_more: Callable[[], bool]) -> None:
        """Takes what has come; waits for something to come, or to be woken, for so long at most.

        `there_is_more`: whether what others have put where they `wake` for is there already.
        """
        if timeout_s > 0:
            self._waiting = True  # first: who puts something after the look below wakes
            found = self._selector.select(0 if there_is_more() else timeout_s)
            self._waiting = False
        else:
            found = self._selector.select(0)
        for key, _ in found:
            ready = key.fileobj
            if ready is self._udp:
                self._read_datagrams()
            elif ready is self._woken:
                self._read_wakes()
            elif ready is self._tcp:
                self._accept()
            elif isinstance(ready, socket.socket) and ready in self._decoders:
                self._read_stream(ready)

    def wake(self) -> None:
        """From any thread, after it has put something: `listen` returns if it waits."""
        if not self._waiting:
            return
        with contextlib.suppress(BlockingIOError):  # full of wakes that were not read yet
            self._waker.send(b"x")

    def _read_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(RECEIVE_BYTES)

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

    def close(self) -> None:
        for open_socket in (*self._decoders, self._tcp, self._udp, self._woken, self._waker):
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
