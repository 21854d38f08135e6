"""The ticker against a feed's two sockets on loopback and a clock of the test's own."""

import json
import socket
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from executors.errors import TerminalError, TerminalUnavailable
from executors.terminals.base import SymbolSpec, Tick
from executors.ticker import ALIVE_MS, GAP_MS, KEPT_MS, Ticker
from tests.feed import config_of
from tradedist.wire import DATAGRAM_MAX, Frame, Keyring, Kind, StreamDecoder, open_frame, packed, seal

KEYS = Keyring({0: "test"})
NOW = 1_700_000_000_000
D = Decimal


class Prices:
    """A terminal whose prices the test sets."""

    def __init__(self) -> None:
        self.ticks: dict[str, Tick | TerminalError] = {}
        self.calls: list[str] = []

    def put(self, symbol: str, time_ms: int, bid: str = "1.1") -> None:
        self.ticks[symbol] = Tick(symbol, D(bid), D("1.2"), D(0), 0, time_ms)

    def tick(self, symbol: str) -> Tick | None:
        self.calls.append(symbol)
        found = self.ticks.get(symbol)
        if isinstance(found, TerminalError):
            raise found
        return found

    def spec(self, symbol: str) -> SymbolSpec | None:
        if symbol == "NONE":
            return None
        one = D(1)
        return SymbolSpec(
            symbol, 5, D("0.00001"), one, one, D(100_000), D("0.01"), D(100), D("0.01"), 0, 0, 4, 2, 3, "", "USD",
            "", "Euro", "",
        )  # fmt: skip

    def symbols(self) -> tuple[SymbolSpec, ...]:
        return tuple(filter(None, [self.spec("EURUSD.m"), self.spec("Other")]))


class Feed:
    """Both sockets of a feed; what comes is opened and kept."""

    def __init__(self) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = ("127.0.0.1", self.tcp.getsockname()[1])
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(self.address)
        self.udp.setblocking(False)
        self.tcp.setblocking(False)
        self.connection: socket.socket | None = None
        self.decoder = StreamDecoder()

    def close(self) -> None:
        for one in (self.tcp, self.udp, self.connection):
            if one is not None:
                one.close()

    def datagrams(self) -> list[Frame]:
        found = []
        while True:
            try:
                found.append(open_frame(self.udp.recv(4096), KEYS))
            except BlockingIOError:
                return found

    def frames(self) -> list[Frame]:
        if self.connection is None:
            try:
                self.connection, _ = self.tcp.accept()
            except BlockingIOError:
                return []
            self.connection.setblocking(False)
            self.decoder = StreamDecoder()
        try:
            received = self.connection.recv(1 << 20)
        except BlockingIOError:
            return []
        found = [open_frame(raw, KEYS) for raw in self.decoder.feed(received)]
        if not received:  # given up by the ticker; the next one may be there
            self.cut()
        return found

    def acknowledge(self, hello: Frame, seq: int, boot_id: int | None = None) -> None:
        assert self.connection is not None
        boot = hello.boot_id if boot_id is None else boot_id
        self.connection.sendall(packed(seal(Frame(Kind.ACK, hello.sender, boot, 0, seq, NOW, b""), KEYS)))

    def cut(self) -> None:
        assert self.connection is not None
        self.connection.close()
        self.connection = None


class Bench:
    """A ticker, its terminal, its feed and its clock."""

    def __init__(self, **config: Any) -> None:
        self.feed = Feed()
        self.prices = Prices()
        self.moment = 0.0
        self.ticker = Ticker(
            self.prices,
            config_of(**({"symbols": ["EURUSD"]} | config)),
            address=self.feed.address,
            keyring=KEYS,
            poll_ms=10,
            now=lambda: NOW + int(self.moment),
            monotonic=lambda: self.moment,
        )

    def poll(self, times: int = 1, step_ms: float = 10) -> None:
        for _ in range(times):
            self.moment += step_ms
            self.ticker.poll()

    def connect(self, seq: int = 0) -> Frame:
        """Up to an acknowledged connection; returns the hello."""
        hello: list[Frame] = []
        for _ in range(200):
            self.poll()
            if (hello := self.feed.frames()) and self._is_open():
                break
        assert hello[0].kind is Kind.HELLO
        self.feed.acknowledge(hello[0], seq)
        self.poll(2)
        return hello[0]

    def _is_open(self) -> bool:
        """Whether the ticker still holds the connection that its hello came from."""
        assert self.feed.connection is not None
        try:
            return self.feed.connection.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True

    def close(self) -> None:
        self.ticker.close()
        self.feed.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    one = Bench()
    yield one
    one.close()


