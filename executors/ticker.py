"""The executor's side of market data: reads its terminal's prices and sends what is new to the feed, by UDP and TCP.

Precedes: charts.feed. Follows: the executor's loop, which calls `poll` between orders. Never blocks: sockets are
non-blocking, TCP reconnects over several polls, and what can't be sent is kept within bounds. After a reconnect the
feed says how far it has our frames, and the rest of the last seconds is repeated.
"""

import errno
import json
import logging
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

from django.conf import settings

from executors.errors import TerminalError, TerminalUnavailable
from executors.messages import TerminalConfig
from executors.symbols import is_mapped, to_broker, to_canonical
from executors.terminals.base import SymbolSpec, Tick
from tradedist.clock import monotonic_ms, now_ms
from tradedist.wire import (
    DATAGRAM_MAX,
    Frame,
    Keyring,
    Kind,
    StreamDecoder,
    WireError,
    open_frame,
    packed,
    seal,
)

logger = logging.getLogger(__name__)

SYMBOLS_MAX = 200  # of a terminal without a symbol list
BUDGET_MS = 5.0  # of one poll, for the terminal's calls
ALIVE_MS = 500  # an empty frame when there is nothing to say for so long
GAP_MS = 2_000  # without a look at the prices for so long, ticks were missed
SPECS_AGAIN_MS = 300_000
KEPT_MS = 10_000  # frames kept for the feed's return
KEPT_BYTES = 512 * 1024
ROOM = 900  # bytes of ticks or symbols in a frame, below DATAGRAM_MAX with everything around them
CONNECT_LIMIT_MS = 1_000
RECONNECT_FIRST_MS = 50
RECONNECT_MAX_MS = 1_000
TCP_BACKLOG = 256 * 1024  # bytes not yet taken by the kernel; beyond it the connection is made anew

_LATER = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINPROGRESS)


@dataclass(slots=True)
class _Watched:
    symbol: str
    broker_symbol: str
    last: tuple[int, object, object] | None = None
    skip_until_ms: float = 0.0  # after a failed call


class Prices(Protocol):
    """What is asked of a terminal here."""

    def tick(self, symbol: str) -> Tick | None: ...

    def spec(self, symbol: str) -> SymbolSpec | None: ...

    def symbols(self) -> Iterable[SymbolSpec]: ...


