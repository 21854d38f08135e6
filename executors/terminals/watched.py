"""A terminal whose every call is announced before it is made: who watches from outside then knows where a process hangs.

Precedes: any `base.Terminal`. Follows: the executor and everything in its thread. `announce(call, limit_s)` is called
before with MetaTrader's name of the call, and after with an empty one.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from executors.terminals.base import (
    Account,
    Deal,
    Identity,
    Order,
    Position,
    Rate,
    SendReply,
    SymbolSpec,
    Terminal,
    TerminalStatus,
    Tick,
    TradeRequest,
)

P = ParamSpec("P")
T = TypeVar("T")


class WatchedTerminal:
    """`call_limit_s` for each call but `initialize`, which has its own."""

    def __init__(
        self,
        terminal: Terminal,
        announce: Callable[[str, float], None],
        *,
        call_limit_s: float,
        initialize_limit_s: float,
    ) -> None:
        self._terminal = terminal
        self._announce = announce
        self._call_limit_s = call_limit_s
        self._initialize_limit_s = initialize_limit_s

    def _within(
        self, call: str, limit_s: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        self._announce(call, limit_s)
        try:
            return function(*args, **kwargs)
        finally:
            self._announce("", 0.0)

    def connect(self) -> Identity:
        return self._within("initialize", self._initialize_limit_s, self._terminal.connect)

    def disconnect(self) -> None:
        self._within("shutdown", self._call_limit_s, self._terminal.disconnect)

    def identity(self) -> Identity:
        return self._within("account_info", self._call_limit_s, self._terminal.identity)

    def status(self) -> TerminalStatus:
        return self._within("terminal_info", self._call_limit_s, self._terminal.status)

    def account(self) -> Account:
        return self._within("account_info", self._call_limit_s, self._terminal.account)

    def symbols(self) -> tuple[SymbolSpec, ...]:
        return self._within("symbols_get", self._call_limit_s, self._terminal.symbols)

    def spec(self, symbol: str) -> SymbolSpec | None:
        return self._within("symbol_info", self._call_limit_s, self._terminal.spec, symbol)

    def tick(self, symbol: str) -> Tick | None:
        return self._within("symbol_info_tick", self._call_limit_s, self._terminal.tick, symbol)

    def positions(self) -> tuple[Position, ...]:
        return self._within("positions_get", self._call_limit_s, self._terminal.positions)

    def orders(self) -> tuple[Order, ...]:
        return self._within("orders_get", self._call_limit_s, self._terminal.orders)

    def history_orders(self, from_ms: int, to_ms: int) -> tuple[Order, ...]:
        read = self._terminal.history_orders
        return self._within("history_orders_get", self._call_limit_s, read, from_ms, to_ms)

    def history_deals(self, from_ms: int, to_ms: int) -> tuple[Deal, ...]:
        read = self._terminal.history_deals
        return self._within("history_deals_get", self._call_limit_s, read, from_ms, to_ms)

    def rates(self, symbol: str, seconds: int, to_ms: int, count: int) -> tuple[Rate, ...]:
        read = self._terminal.rates
        return self._within("copy_rates_from", self._call_limit_s, read, symbol, seconds, to_ms, count)

    def check(self, request: TradeRequest) -> SendReply:
        return self._within("order_check", self._call_limit_s, self._terminal.check, request)

    def send(self, request: TradeRequest) -> SendReply:
        return self._within("order_send", self._call_limit_s, self._terminal.send, request)
