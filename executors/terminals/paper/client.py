"""The thirty-two functions of the module: arguments as the real client takes them, answers as it gives them.

Precedes: `__init__.py`, which exports them. Follows: `arguments.py` (what is accepted), `link.py` (the pipe). One
connection per process, kept in this module, as in the real package; nothing here is thread-safe, as there.
"""

import os
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from executors.terminals.paper import arguments as take
from executors.terminals.paper import builtin, structs, wire
from executors.terminals.paper.arguments import Wrong
from executors.terminals.paper.dtypes import RATES, TICKS
from executors.terminals.paper.link import NOT_CONNECTED, Link, LinkError
from executors.terminals.paper.masks import selects

OK = (1, "Success")
INVALID_PARAMS = -2
NOT_FOUND_TEXT = "IPC initialize failed, MetaTrader 5 x64 not found"
MAX_PATH, MAX_TEXT = 257, 253
DEFAULT_PATH = "C:\\Program Files\\MetaTrader 5"

Arguments = tuple[Any, ...]
Keywords = dict[str, Any] | None

core = types.ModuleType(builtin.MODULE)


class _Process:
    """What the C module keeps in globals."""

    error: tuple[int, str] = OK
    link: Link | None = None


_process = _Process()


def _ask(method: str, *values: Any) -> Any:
    link = _process.link
    if link is None:
        raise LinkError(NOT_CONNECTED)
    try:
        return link.ask(method, *values)
    except BaseException:
        if not link.is_open:
            _process.link = None
        raise


def _guarded(body: Callable[[Arguments, Keywords], Any], failed: Any, bad: Any) -> builtin.Implementation:
    """Every call: the last error is reset, then set by what fails. `bad`: the value on refused arguments."""

    def call(arguments: Arguments, keywords: Keywords) -> Any:
        _process.error = OK
        try:
            return body(arguments, keywords)
        except Wrong as wrong:
            _process.error = (INVALID_PARAMS, wrong.text)
            if wrong.c_error:
                raise builtin.Broken from None
            return bad
        except LinkError as error:
            _process.error = error.error
            return failed
        except KeyboardInterrupt:
            import _thread

            _process.error = (-10002, "IPC recv failed")
            _thread.interrupt_main()  # raised in the caller's own code; a callback cannot raise
            return failed
        except Exception:  # noqa: BLE001 - a traceback is shown
            # a callback cannot raise either: the traceback is all that can be given
            sys.excepthook(*sys.exc_info())
            _process.error = (-1, "Terminal: Call failed")
            return failed

    return call


def _counted(arguments: Arguments, *counts: int) -> None:
    if len(arguments) not in counts:
        raise Wrong(take.BAD_ARGUMENTS)


# --- Connection -----------------------------------------------------------------------------------------------------------


def _close() -> None:
    if _process.link is not None:
        _process.link.close()
        _process.link = None


def _credentials(
    keywords: dict[str, Any], login: int, server: str, password: str
) -> tuple[int, str, str, int]:
    if "login" in keywords:
        login = take.keyword_int("login", keywords["login"])
    if "server" in keywords:
        server = take.keyword_text("server", keywords["server"], MAX_TEXT)
    if "password" in keywords:
        password = take.keyword_text("password", keywords["password"], MAX_TEXT)
    timeout = take.keyword_int("timeout", keywords["timeout"], take.U32) if "timeout" in keywords else 0
    return login, server, password, timeout


