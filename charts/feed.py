"""The feed process: frames from UDP and TCP into the pipeline, its batches into Redis.

Precedes: Redis, candle_query, the chart socket. Follows: executors.ticker. Receiving never waits for Redis: the writer
takes what has gathered whenever its last transaction is done, and while Redis is away everything conflates here.
What does not verify is counted and never answered.
"""

import asyncio
import contextlib
import logging
import os
import socket
from typing import cast

import redis.exceptions

from charts.pipeline import Batch, Pipeline
from charts.state import TickStore
from tradedist.clock import monotonic_ms, now_ms
from tradedist.wire import FRAME_MAX, Frame, Keyring, Kind, StreamDecoder, WireError, open_frame, packed, seal

logger = logging.getLogger(__name__)

CONNECTIONS_MAX = 512
SILENCE_LIMIT_S = 10.0  # a connection without a frame for so long is closed
RECEIVE_BUFFER = 4 * 1024 * 1024
CLOCK_S = 0.1  # candles close, sources fail over
HELD_CLOCK_S = 0.02  # while frames wait for a missing one
BREAKER_FIRST_S = 0.05  # pause after a failed write, doubling
BREAKER_MAX_S = 1.0
HELLO_AGE_MS = 10_000

STORE_ERRORS = (redis.exceptions.RedisError, OSError, asyncio.TimeoutError)


class Feed:
    """`run` until cancelled. `counts` and the pipeline's totals are what metrics and the heartbeat show."""

    def __init__(self, store: TickStore, keyring: Keyring) -> None:
        self.pipeline = Pipeline(instance=f"{os.getpid()}.{now_ms()}")
        self.rejected = 0  # datagrams and frames that did not verify
        self.connections = 0
        self.connections_refused = 0
        self.writes = 0
        self.write_failures = 0
        self.write_errors = 0  # single commands that Redis refused
        self.breaker_open = False
        self.write_ms = 0.0  # the last transaction
        self.ticks_per_s = 0.0
        self._store = store
        self._keyring = keyring
        self._wake = asyncio.Event()
        self._unsure: Batch | None = None  # to be sent, or sent and not known to be applied
        self._warned: set[str] = set()  # sources whose clock is wrong
        self._last_id: str | None = None  # of the last batch that was applied

    async def run(self, host: str, port: int) -> None:
        await self._restore()
        loop = asyncio.get_running_loop()
        # No address reuse for UDP: two feeds could then share the port without noticing.
        datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(host, port))
        with contextlib.suppress(OSError):  # a smaller buffer works, with more gaps for TCP to fill
            cast(socket.socket, datagrams.get_extra_info("socket")).setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER
            )
        server = await loop.create_server(lambda: _Connection(self), host, port)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.write())
                tasks.create_task(self._clock())
                tasks.create_task(self._beat())
                tasks.create_task(self._beat_health())
        finally:
            datagrams.close()
            server.close()

    async def _restore(self) -> None:
        """Go on where the last batch ended. Redis may be away: then there is nothing to go on from, and we begin."""
        try:
            symbols, sources = await self._store.load()
        except STORE_ERRORS as error:
            logger.warning("the tick Redis does not answer (%s); starting with nothing", error)
            return
        self.pipeline.restore(symbols, sources, now_ms())
        logger.info("restored %d symbols, %d sources", len(symbols), len(sources))

    # --- In ---

    def datagram(self, raw: bytes) -> None:
        try:
            frame = open_frame(raw, self._keyring)
        except WireError:
            self.rejected += 1
            return
        if frame.kind in (Kind.TICKS, Kind.SYMBOLS):
            self.pipeline.receive(frame, "udp", now_ms())
            self._wake_writer()
        else:
            self.rejected += 1

    def frame(self, frame: Frame) -> None:
        self.pipeline.receive(frame, "tcp", now_ms())
        self._wake_writer()

    def open(self, raw: bytes) -> Frame:
        return open_frame(raw, self._keyring)

    def hello(self, frame: Frame) -> bytes | None:
        """The answer to a source's first frame: what it need not repeat. None: it is refused."""
        moment = now_ms()
        if frame.kind is not Kind.HELLO or abs(moment - frame.time_ms) > HELLO_AGE_MS:
            return None
        position = self.pipeline.connected(frame.sender, moment)
        if position is None:
            return None
        return packed(
            seal(
                Frame(Kind.ACK, frame.sender, position.boot_id, frame.epoch, position.high, moment, b""),
                self._keyring,
                FRAME_MAX,
            )
        )

    def _wake_writer(self) -> None:
        if self.pipeline.dirty:
            self._wake.set()

    async def _clock(self) -> None:
        while True:
            await asyncio.sleep(HELD_CLOCK_S if self.pipeline.held else CLOCK_S)
            self.pipeline.tick_clock(now_ms())
            self._wake_writer()

    # --- Out ---

    async def write(self) -> None:
        """One transaction after the other. The pause after a failure is the circuit breaker."""
        pause = 0.0
        while True:
            if pause:
                await asyncio.sleep(pause)
            elif self._unsure is None:
                await self._wake.wait()
            self._wake.clear()
            try:
                await self._write_once()
            except STORE_ERRORS as error:
                self.write_failures += 1
                if not self.breaker_open:
                    logger.warning("the tick Redis does not take writes: %s", error)
                self.breaker_open = True
                pause = min(max(pause * 2, BREAKER_FIRST_S), BREAKER_MAX_S)
                continue
            if self.breaker_open:
                logger.info("the tick Redis takes writes again")
            self.breaker_open = False
            pause = 0.0

    async def _write_once(self) -> None:
        if self.breaker_open:
            last = await self._store.last_batch()
            if last is None:
                # It came back empty (it keeps nothing on disk): everything we know goes there.
                self._unsure = self.pipeline.drain_all()
            elif self._unsure is not None and last == self._unsure.id:
                self._unsure, self._last_id = None, last  # only the reply was lost
        if self._unsure is None:
            self._unsure = self.pipeline.drain()
        started = monotonic_ms()
        sent = self._unsure
        before, refused = await self._store.write(sent)
        self._unsure = None
        if before != self._last_id and not sent.complete:
            self._found(before)
        self._last_id = sent.id
        self.writes += 1
        self.write_ms = monotonic_ms() - started
        if refused:
            self.write_errors += len(refused)
            logger.error("Redis refused %d commands of a batch, first: %s", len(refused), refused[0])

    def _found(self, before: str | None) -> None:
        """The batch before ours is not in Redis: it was restarted between two writes, or another feed writes there."""
        if before is None:
            logger.warning("the tick Redis came back empty: writing everything again")
            self._unsure = self.pipeline.drain_all()
        elif self._last_id is not None:
            logger.error("another feed has written batch %s: stop one of the two", before)

    async def _beat(self) -> None:
        last_ticks, last_ms = self.pipeline.counts["ticks"], monotonic_ms()
        while True:
            await asyncio.sleep(1)
            ticks, moment = self.pipeline.counts["ticks"], monotonic_ms()
            self.ticks_per_s = (ticks - last_ticks) * 1000 / (moment - last_ms)
            last_ticks, last_ms = ticks, moment
            sources = self.pipeline.sources(now_ms())
            self._warn_of_clocks(sources)
            if self.breaker_open:
                continue
            try:
                await self._store.beat(
                    {
                        "pid": os.getpid(),
                        "time_ms": now_ms(),
                        "ticks_per_s": round(self.ticks_per_s, 1),
                        "sources": sources,
                        "symbols": len(self.pipeline.symbols),
                    }
                )
            except STORE_ERRORS as error:
                logger.debug("heartbeat: %s", error)  # the writer notices and says so

    def _warn_of_clocks(self, sources: dict[str, dict[str, object]]) -> None:
        """A broker's clock that is read in the wrong time zone: nothing of it can be used until that is corrected."""
        wrong = {name for name, source in sources.items() if source["ahead_ms"]}
        for name in wrong - self._warned:
            logger.warning(
                "ticks of %s are %s s ahead of now and not taken: correct the terminal's server_timezone",
                name,
                int(str(sources[name]["ahead_ms"])) // 1000,
            )
        self._warned = wrong

    async def _beat_health(self) -> None:
        """Apart from the other heartbeat: one Redis that hangs must not silence the other."""
        while True:
            try:
                await self._store.beat_health(now_ms())
            except STORE_ERRORS as error:
                logger.debug("heartbeat: %s", error)  # health says by itself that the state Redis is away
            await asyncio.sleep(1)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._feed.datagram(data)

    def error_received(self, exc: Exception) -> None:
        logger.debug("datagram socket: %s", exc)


