"""The charts app's one Redis module: the feed's batches into the tick Redis, and what candle queries read from it.

Precedes: candle_query, the chart socket, health. Follows: charts.pipeline. A batch is one MULTI with its own id, so
that after a lost reply the writer can ask whether it was applied, and readers see candles without gap or double.
"""

import json
from collections.abc import Sequence
from typing import Any

import redis.asyncio
from pydantic import TypeAdapter

from charts.candles import FINAL_KEPT
from charts.messages import Candle, MarketUpdate, SymbolInfo
from charts.pipeline import Batch, SymbolBatch
from tradedist import keys

RING = 1_000  # ticks of a symbol in Redis
HEARTBEAT_EXPIRES_S = 5
FINAL_KEPT_OTHER = 5_000

CANDLES = TypeAdapter(list[Candle])


class TickStore:
    """Writes for the feed. Every call raises redis.RedisError or OSError when Redis is not there."""

    def __init__(self, client: "redis.asyncio.Redis", state: "redis.asyncio.Redis", host_id: str) -> None:
        self._client = client
        self._state = state
        self._host_id = host_id

    async def load(self) -> tuple[dict[str, str], dict[str, str]]:
        """What `Pipeline.restore` takes: symbols and sources as of the last batch."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.FEED_SYMBOLS)
            pipe.hgetall(keys.FEED_SOURCES)
            symbols, sources = await pipe.execute()
        return symbols, sources

    async def last_batch(self) -> str | None:
        """The id of the last batch that was written; None when Redis came back empty."""
        last = await self._client.get(keys.FEED_BATCH)
        return None if last is None else str(last)

    async def write(self, batch: Batch) -> tuple[str | None, list[Exception]]:
        """All of the batch in one transaction. Returns the id of the batch before it, and what single commands
        were refused; the rest was applied."""
        async with self._client.pipeline(transaction=True) as pipe:
            _queue(pipe, batch)
            pipe.set(keys.FEED_BATCH, batch.id, get=True)
            answers = await pipe.execute(raise_on_error=False)
        return answers[-1], [answer for answer in answers if isinstance(answer, Exception)]

    async def beat_health(self, time_ms: int) -> None:
        """For /api/health, on the state Redis with the other processes' heartbeats."""
        await self._state.hset(keys.HEARTBEATS, f"feed:{self._host_id}", str(time_ms))

    async def beat(self, heartbeat: dict[str, object]) -> None:
        """What the feed is doing, for candle queries and operators; gone 5 s after its end."""
        await self._client.set(keys.FEED_HEARTBEAT, json.dumps(heartbeat), ex=HEARTBEAT_EXPIRES_S)


def _queue(pipe: Any, batch: Batch) -> None:
    if batch.complete:
        pipe.delete(
            *(
                keys.candles(symbol, seconds)
                for symbol, one in batch.symbols.items()
                for seconds in one.final
            ),
            keys.FEED_SYMBOLS,
        )
    for symbol, one in batch.symbols.items():
        _queue_symbol(pipe, symbol, one)
    if batch.symbols:
        pipe.hset(keys.FEED_SYMBOLS, mapping={symbol: one.state for symbol, one in batch.symbols.items()})
        latest = {symbol: one.latest.model_dump_json() for symbol, one in batch.symbols.items()}
        pipe.hset(keys.LATEST_TICKS, mapping=latest)
    if batch.sources:
        pipe.hset(keys.FEED_SOURCES, mapping=batch.sources)
    if batch.infos:
        pipe.hset(keys.SYMBOLS, mapping=batch.infos)