def _initialize(arguments: Arguments, keywords: Keywords) -> bool:
    _close()
    if len(arguments) > 1:
        raise Wrong(take.NUMBER)
    path = ""
    if arguments:
        path = arguments[0]
        if not isinstance(path, str) or take.units(path) > MAX_PATH:
            raise Wrong("Invalid 1st unnamed argument")
    keywords = keywords or {}
    login, server, password, timeout = _credentials(keywords, 0, "", "")
    if "path" in keywords:
        path = take.keyword_text("path", keywords["path"], MAX_PATH)
    url = path if path.startswith("tcp://") else os.environ.get("PAPER_BROKER_URL", wire.DEFAULT_URL)
    if not login:
        # what the terminal at this place is logged in to; only a paper terminal is told so
        login, password = int(os.environ.get("PAPER_LOGIN", "0")), os.environ.get("PAPER_PASSWORD", "")
    try:
        _process.link = Link(url)
    except (OSError, ValueError):
        raise LinkError((-10003, NOT_FOUND_TEXT)) from None
    try:
        _ask("initialize", login, password, server, path or DEFAULT_PATH, timeout)
    except LinkError:
        _close()
        raise
    return True


def _login(arguments: Arguments, keywords: Keywords) -> bool:
    if len(arguments) > 3:
        raise Wrong(take.NUMBER)
    login, password, server = 0, "", ""
    for index, value in enumerate(arguments):
        text = f"Invalid {('1st', '2nd', '3rd')[index]} unnamed argument"
        if index == 0:
            if not isinstance(value, int):
                raise Wrong(text)
            if not 0 <= value < take.U64:
                raise Wrong(text, c_error=True)
            login = value
        elif not isinstance(value, str) or take.units(value) > MAX_TEXT:
            raise Wrong(text)
        elif index == 1:
            password = value
        else:
            server = value
    login, server, password, timeout = _credentials(keywords or {}, login, server, password)
    if not login:
        raise Wrong(take.named("login"))
    _ask("login", login, password, server, "", timeout)
    return True


def _shutdown(_: Arguments, __: Keywords) -> bool:
    _close()
    return True


def _version(_: Arguments, __: Keywords) -> tuple[int, int, str]:
    major, build, date = _ask("version")
    return major, build, date


def _last_error(_: Arguments, __: Keywords) -> tuple[int, str]:
    return _process.error


def _terminal_info(_: Arguments, __: Keywords) -> Any:
    return structs.TerminalInfo(_ask("terminal_info"))


def _account_info(_: Arguments, __: Keywords) -> Any:
    return structs.AccountInfo(_ask("account_info"))


# --- Symbols --------------------------------------------------------------------------------------------------------------


def _symbols_total(_: Arguments, __: Keywords) -> int:
    return int(_ask("symbols_total"))


def _symbols_get(arguments: Arguments, keywords: Keywords) -> Any:
    group = ""
    if len(arguments) > 1:
        raise Wrong(take.NUMBER)
    if arguments:
        group = arguments[0]
        if not isinstance(group, str) or take.units(group) > take.MAX_GROUP:
            raise Wrong("Invalid 1st unnamed argument")
    if keywords and "group" in keywords:
        group = take.keyword_text("group", keywords["group"], take.MAX_GROUP)
    return tuple(map(structs.SymbolInfo, _ask("symbols", group)))


def _symbol_info(arguments: Arguments, _: Keywords) -> Any:
    _counted(arguments, 1)
    return structs.SymbolInfo(_ask("symbol_info", take.symbol(arguments[0])))


def _symbol_info_tick(arguments: Arguments, _: Keywords) -> Any:
    _counted(arguments, 1)
    return structs.Tick(_ask("symbol_tick", take.symbol(arguments[0])))


def _symbol_select(arguments: Arguments, _: Keywords) -> bool:
    _counted(arguments, 1, 2)
    enable = bool(arguments[1]) if len(arguments) == 2 else True
    return bool(_ask("symbol_select", take.symbol(arguments[0]), enable))


def _market_book(method: str) -> Callable[[Arguments, Keywords], Any]:
    def call(arguments: Arguments, _: Keywords) -> Any:
        _counted(arguments, 1)
        name = take.symbol(arguments[0])
        try:
            return bool(_ask(method, name))
        except LinkError:
            return False  # with last_error left at success, as the real one does

    return call


def _market_book_get(arguments: Arguments, _: Keywords) -> Any:
    _counted(arguments, 1)
    return tuple(map(structs.BookInfo, _ask("book_get", take.symbol(arguments[0]))))


