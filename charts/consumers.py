"""The chart WebSocket, /ws/chart/: a chart's candles at once, then each change of them; ticks of a watch list.

Follows: tradedist.sockets (who, how much). Precedes: candle_query for what has been, the hub for what comes. The
subscription begins before the query, and what arrives meanwhile is laid over its answer: nothing is missed between.
"""

import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import redis
from pydantic import ValidationError

from charts import candle_query
from charts.live import (
    WatchUpdate,
    chart_update,
    completed,
    market_update,
    of_timeframe,
    row,
    stored_update,
    tick_text,
    watch_update,
)
from charts.market import open_of
from charts.messages import (
    CLIENT_MESSAGE,
    STORED_TIMEFRAMES,
    TIMEFRAMES,
    Candle,
    Ping,
    Subscribe,
    Tick,
    Watch,
)
from charts.resample import LiveCandle, base_of
from executors.errors import Code
from tradedist import keys, metrics
from tradedist.clock import now_ms
from tradedist.hub import Event, Subscription
from tradedist.sockets import LiveSocket, explain

logger = logging.getLogger(__name__)

CHART, TICKS = "chart", "ticks"  # keys of what is conflated
MAX_HELD = 1_000  # updates laid over a query's answer; far more than can come while it runs


class Chart:
    """What one socket shows: a symbol in a timeframe, and until its snapshot is sent the updates that came."""

    def __init__(self, symbol: str, seconds: int, count: int) -> None:
        self.symbol = symbol
        self.seconds = seconds
        self.count = count
        self.stored = seconds in STORED_TIMEFRAMES
        self.base = seconds if self.stored else base_of(seconds)
        self.joined = LiveCandle(seconds)  # of a timeframe that is not stored
        self.tick: Tick | None = None
        self.early: list[Candle] | None = []  # None once the snapshot is out
        self.subscription: Subscription | None = None
        self.begun: dict[int, Candle] = {}  # the newest candles as they were read, by open_ms

    def complete(self, candle: Candle) -> Candle:
        """Live candles may lack what was before the feed's start, or before the parts that a joined one has."""
        begun = self.begun.get(candle.open_ms)
        return candle if begun is None or (self.stored and not candle.partial) else completed(candle, begun)


