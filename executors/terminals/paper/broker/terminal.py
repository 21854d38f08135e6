"""One terminal of one client: what it is logged in to, its switches, and its symbols.

Precedes: `past.py` and `session.py`, which add history and trade. Follows: the broker. A call is a method `do_…`; it returns
what the module's function needs, or raises `Refusal` with MetaTrader's last_error pair.
"""

from collections.abc import Callable
from typing import Any

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.broker import views
from executors.terminals.paper.broker.broker import Broker
from executors.terminals.paper.broker.faults import LOGIN_CALLS, Fault
from executors.terminals.paper.broker.model import Order, Position
from executors.terminals.paper.broker.passwords import matches
from executors.terminals.paper.broker.state import Book, Desk
from executors.terminals.paper.fields import FIELDS
from executors.terminals.paper.masks import selects

ELSEWHERE = "C:\\Program Files\\Another MetaTrader 5"
LOGIN_TIMEOUT_MS = 60_000  # where the client names none
VERSIONS = "Terminal: Incompatible versions, please install the latest version of Terminal and Python module"

REQUEST_AT = {name: place for place, (name, _) in enumerate(FIELDS["TradeRequest"])}
SYMBOL_SECOND = ("positions", "orders", "calc_margin", "calc_profit")  # calls whose second argument it is


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


class TerminalCalls:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._state = broker.state
        self._book: Book | None = None
        self.investor = False
        self.path = ""
        self.struck: list[Fault] = []  # the faults of the call that is being answered
        self._crossed = False
        self._depth: set[str] = set()

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
        elif known and self._stands("relogin_timeout", login=login):
            raise Waits((mt5.RES_E_INTERNAL_FAIL_TIMEOUT, "IPC timeout"), timeout_ms)
        return self.do_login(login, password, server, path, timeout_ms)

    def do_login(self, login: int, password: str, server: str, path: str = "", timeout_ms: int = 0) -> bool:
        broker = self._broker
        path = path or self.path
        if self._stands("login_timeout", login=login):
            raise Waits((mt5.RES_E_INTERNAL_FAIL_TIMEOUT, "IPC timeout"), timeout_ms)
        if self._stands("version_mismatch", login=login):
            raise Refusal(mt5.RES_E_INVALID_VERSION, VERSIONS)
        book, known = self._state.books.get(login), broker.terminals.get(path)
        if known is not None and known[0] == login:
            password = password or known[1]  # the terminal keeps it
        refused = Refusal(mt5.RES_E_AUTH_FAILED, "Terminal: Authorization failed")
        if book is None or self._stands("auth_fail", login=login):
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
        self._crossed = any(fault.kind == "cross_wired" for fault in self.struck)
        broker.note_terminal(path, login, password)
        return True

    def _account(self) -> Book:
        if self._book is None:
            raise Refusal(mt5.RES_E_INTERNAL_FAIL_CONNECT, "No IPC connection")
        return self._book

    def _stands(self, kind: str, symbol: str = "", login: int = 0) -> Fault | None:
        """Among the faults that struck this very call, or stand."""
        for fault in self.struck:
            if fault.kind == kind:
                return fault
        faults = self._broker.faults
        if not faults:
            return None
        return faults.standing(kind, login or self.login_number, symbol, self._broker.now_ms())

    def login_of(self, method: str, arguments: list[Any]) -> int:
        """Whose call this is: at a login the account's that is asked for, or that its terminal would show."""
        if method in LOGIN_CALLS and arguments:
            if type(arguments[0]) is int and arguments[0]:
                return arguments[0]
            path = arguments[3] if len(arguments) > 3 else ""
            known = self._broker.terminals.get(path) if isinstance(path, str) else None
            if known is None and method == "initialize" and len(self._state.books) == 1:
                return next(iter(self._state.books))
            return known[0] if known else self.login_number
        return self.login_number

    def symbol_of(self, method: str, arguments: list[Any]) -> str:
        """What a call is about; of a request that names only an order or a position, that one's symbol."""
        if not arguments:
            return ""
        if method in ("order_send", "order_check"):
            row = arguments[0]
            return (
                self._symbol_of_request(row) if isinstance(row, list) and len(row) == len(REQUEST_AT) else ""
            )
        place = 1 if method in SYMBOL_SECOND else 0
        found = arguments[place] if len(arguments) > place else ""
        return found if isinstance(found, str) and method not in LOGIN_CALLS else ""

    def _symbol_of_request(self, row: list[Any]) -> str:
        """A malformed one fails later."""
        book, action, symbol = self._book, row[REQUEST_AT["action"]], row[REQUEST_AT["symbol"]]
        named: Order | Position | None = None
        if book is not None:
            if action in (mt5.TRADE_ACTION_MODIFY, mt5.TRADE_ACTION_REMOVE):
                named = book.orders.get(row[REQUEST_AT["order"]])
            elif action != mt5.TRADE_ACTION_PENDING:
                named = book.positions.get(row[REQUEST_AT["position"]])
        if named is not None:
            return named.symbol
        return symbol if isinstance(symbol, str) else ""

    def do_version(self) -> list[Any]:
        return [500, views.BUILD, views.BUILD_DATE]

    def do_terminal_info(self) -> list[Any]:
        return views.terminal_row(
            self._account(),
            ELSEWHERE if self._crossed or self._stands("cross_wired") else self.path,
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
        if symbol not in book.watch and not book.house.personality.unselect_again:
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
