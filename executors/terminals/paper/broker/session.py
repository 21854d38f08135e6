"""One terminal of one client: its orders, positions and deals, and trade. With `terminal.py` and `past.py` all its calls.

Precedes: the server, which frames the answers. Follows: the engine and views.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.broker import money, rules, views
from executors.terminals.paper.broker.model import Deal, Order, Reply, Request
from executors.terminals.paper.broker.past import PastCalls
from executors.terminals.paper.broker.sessions import is_open
from executors.terminals.paper.broker.staging import staging_of
from executors.terminals.paper.broker.state import BUY_TYPES, Book
from executors.terminals.paper.broker.terminal import FAILED, INVALID, Refusal, Waits
from executors.terminals.paper.broker.texts import text_of

__all__ = ["METHODS", "Refusal", "Session", "Waits"]

Kept = TypeVar("Kept", Order, Deal)
SET_BACK_MS = 3_600_000
API_OFF = (mt5.RES_E_AUTO_TRADING_DISABLED, "Auto-Trading using Python API disabled in Terminal")
CHECK_WITH_API_OFF = (
    mt5.RES_E_AUTO_TRADING_DISABLED,
    FAILED[1],
)  # order_check has no words of its own for it


class Session(PastCalls):
    def _lag(self, kind: str) -> Callable[[int, str, int], bool] | None:
        """Whether a row (its order, symbol and time) is told of already; None when every row is."""
        broker = self._broker
        held = broker.lagging[kind]
        if not held and not broker.faults:
            return None
        now_ms = broker.now_ms()

        def told(order_ticket: int, symbol: str, time_ms: int) -> bool:
            fault = self._stands(kind, symbol)
            if fault is not None and time_ms > now_ms - int(fault.value):
                return False
            return held.get(order_ticket, 0) <= now_ms

        return told

    def do_positions_total(self) -> int:
        return (
            len(self.do_positions(None, None))
            if self._lag("position_lag")
            else len(self._account().positions)
        )

    def do_orders_total(self) -> int:
        return len(self._account().orders)

    def do_positions(self, ticket: int | None, symbol: str | None) -> list[list[Any]]:
        book = self._account()
        told = self._lag("position_lag")
        return [
            views.position_row(self._state, book, item)
            for item in book.positions.values()
            if (ticket is None or item.ticket == ticket)
            and (symbol is None or item.symbol == symbol)
            and (told is None or told(item.ticket, item.symbol, item.time_ms))
        ]

    def do_orders(self, ticket: int | None, symbol: str | None) -> list[list[Any]]:
        book = self._account()
        return [
            views.order_row(book, item)
            for item in book.orders.values()
            if (ticket is None or item.ticket == ticket) and (symbol is None or item.symbol == symbol)
        ]

    def _last_second(self, book: Book) -> int:
        """How many ms of the second that a range of history ends with belong to it."""
        return 999 if book.house.personality.history_inclusive else -1

    def do_history_orders(
        self, first_s: int, last_s: int, ticket: int | None, position: int | None
    ) -> list[list[Any]]:
        book = self._account()
        clock, told = book.house.clock, self._lag("history_lag")
        first, last = clock.to_utc(first_s * 1000), clock.to_utc(last_s * 1000) + self._last_second(book)
        if ticket is not None:
            found = [book.past_orders[ticket]] if ticket in book.past_orders else []
        elif position is not None:
            found = [item for item in book.past_orders.values() if item.position_id == position]
        else:
            by_setup = book.house.personality.history_by == "setup"
            found = [
                item
                for item in book.past_orders.values()
                if first <= (item.setup_ms if by_setup else item.done_ms or item.setup_ms) <= last
            ]
        return [
            views.order_row(book, item)
            for item in found
            if told is None or told(item.ticket, item.symbol, item.done_ms)
        ]

    def do_history_deals(
        self, first_s: int, last_s: int, ticket: int | None, position: int | None
    ) -> list[list[Any]]:
        book = self._account()
        clock, told = book.house.clock, self._lag("history_lag")
        first, last = clock.to_utc(first_s * 1000), clock.to_utc(last_s * 1000) + self._last_second(book)
        if ticket is not None:
            found = [item for item in book.deals.values() if item.order == ticket and ticket]
        elif position is not None:
            found = [item for item in book.deals.values() if item.position_id == position]
        else:
            found = _between(book.deals, lambda item: item.time_ms, first, last)
        return [
            views.deal_row(item, book.house)
            for item in found
            if told is None or told(item.order, item.symbol, item.time_ms)
        ]

    # --- Trade -------------------------------------------------------------------------------------------------------

    def do_calc_margin(self, action: int, symbol: str, volume: float, price: float) -> float:
        book, desk = self._account(), self._desk(symbol, self._unknown_calc())
        if action not in (0, 1, 2, 3, 4, 5, 6, 7) or not _are_amounts(volume, price):
            raise Refusal(*INVALID)
        account = book.account
        side = 0 if action in BUY_TYPES else 1
        try:
            amount = money.margin(
                desk.instrument, side, volume, price, account.leverage, account.currency, book.house.pairs
            )
        except money.NoRate:
            raise Refusal(*FAILED) from None
        return _told(book, amount)

    def do_calc_profit(self, action: int, symbol: str, volume: float, opened: float, closed: float) -> float:
        book, desk = self._account(), self._desk(symbol, self._unknown_calc())
        if action not in (0, 1) or not _are_amounts(volume, opened, closed):
            raise Refusal(*INVALID)
        try:
            amount = money.profit(
                desk.instrument, action, volume, opened, closed, book.account.currency, book.house.pairs
            )
        except money.NoRate:
            raise Refusal(*FAILED) from None
        return _told(book, amount)

    def _unknown_calc(self) -> tuple[int, str]:
        return self._pair(self._account().house.personality.unknown_calc)

    def _barred(self, book: Book, symbol: str) -> int:
        """What stands in the way before the request is looked at; in the order of the terminal's checks."""
        if self._stands("algo_off", symbol):
            return mt5.TRADE_RETCODE_CLIENT_DISABLES_AT
        if self._stands("no_connection", symbol):
            return mt5.TRADE_RETCODE_CONNECTION
        if self.investor or not book.account.enabled or self._stands("trade_disabled", symbol):
            return mt5.TRADE_RETCODE_TRADE_DISABLED
        if not book.account.expert or self._stands("expert_off", symbol):
            return mt5.TRADE_RETCODE_SERVER_DISABLES_AT
        return 0

    def _api_off(self, book: Book, symbol: str, error: tuple[int, str]) -> int:
        """The option that forbids programs to trade: the call fails, or answers 10027 as the book says."""
        if not self._stands("api_off", symbol):
            return 0
        if book.house.personality.api_off == mt5.RES_E_AUTO_TRADING_DISABLED:
            raise Refusal(*error)
        return mt5.TRADE_RETCODE_CLIENT_DISABLES_AT

    def do_order_check(self, row: list[Any]) -> list[Any]:
        book = self._account()
        request, symbol = Request(*row), self.symbol_of("order_check", [row])
        barred = self._api_off(book, symbol, CHECK_WITH_API_OFF) or self._barred(book, symbol)
        if barred:
            return [barred, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, worded(book, barred)]
        retcode, case = rules.check(self._state, book, request, self._broker.now_ms())
        if retcode or case is None:
            return [retcode, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, worded(book, retcode)]
        would = rules.after(self._state, case)
        profit = book.money(would.equity - book.account.balance - book.account.credit)
        level = round(would.equity / would.margin * 100, 3) if would.margin else 0.0
        return [
            0, book.account.balance, would.equity, profit, would.margin, would.margin_free, level, worded(book, 0),
        ]  # fmt: skip

    def do_order_send(self, row: list[Any]) -> list[Any]:
        book = self._account()
        request, symbol = Request(*row), self.symbol_of("order_send", [row])
        engine = self._broker.engine
        barred = self._api_off(book, symbol, API_OFF) or self._barred(book, symbol)
        if barred:
            return reply_row(_in_its_words(book, engine.refusal(barred)))
        closed = bool(self._stands("market_closed", symbol))
        staging = staging_of(self._state, book, request, self.struck, symbol=symbol, market_closed=closed)
        reply = engine.send(book, request, staging)
        for fault in self.struck:
            if fault.kind in self._broker.lagging and reply.order:
                self._broker.tell_late(fault.kind, reply.order, int(fault.value))
        ambiguous = next((fault for fault in self.struck if fault.kind == "ambiguous"), None)
        if ambiguous is not None and reply.retcode == mt5.TRADE_RETCODE_DONE:
            code = int(ambiguous.value)
            reply = replace(Reply(code, text_of(code)), request_id=reply.request_id)
        return reply_row(_in_its_words(book, reply))

    def do_market_open(self, symbol: str) -> bool:
        """Not MetaTrader's: is the symbol's market open now?"""
        desk = self._desk(symbol)
        closed = self._stands("market_closed", symbol)
        return not closed and is_open(desk.instrument, desk.house.clock.to_server(self._broker.now_ms()))


