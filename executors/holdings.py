"""Pure: what a terminal holds, from MetaTrader's terms to RTS messages.

Precedes: the link shows them. Follows: the executor's account sync. Symbols become canonical here.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from executors.messages import AccountState, PendingOrderState, PositionState, TerminalConfig
from executors.protection import Protection
from executors.symbols import to_canonical
from executors.terminals.base import ZERO, Account, Order, Position, TerminalStatus

MARGIN_MODE_HEDGING = 2
TIME_SPECIFIED = 2  # ORDER_TIME_SPECIFIED; above it: until the end of that day
ORDER_TYPES = (
    "buy",
    "sell",
    "buy_limit",
    "sell_limit",
    "buy_stop",
    "sell_stop",
    "buy_stop_limit",
    "sell_stop_limit",
    "close_by",
)


def account_state(
    config: TerminalConfig, account: Account, status: TerminalStatus, now_ms: int
) -> AccountState:
    return AccountState(
        terminal_id=config.terminal_id,
        login=account.login,
        server=account.server,
        currency=account.currency,
        balance=account.balance,
        equity=account.equity,
        margin=account.margin,
        margin_free=account.margin_free,
        margin_level=account.margin_level,
        profit=account.profit,
        leverage=account.leverage,
        hedging=account.margin_mode == MARGIN_MODE_HEDGING,
        trade_allowed=account.trade_allowed and account.trade_expert and status.trade_allowed,
        connected=status.connected,
        time_ms=now_ms,
    )


def position_states(
    config: TerminalConfig,
    positions: tuple[Position, ...],
    order_ids: dict[int, str | None],
    protection_of: Callable[[int], Protection | None] = lambda ticket: None,
) -> list[PositionState]:
    """`protection_of`: what is armed for a position_ticket."""
    return [
        PositionState(
            terminal_id=config.terminal_id,
            position_ticket=item.ticket,
            position_id=item.identifier,
            symbol=to_canonical(config, item.symbol),
            broker_symbol=item.symbol,
            side="buy" if item.type == 0 else "sell",
            lots=item.volume,
            price_open=item.price_open,
            price_current=item.price_current,
            stop_loss=_level(item.sl),
            take_profit=_level(item.tp),
            profit=item.profit,
            swap=item.swap,
            magic=item.magic,
            order_id=order_ids.get(item.ticket),
            opened_ms=item.time_ms,
            **_protection(protection_of(item.ticket)),
        )
        for item in positions
    ]


def _protection(armed: Protection | None) -> dict[str, Any]:
    if armed is None:
        return {}
    return {
        "trailing": armed.trailing,
        "break_even": armed.break_even,
        "protect_moves": armed.moves,
        "protect_error": armed.error,
    }


def pending_states(
    config: TerminalConfig, orders: tuple[Order, ...], order_of: Callable[[int], str | None]
) -> list[PendingOrderState]:
    return [
        PendingOrderState(
            terminal_id=config.terminal_id,
            order_ticket=item.ticket,
            symbol=to_canonical(config, item.symbol),
            broker_symbol=item.symbol,
            order_type=ORDER_TYPES[item.type],
            lots=item.volume_current,
            price=item.price_open,
            limit_price=_level(item.price_stoplimit),
            expires_ms=item.expiration_ms if item.type_time >= TIME_SPECIFIED else None,
            stop_loss=_level(item.sl),
            take_profit=_level(item.tp),
            magic=item.magic,
            order_id=order_of(item.magic),
            placed_ms=item.setup_ms,
        )
        for item in orders
    ]


def _level(price: Decimal) -> Decimal | None:
    return price if price != ZERO else None
