"""One terminal of one client: the calls of the paper module, answered from the state.

Precedes: the server, which frames the answers. Follows: the engine, history and views. A call returns what the module's
function needs, or raises `Refusal` with MetaTrader's last_error pair.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.broker import history, money, rules, views
from executors.terminals.paper.broker.broker import Broker
from executors.terminals.paper.broker.faults import Fault
from executors.terminals.paper.broker.market import HISTORY_START_MS
from executors.terminals.paper.broker.model import Deal, Order, Reply, Request
from executors.terminals.paper.broker.passwords import matches
from executors.terminals.paper.broker.player import Track
from executors.terminals.paper.broker.sessions import is_open
from executors.terminals.paper.broker.staging import staging_of
from executors.terminals.paper.broker.state import BUY_TYPES, Book, Desk
from executors.terminals.paper.broker.texts import text_of
from executors.terminals.paper.dtypes import RATES
from executors.terminals.paper.masks import selects

Kept = TypeVar("Kept", Order, Deal)
FAR_S = 2**31 - 1
SET_BACK_MS = 3_600_000
ELSEWHERE = "C:\\Program Files\\Another MetaTrader 5"
LOGIN_TIMEOUT_MS = 60_000  # where the client names none
VERSIONS = "Terminal: Incompatible versions, please install the latest version of Terminal and Python module"
TRADE_TICKS = 2
API_OFF = (mt5.RES_E_AUTO_TRADING_DISABLED, "Auto-Trading using Python API disabled in Terminal")
MAX_ROWS = 5_000_000


class Refusal(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Waits(Refusal):
    """The trade server says neither yes nor no: asked again until the client's patience ends, then refused."""

    def __init__(self, error: tuple[int, str], timeout_ms: int) -> None:
        super().__init__(*error)
        self.timeout_ms = timeout_ms or LOGIN_TIMEOUT_MS


FAILED = (mt5.RES_E_FAIL, "Terminal: Call failed")
NOT_FOUND = (mt5.RES_E_NOT_FOUND, "Terminal: Not found")
INVALID = (mt5.RES_E_INVALID_PARAMS, "Terminal: Invalid params")


