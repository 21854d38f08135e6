"""How many ticks a second the feed takes: `.venv/bin/python -m bench.feed [--ticks 200000] [--symbols 20]`.

Candles in five timeframes, in four steps: building them alone; with ordering, routing and draining; from sealed frames
(verified and parsed); and all of it with a real Valkey of its own, conflated per symbol, as the feed process writes.
Ticks per second of processor time, so that other work on the machine does not count; the last also by the clock.
"""

import argparse
import asyncio
import json
import platform
import tempfile
import time
from pathlib import Path

import redis.asyncio

from charts.candles import CandleBuilder, Changes
from charts.feed import Feed
from charts.messages import Candle
from charts.pipeline import Pipeline
from charts.state import TickStore
from tests.valkey import Valkey
from tradedist import keys
from tradedist.clock import now_ms
from tradedist.wire import Frame, Keyring, Kind, open_frame, seal

TIMEFRAMES = (1, 60, 120, 180, 300)
PER_FRAME = 10  # ticks in a frame: what one look at twenty lively symbols gives
KEYS = Keyring({0: "bench"})


def prices(ticks: int, symbols: int) -> list[tuple[str, int, float, float]]:
    """A tick of each symbol a millisecond, up to now."""
    start_ms = now_ms() - ticks // symbols
    names = [f"SYM{number:03}" for number in range(symbols)]
    rows = []
    for number in range(ticks):
        bid = round(1.1 + (number * 7919 % 1000) / 1e5, 5)
        rows.append((names[number % symbols], start_ms + number // symbols, bid, bid + 0.0001))
    return rows


def frames(rows: list[tuple[str, int, float, float]]) -> list[Frame]:
    found = []
    for place in range(0, len(rows), PER_FRAME):
        group = rows[place : place + PER_FRAME]
        payload = json.dumps({"p": 1, "t": group}, separators=(",", ":")).encode()
        found.append(Frame(Kind.TICKS, "bench", 1, 0, place // PER_FRAME + 1, group[-1][1], payload))
    return found


def build_alone(rows: list[tuple[str, int, float, float]]) -> float:
    builders = {
        symbol: [CandleBuilder(symbol, seconds) for seconds in TIMEFRAMES]
        for symbol in {row[0] for row in rows}
    }
    started = time.process_time()
    for order, (symbol, time_ms, bid, _) in enumerate(rows):
        for builder in builders[symbol]:
            builder.add(time_ms, bid, order)
    spent = time.process_time() - started
    for seconds in range(len(TIMEFRAMES)):
        counted = [builder.drain() for builder in (group[seconds] for group in builders.values())]
        assert sum(one.ticks for changes in counted for one in _all(changes)) == len(rows)
    return spent


def _all(changes: Changes) -> list[Candle]:
    by_open = {one.open_ms: one for one in [*changes.final, *changes.closed]}
    return [*by_open.values(), *([changes.forming] if changes.forming else [])]


def through_pipeline(sent: list[Frame]) -> float:
    pipeline = Pipeline("bench", TIMEFRAMES)
    pipeline.connected("bench", sent[0].time_ms)
    started = time.process_time()
    for number, frame in enumerate(sent):
        pipeline.receive(frame, "tcp", frame.time_ms)
        if number % 100 == 0:
            pipeline.drain()
    return time.process_time() - started


def from_sealed(sent: list[bytes]) -> float:
    pipeline = Pipeline("bench", TIMEFRAMES)
    started = time.process_time()
    for number, raw in enumerate(sent):
        frame = open_frame(raw, KEYS)
        pipeline.receive(frame, "tcp", frame.time_ms)
        if number % 100 == 0:
            pipeline.drain()
    return time.process_time() - started


async def with_redis(rows: list[tuple[str, int, float, float]], url: str) -> tuple[float, float, Feed]:
    """The feed's own writer beside the ticks, which come as fast as they are taken."""
    client = redis.asyncio.Redis.from_url(url, decode_responses=True)
    feed = Feed(TickStore(client, client, "bench"), KEYS)
    feed.pipeline = Pipeline("bench", TIMEFRAMES)
    sealed = [seal(frame, KEYS) for frame in frames(rows)]
    feed.pipeline.connected("bench", now_ms())
    writer = asyncio.create_task(feed.write())
    started, used = time.perf_counter(), time.process_time()
    for number, raw in enumerate(sealed):
        feed.frame(feed.open(raw))
        if number % 50 == 0:
            await asyncio.sleep(0)  # as between two reads of a socket
    last, stored = rows[-1][1], None
    while stored != last:
        if writer.done():
            writer.result()
        answer = await client.hget(keys.LATEST_TICKS, rows[-1][0])
        stored = json.loads(answer)["time_ms"] if answer else None
    spent, used = time.perf_counter() - started, time.process_time() - used
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    await client.aclose()
    return spent, used, feed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=200_000)
    parser.add_argument("--symbols", type=int, default=20)
    options = parser.parse_args()
    rows = prices(options.ticks, options.symbols)
    sent = frames(rows)
    sealed = [seal(frame, KEYS) for frame in sent]
    print(
        f"{options.ticks} ticks, {options.symbols} symbols, candles of {TIMEFRAMES} s, Python {platform.python_version()}"
    )
    for name, spent in (
        ("candles alone", build_alone(rows)),
        ("+ order, sources, draining", through_pipeline(sent)),
        ("+ frames verified and parsed", from_sealed(sealed)),
    ):
        print(f"{name:32} {options.ticks / spent:>10,.0f} ticks/s")
    with tempfile.TemporaryDirectory() as directory:
        valkey = Valkey(Path(directory), durable=False, maxmemory_mb=256).start()
        try:
            spent, used, feed = asyncio.run(with_redis(prices(options.ticks, options.symbols), valkey.url))
        finally:
            valkey.kill()
    totals = feed.pipeline.totals()
    assert totals["ticks"] == options.ticks, totals
    for name, seconds in (("+ Redis output, conflated", used), ("  the same by the clock", spent)):
        print(f"{name:32} {options.ticks / seconds:>10,.0f} ticks/s")
    print(
        f"{feed.writes} transactions; {totals['ticks_conflated']} ticks were in candles but not in the ring"
    )


if __name__ == "__main__":
    main()
