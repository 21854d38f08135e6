"""Pure: all of the feed between a verified frame and what is to be stored and published.

Precedes: charts.feed, which writes each `Batch` to Redis in one transaction. Follows: frames by UDP and TCP.
A batch holds the candles *and* how far each source's frames went into them, so that a feed that was killed goes on
from the last batch that was stored, and the sources repeat the rest: no tick is lost or counted twice.
"""

import json
import math
import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from charts.candles import CLOSED_KEPT, CandleBuilder
from charts.ingest import SILENT_MS, Path, Position, Router, Sequencer
from charts.market import SourceTick
from charts.messages import STORED_TIMEFRAMES, Candle, SymbolInfo, Tick
from tradedist.wire import WINDOW_BITS, Frame, Kind

FRAME_AGE_MS = 60_000  # what a source repeats after a reconnect is younger
FRAME_AHEAD_MS = 10_000
TICK_AGE_MS = 60_000  # an older one is a closed market's last price: shown, but no candle is made of it
TICK_AHEAD_MS = 5_000  # a tick from the future would make all true ones late
PRICE_MAX = 1e15
SYMBOLS_MAX = 2_000
SOURCES_MAX = 1_000
TICKS_PER_FRAME = 1_000
RING_PER_BATCH = 64  # ticks of a symbol that one batch adds to its ring: conflated beyond
TAIL_KEPT = 600  # final candles kept here per symbol and timeframe, to fill a Redis that came back empty

_SYMBOL = re.compile(r"[A-Za-z0-9._#&+\-]{1,29}")


@dataclass(slots=True)
class SymbolBatch:
    """What is new of one symbol. `forming` and `settling` hold every timeframe, changed or not."""

    latest: Tick
    ticks: list[SourceTick]
    forming: dict[int, Candle | None]
    settling: dict[int, list[Candle]]
    closed: list[Candle]
    final: dict[int, list[str]]  # seconds → candles as JSON, ascending
    final_ids: dict[int, list[int]]  # their open_ms
    state: str


@dataclass(slots=True)
class Batch:
    id: str
    symbols: dict[str, SymbolBatch] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    infos: dict[str, str] = field(default_factory=dict)
    complete: bool = False  # replaces what is stored, instead of adding to it


@dataclass(slots=True)
class _Source:
    sequencer: Sequencer
    priority: int = 1
    changed: bool = False
    ahead_ms: int = 0  # of its last tick that was refused for being in the future; 0 after a good one


class _Market:
    """One symbol."""

    __slots__ = ("builders", "conflated", "lag_ms", "latest", "ring", "router", "tails")

    def __init__(self, symbol: str, timeframes: Iterable[int]) -> None:
        self.router = Router()
        self.builders = tuple(CandleBuilder(symbol, seconds) for seconds in timeframes)
        self.latest: SourceTick | None = None
        self.ring: deque[SourceTick] = deque(maxlen=RING_PER_BATCH)
        self.conflated = 0
        self.lag_ms = 0.0  # of the ticks' clock behind ours, about the largest lately
        self.tails: dict[int, deque[tuple[int, str]]] = {
            builder.seconds: deque(maxlen=TAIL_KEPT) for builder in self.builders
        }

    def add(self, tick: SourceTick) -> None:
        for builder in self.builders:
            builder.add(tick.time_ms, tick.bid, tick.order)
        if len(self.ring) == RING_PER_BATCH:
            self.conflated += 1
        self.ring.append(tick)
        latest = self.latest
        if latest is None or (tick.time_ms, tick.order) >= (latest.time_ms, latest.order):
            self.latest = tick

    @property
    def dropped(self) -> int:
        return self.builders[0].dropped if self.builders else 0