def rows(frames: list[Frame]) -> list[Any]:
    return [row for frame in frames if frame.kind is Kind.TICKS for row in json.loads(frame.payload)["t"]]


def test_sends_each_new_tick_once_by_both_paths(bench: Bench) -> None:
    bench.prices.put("EURUSD", NOW)
    bench.connect()
    by_tcp = bench.feed.frames()
    bench.prices.put("EURUSD", NOW + 5, "1.15")
    bench.poll(5)
    by_udp = bench.feed.datagrams()
    by_tcp += bench.feed.frames()
    assert rows(by_udp) == rows(by_tcp) == [["EURUSD", NOW, 1.1, 1.2], ["EURUSD", NOW + 5, 1.15, 1.2]]
    assert [frame.seq for frame in by_tcp] == list(range(1, len(by_tcp) + 1))
    assert by_udp == by_tcp


def test_describes_its_symbols_and_again_after_each_connection(bench: Bench) -> None:
    bench.connect()
    bench.poll(3)
    infos = [frame for frame in bench.feed.frames() if frame.kind is Kind.SYMBOLS]
    assert json.loads(infos[-1].payload)["s"][0]["symbol"] == "EURUSD"
    bench.feed.cut()
    bench.poll(3)
    bench.connect(seq=10_000)
    bench.poll(3)
    assert any(frame.kind is Kind.SYMBOLS for frame in bench.feed.frames())


def test_repeats_what_the_feed_does_not_have_after_a_reconnect(bench: Bench) -> None:
    for number in range(5):
        bench.prices.put("EURUSD", NOW + number, f"1.{number + 1}")
        bench.poll()
    sent = bench.feed.datagrams()
    bench.connect(seq=sent[2].seq)
    repeated = bench.feed.frames()
    assert [frame for frame in repeated if frame.seq <= sent[-1].seq] == sent[3:]


def test_repeats_everything_it_has_to_a_feed_that_knows_another_start(bench: Bench) -> None:
    bench.prices.put("EURUSD", NOW)
    bench.poll(3)
    sent = bench.feed.datagrams()
    bench.poll()
    hello = bench.feed.frames()
    bench.feed.acknowledge(hello[0], 900, boot_id=1)
    bench.poll(3)
    assert bench.feed.frames()[0] == sent[0]


def test_becomes_the_newest_start_although_its_clock_was_set_back(bench: Bench) -> None:
    bench.prices.put("EURUSD", NOW)
    bench.poll(3)
    hello = bench.feed.frames()[0]
    bench.feed.acknowledge(hello, 900, boot_id=hello.boot_id + 7)
    bench.poll(2)
    bench.feed.datagrams()
    bench.prices.put("EURUSD", NOW + 1)
    bench.poll()
    sent = bench.feed.frames()
    assert [frame.boot_id for frame in sent] == [hello.boot_id + 8] * len(sent)
    assert [frame.seq for frame in sent] == list(range(1, len(sent) + 1))
    assert rows(sent)[-1] == ["EURUSD", NOW + 1, 1.1, 1.2]


