"""Chart updates: encoded once, conflated without losing a candle."""

import json

from charts.live import ChartUpdate, WatchUpdate, chart_update, stored_update, watch_update
from charts.messages import Candle, MarketUpdate, Tick
from tradedist.hub import Event


def a_tick(time_ms: int, bid: float = 1.1, symbol: str = "EURUSD") -> Tick:
    return Tick(symbol=symbol, time_ms=time_ms, bid=bid, ask=bid + 0.0001)


def a_candle(open_ms: int, close: float, seconds: int = 60, forming: bool = False) -> Candle:
    return Candle(
        symbol="EURUSD",
        seconds=seconds,
        open_ms=open_ms,
        open=1.0,
        high=2.0,
        low=0.5,
        close=close,
        ticks=3,
        forming=forming,
    )


def test_an_update_is_a_message() -> None:
    update = chart_update(a_tick(5), 60, [a_candle(120_000, 1.5), a_candle(60_000, 1.25)])
    assert json.loads(update.body) == {
        "type": "update",
        "symbol": "EURUSD",
        "seconds": 60,
        "tick": {"time_ms": 5, "bid": 1.1, "ask": 1.1001},
        "candles": [[60_000, 1.0, 2.0, 0.5, 1.25, 3], [120_000, 1.0, 2.0, 0.5, 1.5, 3]],
    }


def test_merging_keeps_every_candle_in_its_newest_form() -> None:
    first = chart_update(a_tick(1), 60, [a_candle(60_000, 1.1)])
    second = chart_update(a_tick(2), 60, [a_candle(60_000, 1.2), a_candle(120_000, 1.3)])
    third = chart_update(a_tick(3), 60, [a_candle(120_000, 1.4)])
    merged: ChartUpdate = first.merge(second).merge(third)
    message = json.loads(merged.body)
    assert message["tick"]["time_ms"] == 3
    assert [(row[0], row[4]) for row in message["candles"]] == [(60_000, 1.2), (120_000, 1.4)]
    assert len(json.loads(first.body)["candles"]) == 1  # shared with other sockets: unchanged


def test_a_market_update_gives_each_timeframe_its_own_candles_once() -> None:
    text = MarketUpdate(
        tick=a_tick(7),
        forming=[a_candle(60_000, 1.1, forming=True), a_candle(61_000, 1.1, 1, forming=True)],
        closed=[a_candle(60_000, 1.2, 1)],
    ).model_dump_json()
    event = Event("channel", text)
    minute = event.once(stored_update(60))
    assert minute is not None
    assert list(minute.candles) == [60_000]
    second = event.once(stored_update(1))
    assert second is not None
    assert list(second.candles) == [60_000, 61_000]
    assert event.once(stored_update(60)) is minute


def test_garbage_gives_nothing() -> None:
    event = Event("channel", "{")
    assert event.once(stored_update(60)) is None
    assert event.once(watch_update) is None


def test_a_watch_list_keeps_the_newest_tick_of_each_symbol() -> None:
    def one(tick: Tick) -> WatchUpdate:
        made = Event("channel", MarketUpdate(tick=tick).model_dump_json()).once(watch_update)
        assert made is not None
        return made

    merged = one(a_tick(1, 1.0)).merge(one(a_tick(2, 150.0, "USDJPY"))).merge(one(a_tick(3, 1.5)))
    ticks = json.loads(merged.body)["ticks"]
    assert {symbol: tick["bid"] for symbol, tick in ticks.items()} == {"EURUSD": 1.5, "USDJPY": 150.0}
