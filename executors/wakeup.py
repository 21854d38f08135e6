"""Sends legs to executors ahead of their Celery tasks: a datagram and a TCP frame each.

Precedes: the executors' listeners. Follows: dispatch (every web process) and the supervisor's drain. Never blocks and
never raises for a network fault: the outbox and the Celery task bring what is lost here.
"""

import logging
import selectors
import socket
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from executors.messages import Leg
from tradedist.clock import monotonic_ms
from tradedist.wire import DATAGRAM_MAX, FRAME_MAX, Frame, Keyring, Kind, WireError, packed, seal

logger = logging.getLogger(__name__)

CONNECT_AGAIN_MS = 1_000
BACKLOG_BYTES = 1024 * 1024  # unsent TCP bytes kept for one executor


class Sealed(NamedTuple):
    """A leg's sealed frame, and where it goes."""

    address: str  # host:port
    raw: bytes
    order_id: str
    terminal_id: str


class Wakeup:
    """One a process and thread. `addresses`: terminal_id → host:port, as RIS has them."""

    def __init__(self, keyring: Keyring, boot_id: int) -> None:
        self._keyring = keyring
        self._boot_id = boot_id
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setblocking(False)
        self._streams: dict[str, _Stream] = {}

    def send(self, legs: Iterable[tuple[Leg, str]], addresses: Mapping[str, str]) -> int:
        """Datagrams to all first, then frames; returns how many legs were sent by at least one way."""
        sealed = self.datagrams(legs, addresses)
        self.frames(sealed)
        return len(sealed)

    def datagrams(self, legs: Iterable[tuple[Leg, str]], addresses: Mapping[str, str]) -> list[Sealed]:
        """A datagram to each executor whose address is known; returns what is to go by `frames` as well.

        What is larger than DATAGRAM_MAX has only been sealed.
        """
        sealed: list[Sealed] = []
        for leg, text in legs:
            address = addresses.get(leg.terminal_id)
            if address is None:
                continue
            frame = Frame(
                Kind.LEG,
                leg.terminal_id,
                self._boot_id,
                leg.epoch,
                leg.leg_seq,
                leg.deadline_ms,
                text.encode(),
            )
            try:
                raw = seal(frame, self._keyring, FRAME_MAX)
            except WireError as error:
                logger.warning("a leg fits no frame: %s", error, extra={"order_id": leg.order_id})
                continue
            sealed.append(Sealed(address, raw, leg.order_id, leg.terminal_id))
            if len(raw) <= DATAGRAM_MAX:
                self._datagram(address, raw)  # at once: its executor works while the next one's is sealed
        return sealed

    def frames(self, sealed: Iterable[Sealed]) -> None:
        """The same by TCP, which brings what a network loses of datagrams."""
        for item in sealed:
            self._stream(item.address).send(packed(item.raw))

    def flush(self) -> None:
        """Push out what TCP could not take at once; call now and then."""
        for stream in self._streams.values():
            stream.send(b"")

    def close(self) -> None:
        self._udp.close()
        for stream in self._streams.values():
            stream.close()

    def _datagram(self, address: str, raw: bytes) -> None:
        host, _, port = address.rpartition(":")
        try:
            self._udp.sendto(raw, (host, int(port)))
        except OSError as error:
            logger.debug("a datagram to %s was not sent: %s", address, error)

    def _stream(self, address: str) -> "_Stream":
        if address not in self._streams:
            for old in [name for name, stream in self._streams.items() if stream.idle_ms() > 60_000]:
                self._streams.pop(old).close()
            self._streams[address] = _Stream(address)
        return self._streams[address]


class _Stream:
    """A non-blocking connection that is made again at most once a second."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._buffer = bytearray()
        self._tried_ms = -CONNECT_AGAIN_MS * 2.0
        self._used_ms = monotonic_ms()

    def idle_ms(self) -> float:
        return monotonic_ms() - self._used_ms

    def send(self, raw: bytes) -> None:
        if raw:
            self._used_ms = monotonic_ms()
        if self._socket is None and (raw or self._buffer):
            self._connect()
        if self._socket is None:
            return  # what is not connected is brought by the other ways
        if len(self._buffer) + len(raw) > BACKLOG_BYTES:
            self.close()
            return
        self._buffer += raw
        try:
            while self._buffer:
                sent = self._socket.send(self._buffer)
                del self._buffer[:sent]
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def _connect(self) -> None:
        if monotonic_ms() - self._tried_ms < CONNECT_AGAIN_MS:
            return
        self._tried_ms = monotonic_ms()
        host, _, port = self._address.rpartition(":")
        fresh = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        fresh.setblocking(False)
        fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fresh.connect_ex((host, int(port)))
        self._socket = fresh
        with selectors.DefaultSelector() as selector:
            selector.register(fresh, selectors.EVENT_WRITE)
            if not selector.select(0.002):  # loopback and LAN connect within; else try again in a second
                self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._buffer.clear()