def test_keeps_only_the_last_seconds_for_repeating(bench: Bench) -> None:
    for number in range(3 * KEPT_MS // 1_000):
        bench.prices.put("EURUSD", NOW + number * 1_000)
        bench.poll(step_ms=1_000)
    sent = bench.feed.datagrams()
    assert len(sent) > 25
    bench.connect()
    repeated = bench.feed.frames()
    assert 8 <= sum(frame.seq <= sent[-1].seq for frame in repeated) <= 12


def test_is_heard_when_there_is_nothing_new_and_silent_when_the_terminal_is_gone(bench: Bench) -> None:
    bench.prices.put("EURUSD", NOW)
    bench.poll(3)
    bench.feed.datagrams()
    bench.poll(ALIVE_MS // 10 + 1)
    assert [json.loads(frame.payload)["t"] for frame in bench.feed.datagrams()] == [[]]
    bench.prices.ticks["EURUSD"] = TerminalUnavailable("symbol_info_tick", (-10004, "No IPC connection"))
    bench.poll(3 * ALIVE_MS // 10)
    assert bench.feed.datagrams() == []
    bench.prices.put("EURUSD", NOW + 9_000)
    bench.poll()
    payloads = [json.loads(frame.payload) for frame in bench.feed.datagrams()]
    assert payloads[0]["g"] == 1, "what happened meanwhile was not seen"


def test_says_when_it_could_not_look_for_long(bench: Bench) -> None:
    bench.prices.put("EURUSD", NOW)
    bench.poll(2)
    first = [json.loads(frame.payload) for frame in bench.feed.datagrams() if frame.kind is Kind.TICKS]
    assert [payload.get("g") for payload in first] == [1], "nothing is known of what was before the start"
    bench.prices.put("EURUSD", NOW + GAP_MS + 10)
    bench.poll(step_ms=GAP_MS + 10)  # an order took so long
    later = [json.loads(frame.payload) for frame in bench.feed.datagrams() if frame.kind is Kind.TICKS]
    assert [payload.get("g") for payload in later] == [1]


def test_a_symbol_that_fails_does_not_keep_the_others_from_being_sent() -> None:
    bench = Bench(symbols=["EURUSD", "USDJPY", "NONE"])
    bench.prices.ticks["EURUSD"] = TerminalError("symbol_info_tick", (-1, "failed"))
    bench.prices.put("USDJPY", NOW)
    bench.poll(20)
    assert rows(bench.feed.datagrams()) == [["USDJPY", NOW, 1.1, 1.2]]
    assert bench.prices.calls.count("EURUSD") == 1, "asked again only later"
    bench.close()


def test_uses_the_brokers_names_and_sends_canonical_ones() -> None:
    bench = Bench(symbols=[], symbol_suffix=".m")
    bench.prices.put("EURUSD.m", NOW)
    bench.prices.put("Other", NOW)
    bench.poll(5)
    assert rows(bench.feed.datagrams()) == [["EURUSD", NOW, 1.1, 1.2]]
    assert set(bench.prices.calls) == {"EURUSD.m"}
    bench.close()


def test_many_symbols_make_several_frames_that_fit_a_datagram() -> None:
    names = [f"SYMBOL{number:03}" for number in range(100)]
    bench = Bench(symbols=names)
    for name in names:
        bench.prices.put(name, NOW)
    bench.poll(10)
    frames = bench.feed.datagrams()
    assert sorted(row[0] for row in rows(frames)) == names
    assert all(len(seal(frame, KEYS)) <= DATAGRAM_MAX for frame in frames)
    bench.close()


def test_without_priority_nothing_is_read_or_sent() -> None:
    bench = Bench(tick_priority=0)
    bench.prices.put("EURUSD", NOW)
    bench.poll(5)
    assert bench.prices.calls == []
    assert bench.feed.datagrams() == []
    assert not bench.ticker.active
    bench.close()


def test_a_new_configuration_is_used_at_once(bench: Bench) -> None:
    bench.prices.put("EURUSD", NOW)
    bench.prices.put("USDJPY", NOW)
    bench.poll()
    bench.ticker.configure(config_of(symbols=["USDJPY"], version=2, tick_priority=3))
    bench.poll()
    frames = bench.feed.datagrams()
    assert [row[0] for row in rows(frames)] == ["EURUSD", "USDJPY"]
    assert json.loads(frames[-1].payload)["p"] == 3


def test_an_absent_feed_costs_nothing() -> None:
    bench = Bench()
    bench.feed.close()
    bench.prices.put("EURUSD", NOW)
    for number in range(300):
        bench.prices.put("EURUSD", NOW + number)
        bench.poll()
    assert bench.ticker.sent_ticks == 300
    bench.ticker.close()


def test_a_feed_that_is_not_ours_is_left(bench: Bench) -> None:
    bench.prices.put("EURUSD", NOW)
    bench.poll(2)
    hello = bench.feed.frames()
    assert hello
    assert bench.feed.connection is not None
    forged = seal(Frame(Kind.ACK, "demo-1", hello[0].boot_id, 0, 0, NOW, b""), Keyring({0: "other"}))
    bench.feed.connection.sendall(packed(forged))
    bench.poll(2)
    assert bench.feed.frames() == []
    assert bench.feed.connection is None, "closed, and not a frame was given to it"
