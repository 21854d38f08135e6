"""What the module's cases are run on: the paper module, or the package that CONTRACT_MODULE names (on Windows MetaTrader5).

A real package needs a demo account: CONTRACT_LOGIN, CONTRACT_SERVER, MT5_PASSWORD, and CONTRACT_PATH if there are several
terminals. Its cases place small orders on EURUSD, at the market, and take them away afterwards.
"""

import importlib
import os
from typing import Any

from tests.contract import desk

MODULE = os.environ.get("CONTRACT_MODULE", "executors.terminals.paper")
REAL = MODULE != "executors.terminals.paper"
mt5: Any = importlib.import_module(MODULE)


def deal(**more: Any) -> dict[str, Any]:
    """A market buy of a tenth of a lot, at the price and with the filling policy that the market has."""
    request = desk.deal(**more)
    if REAL and (tick := mt5.symbol_info_tick("EURUSD")) is not None:
        mask = mt5.symbol_info("EURUSD").filling_mode
        request |= {
            "price": float(tick.ask),
            "deviation": 1000,
            "type_filling": 0 if mask & 1 or not mask else 1,
        } | more
    return request


def deep_symbol() -> str | None:
    """One with market depth, if the broker has any."""
    return next((item.name for item in mt5.symbols_get() if item.ticks_bookdepth), None)


def tidy() -> None:
    """What the cases have left on a real account."""
    for name in ("EURUSD", "GBPUSD"):
        mt5.Close(name)
    for order in mt5.orders_get() or ():
        mt5.order_send({"action": mt5.TRADE_ACTION_REMOVE, "order": order.ticket})


def log_in() -> bool:
    """To the real terminal's demo account."""
    path = os.environ.get("CONTRACT_PATH")
    return bool(
        mt5.initialize(
            *([path] if path else []),
            login=int(os.environ["CONTRACT_LOGIN"]),
            password=os.environ["MT5_PASSWORD"],
            server=os.environ["CONTRACT_SERVER"],
        )
    )