def worded(book: Book, retcode: int) -> str:
    """The comment of a return code, as this broker puts it."""
    return book.house.personality.result_comments.get(str(retcode)) or text_of(retcode)


def _in_its_words(book: Book, reply: Reply) -> Reply:
    """Where the comment is the return code's, and not one of the request's."""
    if reply.comment != text_of(reply.retcode) or not book.house.personality.result_comments:
        return reply
    return replace(reply, comment=worded(book, reply.retcode))


def _are_amounts(*values: float) -> bool:
    """Lots and prices are numbers above zero."""
    return all(0 < value < math.inf for value in values)  # false for nan too


def _told(book: Book, amount: float) -> float:
    if not math.isfinite(amount):
        raise Refusal(*INVALID)
    return book.money(amount)


def _between(rows: dict[int, Kept], at: Callable[[Kept], int], first: int, last: int) -> list[Kept]:
    """Rows of a time. They were kept as they happened, so the search goes back from the newest; a clock may have been
    set back by less than an hour."""
    found = []
    for row in reversed(rows.values()):
        time_ms = at(row)
        if time_ms < first - SET_BACK_MS:
            break
        if first <= time_ms <= last:
            found.append(row)
    return found[::-1]


def reply_row(reply: Reply) -> list[Any]:
    """In the order of OrderSendResult, without the echoed request."""
    return [
        reply.retcode, reply.deal, reply.order, reply.volume, reply.price, reply.bid, reply.ask, reply.comment,
        reply.request_id, reply.retcode_external,
    ]  # fmt: skip


METHODS = frozenset(name.removeprefix("do_") for name in dir(Session) if name.startswith("do_"))