class Session:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._state = broker.state
        self._book: Book | None = None
        self.investor = False
        self.path = ""
        self._depth: set[str] = set()
        self._warm: set[str] = set()

    @property
    def login_number(self) -> int:
        return self._book.account.login if self._book else 0

    def handler(self, method: str) -> Callable[..., Any] | None:
        handler = getattr(self, f"do_{method}", None)
        return handler if callable(handler) else None

    # --- The account -------------------------------------------------------------------------------------------------

    def do_initialize(self, login: int, password: str, server: str, path: str, timeout_ms: int = 0) -> bool:
        """A terminal starts, or is found running: logged in to what is named, or to what it was logged in to last."""
        broker = self._broker
        known = broker.terminals.get(path)
        if not login:
            if known:
                login = known[0]
            elif len(self._state.books) == 1:
                login = next(iter(self._state.books))
            else:
                raise Waits((mt5.RES_E_INTERNAL_FAIL_TIMEOUT, "IPC timeout"), timeout_ms)
            password = password or (known[1] if known else "")
        elif known and broker.faults.standing("relogin_timeout", login, "", broker.now_ms()):
            raise Waits((mt5.RES_E_INTERNAL_FAIL_TIMEOUT, "IPC timeout"), timeout_ms)
        return self.do_login(login, password, server, path, timeout_ms)

    def do_login(self, login: int, password: str, server: str, path: str = "", timeout_ms: int = 0) -> bool:
        broker, now_ms = self._broker, self._broker.now_ms()
        path = path or self.path
        if broker.faults.standing("login_timeout", login, "", now_ms):
            raise Waits((mt5.RES_E_INTERNAL_FAIL_TIMEOUT, "IPC timeout"), timeout_ms)
        if broker.faults.standing("version_mismatch", login, "", now_ms):
            raise Refusal(mt5.RES_E_INVALID_VERSION, VERSIONS)
        book, known = self._state.books.get(login), broker.terminals.get(path)
        if known is not None and known[0] == login:
            password = password or known[1]  # the terminal keeps it
        refused = Refusal(mt5.RES_E_AUTH_FAILED, "Terminal: Authorization failed")
        if book is None or broker.faults.standing("auth_fail", login, "", now_ms):
            raise refused
        if server and server != book.account.server:
            raise refused
        if matches(password, book.account.password):
            self.investor = False
        elif book.account.investor and matches(password, book.account.investor):
            self.investor = True
        else:
            raise refused
        self._book, self.path = book, path
        broker.note_terminal(path, login, password)
        return True

    def _account(self) -> Book:
        if self._book is None:
            raise Refusal(mt5.RES_E_INTERNAL_FAIL_CONNECT, "No IPC connection")
        return self._book

    def _stands(self, kind: str, symbol: str = "") -> Fault | None:
        return self._broker.faults.standing(kind, self.login_number, symbol, self._broker.now_ms())

    def do_version(self) -> list[Any]:
        return [500, views.BUILD, views.BUILD_DATE]

    def do_terminal_info(self) -> list[Any]:
        return views.terminal_row(
            self._account(),
            ELSEWHERE if self._stands("cross_wired") else self.path,
            connected=not self._stands("no_connection"),
            algo_trading=not self._stands("algo_off"),
            api_disabled=bool(self._stands("api_off")),
        )

    def do_account_info(self) -> list[Any]:
        book = self._account()
        row = views.account_row(
            self._state, book, connected=not self._stands("no_connection"), investor=self.investor
        )
        if self._stands("expert_off"):
            row[6] = False
        if self._stands("trade_disabled"):
            row[5] = False
        return row

    # --- Symbols -----------------------------------------------------------------------------------------------------

    def _desk(self, symbol: str, missing: tuple[int, str] = NOT_FOUND) -> Desk:
        desk = self._account().house.desks.get(symbol)
        if desk is None:
            raise Refusal(*missing)
        return desk

    def _unknown_history(self) -> tuple[int, str]:
        return self._pair(self._account().house.personality.unknown_history)

    @staticmethod
    def _pair(code: int) -> tuple[int, str]:
        return next((pair for pair in (FAILED, NOT_FOUND, INVALID) if pair[0] == code), FAILED)

    def do_symbols_total(self) -> int:
        return len(self._account().house.desks)

    def do_symbols(self, group: str) -> list[list[Any]]:
        book = self._account()
        return [
            views.symbol_row(book, desk)
            for name, desk in book.house.desks.items()
            if not group or selects(group, name)
        ]

    def do_symbol_info(self, symbol: str) -> list[Any]:
        return views.symbol_row(self._account(), self._desk(symbol))

    def do_symbol_tick(self, symbol: str) -> list[Any]:
        desk = self._desk(symbol)
        if not self._account().sees(symbol, self._broker.now_ms()) or not desk.quote.bid:
            raise Refusal(*self._pair(desk.house.personality.unselected_tick))
        return views.tick_row(desk)

    def do_ticks_now(self, symbols: list[str]) -> list[list[Any] | None]:
        """Not MetaTrader's: the newest ticks of several symbols in one call."""
        book = self._account()
        return [
            views.tick_row(desk) if (desk := book.house.desks.get(name)) and name in book.watch else None
            for name in symbols
        ]

    def do_symbol_select(self, symbol: str, enable: bool) -> bool:
        book = self._account()
        self._desk(symbol, FAILED)
        if enable:
            book.watch.setdefault(symbol, self._broker.now_ms())
            return True
        if book.by_symbol.get(symbol) or any(item.symbol == symbol for item in book.orders.values()):
            raise Refusal(*FAILED)
        book.watch.pop(symbol, None)
        return True

    def do_book_add(self, symbol: str) -> bool:
        if symbol not in self._account().house.desks:
            return False
        self._depth.add(symbol)
        return True

    def do_book_release(self, symbol: str) -> bool:
        known = symbol in self._depth
        self._depth.discard(symbol)
        return known

    def do_book_get(self, symbol: str) -> list[list[Any]]:
        desk = self._desk(symbol, FAILED)
        if symbol not in self._depth:
            raise Refusal(*FAILED)
        return views.book_rows(desk)

    # --- History -----------------------------------------------------------------------------------------------------

    def _track(self, desk: Desk) -> Track:
        """Where a desk's past is. A cold history fails once a symbol, as a terminal's does while it downloads."""
        symbol = desk.instrument.name
        if desk.house.personality.cold_history and symbol not in self._warm:
            self._warm.add(symbol)
            raise Refusal(*FAILED)
        return self._broker.player.tracks[desk.instrument.feed]

    def _server_s(self, desk: Desk) -> int:
        return desk.house.clock.to_server(self._broker.now_ms()) // 1000

    def _length(self, timeframe: int) -> int:
        length = history.minutes_of(timeframe)
        if length is None:
            raise Refusal(*INVALID)
        return length * 60

    def _last_rates(self, desk: Desk, timeframe: int, until_s: int, count: int) -> bytes:
        length = self._length(timeframe)
        if count <= 0 or count >= desk.house.personality.max_bars:
            raise Refusal(*INVALID)
        now_ms = self._broker.now_ms()
        until_s = min(until_s, self._server_s(desk))
        span = length * (count + 5)
        track = self._track(desk)
        while True:
            found = history.candles(desk, track, timeframe, max(until_s - span, 1), until_s, now_ms)
            if len(found) >= count or until_s - span < HISTORY_START_MS // 1000:
                break
            span *= 2
        rows = history.rates_rows(desk, found, track.feed.point)[-count:]
        if not len(rows):
            raise Refusal(*FAILED)
        return rows.tobytes()

    def do_rates_from(self, symbol: str, timeframe: int, date_s: int, count: int) -> bytes:
        return self._last_rates(
            self._desk(symbol, self._unknown_history()), timeframe, date_s or FAR_S, count
        )

    def do_rates_pos(self, symbol: str, timeframe: int, start: int, count: int) -> bytes:
        desk = self._desk(symbol, self._unknown_history())
        if start < 0 or count <= 0 or start + count >= desk.house.personality.max_bars:
            raise Refusal(*INVALID)
        rows = self._last_rates(desk, timeframe, FAR_S, count + start)
        return rows[: len(rows) - start * RATES.itemsize]

    def do_rates_range(self, symbol: str, timeframe: int, first_s: int, last_s: int) -> bytes:
        desk = self._desk(symbol, self._unknown_history())
        length = self._length(timeframe)
        last_s = min(last_s or FAR_S, self._server_s(desk))
        first_s = max(first_s, HISTORY_START_MS // 1000)
        if (last_s - first_s) // length >= desk.house.personality.max_bars:
            raise Refusal(*INVALID)
        if last_s < first_s:
            if desk.house.personality.reversed_range == "none":
                raise Refusal(*INVALID)
            return b""
        track = self._track(desk)
        found = history.candles(desk, track, timeframe, first_s, last_s, self._broker.now_ms())
        return history.rates_rows(desk, found, track.feed.point).tobytes()

    def _ticks(self, desk: Desk, first_s: int, last_s: int, count: int) -> bytes:
        clock, now_ms = desk.house.clock, self._broker.now_ms()
        first_ms = max(clock.to_utc(first_s * 1000), HISTORY_START_MS)
        last_ms = min(clock.to_utc(last_s * 1000), now_ms)
        if last_ms < first_ms:
            if desk.house.personality.reversed_range == "none":
                raise Refusal(*INVALID)
            return b""
        track = self._track(desk)
        number = track.feed.count_until(first_ms - 1) + count + 1
        if count and track.frozen_ms is None:
            last_ms = min(last_ms, track.feed.tick(number)[0])  # no more than are wanted
        found = history.ticks_between(track, first_ms, last_ms)
        rows = history.ticks_rows(desk, found, track.feed.point)
        return (rows[:count] if count else rows).tobytes()

    def do_ticks_from(self, symbol: str, date_s: int, count: int, flags: int) -> bytes:
        desk = self._desk(symbol, self._unknown_history())
        if count <= 0 or flags not in (-1, 1, 2):
            raise Refusal(*INVALID)
        if flags == TRADE_TICKS and not views.traded(desk.instrument):
            return b""
        return self._ticks(desk, date_s, FAR_S, min(count, history.MAX_TICKS))

    def do_ticks_range(self, symbol: str, first_s: int, last_s: int, flags: int) -> bytes:
        desk = self._desk(symbol, self._unknown_history())
        if flags not in (-1, 1, 2):
            raise Refusal(*INVALID)
        if flags == TRADE_TICKS and not views.traded(desk.instrument):
            return b""
        return self._ticks(desk, first_s, last_s or FAR_S, 0)

    # --- Orders, positions, deals ------------------------------------------------------------------------------------

    def _visible(self, kind: str) -> int:
        """Nothing newer than this is shown yet."""
        fault = self._stands(kind)
        return self._broker.now_ms() - int(fault.value) if fault else 2**62

    def do_positions_total(self) -> int:
        return len(self._account().positions)

    def do_orders_total(self) -> int:
        return len(self._account().orders)

    def do_positions(self, ticket: int | None, symbol: str | None) -> list[list[Any]]:
        book = self._account()
        shown = self._visible("position_lag")
        return [
            views.position_row(self._state, book, item)
            for item in book.positions.values()
            if (ticket is None or item.ticket == ticket)
            and (symbol is None or item.symbol == symbol)
            and item.time_ms <= shown
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
        clock, shown = book.house.clock, self._visible("history_lag")
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
        return [views.order_row(book, item) for item in found if item.done_ms <= shown]

    def do_history_deals(
        self, first_s: int, last_s: int, ticket: int | None, position: int | None
    ) -> list[list[Any]]:
        book = self._account()
        clock, shown = book.house.clock, self._visible("history_lag")
        first, last = clock.to_utc(first_s * 1000), clock.to_utc(last_s * 1000) + self._last_second(book)
        if ticket is not None:
            found = [item for item in book.deals.values() if item.order == ticket and ticket]
        elif position is not None:
            found = [item for item in book.deals.values() if item.position_id == position]
        else:
            found = _between(book.deals, lambda item: item.time_ms, first, last)
        return [views.deal_row(item, book.house) for item in found if item.time_ms <= shown]

    # --- Trade -------------------------------------------------------------------------------------------------------

    def do_calc_margin(self, action: int, symbol: str, volume: float, price: float) -> float:
        book, desk = self._account(), self._desk(symbol)
        if action not in (0, 1, 2, 3, 4, 5, 6, 7) or volume <= 0:
            raise Refusal(*INVALID)
        account = book.account
        side = 0 if action in BUY_TYPES else 1
        try:
            amount = money.margin(
                desk.instrument, side, volume, price, account.leverage, account.currency, book.house.pairs
            )
        except money.NoRate:
            raise Refusal(*FAILED) from None
        return book.money(amount)

    def do_calc_profit(self, action: int, symbol: str, volume: float, opened: float, closed: float) -> float:
        book, desk = self._account(), self._desk(symbol)
        if action not in (0, 1) or volume <= 0:
            raise Refusal(*INVALID)
        try:
            amount = money.profit(
                desk.instrument, action, volume, opened, closed, book.account.currency, book.house.pairs
            )
        except money.NoRate:
            raise Refusal(*FAILED) from None
        return book.money(amount)

    def _switches(self) -> rules.Switches:
        return rules.Switches(
            algo_trading=not self._stands("algo_off"), connected=not self._stands("no_connection")
        )

    def _barred(self, book: Book) -> int:
        """What stands in the way before the request is looked at; in the order of the terminal's checks."""
        if self._stands("algo_off"):
            return mt5.TRADE_RETCODE_CLIENT_DISABLES_AT
        if self._stands("no_connection"):
            return mt5.TRADE_RETCODE_CONNECTION
        if self.investor or not book.account.enabled or self._stands("trade_disabled"):
            return mt5.TRADE_RETCODE_TRADE_DISABLED
        return mt5.TRADE_RETCODE_SERVER_DISABLES_AT if self._stands("expert_off") else 0

    def do_order_check(self, row: list[Any]) -> list[Any]:
        book = self._account()
        request = Request(*row)
        barred = self._barred(book)
        if barred:
            return [barred, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, text_of(barred)]
        retcode, case = rules.check(self._state, book, request, self._switches(), self._broker.now_ms())
        if retcode or case is None:
            return [retcode, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, text_of(retcode)]
        would = rules.after(self._state, case)
        profit = book.money(would.equity - book.account.balance - book.account.credit)
        level = round(would.equity / would.margin * 100, 3) if would.margin else 0.0
        return [
            0, book.account.balance, would.equity, profit, would.margin, would.margin_free, level, text_of(0),
        ]  # fmt: skip

    def do_order_send(self, row: list[Any], faults: list[Fault] | None = None) -> list[Any]:
        book = self._account()
        request = Request(*row)
        engine = self._broker.engine
        barred = self._barred(book)
        if self._stands("api_off"):
            if book.house.personality.api_off == mt5.RES_E_AUTO_TRADING_DISABLED:
                raise Refusal(*API_OFF)
            barred = mt5.TRADE_RETCODE_CLIENT_DISABLES_AT
        if barred:
            return reply_row(engine.refusal(barred))
        closed = bool(self._stands("market_closed", request.symbol))
        staging = staging_of(self._state, book, request, faults or [], market_closed=closed)
        reply = engine.send(book, request, self._switches(), staging)
        ambiguous = next((fault for fault in faults or () if fault.kind == "ambiguous"), None)
        if ambiguous is not None and reply.retcode == mt5.TRADE_RETCODE_DONE:
            code = int(ambiguous.value)
            reply = replace(Reply(code, text_of(code)), request_id=reply.request_id)
        return reply_row(reply)

    def do_market_open(self, symbol: str) -> bool:
        """Not MetaTrader's: is the symbol's market open now?"""
        desk = self._desk(symbol)
        closed = self._stands("market_closed", symbol)
        return not closed and is_open(desk.instrument, desk.house.clock.to_server(self._broker.now_ms()))


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