class Ticker:
    """`poll` often, from the thread that owns the terminal; it returns at once when nothing is due."""

    def __init__(
        self,
        terminal: Prices,
        config: TerminalConfig,
        *,
        address: tuple[str, int] | None = None,
        keyring: Keyring | None = None,
        poll_ms: int | None = None,
        now: Callable[[], int] = now_ms,
        monotonic: Callable[[], float] = monotonic_ms,
    ) -> None:
        self.sent_ticks = 0
        self.failed_calls = 0
        self._terminal = terminal
        self._config = config
        self._now = now
        self._monotonic = monotonic
        self._poll_ms = settings.TICK_POLL_MS if poll_ms is None else poll_ms
        self._due = 0.0
        self._watched: list[_Watched] | None = None
        self._place = 0  # where the round of symbols goes on
        self._specs_due: deque[_Watched] = deque()
        self._specs_again = 0.0
        self._looked_ms: float | None = None
        self._gap = True
        self._sender = _Sender(
            config.terminal_id,
            address or (settings.FEED_HOST, settings.FEED_PORT),
            keyring or Keyring({0: settings.WIRE_KEY}),
            now,
            monotonic,
        )

    @property
    def active(self) -> bool:
        return self._config.tick_priority > 0

    @property
    def due_ms(self) -> float:
        """On the monotonic clock: when `poll` has something to do again."""
        return self._due

    def configure(self, config: TerminalConfig) -> None:
        """A new version of the configuration: other symbols, mapping or priority."""
        self._config = config
        self._watched = None

    def poll(self) -> None:
        if not self.active:
            self._sender.close()
            return
        moment = self._monotonic()
        if moment < self._due:
            return
        self._due = moment + self._poll_ms
        try:
            ticks = self._look(moment)
            specs = self._next_specs(moment)
        except TerminalUnavailable:
            # No frames either: the feed takes this source for silent and turns to the next.
            self.failed_calls += 1
            self._gap = True
            self._sender.pump()
            return
        except TerminalError as error:
            self.failed_calls += 1
            logger.debug("ticks of %s: %s", self._config.terminal_id, error)
            self._sender.pump()
            return
        self._send(ticks, specs, moment)
        self._sender.pump()

    def close(self) -> None:
        self._sender.close()

    # --- The terminal ---

    def _look(self, moment: float) -> list[list[object]]:
        """New ticks. Goes round the symbols, as far as the time allows, so that each has its turn."""
        watched = self._symbols(moment)
        ticks: list[list[object]] = []
        until = moment + BUDGET_MS
        for _ in range(len(watched)):
            self._place = (self._place + 1) % len(watched)
            one = watched[self._place]
            if one.skip_until_ms > moment:
                continue
            try:
                tick = self._terminal.tick(one.broker_symbol)
            except TerminalUnavailable:
                raise
            except TerminalError:
                self.failed_calls += 1
                one.skip_until_ms = moment + 1_000
                continue
            if tick is not None and tick.time_ms > 0 and tick.bid > 0:
                seen = (tick.time_ms, tick.bid, tick.ask)
                if seen != one.last:
                    one.last = seen
                    ticks.append([one.symbol, tick.time_ms, float(tick.bid), float(tick.ask)])
            if self._monotonic() > until:
                break
        if self._looked_ms is not None and moment - self._looked_ms > GAP_MS:
            self._gap = True
        self._looked_ms = moment
        return ticks

    def _symbols(self, moment: float) -> list[_Watched]:
        if self._watched is None:
            self._watched = [
                _Watched(symbol, broker_symbol) for symbol, broker_symbol in self._names()[:SYMBOLS_MAX]
            ]
            self._place = 0
            self._specs_again = 0.0
        if moment >= self._specs_again or self._sender.take_connected():
            self._specs_again = moment + SPECS_AGAIN_MS
            self._specs_due = deque(self._watched)
        return self._watched

    def _names(self) -> list[tuple[str, str]]:
        config = self._config
        if config.symbols:
            return [(symbol, to_broker(config, symbol)) for symbol in config.symbols]
        return [
            (to_canonical(config, spec.symbol), spec.symbol)
            for spec in self._terminal.symbols()
            if is_mapped(config, spec.symbol)
        ]

    def _next_specs(self, moment: float) -> list[dict[str, object]]:
        """The specification of one more symbol: one a poll, since each is a call."""
        if not self._specs_due:
            return []
        one = self._specs_due.popleft()
        spec = self._terminal.spec(one.broker_symbol)  # also selects it into Market Watch
        if spec is None:
            one.skip_until_ms = moment + SPECS_AGAIN_MS
            logger.warning("%s has no symbol %s", self._config.terminal_id, one.broker_symbol)
            return []
        return [_info(one.symbol, spec)]

    # --- The feed ---

    def _send(self, ticks: list[list[object]], specs: list[dict[str, object]], moment: float) -> None:
        if specs:
            self._sender.send(Kind.SYMBOLS, {"p": self._config.tick_priority, "s": specs})
        if not ticks and not self._gap and moment - self._sender.sent_ms < ALIVE_MS:
            return
        # In time order over the frames, as far as one look can tell.
        ticks.sort(key=itemgetter(1))
        group: list[list[object]] = []
        size = 0
        for tick in ticks:
            length = len(str(tick[0])) + 48
            if size + length > ROOM:
                self._send_ticks(group)
                group, size = [], 0
            group.append(tick)
            size += length
        self._send_ticks(group)
        self.sent_ticks += len(ticks)

    def _send_ticks(self, group: list[list[object]]) -> None:
        payload: dict[str, object] = {"p": self._config.tick_priority, "t": group}
        if self._gap:
            payload["g"] = 1
            self._gap = False
        self._sender.send(Kind.TICKS, payload)


def _info(symbol: str, spec: SymbolSpec) -> dict[str, object]:
    """charts.messages.SymbolInfo, as the feed reads it."""
    return {
        "symbol": symbol,
        "description": spec.description[:200],
        "digits": spec.digits,
        "point": float(spec.point),
        "volume_min": float(spec.volume_min),
        "volume_max": float(spec.volume_max),
        "volume_step": float(spec.volume_step),
        "contract_size": float(spec.contract_size),
        "currency_profit": spec.currency_profit,
    }


