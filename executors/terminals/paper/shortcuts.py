"""`Buy`, `Sell` and `Close`, the three helpers that the real package defines in Python.

Precedes: `__init__.py`. They behave as documented there: no stop levels, deviation 10, filling FOK, ten tries.
"""

from typing import Any

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.client import FUNCTIONS

DEVIATION = 10
TRIES = 10
AGAIN = (mt5.TRADE_RETCODE_REQUOTE, mt5.TRADE_RETCODE_PRICE_OFF)


def _RawOrder(
    order_type: int,
    symbol: str,
    volume: float,
    price: float,
    comment: str | None = None,
    ticket: int | None = None,
) -> Any:
    """One market order; the package has it under this name, though not for programs."""
    request: dict[str, Any] = {
        "action": mt5.TRADE_ACTION_DEAL,
        "symbol": symbol,
        "volume": volume,
        "type": order_type,
        "price": price,
        "deviation": DEVIATION,
    }
    if comment is not None:
        request["comment"] = comment
    if ticket is not None:
        request["position"] = ticket
    return FUNCTIONS["order_send"](request)


def _at_market(symbol: str, kind: int, volume: float, comment: str | None, ticket: int | None) -> Any:
    result = None
    for _ in range(TRIES):
        tick = FUNCTIONS["symbol_info_tick"](symbol)
        price = tick.ask if kind == mt5.ORDER_TYPE_BUY else tick.bid
        result = _RawOrder(kind, symbol, volume, price, comment, ticket)
        if result is None or result.retcode not in AGAIN:
            break
    return result


def _trade(
    kind: int, symbol: str, volume: float, price: float | None, comment: str | None, ticket: int | None
) -> Any:
    if price is not None:
        return _RawOrder(kind, symbol, volume, price, comment, ticket)
    return _at_market(symbol, kind, volume, comment, ticket)


def Buy(
    symbol: str,
    volume: float,
    price: float | None = None,
    *,
    comment: str | None = None,
    ticket: int | None = None,
) -> Any:
    """A market buy; with a price one try, without up to ten at the newest one."""
    return _trade(mt5.ORDER_TYPE_BUY, symbol, volume, price, comment, ticket)


def Sell(
    symbol: str,
    volume: float,
    price: float | None = None,
    *,
    comment: str | None = None,
    ticket: int | None = None,
) -> Any:
    """A market sell, as `Buy`."""
    return _trade(mt5.ORDER_TYPE_SELL, symbol, volume, price, comment, ticket)


def Close(symbol: str, *, comment: str | None = None, ticket: int | None = None) -> bool | str | None:
    """True when all positions of the symbol (or the ticket's) are closed, "Partially", False for none, None on failure."""
    positions = (
        FUNCTIONS["positions_get"](symbol=symbol)
        if ticket is None
        else FUNCTIONS["positions_get"](ticket=ticket)
    )
    if positions is None:
        return None
    closed = 0
    for position in positions:
        kind = mt5.ORDER_TYPE_SELL if position.type == mt5.POSITION_TYPE_BUY else mt5.ORDER_TYPE_BUY
        if FUNCTIONS["symbol_info_tick"](symbol) is None:
            return None
        result = _at_market(symbol, kind, position.volume, comment, position.ticket)
        if result is None:
            return None
        closed += result.retcode == mt5.TRADE_RETCODE_DONE
    if positions and closed == len(positions):
        return True
    return "Partially" if closed else False