# --- Candles and ticks ------------------------------------------------------------------------------------------------------


def _array(block: bytes, layout: Any) -> Any:
    rows = np.frombuffer(block, dtype=layout).copy()
    rows.flags.writeable = False
    return rows


def _copy_rates_from(arguments: Arguments, _: Keywords) -> Any:
    _counted(arguments, 4)
    name, timeframe = take.symbol(arguments[0]), take.c_int(arguments[1])
    when, count = take.date(arguments[2]), take.c_int(arguments[3])
    return _array(_ask("rates_from", name, timeframe, when, count), RATES)


def _copy_rates_from_pos(arguments: Arguments, _: Keywords) -> Any:
    _counted(arguments, 4)
    name, *numbers = take.symbol(arguments[0]), *map(take.c_int, arguments[1:])
    return _array(_ask("rates_pos", name, *numbers), RATES)


def _copy_rates_range(arguments: Arguments, _: Keywords) -> Any:
    _counted(arguments, 4)
    name, timeframe = take.symbol(arguments[0]), take.c_int(arguments[1])
    return _array(
        _ask("rates_range", name, timeframe, take.date(arguments[2]), take.date(arguments[3])), RATES
    )


def _copy_ticks_from(arguments: Arguments, _: Keywords) -> Any:
    _counted(arguments, 4)
    name, when = take.symbol(arguments[0]), take.date(arguments[1])
    return _array(_ask("ticks_from", name, when, take.c_int(arguments[2]), take.c_int(arguments[3])), TICKS)


def _copy_ticks_range(arguments: Arguments, _: Keywords) -> Any:
    _counted(arguments, 4)
    name, first, last = take.symbol(arguments[0]), take.date(arguments[1]), take.date(arguments[2])
    return _array(_ask("ticks_range", name, first, last, take.c_int(arguments[3])), TICKS)


# --- Orders, positions, history --------------------------------------------------------------------------------------------


def _total(method: str) -> Callable[[Arguments, Keywords], int]:
    return lambda _, __: int(_ask(method))


def _getter(method: str, kind: Any) -> Callable[[Arguments, Keywords], Any]:
    """orders_get and positions_get: ticket before symbol before group."""

    def call(arguments: Arguments, keywords: Keywords) -> Any:
        if arguments:
            raise Wrong(take.UNNAMED)
        keywords = keywords or {}
        if "ticket" in keywords:
            return tuple(map(kind, _ask(method, take.keyword_int("ticket", keywords["ticket"]), None)))
        if "symbol" in keywords:
            name = take.keyword_text("symbol", keywords["symbol"], take.MAX_SYMBOL)
            return tuple(map(kind, _ask(method, None, name)))
        group = take.keyword_text("group", keywords["group"], take.MAX_GROUP) if "group" in keywords else None
        found = map(kind, _ask(method, None, None))
        return tuple(item for item in found if group is None or selects(group, item.symbol))

    return call


def _history_total(method: str) -> Callable[[Arguments, Keywords], int]:
    def call(arguments: Arguments, _: Keywords) -> int:
        _counted(arguments, 2)
        return len(_ask(method, take.date(arguments[0]), take.date(arguments[1]), None, None))

    return call


def _history(method: str, kind: Any) -> Callable[[Arguments, Keywords], Any]:
    def call(arguments: Arguments, keywords: Keywords) -> Any:
        keywords = keywords or {}
        if len(arguments) == 2:
            first, last = take.date(arguments[0]), take.date(arguments[1])
            group = (
                take.keyword_text("group", keywords["group"], take.MAX_GROUP) if "group" in keywords else None
            )
            found = map(kind, _ask(method, first, last, None, None))
            return tuple(item for item in found if group is None or selects(group, item.symbol))
        for name in ("ticket", "position"):
            if name in keywords:
                if arguments:
                    raise Wrong(take.UNNAMED)
                number = take.keyword_int(name, keywords[name])
                ticket, position = (number, None) if name == "ticket" else (None, number)
                return tuple(map(kind, _ask(method, 0, 0, ticket, position)))
        raise Wrong(take.BAD_ARGUMENTS)

    return call