class Pipeline:
    """`receive` each verified frame, `tick_clock` often, `drain` when `dirty`. One thread; no I/O."""

    def __init__(self, instance: str, timeframes: tuple[int, ...] = STORED_TIMEFRAMES) -> None:
        self.counts: Counter[str] = Counter()
        self._instance = instance  # makes batch ids unique over restarts
        self._batches = 0
        self._timeframes = timeframes
        self._sources: dict[str, _Source] = {}
        self._markets: dict[str, _Market] = {}
        self._infos: dict[str, tuple[int, str]] = {}  # symbol → priority of its source, JSON
        self._heard: dict[str, float] = {}
        self._dirty: set[str] = set()
        self._new_infos: dict[str, str] = {}

    @property
    def dirty(self) -> bool:
        return bool(self._dirty or self._new_infos)

    @property
    def held(self) -> bool:
        return any(source.sequencer.held for source in self._sources.values())

    # --- In ---

    def receive(self, frame: Frame, path: Path, now_ms: int) -> None:
        if not -FRAME_AHEAD_MS <= now_ms - frame.time_ms <= FRAME_AGE_MS:
            self.counts["frames_skewed"] += 1
            return
        source = self._source(frame.sender, now_ms)
        if source is None:
            return
        self._heard[frame.sender] = now_ms
        self.counts[f"frames_{path}"] += 1
        for delivered in source.sequencer.offer(frame, path, now_ms):
            self._apply(source, delivered.frame, delivered.gap, now_ms)

    def connected(self, sender: str, now_ms: int) -> Position | None:
        """The source has a TCP connection. How far it was received without a hole: it repeats the rest."""
        source = self._source(sender, now_ms)
        if source is None:
            return None
        source.sequencer.connections += 1
        return Position(source.sequencer.boot_id, source.sequencer.complete_to, 0)

    def disconnected(self, sender: str) -> None:
        if source := self._sources.get(sender):
            source.sequencer.connections -= 1

    def tick_clock(self, now_ms: int) -> None:
        """Time has passed: give up gaps, fail over, close candles."""
        for name, source in self._sources.items():
            if source.sequencer.held:
                for delivered in source.sequencer.expire(now_ms):
                    self._apply(self._sources[name], delivered.frame, delivered.gap, now_ms)
        for symbol, market in self._markets.items():
            for tick in market.router.expire(self._heard, now_ms):
                market.add(tick)
                self._dirty.add(symbol)
            active = self._sources.get(market.router.active)
            # The clock only runs while the symbol's source is with us: otherwise ticks may be on their way.
            if (
                active is None
                or active.sequencer.held
                or now_ms - self._heard.get(market.router.active, 0) > SILENT_MS
            ):
                continue
            market_ms = now_ms - math.ceil(max(market.lag_ms, 0))
            for builder in market.builders:
                if builder.advance(market_ms):
                    self._dirty.add(symbol)

    def _source(self, name: str, now_ms: int) -> _Source | None:
        source = self._sources.get(name)
        if source is None:
            if len(self._sources) >= SOURCES_MAX:
                self.counts["sources_refused"] += 1
                return None
            source = self._sources[name] = _Source(Sequencer(None, now_ms))
        return source

    def _apply(self, source: _Source, frame: Frame, gap: bool, now_ms: int) -> None:
        source.changed = True
        try:
            if frame.kind is Kind.TICKS:
                self._apply_ticks(source, frame, gap, now_ms)
            elif frame.kind is Kind.SYMBOLS:
                self._apply_symbols(source, frame)
        except (ValueError, TypeError, KeyError, RecursionError, ValidationError):
            # Authentic, yet not what this version understands: counted, and the next frame is taken.
            self.counts["frames_malformed"] += 1

    def _apply_ticks(self, source: _Source, frame: Frame, gap: bool, now_ms: int) -> None:
        payload = json.loads(frame.payload)
        source.priority = int(payload["p"])
        if gap or payload.get("g"):
            self._mark_gap(frame.sender)
        rows = payload["t"]
        if len(rows) > TICKS_PER_FRAME:
            raise ValueError("too many ticks in a frame")
        for number, (symbol, time_ms, bid, ask) in enumerate(rows):
            self._apply_tick(
                source,
                frame,
                SourceTick(symbol, time_ms, bid, ask, frame.seq * TICKS_PER_FRAME + number),
                now_ms,
            )

    def _apply_tick(self, source: _Source, frame: Frame, tick: SourceTick, now_ms: int) -> None:
        market = self._markets.get(tick.symbol)
        if market is None:
            market = self._new_market(tick.symbol)
            if market is None:
                return
        if not _usable(tick):
            self.counts["ticks_malformed"] += 1
            return
        if tick.time_ms > now_ms + TICK_AHEAD_MS:
            self.counts["ticks_ahead"] += 1
            source.ahead_ms = tick.time_ms - now_ms
            return
        source.ahead_ms = 0
        lag = frame.time_ms - tick.time_ms
        if lag > TICK_AGE_MS:
            self.counts["ticks_old"] += 1
            if market.latest is None:
                market.latest = tick
                self._dirty.add(tick.symbol)
            return
        counted = market.router.route(frame.sender, source.priority, tick, self._heard, now_ms)
        if not counted:
            self.counts["ticks_standby"] += 1
            return
        market.lag_ms = max(lag, market.lag_ms * 0.98)
        for one in counted:
            market.add(one)
        self.counts["ticks"] += len(counted)
        self._dirty.add(tick.symbol)

    def _new_market(self, symbol: Any) -> _Market | None:
        if not isinstance(symbol, str) or not _SYMBOL.fullmatch(symbol) or len(self._markets) >= SYMBOLS_MAX:
            self.counts["symbols_refused"] += 1
            return None
        market = self._markets[symbol] = _Market(symbol, self._timeframes)
        return market

    def _mark_gap(self, sender: str) -> None:
        for symbol, market in self._markets.items():
            if market.router.active == sender:
                for builder in market.builders:
                    builder.mark_gap()
                self._dirty.add(symbol)

    def _apply_symbols(self, source: _Source, frame: Frame) -> None:
        payload = json.loads(frame.payload)
        source.priority = int(payload["p"])
        for row in payload["s"]:
            info = SymbolInfo.model_validate(row)
            if not _SYMBOL.fullmatch(info.symbol):
                raise ValueError("not a symbol's name")
            known = self._infos.get(info.symbol)
            if known is None and len(self._infos) >= SYMBOLS_MAX:
                self.counts["symbols_refused"] += 1
            elif known is None or source.priority <= known[0]:
                text = info.model_dump_json()
                if known is None or text != known[1]:
                    self._new_infos[info.symbol] = text
                self._infos[info.symbol] = (source.priority, text)

    # --- Out ---

    def drain(self) -> Batch:
        """Everything new since the last call. The caller stores it, or this object again after a failure."""
        self._batches += 1
        batch = Batch(id=f"{self._instance}:{self._batches}")
        for symbol in self._dirty:
            market = self._markets[symbol]
            if market.latest is not None:
                batch.symbols[symbol] = self._drain(market)
        self._dirty.clear()
        for name, source in self._sources.items():
            if source.changed:
                source.changed = False
                position = source.sequencer.position
                batch.sources[name] = json.dumps(
                    [position.boot_id, position.high, f"{position.mask:x}", source.priority]
                )
        batch.infos, self._new_infos = self._new_infos, {}
        return batch

    def _drain(self, market: _Market) -> SymbolBatch:
        assert market.latest is not None
        closed: list[Candle] = []
        final: dict[int, list[str]] = {}
        final_ids: dict[int, list[int]] = {}
        for builder in market.builders:
            changes = builder.drain()
            closed += changes.closed
            if changes.final:
                final[builder.seconds] = texts = [candle.model_dump_json() for candle in changes.final]
                final_ids[builder.seconds] = [candle.open_ms for candle in changes.final]
                market.tails[builder.seconds].extend(zip(final_ids[builder.seconds], texts, strict=True))
        ticks = list(market.ring)
        market.ring.clear()
        latest = market.latest
        return SymbolBatch(
            latest=Tick(symbol=latest.symbol, time_ms=latest.time_ms, bid=latest.bid, ask=latest.ask),
            ticks=ticks,
            forming={builder.seconds: builder.forming() for builder in market.builders},
            settling={builder.seconds: builder.settling() for builder in market.builders},
            closed=closed[-CLOSED_KEPT:],
            final=final,
            final_ids=final_ids,
            state=json.dumps(
                {
                    "latest": list(latest),
                    "router": market.router.snapshot(),
                    "candles": {
                        str(builder.seconds): [builder.watermark_ms, int(builder.gap), builder.snapshot()]
                        for builder in market.builders
                    },
                },
                separators=(",", ":"),
            ),
        )

    def drain_all(self) -> Batch:
        """Everything that is known here, for a Redis that came back empty."""
        for symbol in self._markets:
            self._dirty.add(symbol)
        for source in self._sources.values():
            source.changed = True
        self._new_infos = {symbol: text for symbol, (_, text) in self._infos.items()}
        batch = self.drain()
        batch.complete = True
        for symbol, one in batch.symbols.items():
            for seconds, tail in self._markets[symbol].tails.items():
                one.final[seconds] = [text for _, text in tail]
                one.final_ids[seconds] = [open_ms for open_ms, _ in tail]
        return batch

    # --- After a restart ---

    def restore(self, symbols: Mapping[str, str], sources: Mapping[str, str], now_ms: int) -> None:
        """Go on from what the last stored batch said. What can't be read is counted and begins anew."""
        for name, text in sources.items():
            try:
                boot_id, high, mask, priority = json.loads(text)
                position = Position(int(boot_id), int(high), int(mask, 16) & ((1 << WINDOW_BITS) - 1))
                self._sources[name] = _Source(Sequencer(position, now_ms), int(priority))
                self._heard[name] = now_ms  # it has the usual time to be heard
            except (ValueError, TypeError):
                self.counts["restore_failed"] += 1
        for symbol, text in symbols.items():
            try:
                self._restore_symbol(symbol, json.loads(text), now_ms)
            except (ValueError, TypeError, KeyError, IndexError):
                self._markets.pop(symbol, None)
                self.counts["restore_failed"] += 1

    def _restore_symbol(self, symbol: str, saved: dict[str, Any], now_ms: int) -> None:
        market = self._new_market(symbol)
        if market is None:
            raise ValueError(f"{symbol!r} is not a symbol that fits")
        name, time_ms, bid, ask, order = saved["latest"]
        market.latest = SourceTick(name, int(time_ms), float(bid), float(ask), int(order))
        active, priority, newest_ms = saved["router"]
        market.router.restore(str(active), int(priority), int(newest_ms), now_ms)
        for builder in market.builders:
            watermark_ms, gap, rows = saved["candles"][str(builder.seconds)]
            builder.restore(rows, int(watermark_ms), bool(gap))

    # --- For health and metrics ---

    def sources(self, now_ms: int) -> dict[str, dict[str, object]]:
        return {
            name: {
                "priority": source.priority,
                "alive": now_ms - self._heard.get(name, 0) <= SILENT_MS,
                "tcp": source.sequencer.tcp_connected,
                "ahead_ms": source.ahead_ms,
                "duplicates": source.sequencer.duplicates,
                "missed": source.sequencer.missed,
                "active_symbols": sum(market.router.active == name for market in self._markets.values()),
            }
            for name, source in self._sources.items()
        }

    def totals(self) -> dict[str, int]:
        """Counters that live in the parts, added to `counts`."""
        return {
            **self.counts,
            "ticks_late": sum(market.dropped for market in self._markets.values()),
            "ticks_conflated": sum(market.conflated for market in self._markets.values()),
            "switches": sum(market.router.switches for market in self._markets.values()),
            "duplicates": sum(source.sequencer.duplicates for source in self._sources.values()),
            "frames_missed": sum(source.sequencer.missed for source in self._sources.values()),
            "frames_old_boot": sum(source.sequencer.refused for source in self._sources.values()),
        }

    @property
    def symbols(self) -> list[str]:
        return list(self._markets)


def _usable(tick: SourceTick) -> bool:
    """Numbers, positive and of a size that calculates. JSON lets more through."""
    return (
        type(tick.time_ms) is int
        and tick.time_ms > 0
        and type(tick.bid) in (int, float)
        and type(tick.ask) in (int, float)
        and 0 < tick.bid < PRICE_MAX
        and 0 < tick.ask < PRICE_MAX
    )
