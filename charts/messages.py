"""Pure: market data as it crosses processes and the chart socket. Candles and prices are floats here.

Times are UTC milliseconds. `symbol` is canonical. Prices are bid unless said; `seconds` is a timeframe's length.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

SymbolName = Annotated[str, Field(min_length=1, max_length=29, pattern=r"^[A-Za-z0-9._#&+\-]+$")]

STORED_TIMEFRAMES = (1, 60)  # made from ticks; others are resampled from these or read from a terminal
TIMEFRAMES = (1, 60, 120, 180, 300, 900, 1800, 3600, 14400, 86400)


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tick(Message):
    symbol: str
    time_ms: int
    bid: float
    ask: float


class Candle(Message):
    """`open_ms` is the start; `ticks` counts the ticks in it; `forming` until its time is over.

    `partial`: ticks in it, or between it and the candle before, may have been missed (a start, an outage); the
    terminal's own candle is then the better one.
    """

    symbol: str
    seconds: int
    open_ms: int
    open: float
    high: float
    low: float
    close: float
    ticks: int
    forming: bool = False
    partial: bool = False


class SymbolInfo(Message):
    symbol: str
    description: str = ""
    digits: int
    point: float
    volume_min: float
    volume_max: float
    volume_step: float
    contract_size: float
    currency_profit: str = ""


class MarketUpdate(Message):
    """On the tick Redis channel of a symbol: the newest tick and what candles it changed. Conflated by the sender.

    `closed` are final candles; `forming` one per stored timeframe.
    """

    tick: Tick
    forming: list[Candle] = Field(default_factory=list)
    closed: list[Candle] = Field(default_factory=list)


# --- The chart socket, /ws/chart/. Each server message has `n`, from 1 without gaps on a connection. -----------------
# server → client:
#   {type: "snapshot", n, symbol, seconds, candles: [[open_ms, open, high, low, close, ticks], …], forming, tick}
#   {type: "update", n, symbol, seconds, tick: {time_ms, bid, ask}, candles: [[…], …]}   the last candle is forming
#   {type: "ticks", n, ticks: {symbol: {time_ms, bid, ask}}}        the watch list, latest values only
#   {type: "pong", n, at}
#   {type: "error", n, code, message}


class Subscribe(Message):
    """client → server: the chart shown; replaces the one before. A snapshot comes."""

    type: Literal["subscribe"]
    symbol: SymbolName
    seconds: int = 60
    count: int = Field(default=500, ge=1, le=5000)


class Watch(Message):
    """client → server: symbols whose latest ticks are wanted (the watch list, open positions)."""

    type: Literal["watch"]
    symbols: list[SymbolName] = Field(max_length=100)


class Ping(Message):
    type: Literal["ping"]
    at: float = 0


ClientMessage = Annotated[Subscribe | Watch | Ping, Field(discriminator="type")]
CLIENT_MESSAGE: TypeAdapter[Subscribe | Watch | Ping] = TypeAdapter(ClientMessage)