class ChartSocket(LiveSocket):
    kind = "chart"
    source = "ticks"
    messages = CLIENT_MESSAGE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._chart: Chart | None = None
        self._watched: dict[str, Subscription] = {}

    async def opened(self, up: bool) -> None:
        query = parse_qs(self.scope.get("query_string", b"").decode("latin1"))
        if "symbol" not in query:
            return
        wish = {name: query[name][-1] for name in ("symbol", "seconds", "count") if name in query}
        try:
            await self._subscribe(Subscribe.model_validate({"type": "subscribe", **wish}))
        except ValidationError as error:
            self.error(*explain(error))

    async def handle(self, message: Any) -> None:
        match message:
            case Subscribe():
                await self._subscribe(message)
            case Watch():
                await self._watch(message.symbols)
            case Ping():
                self.pong(message.at)

    # --- The chart ---

    async def _subscribe(self, wish: Subscribe) -> None:
        if wish.seconds not in TIMEFRAMES:
            offered = ", ".join(str(seconds) for seconds in TIMEFRAMES)
            self.error(
                Code.INVALID, f"seconds: there is no timeframe of {wish.seconds} s. Choose one of {offered}."
            )
            return
        try:
            known = await self.hub.ticks.hexists(keys.SYMBOLS, wish.symbol)
        except redis.RedisError:
            known = True  # the query says what is wrong
        if not known:
            self.error(
                Code.UNKNOWN_SYMBOL, f"There is no symbol {wish.symbol!r}. GET /api/symbols lists them."
            )
            return
        self._drop_chart()
        chart = self._chart = Chart(wish.symbol, wish.seconds, wish.count)
        chart.subscription = self.subscribe(keys.market_channel(wish.symbol), self._on_market)
        await self._snapshot(chart)

    def _drop_chart(self) -> None:
        if self._chart and self._chart.subscription:
            self.unsubscribe(self._chart.subscription)
        self._chart = None
        self.mailbox.forget(CHART)

    async def _snapshot(self, chart: Chart) -> None:
        """Sends the chart whole. A wish that replaced it meanwhile wins."""
        chart.early = []
        until = now_ms() + chart.seconds * 1000
        parts: Sequence[Candle] = ()
        try:
            with metrics.historical_data_load_time.time():
                candles = await candle_query.fetch(chart.symbol, chart.seconds, None, until, chart.count + 1)
            if not chart.stored:
                start = open_of(now_ms(), chart.seconds)
                most = 2 * chart.seconds // chart.base
                parts = await candle_query.fetch(chart.symbol, chart.base, start, until, most)
            latest = await self.hub.ticks.hget(keys.LATEST_TICKS, chart.symbol)
        except redis.RedisError as error:
            logger.warning("no candles for %s: %s", chart.symbol, error)
            if chart is self._chart:
                self.error(
                    Code.UNAVAILABLE, "The candles cannot be read now. The chart follows when they can."
                )
            return
        if chart is not self._chart or chart.early is None:
            return
        if chart.tick is None and latest:
            chart.tick = Tick.model_validate_json(latest)
        # From here on nothing waits: what came while it was read is laid over it, what comes later follows it.
        early, chart.early = chart.early, None
        shown = {candle.open_ms: candle for candle in candles}
        chart.begun = {candle.open_ms: candle for candle in candles[-2:]}
        if chart.stored:
            for candle in early:
                known = shown.get(candle.open_ms)
                whole = chart.complete(candle)
                if known is None or whole.ticks >= known.ticks:
                    shown[candle.open_ms] = whole
        else:
            chart.joined = LiveCandle(chart.seconds, parts)
            for candle in early:
                chart.joined.update(candle)
            if current := chart.joined.current():
                shown[current.open_ms] = chart.complete(current)
        ordered = [shown[open_ms] for open_ms in sorted(shown)]
        forming = ordered.pop() if ordered and ordered[-1].forming else None
        self.mailbox.forget(CHART)
        self.post(
            {
                "type": "snapshot",
                "symbol": chart.symbol,
                "seconds": chart.seconds,
                "candles": [row(candle) for candle in ordered[-chart.count :]],
                "forming": row(forming) if forming else None,
                "tick": chart.tick.model_dump(include={"time_ms", "bid", "ask"}) if chart.tick else None,
            }
        )

    def _on_market(self, event: Event) -> None:
        chart = self._chart
        update = event.once(market_update)
        if chart is None or update is None or update.tick.symbol != chart.symbol:
            return
        chart.tick = update.tick
        if chart.early is not None:
            chart.early.extend(of_timeframe(update, chart.base))
            del chart.early[:-MAX_HELD]
            return
        changed = of_timeframe(update, chart.base)
        if chart.stored and not any(candle.partial for candle in changed):
            self.post_latest(
                CHART, event.once(stored_update(chart.seconds))
            )  # the same text for every socket
            return
        if not chart.stored:
            joined = [chart.joined.update(candle) for candle in changed]
            changed = [candle for candle in joined if candle]
        self.post_latest(CHART, chart_update(update.tick, chart.seconds, map(chart.complete, changed)))

    # --- The watch list ---

    async def _watch(self, symbols: list[str]) -> None:
        wanted = set(symbols)
        for symbol in self._watched.keys() - wanted:
            self.unsubscribe(self._watched.pop(symbol))
        for symbol in wanted - self._watched.keys():
            self._watched[symbol] = self.subscribe(keys.market_channel(symbol), self._on_watched)
        self.mailbox.forget(TICKS)
        if not wanted:
            return
        names = sorted(wanted)
        try:
            rows = await self.hub.ticks.hmget(keys.LATEST_TICKS, names)
        except redis.RedisError:
            self.error(Code.UNAVAILABLE, "The latest ticks cannot be read now. New ones follow as they come.")
            return
        latest = [Tick.model_validate_json(text) for text in rows if text]
        self.post_latest(TICKS, WatchUpdate({tick.symbol: tick_text(tick) for tick in latest}, None))

    def _on_watched(self, event: Event) -> None:
        live = event.once(watch_update)
        if live is not None:
            self.post_latest(TICKS, live)

    # --- The tick Redis ---

    def source_came(self) -> None:
        if self._chart:
            self.spawn(self._snapshot(self._chart))
        if self._watched:
            self.spawn(self._watch(list(self._watched)))
