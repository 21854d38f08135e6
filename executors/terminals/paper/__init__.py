"""A module that is call-compatible with MetaTrader5 5.0.6231, and talks to the paper broker instead of a terminal.

    import executors.terminals.paper as mt5
    mt5.initialize(login=…, password=…, server=…)

`PAPER_BROKER_URL` names the broker (or give `tcp://host:port` as the path). `install()` puts this module in
`sys.modules["MetaTrader5"]`; `python -m executors.terminals.paper PROGRAM …` runs a program under it.
"""

import sys
from typing import Any

from executors.terminals.paper.client import FUNCTIONS as _FUNCTIONS
from executors.terminals.paper.client import core as _core
from executors.terminals.paper.constants import *  # noqa: F403 - two hundred names, which are the package's own
from executors.terminals.paper.places import STANDIN as _STANDIN
from executors.terminals.paper.shortcuts import Buy, Close, Sell
from executors.terminals.paper.shortcuts import (
    _RawOrder as _RawOrder,
)  # the package has it, and no star takes it
from executors.terminals.paper.structs import (
    AccountInfo,
    BookInfo,
    OrderCheckResult,
    OrderSendResult,
    SymbolInfo,
    TerminalInfo,
    Tick,
    TradeDeal,
    TradeOrder,
    TradePosition,
    TradeRequest,
)

__version__ = "5.0.6231"
__author__ = "MetaQuotes Ltd."

account_info: Any = _FUNCTIONS["account_info"]
copy_rates_from: Any = _FUNCTIONS["copy_rates_from"]
copy_rates_from_pos: Any = _FUNCTIONS["copy_rates_from_pos"]
copy_rates_range: Any = _FUNCTIONS["copy_rates_range"]
copy_ticks_from: Any = _FUNCTIONS["copy_ticks_from"]
copy_ticks_range: Any = _FUNCTIONS["copy_ticks_range"]
history_deals_get: Any = _FUNCTIONS["history_deals_get"]
history_deals_total: Any = _FUNCTIONS["history_deals_total"]
history_orders_get: Any = _FUNCTIONS["history_orders_get"]
history_orders_total: Any = _FUNCTIONS["history_orders_total"]
initialize: Any = _FUNCTIONS["initialize"]
last_error: Any = _FUNCTIONS["last_error"]
login: Any = _FUNCTIONS["login"]
market_book_add: Any = _FUNCTIONS["market_book_add"]
market_book_get: Any = _FUNCTIONS["market_book_get"]
market_book_release: Any = _FUNCTIONS["market_book_release"]
order_calc_margin: Any = _FUNCTIONS["order_calc_margin"]
order_calc_profit: Any = _FUNCTIONS["order_calc_profit"]
order_check: Any = _FUNCTIONS["order_check"]
order_send: Any = _FUNCTIONS["order_send"]
orders_get: Any = _FUNCTIONS["orders_get"]
orders_total: Any = _FUNCTIONS["orders_total"]
positions_get: Any = _FUNCTIONS["positions_get"]
positions_total: Any = _FUNCTIONS["positions_total"]
shutdown: Any = _FUNCTIONS["shutdown"]
symbol_info: Any = _FUNCTIONS["symbol_info"]
symbol_info_tick: Any = _FUNCTIONS["symbol_info_tick"]
symbol_select: Any = _FUNCTIONS["symbol_select"]
symbols_get: Any = _FUNCTIONS["symbols_get"]
symbols_total: Any = _FUNCTIONS["symbols_total"]
terminal_info: Any = _FUNCTIONS["terminal_info"]
version: Any = _FUNCTIONS["version"]


def install() -> None:
    """From now on `import MetaTrader5` gives this module, and `importlib.metadata` knows its version."""
    if _STANDIN not in sys.path:
        sys.path.append(_STANDIN)
    sys.modules["MetaTrader5"] = sys.modules[__name__]
    sys.modules["MetaTrader5._core"] = _core


__all__ = [
    "AccountInfo",
    "BookInfo",
    "Buy",
    "Close",
    "OrderCheckResult",
    "OrderSendResult",
    "Sell",
    "SymbolInfo",
    "TerminalInfo",
    "Tick",
    "TradeDeal",
    "TradeOrder",
    "TradePosition",
    "TradeRequest",
    *sorted(name for name in globals() if name.isupper() and name[0] != "_"),
    *sorted(_FUNCTIONS),
]
