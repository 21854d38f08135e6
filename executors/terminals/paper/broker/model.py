"""Pure: what the paper broker keeps. Rows of these types are what its ledger holds and what the oracle returns.

Precedes: the ledger (rows as JSON lists in field order) and every rule of the broker. Times are UTC ms, except
`expiration_s`, which stays as it was sent (server clock). Money is rounded to the account's digits when it is booked.
"""

from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Self, cast

NETTING, EXCHANGE, HEDGING = 0, 1, 2  # ACCOUNT_MARGIN_MODE_*
FILL_FOK, FILL_IOC, FILL_BOC = 1, 2, 4  # SymbolInfo.filling_mode, which the package has no names for
EXPIRE_GTC, EXPIRE_DAY, EXPIRE_AT, EXPIRE_AT_DAY = 1, 2, 4, 8  # SymbolInfo.expiration_mode
MAY_MARKET, MAY_LIMIT, MAY_STOP, MAY_STOP_LIMIT = 1, 2, 4, 8  # SymbolInfo.order_mode
MAY_SL, MAY_TP, MAY_CLOSE_BY = 16, 32, 64


class Row:
    """A dataclass that becomes a list and is made from one."""

    __slots__ = ()
    _values: Any

    def __init_subclass__(cls) -> None:
        cls._values = None

    def row(self) -> tuple[Any, ...]:
        getter = type(self)._values
        if getter is None:
            getter = type(self)._values = attrgetter(*(field.name for field in fields(cast(Any, self))))
        values: tuple[Any, ...] = getter(self)
        return values

    @classmethod
    def of(cls, row: list[Any]) -> Self:
        return cls(*row)


@dataclass(slots=True)
class Account(Row):
    login: int
    password: str  # salted hash; so is the next
    investor: str
    server: str
    personality: str
    currency: str
    digits: int
    leverage: int
    margin_mode: int
    name: str
    opened_ms: int
    balance: float = 0.0
    credit: float = 0.0
    enabled: bool = True  # False: every trade is refused with 10017
    expert: bool = True  # False: 10026

    @property
    def hedging(self) -> bool:
        return self.margin_mode == HEDGING


@dataclass(slots=True)
class Order(Row):
    login: int
    ticket: int
    symbol: str
    type: int
    state: int
    magic: int
    position_id: int
    position_by_id: int
    reason: int
    volume_initial: float
    volume_current: float
    price_open: float
    price_current: float
    price_stoplimit: float
    sl: float
    tp: float
    type_filling: int
    type_time: int
    expiration_s: int
    comment: str
    setup_ms: int
    done_ms: int = 0
    request: int = 0  # the request_id that made it; 0 when the broker itself did (SL, TP, stop-out)


@dataclass(slots=True)
class Deal(Row):
    login: int
    ticket: int
    order: int
    position_id: int
    symbol: str
    type: int
    entry: int
    reason: int
    magic: int
    volume: float
    price: float
    profit: float
    commission: float
    swap: float
    fee: float
    comment: str
    time_ms: int


@dataclass(slots=True)
class Position(Row):
    login: int
    ticket: int
    identifier: int
    symbol: str
    type: int  # 0 buy, 1 sell
    magic: int
    reason: int
    volume: float
    price_open: float
    sl: float
    tp: float
    swap: float
    comment: str
    time_ms: int
    update_ms: int


@dataclass(slots=True)
class Request:
    """MqlTradeRequest as the client parsed it, in the client's field order; absent is 0, 0.0 or ''."""

    action: int = 0
    magic: int = 0
    order: int = 0
    symbol: str = ""
    volume: float = 0.0
    price: float = 0.0
    stoplimit: float = 0.0
    sl: float = 0.0
    tp: float = 0.0
    deviation: int = 0
    type: int = 0
    type_filling: int = 0
    type_time: int = 0
    expiration: int = 0
    comment: str = ""
    position: int = 0
    position_by: int = 0


@dataclass(slots=True)
class Reply:
    """MqlTradeResult without the echo of the request."""

    retcode: int
    comment: str = ""
    deal: int = 0
    order: int = 0
    volume: float = 0.0
    price: float = 0.0
    bid: float = 0.0
    ask: float = 0.0
    request_id: int = 0
    retcode_external: int = 0


@dataclass(slots=True)
class Quote:
    """The newest prices of a symbol at one broker; zeros before the first tick."""

    bid: float = 0.0
    ask: float = 0.0
    time_ms: int = 0
    high: float = 0.0  # of the bid, since the server's midnight
    low: float = 0.0
    ask_high: float = 0.0
    ask_low: float = 0.0
    last: float = 0.0  # the newest trade, which is one at the bid
    open: float = 0.0
    day: int = 0