# --- Trade -----------------------------------------------------------------------------------------------------------------


def _order_calc_margin(arguments: Arguments, _: Keywords) -> float:
    _counted(arguments, 4)
    action, name = take.real_int(arguments[0]), take.symbol(arguments[1])
    return float(_ask("calc_margin", action, name, *map(take.c_double, arguments[2:])))


def _order_calc_profit(arguments: Arguments, _: Keywords) -> float:
    _counted(arguments, 5)
    action, name = take.real_int(arguments[0]), take.symbol(arguments[1])
    return float(_ask("calc_profit", action, name, *map(take.c_double, arguments[2:])))


def _order_check(arguments: Arguments, keywords: Keywords) -> Any:
    row = take.trade_request(arguments, keywords)
    answer = _ask("order_check", row)
    return structs.OrderCheckResult((*answer, structs.TradeRequest(row)))


def _order_send(arguments: Arguments, keywords: Keywords) -> Any:
    row = take.trade_request(arguments, keywords)
    answer = _ask("order_send", row)
    return structs.OrderSendResult((*answer, structs.TradeRequest(row)))


_N, _P, _K = builtin.NO_ARGUMENTS, builtin.POSITIONAL, builtin.KEYWORDS
_TABLE: tuple[tuple[str, int, Callable[[Arguments, Keywords], Any], Any, Any], ...] = (
    # name, convention, body, value when the call fails, value when the arguments are refused
    ("initialize", _K, _initialize, False, False),
    ("login", _K, _login, False, False),
    ("shutdown", _N, _shutdown, True, True),
    ("version", _N, _version, (0, 0, ""), (0, 0, "")),
    ("terminal_info", _N, _terminal_info, None, None),
    ("account_info", _N, _account_info, None, None),
    ("symbols_total", _N, _symbols_total, None, None),
    ("symbols_get", _K, _symbols_get, None, False),
    ("symbol_info", _P, _symbol_info, None, None),
    ("symbol_info_tick", _P, _symbol_info_tick, None, None),
    ("symbol_select", _P, _symbol_select, False, False),
    ("market_book_add", _P, _market_book("book_add"), False, None),
    ("market_book_get", _P, _market_book_get, None, None),
    ("market_book_release", _P, _market_book("book_release"), False, None),
    ("copy_rates_from", _P, _copy_rates_from, None, None),
    ("copy_rates_from_pos", _P, _copy_rates_from_pos, None, None),
    ("copy_rates_range", _P, _copy_rates_range, None, None),
    ("copy_ticks_from", _P, _copy_ticks_from, None, None),
    ("copy_ticks_range", _P, _copy_ticks_range, None, None),
    ("orders_total", _N, _total("orders_total"), None, None),
    ("orders_get", _K, _getter("orders", structs.TradeOrder), None, None),
    ("order_calc_margin", _P, _order_calc_margin, None, None),
    ("order_calc_profit", _P, _order_calc_profit, None, None),
    ("order_check", _K, _order_check, None, None),
    ("order_send", _K, _order_send, None, None),
    ("positions_total", _N, _total("positions_total"), None, None),
    ("positions_get", _K, _getter("positions", structs.TradePosition), None, None),
    ("history_orders_total", _P, _history_total("history_orders"), None, None),
    ("history_orders_get", _K, _history("history_orders", structs.TradeOrder), None, None),
    ("history_deals_total", _P, _history_total("history_deals"), None, None),
    ("history_deals_get", _K, _history("history_deals", structs.TradeDeal), None, None),
)

FUNCTIONS: dict[str, Any] = {
    name: builtin.function(core, name, _guarded(body, failed, bad), flags)
    for name, flags, body, failed, bad in _TABLE
}
# the only one that does not reset the last error
FUNCTIONS["last_error"] = builtin.function(core, "last_error", _last_error, _N)
for _name, _made in {**FUNCTIONS, **structs.TYPES}.items():
    setattr(core, _name, _made)