class _Sender:
    """Numbers, seals and sends frames. Keeps the last seconds of them for a feed that was away."""

    def __init__(
        self,
        terminal_id: str,
        address: tuple[str, int],
        keyring: Keyring,
        now: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        self._terminal_id = terminal_id
        self._host, self._port = address
        self._resolved: tuple[socket.AddressFamily, tuple[str, int]] | None = None
        self._keyring = keyring
        self._now = now
        self._monotonic = monotonic
        self._boot_id = now() * 1000  # later starts are greater, also two within a second
        self._seq = 0
        self._kept: deque[tuple[int, float, bytes]] = deque()  # seq, when, sealed
        self._kept_bytes = 0
        self._udp: socket.socket | None = None
        self._tcp: socket.socket | None = None
        self._tcp_state = "down"  # down, connecting, hello, up
        self._tcp_since = 0.0
        self._retry_at = 0.0
        self._retry_ms = float(RECONNECT_FIRST_MS)
        self._unsent = bytearray()
        self._decoder = StreamDecoder()
        self._connected = False
        self.sent_ms = float("-inf")

    def take_connected(self) -> bool:
        """True once after each connection: the feed may be a new one that knows no symbols."""
        connected, self._connected = self._connected, False
        return connected

    def send(self, kind: Kind, payload: dict[str, object]) -> None:
        moment = self._monotonic()
        self._seq += 1
        text = json.dumps(payload, separators=(",", ":")).encode()
        sealed = seal(
            Frame(kind, self._terminal_id, self._boot_id, 0, self._seq, self._now(), text),
            self._keyring,
            DATAGRAM_MAX,
        )
        self.sent_ms = moment
        self._kept.append((self._seq, moment, sealed))
        self._kept_bytes += len(sealed)
        while self._kept and (self._kept[0][1] < moment - KEPT_MS or self._kept_bytes > KEPT_BYTES):
            self._kept_bytes -= len(self._kept.popleft()[2])
        self._send_datagram(sealed)
        if self._tcp_state == "up":
            self._unsent += packed(sealed)

    def pump(self) -> None:
        """Move TCP on: connect, greet, send what waits. Never waits itself."""
        moment = self._monotonic()
        try:
            if self._tcp is None:
                if moment >= self._retry_at:
                    self._connect(moment)
                return
            if self._tcp_state == "connecting":
                if not _ready(self._tcp, selectors.EVENT_WRITE):
                    self._check_limit(moment)
                    return
                if (failure := self._tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) != 0:
                    raise OSError(failure, "connect")
                self._greet(moment)
            self._receive(moment)
            self._flush()
        except (OSError, WireError) as error:
            self._lost(moment, error)

    def close(self) -> None:
        for one in (self._tcp, self._udp):
            if one is not None:
                one.close()
        self._tcp = self._udp = None
        self._tcp_state = "down"
        self._unsent.clear()

    def _send_datagram(self, sealed: bytes) -> None:
        try:
            if self._udp is None:
                self._udp = socket.socket(self._address()[0], socket.SOCK_DGRAM)
                self._udp.setblocking(False)
            self._udp.sendto(sealed, self._address()[1])
        except OSError as error:
            # Full buffers, no route, no feed: TCP brings the same frame.
            logger.debug("datagram to the feed: %s", error)

    def _address(self) -> tuple[socket.AddressFamily, tuple[str, int]]:
        """Looked up once, since a look-up may take long; again only after the connection was lost."""
        if self._resolved is None:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)[0]
            self._resolved = (found[0], (str(found[4][0]), self._port))
        return self._resolved

    def _connect(self, moment: float) -> None:
        family, address = self._address()
        self._tcp = socket.socket(family, socket.SOCK_STREAM)
        self._tcp.setblocking(False)
        self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tcp_state = "connecting"
        self._tcp_since = moment
        failure = self._tcp.connect_ex(address)
        if failure not in (0, *_LATER):
            raise OSError(failure, "connect")

    def _greet(self, moment: float) -> None:
        hello = Frame(Kind.HELLO, self._terminal_id, self._boot_id, 0, self._seq, self._now(), b"")
        self._decoder = StreamDecoder()
        self._unsent = bytearray(packed(seal(hello, self._keyring)))
        self._tcp_state = "hello"
        self._tcp_since = moment

    def _receive(self, moment: float) -> None:
        assert self._tcp is not None
        try:
            received = self._tcp.recv(65_536)
        except OSError as error:
            if error.errno in _LATER:
                if self._tcp_state == "hello":
                    self._check_limit(moment)
                return
            raise
        if not received:
            raise OSError(errno.ECONNRESET, "the feed closed the connection")
        for raw in self._decoder.feed(received):
            frame = open_frame(raw, self._keyring)
            if frame.kind is Kind.ACK and frame.sender == self._terminal_id and self._tcp_state == "hello":
                self._resume(frame)

    def _resume(self, ack: Frame) -> None:
        """Repeat what the feed does not have, then go on."""
        self._tcp_state = "up"
        self._retry_ms = RECONNECT_FIRST_MS
        self._connected = True
        if ack.boot_id > self._boot_id:
            # This machine's clock was set back since our last start, and the feed takes us for an older one.
            self._boot_id = ack.boot_id + 1
            self._seq = 0
            self._kept.clear()
            self._kept_bytes = 0
            return
        complete_to = ack.seq if ack.boot_id == self._boot_id else 0
        for seq, _, sealed in self._kept:
            if seq > complete_to:
                self._unsent += packed(sealed)

    def _flush(self) -> None:
        assert self._tcp is not None
        if self._unsent:
            try:
                sent = self._tcp.send(self._unsent)
            except OSError as error:
                if error.errno not in _LATER:
                    raise
                sent = 0
            del self._unsent[:sent]
        if len(self._unsent) > TCP_BACKLOG + KEPT_BYTES:
            raise OSError(errno.ENOBUFS, "the feed does not read")

    def _check_limit(self, moment: float) -> None:
        if moment - self._tcp_since > CONNECT_LIMIT_MS:
            raise OSError(errno.ETIMEDOUT, "no answer")

    def _lost(self, moment: float, error: Exception) -> None:
        logger.debug("connection of %s to the feed: %s", self._terminal_id, error)
        if self._tcp is not None:
            self._tcp.close()
        self._tcp = None
        self._tcp_state = "down"
        self._unsent.clear()
        self._retry_at = moment + self._retry_ms
        self._retry_ms = min(self._retry_ms * 2, RECONNECT_MAX_MS)


def _ready(one: socket.socket, events: int) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(one, events)
        return bool(selector.select(0))