class _Connection(asyncio.Protocol):
    """A source's TCP connection: HELLO, our ACK, then its frames. Anything else closes it without a word."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._decoder = StreamDecoder()
        self._sender = ""
        self._heard = False
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._feed.connections += 1
        if self._feed.connections > CONNECTIONS_MAX:
            self._feed.connections_refused += 1
            self._transport.abort()
            return
        self._watch = asyncio.get_running_loop().call_later(SILENCE_LIMIT_S, self._check_heard)

    def connection_lost(self, exc: Exception | None) -> None:
        self._feed.connections -= 1
        if self._watch is not None:
            self._watch.cancel()
        if self._sender:
            self._feed.pipeline.disconnected(self._sender)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        try:
            for raw in self._decoder.feed(data):
                self._take(self._feed.open(raw))
        except WireError:
            self._feed.rejected += 1
            self._transport.abort()

    def _take(self, frame: Frame) -> None:
        assert self._transport is not None
        self._heard = True
        if not self._sender:
            answer = self._feed.hello(frame)
            if answer is None:
                raise WireError("not a hello")
            self._sender = frame.sender
            self._transport.write(answer)
        elif frame.sender == self._sender and frame.kind in (Kind.TICKS, Kind.SYMBOLS):
            self._feed.frame(frame)
        else:
            raise WireError("not what this connection is for")

    def _check_heard(self) -> None:
        assert self._transport is not None
        if not self._heard:
            self._transport.abort()
            return
        self._heard = False
        self._watch = asyncio.get_running_loop().call_later(SILENCE_LIMIT_S, self._check_heard)
