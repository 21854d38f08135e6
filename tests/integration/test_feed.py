"""The feed as it runs: its own process, real UDP and TCP, a real Valkey, ticks of the executor's own ticker.

What the terminal showed is recorded; whatever fails on the way, the stored candles must be those of the record.
"""

import contextlib
import json
import random
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from django.conf import settings

from charts.candles import CandleBuilder
from charts.messages import Candle, MarketUpdate, SymbolInfo
from executors.terminals.base import Identity, SymbolSpec, Terminal, Tick
from executors.terminals.factory import open_terminal
from executors.ticker import Ticker
from tests.feed import FeedProcess, Polling, TcpRelay, config_of, heartbeat
from tests.paper import PASSWORD, PaperBroker
from tests.valkey import Valkey
from tests.waiting import wait_until
from tradedist import keys
from tradedist.clock import now_ms
from tradedist.wire import Frame, Keyring, Kind, packed, seal

SYMBOL = "EURUSD"
D = Decimal
BLOCKED_MS = 1_000  # less than any time limit of a connection, more than a busy machine takes from a thread


class Walk:
    """A terminal whose prices walk: a new tick at most every `step_ms`. Records what it showed."""

    def __init__(self, step_ms: int = 15) -> None:
        self.shown: dict[str, list[Tick]] = {}
        self.step_ms = step_ms
        self._random = random.Random(1)

    def tick(self, symbol: str) -> Tick | None:
        shown = self.shown.setdefault(symbol, [])
        moment = now_ms()
        if not shown or moment - shown[-1].time_ms >= self.step_ms:
            bid = D(self._random.randint(110_000, 110_500)) / 100_000
            shown.append(Tick(symbol, bid, bid + D("0.0001"), D(0), 0, moment))
        return shown[-1]

    def spec(self, symbol: str) -> SymbolSpec | None:
        one = D(1)
        return SymbolSpec(
            symbol, 5, D("0.00001"), D("0.00001"), one, D(100_000), D("0.01"), D(100), D("0.01"), 0, 0, 4, 2, 3,
            "EUR", "USD", "EUR", "Euro", "Forex",
        )  # fmt: skip

    def symbols(self) -> tuple[SymbolSpec, ...]:
        return ()


