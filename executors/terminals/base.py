"""The terminal protocol: MetaTrader's calls in MetaTrader's terms, with our types.

Precedes: execution and reconciliation. Follows: the official package, mt5linux or the paper module.
Money, prices and lots are Decimal here and floats below; times are UTC ms here and the broker's server clock below;
`symbol` is always the broker's own name at this level. One thread owns an instance: nothing here is thread-safe.

A query that MetaTrader answers with None raises TerminalError (TerminalUnavailable when there is no connection), so
that an empty tuple always means "none". `send` never raises for what MetaTrader answers: it returns a SendReply, and
`executors.retcodes` says what it means.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a terminal is logged in to. Compared before trading."""

    login: int
    server: str
    path: str  # where the terminal says that it runs
    misplaced: str = ""  # the configured path, when the terminal runs elsewhere

    def stranger(self, login: int, server: str) -> str:
        """Why this is not the terminal that was meant; empty when it is."""
        if (self.login, self.server) != (login, server):
            return f"the terminal is logged in as {self.login} at {self.server}, not {login} at {server}"
        if self.misplaced:
            return (
                f"the terminal runs at {self.path}, not at {self.misplaced}:"
                " correct the path, or close the other terminal"
            )
        return ""


@dataclass(frozen=True, slots=True)
class TerminalStatus:
    connected: bool  # link to the trade server
    trade_allowed: bool  # the Algo Trading button, and the account's own permission
    ping_us: int
    build: int


@dataclass(frozen=True, slots=True)
class Account:
    login: int
    server: str
    currency: str
    currency_digits: int
    balance: Decimal
    equity: Decimal
    margin: Decimal
    margin_free: Decimal
    margin_level: Decimal
    profit: Decimal
    leverage: int
    margin_mode: int  # ACCOUNT_MARGIN_MODE_*
    trade_allowed: bool
    trade_expert: bool


@dataclass(frozen=True, slots=True)
class SymbolSpec:
    symbol: str
    digits: int
    point: Decimal
    tick_size: Decimal
    tick_value: Decimal
    contract_size: Decimal
    volume_min: Decimal
    volume_max: Decimal
    volume_step: Decimal
    stops_level: int  # points
    freeze_level: int  # points
    trade_mode: int  # SYMBOL_TRADE_MODE_*
    exemode: int  # SYMBOL_TRADE_EXECUTION_*
    filling_mode: int  # bit mask: FOK 1, IOC 2, BOC 4
    currency_base: str
    currency_profit: str
    currency_margin: str
    description: str
    path: str
    order_mode: int = 127  # bit mask: market 1, limit 2, stop 4, stop-limit 8, SL 16, TP 32, close-by 64
    expiration_mode: int = 15  # bit mask: GTC 1, day 2, specified 4, specified day 8


@dataclass(frozen=True, slots=True)
class Tick:
    symbol: str
    bid: Decimal
    ask: Decimal
    last: Decimal
    volume: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Rate:
    """A candle of MetaTrader: bid prices, open time."""

    time_ms: int
    open: float
    high: float
    low: float
    close: float
    tick_volume: int
    spread: int
    real_volume: int


@dataclass(frozen=True, slots=True)
class Position:
    ticket: int
    identifier: int
    symbol: str
    type: int  # POSITION_TYPE_BUY 0, _SELL 1
    magic: int
    volume: Decimal
    price_open: Decimal
    price_current: Decimal
    sl: Decimal
    tp: Decimal
    profit: Decimal
    swap: Decimal
    comment: str
    time_ms: int
    time_update_ms: int


@dataclass(frozen=True, slots=True)
class Order:
    """An active or historical order."""

    ticket: int
    symbol: str
    type: int  # ORDER_TYPE_*
    state: int  # ORDER_STATE_*
    magic: int
    position_id: int
    position_by_id: int
    volume_initial: Decimal
    volume_current: Decimal
    price_open: Decimal
    price_stoplimit: Decimal
    sl: Decimal
    tp: Decimal
    type_filling: int
    type_time: int
    expiration_ms: int
    comment: str
    setup_ms: int
    done_ms: int


@dataclass(frozen=True, slots=True)
class Deal:
    ticket: int
    order: int
    position_id: int
    symbol: str
    type: int  # DEAL_TYPE_*
    entry: int  # DEAL_ENTRY_*
    reason: int
    magic: int
    volume: Decimal
    price: Decimal
    profit: Decimal
    commission: Decimal
    swap: Decimal
    fee: Decimal
    comment: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class TradeRequest:
    """MqlTradeRequest. Zero and empty mean absent, as in MetaTrader."""

    action: int  # TRADE_ACTION_*
    symbol: str = ""
    volume: Decimal = ZERO
    type: int = 0
    price: Decimal = ZERO
    stoplimit: Decimal = ZERO
    sl: Decimal = ZERO
    tp: Decimal = ZERO
    deviation: int = 0
    type_filling: int = 0
    type_time: int = 0
    expiration_ms: int = 0
    comment: str = ""
    magic: int = 0
    order: int = 0
    position: int = 0
    position_by: int = 0


@dataclass(frozen=True, slots=True)
class SendResult:
    retcode: int
    deal: int
    order: int
    volume: Decimal
    price: Decimal
    bid: Decimal
    ask: Decimal
    comment: str
    request_id: int


@dataclass(frozen=True, slots=True)
class SendReply:
    """What order_send or order_check gave: a result, or None with MetaTrader's last_error."""

    result: SendResult | None
    error: tuple[int, str] = field(default=(1, "Success"))


class Terminal(Protocol):
    """One MT5 instance bound to one account."""

    def connect(self) -> Identity:
        """Initialize and log in. Raises TerminalUnavailable; may be called again after a loss."""

    def disconnect(self) -> None: ...

    def identity(self) -> Identity: ...

    def status(self) -> TerminalStatus: ...

    def account(self) -> Account: ...

    def symbols(self) -> tuple[SymbolSpec, ...]: ...

    def spec(self, symbol: str) -> SymbolSpec | None:
        """None when the broker has no such symbol. Selects it into Market Watch."""

    def tick(self, symbol: str) -> Tick | None:
        """None when there is no quote yet."""

    def positions(self) -> tuple[Position, ...]: ...

    def orders(self) -> tuple[Order, ...]: ...

    def history_orders(self, from_ms: int, to_ms: int) -> tuple[Order, ...]: ...

    def history_deals(self, from_ms: int, to_ms: int) -> tuple[Deal, ...]: ...

    def rates(self, symbol: str, seconds: int, to_ms: int, count: int) -> tuple[Rate, ...]:
        """The last `count` candles with open time ≤ to_ms, ascending. `seconds`: 60, 300, 3600 …"""

    def check(self, request: TradeRequest) -> SendReply: ...

    def send(self, request: TradeRequest) -> SendReply: ...