def _queue_symbol(pipe: Any, symbol: str, one: SymbolBatch) -> None:
    for tick in one.ticks:
        pipe.xadd(
            keys.ticks(symbol),
            {"time_ms": tick.time_ms, "bid": tick.bid, "ask": tick.ask},
            maxlen=RING,
            approximate=True,
        )
    for seconds, texts in one.final.items():
        for open_ms, text in zip(one.final_ids[seconds], texts, strict=True):
            pipe.xadd(
                keys.candles(symbol, seconds),
                {"candle": text},
                id=f"{open_ms}-0",
                maxlen=FINAL_KEPT.get(seconds, FINAL_KEPT_OTHER),
                approximate=True,
            )
    values: dict[str, str | bytes] = {}
    for seconds, settling in one.settling.items():
        values[keys.settling(symbol, seconds)] = CANDLES.dump_json(settling)
    for seconds, forming in one.forming.items():
        if forming is None:
            pipe.delete(keys.forming(symbol, seconds))
        else:
            values[keys.forming(symbol, seconds)] = forming.model_dump_json()
    pipe.mset(values)
    update = MarketUpdate(
        tick=one.latest,
        forming=[candle for candle in one.forming.values() if candle is not None],
        closed=one.closed,
    )
    pipe.publish(keys.market_channel(symbol), update.model_dump_json())


async def read_tail(
    client: "redis.asyncio.Redis", symbol: str, seconds: int, from_ms: int, to_ms: int, count: int
) -> list[Candle]:
    """The feed's own candles with from_ms <= open_ms < to_ms, ascending, at most the newest `count`."""
    async with client.pipeline(transaction=True) as pipe:
        pipe.xrevrange(keys.candles(symbol, seconds), max=f"({to_ms}-0", min=f"{from_ms}-0", count=count)
        pipe.get(keys.settling(symbol, seconds))
        pipe.get(keys.forming(symbol, seconds))
        final, settling, forming = await pipe.execute()
    by_open = {}
    for _, fields in final:
        candle = Candle.model_validate_json(fields["candle"])
        by_open[candle.open_ms] = candle
    recent: Sequence[Candle] = CANDLES.validate_json(settling) if settling else []
    for candle in [*recent, *([Candle.model_validate_json(forming)] if forming else [])]:
        if from_ms <= candle.open_ms < to_ms:
            by_open[candle.open_ms] = candle
    return [by_open[open_ms] for open_ms in sorted(by_open)][-count:]


async def read_symbols(client: "redis.asyncio.Redis") -> list[SymbolInfo]:
    rows = await client.hgetall(keys.SYMBOLS)
    return [SymbolInfo.model_validate_json(rows[symbol]) for symbol in sorted(rows)]


async def read_heartbeat(client: "redis.asyncio.Redis") -> dict[str, Any] | None:
    """What the feed said of itself within the last 5 s; None when it does not run."""
    text = await client.get(keys.FEED_HEARTBEAT)
    return None if text is None else dict(json.loads(text))


async def read_cache(
    client: "redis.asyncio.Redis", symbol: str, seconds: int, from_ms: int, to_ms: int, count: int
) -> tuple[tuple[int, int] | None, list[Candle]]:
    """The span that the cache of terminal candles holds without a hole, and its newest `count` in
    from_ms <= open_ms <= to_ms, ascending."""
    async with client.pipeline(transaction=True) as pipe:
        pipe.get(keys.candle_cache_span(symbol, seconds))
        pipe.zrevrangebyscore(keys.candle_cache(symbol, seconds), to_ms, from_ms, start=0, num=count)
        text, rows = await pipe.execute()
    if text is None:
        return None, []
    first, last = json.loads(text)
    candles = (Candle.model_validate_json(row) for row in reversed(rows))
    return (first, last), [candle for candle in candles if first <= candle.open_ms <= last]


async def extend_cache(
    client: "redis.asyncio.Redis",
    symbol: str,
    seconds: int,
    candles: Sequence[Candle],
    span: tuple[int, int],
    *,
    replace: bool,
    expires_s: int,
) -> None:
    """Closed candles into the cache, whose span is then `span`. `replace` drops what it held."""
    cache = keys.candle_cache(symbol, seconds)
    async with client.pipeline(transaction=True) as pipe:
        if replace:
            pipe.delete(cache)
        elif candles:
            pipe.zremrangebyscore(cache, candles[0].open_ms, candles[-1].open_ms)
        if candles:
            pipe.zadd(cache, {candle.model_dump_json(): candle.open_ms for candle in candles})
        pipe.set(keys.candle_cache_span(symbol, seconds), json.dumps(span), ex=expires_s)
        pipe.expire(cache, expires_s)
        await pipe.execute()
