"""What the chart socket says: candles as rows, and updates that conflate without losing a closed candle.

Follows: the feed's MarketUpdate on the tick Redis, decoded once for all sockets. Precedes: charts.consumers.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Self

from pydantic_core import to_json

from charts.messages import Candle, MarketUpdate, Tick
from tradedist import metrics
from tradedist.hub import Event
from tradedist.mailbox import Stamp


def market_update(event: Event) -> MarketUpdate | None:
    """For `event.once`. None when it is not one of ours."""
    try:
        return MarketUpdate.model_validate_json(event.text)
    except ValueError:
        return None


def row(candle: Candle) -> list[float | int]:
    return [candle.open_ms, candle.open, candle.high, candle.low, candle.close, candle.ticks]


def row_text(candle: Candle) -> str:
    return to_json(row(candle)).decode()


def tick_text(tick: Tick) -> str:
    return to_json({"time_ms": tick.time_ms, "bid": tick.bid, "ask": tick.ask}).decode()


def name_text(symbol: str) -> str:
    return to_json(symbol).decode()


def stamp_of(tick: Tick) -> Stamp:
    return Stamp(tick.time_ms, metrics.tick_stream_latency)


class ChartUpdate:
    """The newest tick and every candle changed since the last flush. Shared by the sockets on the same chart."""

    __slots__ = ("_body", "candles", "seconds", "stamp", "tick")

    def __init__(self, tick: Tick, seconds: int, candles: Mapping[int, str]) -> None:
        self.tick = tick
        self.seconds = seconds
        self.candles = candles  # by open_ms, as text
        self.stamp = stamp_of(tick)
        self._body = ""

    @property
    def body(self) -> str:
        if not self._body:
            rows = ",".join(self.candles[open_ms] for open_ms in sorted(self.candles))
            self._body = (
                f'{{"type":"update","symbol":{name_text(self.tick.symbol)},"seconds":{self.seconds},'
                f'"tick":{tick_text(self.tick)},"candles":[{rows}]}}'
            )
        return self._body

    def merge(self, newer: Self) -> "ChartUpdate":
        return ChartUpdate(newer.tick, newer.seconds, {**self.candles, **newer.candles})


def of_timeframe(update: MarketUpdate, seconds: int) -> list[Candle]:
    """The candles of one stored timeframe that the update changed, ascending."""
    changed = [candle for candle in (*update.closed, *update.forming) if candle.seconds == seconds]
    return sorted(changed, key=lambda candle: candle.open_ms)


@cache
def stored_update(seconds: int) -> Callable[[Event], ChartUpdate | None]:
    """For `event.once`: what the update changed in one stored timeframe. None when nothing is readable."""

    def make(event: Event) -> ChartUpdate | None:
        update = event.once(market_update)
        return None if update is None else chart_update(update.tick, seconds, of_timeframe(update, seconds))

    return make


def completed(live: Candle, begun: Candle) -> Candle:
    """A candle that the feed saw only in part, with its beginning as it was read from the terminal."""
    return live.model_copy(
        update={
            "open": begun.open,
            "high": max(live.high, begun.high),
            "low": min(live.low, begun.low),
            "ticks": max(live.ticks, begun.ticks),
        }
    )


def chart_update(tick: Tick, seconds: int, candles: Iterable[Candle]) -> ChartUpdate:
    return ChartUpdate(tick, seconds, {candle.open_ms: row_text(candle) for candle in candles})


class WatchUpdate:
    """The newest ticks of watched symbols."""

    __slots__ = ("_body", "stamp", "ticks")

    def __init__(self, ticks: Mapping[str, str], stamp: Stamp | None) -> None:
        self.ticks = ticks
        self.stamp = stamp
        self._body = ""

    @property
    def body(self) -> str:
        if not self._body:
            entries = ",".join(f"{name_text(symbol)}:{text}" for symbol, text in self.ticks.items())
            self._body = f'{{"type":"ticks","ticks":{{{entries}}}}}'
        return self._body

    def merge(self, newer: Self) -> "WatchUpdate":
        return WatchUpdate({**self.ticks, **newer.ticks}, newer.stamp)


def watch_update(event: Event) -> WatchUpdate | None:
    """For `event.once`."""
    update = event.once(market_update)
    if update is None:
        return None
    return WatchUpdate({update.tick.symbol: tick_text(update.tick)}, stamp_of(update.tick))