class Recorded:
    """Records what a real terminal showed to the ticker."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.shown: dict[str, list[Tick]] = {}

    def tick(self, symbol: str) -> Tick | None:
        tick = self.terminal.tick(symbol)
        shown = self.shown.setdefault(symbol, [])
        if tick is not None and (not shown or tick != shown[-1]):
            shown.append(tick)
        return tick

    def spec(self, symbol: str) -> SymbolSpec | None:
        return self.terminal.spec(symbol)

    def symbols(self) -> tuple[SymbolSpec, ...]:
        return self.terminal.symbols()


@pytest.fixture
def valkey(make_valkey: Callable[..., Valkey], state_redis: Any) -> Valkey:
    return make_valkey(durable=False)


@pytest.fixture
def feed(valkey: Valkey) -> Iterator[FeedProcess]:
    process = FeedProcess(valkey.url).start()
    yield process
    process.kill()


def stored(valkey: Valkey, seconds: int, symbol: str = SYMBOL) -> list[Candle]:
    """Every candle a reader finds: the stream, what settles, what forms."""
    with valkey.client() as client, client.pipeline() as pipe:
        pipe.xrange(keys.candles(symbol, seconds))
        pipe.get(keys.settling(symbol, seconds))
        pipe.get(keys.forming(symbol, seconds))
        final, settling, forming = pipe.execute()
    found = [Candle.model_validate_json(fields["candle"]) for _, fields in final]
    found += [Candle.model_validate(row) for row in json.loads(settling or "[]")]
    found += [Candle.model_validate_json(forming)] if forming else []
    opens = [candle.open_ms for candle in found]
    assert opens == sorted(set(opens)), "no candle twice, ascending"
    return found


def metrics(feed: FeedProcess) -> str:
    with urllib.request.urlopen(feed.metrics_url, timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def rejected(feed: FeedProcess) -> float:
    found = [line for line in metrics(feed).splitlines() if 'event="frames_rejected"' in line]
    return float(found[0].split()[-1]) if found else 0.0


def of_record(shown: list[Tick], seconds: int) -> list[Candle]:
    builder = CandleBuilder(SYMBOL, seconds)
    found: dict[int, Candle] = {}
    for order, tick in enumerate(shown):
        builder.add(tick.time_ms, float(tick.bid), order)
        changes = builder.drain()
        for candle in [*changes.closed, *changes.final, *filter(None, [changes.forming])]:
            found[candle.open_ms] = candle
    return list(found.values())


def settled(valkey: Valkey, shown: list[Tick], symbol: str = SYMBOL) -> None:
    """Once the last tick has arrived, what is stored is what the record gives."""
    last = shown[-1].time_ms

    def arrived() -> bool:
        with valkey.client() as client:
            latest = client.hget(keys.LATEST_TICKS, symbol)
        return bool(latest) and json.loads(latest)["time_ms"] >= last

    wait_until(arrived)
    time.sleep(0.3)  # a second copy of anything would have come by now
    for seconds in (1, 60):
        wanted, found = of_record(shown, seconds), stored(valkey, seconds, symbol)
        assert [(one.open_ms, one.open, one.high, one.low, one.close, one.ticks) for one in found] == [
            (one.open_ms, one.open, one.high, one.low, one.close, one.ticks) for one in wanted
        ]


def test_ticks_become_candles_and_updates(valkey: Valkey, feed: FeedProcess) -> None:
    walk = Walk()
    with valkey.client() as client, Polling(Ticker(walk, config_of(), address=feed.address)) as polling:
        listener = client.pubsub()
        listener.subscribe(keys.market_channel(SYMBOL))
        wait_until(lambda: len(stored(valkey, 1)) >= 5)
        beat = wait_until(lambda: heartbeat(client))
        info = SymbolInfo.model_validate_json(client.hget(keys.SYMBOLS, SYMBOL) or "")
        updates = []
        while message := listener.get_message(timeout=0.2):
            if message["type"] == "message":
                updates.append(MarketUpdate.model_validate_json(message["data"]))
            if len(updates) > 100:
                break
        listener.close()
    settled(valkey, walk.shown[SYMBOL])
    assert polling.slowest_ms < BLOCKED_MS, "a poll does not block"
    assert beat["sources"]["demo-1"]["alive"]
    assert beat["sources"]["demo-1"]["tcp"]
    assert info.digits == 5
    assert {candle.seconds for update in updates for candle in update.closed} >= {1}
    assert all(one.tick.time_ms <= other.tick.time_ms for one, other in pairwise(updates))
    with valkey.client() as client:
        assert client.xlen(keys.ticks(SYMBOL)) == len(walk.shown[SYMBOL])
    assert [candle.partial for candle in stored(valkey, 1)] == [True] + [False] * (len(stored(valkey, 1)) - 1)


def test_prices_of_the_paper_broker_under_the_canonical_name(
    valkey: Valkey,
    feed: FeedProcess,
    paper_broker: PaperBroker,
) -> None:
    account = paper_broker.account(71, "lab", 10_000)
    config = config_of(
        "paper-1",
        login=71,
        server=account["server"],
        path=paper_broker.url,
        server_timezone=account["server_timezone"],
        symbol_suffix=account["symbol_suffix"],
    )
    terminal = open_terminal(config, PASSWORD)
    assert isinstance(terminal.connect(), Identity)
    recorded = Recorded(terminal)
    try:
        with Polling(Ticker(recorded, config, address=feed.address)):
            wait_until(lambda: len(recorded.shown.get(SYMBOL, [])) >= 3)
            wait_until(lambda: stored(valkey, 60))
        settled(valkey, recorded.shown[SYMBOL])
    finally:
        terminal.disconnect()


def test_without_any_datagram_tcp_carries_on(valkey: Valkey, feed: FeedProcess) -> None:
    walk, relay = Walk(), TcpRelay(feed.address)
    try:
        with Polling(Ticker(walk, config_of(), address=relay.address)):
            wait_until(lambda: len(stored(valkey, 1)) >= 3)
            relay.cut()  # and the connection once more
            wait_until(lambda: len(stored(valkey, 1)) >= 6)
        settled(valkey, walk.shown[SYMBOL])
    finally:
        relay.close()
    assert not any(candle.partial for candle in stored(valkey, 1)[1:]), "the repeated frames left no gap"
    text = metrics(feed)
    assert 'feed_events_total{event="frames_tcp"}' in text
    assert 'feed_events_total{event="frames_udp"}' not in text


def test_a_killed_feed_goes_on_without_gap_or_double(valkey: Valkey, feed: FeedProcess) -> None:
    walk = Walk()
    with Polling(Ticker(walk, config_of(), address=feed.address)):
        for _ in range(3):
            count = len(stored(valkey, 1))
            wait_until(lambda count=count: len(stored(valkey, 1)) >= count + 2)
            feed.kill()
            time.sleep(0.5)
            feed.start()
        count = len(stored(valkey, 1))
        wait_until(lambda: len(stored(valkey, 1)) >= count + 3)
    settled(valkey, walk.shown[SYMBOL])
    assert not any(candle.partial for candle in stored(valkey, 1)[1:])


def test_a_killed_redis_is_filled_again(valkey: Valkey, feed: FeedProcess) -> None:
    """It keeps nothing on disk, so that it comes back empty."""
    walk = Walk()
    with Polling(Ticker(walk, config_of(), address=feed.address)) as polling:
        wait_until(lambda: len(stored(valkey, 1)) >= 4)
        valkey.restart(down_s=1.5)
        wait_until(lambda: len(stored(valkey, 1)) >= 8)
        valkey.restart()  # so quick that no write may have failed
        wait_until(lambda: len(stored(valkey, 1)) >= 9)
        with valkey.client() as client:
            assert client.hget(keys.SYMBOLS, SYMBOL)
    settled(valkey, walk.shown[SYMBOL])
    assert polling.slowest_ms < BLOCKED_MS


def test_a_frozen_redis_does_not_hold_up_the_ticks(valkey: Valkey, feed: FeedProcess) -> None:
    walk = Walk()
    with Polling(Ticker(walk, config_of(), address=feed.address)):
        wait_until(lambda: len(stored(valkey, 1)) >= 2)
        valkey.freeze()
        wait_until(lambda: "feed_redis_up 0.0" in metrics(feed))  # beyond the client's time limit
        valkey.cont()
        wait_until(lambda: len(stored(valkey, 1)) >= 7)
    settled(valkey, walk.shown[SYMBOL])


def test_the_second_source_takes_over_and_gives_back(valkey: Valkey, feed: FeedProcess) -> None:
    first, second = Walk(), Walk()
    second.step_ms = 40
    one = Ticker(first, config_of("first", tick_priority=1), address=feed.address)
    two = Ticker(second, config_of("second", tick_priority=2), address=feed.address)

    def active() -> str:
        with valkey.client() as client:
            sources = heartbeat(client).get("sources", {})
        return next((name for name, source in sources.items() if source["active_symbols"]), "")

    with Polling(two):
        with Polling(one):
            wait_until(lambda: active() == "first")
        wait_until(lambda: active() == "second")
        again = Ticker(first, config_of("first", tick_priority=1), address=feed.address)
        with Polling(again):
            wait_until(lambda: active() == "first")
    counted = sum(candle.ticks for candle in stored(valkey, 1))
    assert counted < len(first.shown[SYMBOL]) + len(second.shown[SYMBOL]), "not both sources' ticks"
    opens = [candle.open_ms for candle in stored(valkey, 1)]
    assert all(later - earlier == 1000 for earlier, later in pairwise(opens)), "and no second without ticks"


def test_what_does_not_verify_gets_no_answer(valkey: Valkey, feed: FeedProcess) -> None:
    keyring, rng = Keyring({0: settings.WIRE_KEY}), random.Random(2)
    frame = Frame(Kind.TICKS, "demo-9", 1, 0, 1, now_ms(), b'{"p":1,"t":[["EURUSD",1,1,1]]}')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(0.3)
        for number in range(1, 11):  # no more at once than the socket's buffer holds
            for _ in range(20):
                sender.sendto(rng.randbytes(rng.randint(0, 1400)), feed.address)
            wait_until(lambda number=number: rejected(feed) >= 20 * number)
        sender.sendto(seal(frame, Keyring({0: "wrong"})), feed.address)
        sender.sendto(seal(frame._replace(kind=Kind.HELLO), keyring), feed.address)
        with pytest.raises(TimeoutError):
            sender.recv(100)
    for opening in (
        rng.randbytes(500),
        packed(seal(frame, keyring)),  # verified, but no hello
        packed(seal(frame._replace(kind=Kind.HELLO, time_ms=now_ms() - 60_000), keyring)),  # replayed
    ):
        with socket.create_connection(feed.address, timeout=30) as connection:
            connection.sendall(opening)
            with contextlib.suppress(ConnectionResetError):  # closed without a word, which is what we want
                assert connection.recv(100) == b""
    with valkey.client() as client:
        assert not client.exists(keys.LATEST_TICKS)


def test_a_second_feed_says_that_the_port_is_taken(feed: FeedProcess) -> None:
    ended = feed.second()
    assert ended.returncode == 1
    assert f"FEED_PORT {feed.port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_ends_in_order_when_asked(feed: FeedProcess) -> None:
    assert feed.stop() == 0
