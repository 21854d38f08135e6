"""The paper module's surface, numbered: what the official package accepts, gives back and refuses, call by call.

The same file runs against the official package on Windows: `subject.py` says how (docs/metatrader.md).
"""

import asyncio
import enum
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from executors.terminals.paper import constants
from executors.terminals.paper.fields import FIELDS
from tests.contract.desk import LOGIN
from tests.contract.subject import deal, deep_symbol, mt5
from tests.paper import PASSWORD

INVALID = (-2, "Invalid arguments")
OK = (1, "Success")

pytestmark = pytest.mark.usefixtures("connected")


# --- Surface ---------------------------------------------------------------------------------------------------------------


def test_m01_exports_what_the_package_exports_and_no_more() -> None:
    numbers = {name for name in dir(mt5) if name.isupper() and not name.startswith("_")}
    assert len(numbers) == 223
    assert all(isinstance(getattr(mt5, name), int) for name in numbers)
    assert mt5.__version__ == "5.0.6231"
    assert mt5.__author__ == "MetaQuotes Ltd."
    assert set(FIELDS) <= set(dir(mt5))
    assert {"Buy", "Sell", "Close", "_RawOrder"} <= set(dir(mt5))
    functions = [
        name for name in dir(mt5) if type(getattr(mt5, name)).__name__ == "builtin_function_or_method"
    ]
    assert len(functions) == 32
    for absent in (
        "SYMBOL_FILLING_FOK",
        "TRADE_RETCODE_HEDGE_PROHIBITED",
        "SYMBOL_CALC_MODE_EXCH_FUTURES_FORTS",
    ):
        assert not hasattr(mt5, absent)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TIMEFRAME_H4", 16388), ("TIMEFRAME_MN1", 49153), ("ORDER_TYPE_CLOSE_BY", 8), ("TRADE_ACTION_CLOSE_BY", 10),
        ("TRADE_RETCODE_FIFO_CLOSE", 10045), ("RES_E_INTERNAL_FAIL_TIMEOUT", -10005), ("DEAL_TAX", 17),
        ("COPY_TICKS_ALL", -1), ("SYMBOL_CALC_MODE_SERV_COLLATERAL", 64), ("RES_S_OK", 1),
    ],
)  # fmt: skip
def test_m02_constants_have_their_values(name: str, value: int) -> None:
    assert getattr(constants, name) == value


def test_m03_functions_look_like_built_in_ones() -> None:
    assert repr(mt5.order_send) == "<built-in function order_send>"
    assert mt5.order_send.__module__ == "MetaTrader5._core"


def test_m04_positional_functions_take_no_keywords() -> None:
    with pytest.raises(TypeError, match=r"symbol_info\(\) takes no keyword arguments"):
        mt5.symbol_info(symbol="EURUSD")
    with pytest.raises(TypeError, match="takes no arguments"):
        mt5.version(1)
    for name in (
        "symbol_info_tick",
        "copy_rates_from",
        "order_calc_margin",
        "market_book_add",
        "history_deals_total",
    ):
        with pytest.raises(TypeError):
            getattr(mt5, name)(symbol="EURUSD")


# --- Structures ------------------------------------------------------------------------------------------------------------


def test_m05_structures_are_tuples_with_names_and_nothing_of_namedtuple() -> None:
    tick = mt5.symbol_info_tick("EURUSD")
    assert isinstance(tick, tuple)
    assert isinstance(tick, mt5.Tick)
    assert len(tick) == tick.n_fields == 8
    assert tick[1] == tick.bid
    assert list(tick._asdict()) == [name for name, _ in FIELDS["Tick"]]
    assert repr(tick).startswith("Tick(time=")
    for absent in ("_fields", "_replace", "_make"):
        assert not hasattr(tick, absent)
    with pytest.raises((AttributeError, TypeError)):
        tick.bid = 2.0
    assert mt5.Tick((1, 2.0, 3.0, 0.0, 0, 1000, 6, 0.0)).ask == 3.0


def test_m06_structures_cannot_be_pickled() -> None:
    with pytest.raises(pickle.PicklingError, match="Can't pickle <class 'AccountInfo'>"):
        pickle.dumps(mt5.account_info())


KINDS = {"i": int, "f": float, "s": str, "b": bool}


def rows_of_every_type() -> dict[str, Any]:
    assert mt5.order_send(deal()).retcode == 10009
    pending = {"action": 5, "symbol": "EURUSD", "volume": 0.1, "type": 2, "price": 1.0, "type_filling": 2}
    assert mt5.order_send(pending).retcode == 10009
    deep, far = deep_symbol(), 2**31 - 1
    assert deep is None or mt5.market_book_add(deep)
    book = mt5.market_book_get(deep) if deep else ()
    rows = {
        "TerminalInfo": mt5.terminal_info(), "AccountInfo": mt5.account_info(), "SymbolInfo": mt5.symbol_info("EURUSD"),
        "Tick": mt5.symbol_info_tick("EURUSD"), "BookInfo": book[0] if book else None,
        "TradePosition": mt5.positions_get()[0], "TradeOrder": mt5.orders_get()[0],
        "TradeDeal": mt5.history_deals_get(0, far)[-1], "TradeRequest": mt5.order_check(deal()).request,
        "OrderSendResult": mt5.order_send(deal()), "OrderCheckResult": mt5.order_check(deal()),
    }  # fmt: skip
    return {name: row for name, row in rows.items() if row is not None}


def test_m07_every_field_has_the_type_that_the_c_code_makes() -> None:
    rows = rows_of_every_type()
    assert set(FIELDS) - set(rows) <= (set() if deep_symbol() else {"BookInfo"})
    for name, row in rows.items():
        assert type(row).__name__ == name
        for field, kind in FIELDS[name]:
            if kind != "r":
                assert type(getattr(row, field)) is KINDS[kind], f"{name}.{field}"


def test_m08_arrays_have_metatraders_layout_and_are_read_only() -> None:
    rates = mt5.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_M5, 0, 10)
    ticks = mt5.copy_ticks_from("EURUSD", datetime.now(UTC) - timedelta(days=1), 10, mt5.COPY_TICKS_ALL)
    assert rates.dtype.names == (
        "time",
        "open",
        "high",
        "low",
        "close",
        "tick_volume",
        "spread",
        "real_volume",
    )
    assert ticks.dtype.names == ("time", "bid", "ask", "last", "volume", "time_msc", "flags", "volume_real")
    for rows in (rates, ticks):
        assert rows.dtype.itemsize == 60
        assert rows.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            rows["time"] = 0
    assert type(rates[0]["time"]) is np.int64
    assert (ticks["time"] == ticks["time_msc"] // 1000).all()


# --- Last error ------------------------------------------------------------------------------------------------------------


def test_m09_every_call_resets_the_last_error_and_reading_it_does_not() -> None:
    assert mt5.symbol_info("NONE") is None
    assert mt5.last_error() == (-4, "Terminal: Not found")
    assert mt5.last_error() == (-4, "Terminal: Not found")
    assert mt5.symbol_info("EURUSD") is not None
    assert mt5.last_error() == OK


@pytest.mark.parametrize(
    ("call", "gives"),
    [
        (lambda: mt5.positions_get(symbol="FAKE"), ()),
        (lambda: mt5.positions_get(ticket=0), ()),
        (lambda: mt5.orders_get(ticket=1), ()),
        (lambda: mt5.symbols_get(group="NOPE"), ()),
        (lambda: mt5.history_deals_get(ticket=1), ()),
        (lambda: mt5.history_orders_get(position=1), ()),
        (lambda: mt5.market_book_release("EURUSD"), False),
    ],
)
def test_m10_nothing_found_is_no_error(call: Callable[[], Any], gives: Any) -> None:
    assert call() == gives
    assert mt5.last_error() == OK


@pytest.mark.parametrize(
    ("call", "gives", "error"),
    [
        (lambda: mt5.positions_get("EURUSD"), None, (-2, "Unnamed arguments not allowed")),
        (lambda: mt5.orders_get("EURUSD"), None, (-2, "Unnamed arguments not allowed")),
        (lambda: mt5.positions_get(ticket=np.int64(5)), None, (-2, 'Invalid "ticket" argument')),
        (lambda: mt5.positions_get(symbol=5), None, (-2, 'Invalid "symbol" argument')),
        (lambda: mt5.symbols_get(group=5), False, (-2, 'Invalid "group" argument')),
        (lambda: mt5.history_deals_get(), None, INVALID),
        (lambda: mt5.history_deals_get(date_from=0, date_to=1), None, INVALID),
        (lambda: mt5.history_orders_get(0), None, INVALID),
        (lambda: mt5.history_orders_get(0, ticket=5), None, (-2, "Unnamed arguments not allowed")),
        (lambda: mt5.history_deals_get("2020", "2021"), None, INVALID),
        (lambda: mt5.history_deals_get(date(2020, 1, 1), date(2021, 1, 1)), None, INVALID),
        (lambda: mt5.history_deals_get(np.int64(0), np.int64(1)), None, INVALID),
        (
            lambda: mt5.history_deals_get(np.datetime64("2020-01-01"), np.datetime64("2021-01-01")),
            None,
            INVALID,
        ),
        (lambda: mt5.symbol_info(), None, INVALID),
        (lambda: mt5.symbol_info("X" * 30), None, INVALID),
        (lambda: mt5.symbol_info(b"EURUSD"), None, INVALID),
        (lambda: mt5.symbol_select(), False, INVALID),
        (lambda: mt5.symbol_select("FAKE", True), False, (-1, "Terminal: Call failed")),
        (lambda: mt5.market_book_add(), None, INVALID),
        (lambda: mt5.market_book_get("EURUSD.thin2"), None, (-1, "Terminal: Call failed")),
        (lambda: mt5.symbol_info_tick("FAKE"), None, (-4, "Terminal: Not found")),
        (lambda: mt5.copy_rates_from_pos("FAKE", 1, 0, 1), None, (-1, "Terminal: Call failed")),
        (lambda: mt5.copy_rates_from_pos("EURUSD", 7, 0, 1), None, (-2, "Terminal: Invalid params")),
        (lambda: mt5.copy_rates_from_pos("EURUSD", 1, 0, 0), None, (-2, "Terminal: Invalid params")),
        (lambda: mt5.copy_rates_from_pos("EURUSD", 1, 0, -1), None, (-2, "Terminal: Invalid params")),
        (lambda: mt5.copy_rates_from_pos("EURUSD", 1, 0, 100_000), None, (-2, "Terminal: Invalid params")),
        (lambda: mt5.copy_rates_from_pos("EURUSD", 1, 0), None, INVALID),
        (lambda: mt5.initialize(1, 2), False, (-2, "Invalid number of arguments")),
        (lambda: mt5.initialize(1), False, (-2, "Invalid 1st unnamed argument")),
        (lambda: mt5.initialize(login="123"), False, (-2, 'Invalid "login" argument')),
        (lambda: mt5.initialize(path=None), False, (-2, 'Invalid "path" argument')),
        (lambda: mt5.initialize(timeout=None), False, (-2, 'Invalid "timeout" argument')),
        (lambda: mt5.login(), False, (-2, 'Invalid "login" argument')),
        (lambda: mt5.login("5"), False, (-2, "Invalid 1st unnamed argument")),
        (lambda: mt5.login(LOGIN, "\ud800"), False, (-6, "Terminal: Authorization failed")),
        (lambda: mt5.login(LOGIN, PASSWORD, "Elsewhere"), False, (-6, "Terminal: Authorization failed")),
    ],
)
def test_m11_refused_arguments_and_failures(
    call: Callable[[], Any], gives: Any, error: tuple[int, str]
) -> None:
    result = call()
    assert result is gives
    assert mt5.last_error() == error


@pytest.mark.parametrize(
    "call",
    [
        lambda: mt5.copy_rates_from_pos("EURUSD", "H1", 0, 1),
        lambda: mt5.copy_rates_from_pos("EURUSD", 1, 0, 10.0),
        lambda: mt5.order_calc_margin(np.int64(0), "EURUSD", 0.1, 1.1),
        lambda: mt5.order_calc_margin(0, "EURUSD", "0.1", 1.1),
        lambda: mt5.order_send({"magic": -1}),
        lambda: mt5.order_send({"action": 2**40}),
        lambda: mt5.initialize(login=-5),
        lambda: mt5.login(-5),
        lambda: mt5.login(2**64),
        lambda: mt5.copy_rates_from("EURUSD", 1, 2**31, 1),
    ],
)
def test_m12_what_c_would_leave_pending_ends_in_system_error(call: Callable[[], Any]) -> None:
    with pytest.raises(SystemError):
        call()
    assert mt5.last_error()[0] == -2


# --- Requests --------------------------------------------------------------------------------------------------------------


class Side(enum.IntEnum):
    BUY = 0


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize("field", ["volume", "price", "stoplimit", "sl", "tp"])
@pytest.mark.parametrize(
    "value", [0, 1, True, None, Decimal(1), Fraction(1, 2), np.float32(1), np.int64(1), "1.0"]
)
def test_m13_money_fields_take_floats_only(field: str, value: Any) -> None:
    assert mt5.order_check(deal(**{field: value})) is None
    assert mt5.last_error() == (-2, f'Invalid "{field}" argument')


@pytest.mark.parametrize(
    "field",
    ["action", "magic", "order", "deviation", "type", "type_filling", "type_time", "expiration", "position", "position_by"],
)  # fmt: skip
@pytest.mark.parametrize("value", [1.0, None, np.int64(1), "1", datetime(2030, 1, 1, tzinfo=UTC)])
def test_m14_whole_fields_take_ints_only(field: str, value: Any) -> None:
    assert mt5.order_check(deal(**{field: value})) is None
    assert mt5.last_error() == (-2, f'Invalid "{field}" argument')


class Hidden(dict[str, Any]):
    """What it makes of its keys no C code asks."""

    def __contains__(self, key: object) -> bool:
        return False

    def __getitem__(self, key: str) -> Any:
        raise KeyError(key)


def test_m15_a_dict_is_read_past_what_its_class_makes_of_it() -> None:
    assert mt5.order_check(Hidden(deal())).request.symbol == "EURUSD"


def test_m15_subclasses_pass_and_the_request_is_echoed() -> None:
    request = deal(volume=np.float64(0.1), type=Side.BUY, symbol=Name("EURUSD"), unknown=object())
    echo = mt5.order_check(request).request
    assert (echo.volume, echo.type, echo.symbol) == (0.1, 0, "EURUSD")
    assert (echo.sl, echo.magic, echo.comment) == (0.0, 0, "")
    assert type(echo.volume) is float
    assert type(echo.type) is int


@pytest.mark.parametrize(("length", "fits"), [(29, True), (30, False)])
def test_m16_comments_hold_29_units(length: int, fits: bool) -> None:
    result = mt5.order_check(deal(comment="c" * length))
    assert (result is not None) == fits
    if not fits:
        assert mt5.last_error() == (-2, 'Invalid "comment" argument')


def test_m17_comments_are_counted_in_utf16() -> None:
    assert mt5.order_check(deal(comment="🙂" * 14)) is not None
    assert mt5.order_check(deal(comment="🙂" * 15)) is None


def test_m18_the_keywords_are_the_request() -> None:
    assert mt5.order_check(**deal()).retcode == 0
    empty = mt5.order_check(request=deal())
    assert empty.retcode == 10013  # an empty request: no action
    assert mt5.order_check(deal(), **deal()) is None
    assert mt5.last_error() == (-2, "Unnamed arguments not allowed")
    assert mt5.order_check() is None
    assert mt5.last_error() == (-2, "Invalid number of arguments")
    assert mt5.order_check([("action", 1)]) is None
    assert mt5.last_error() == INVALID


def test_m19_an_empty_keyword_dict_counts_as_keywords() -> None:
    nothing: dict[str, Any] = {}
    assert mt5.order_check(deal(), **nothing) is None
    assert mt5.last_error() == (-2, "Unnamed arguments not allowed")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(mt5.order_check, deal()).result() is None
        assert pool.submit(lambda: mt5.order_check(deal())).result().retcode == 0
    assert asyncio.run(asyncio.to_thread(mt5.order_check, deal())).retcode == 0


def test_m20_threads_do_not_mix_their_answers() -> None:
    with ThreadPoolExecutor(8) as pool:
        names = ["EURUSD", "USDJPY", "GBPUSD"] * 100
        found = list(pool.map(lambda name: mt5.symbol_info(name).name, names))
    assert found == names


# --- Dates and masks -------------------------------------------------------------------------------------------------------


def test_m21_dates_are_ints_floats_or_datetimes() -> None:
    when = datetime.now(UTC) - timedelta(hours=5)
    by_datetime = mt5.copy_rates_from("GBPUSD", mt5.TIMEFRAME_M1, when, 5)
    stamp = when.timestamp()
    for other in (int(stamp), stamp, np.float64(stamp), datetime.fromtimestamp(stamp)):  # noqa: DTZ006
        assert (mt5.copy_rates_from("GBPUSD", mt5.TIMEFRAME_M1, other, 5) == by_datetime).all()


def test_m22_ranges_are_inclusive_and_may_be_empty() -> None:
    last = int(mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 5, 1)[0]["time"])
    rows = mt5.copy_rates_range("GBPUSD", mt5.TIMEFRAME_M1, last - 300, last)
    assert [int(time) for time in rows["time"]] == list(range(last - 300, last + 60, 60))
    empty = mt5.copy_rates_range("GBPUSD", mt5.TIMEFRAME_M1, last + 10**6, last + 2 * 10**6)
    assert (len(empty), mt5.last_error()) == (0, OK)
    assert len(mt5.copy_ticks_range("GBPUSD", last + 10**6, last + 2 * 10**6, mt5.COPY_TICKS_ALL)) == 0


def test_m23_position_zero_is_the_forming_candle_and_comes_last() -> None:
    rows = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 0, 3)
    tick = mt5.symbol_info_tick("GBPUSD")
    assert rows[-1]["time"] <= tick.time < rows[-1]["time"] + 120
    assert (mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 1, 2)["time"] == rows["time"][:2]).all()


@pytest.mark.parametrize(
    ("group", "selects"),
    [
        ("*", lambda name: True),
        ("*,!*EUR*", lambda name: "EUR" not in name),
        ("!*EUR*, *", lambda name: "EUR" not in name),
        ("!*EUR*", lambda name: False),
        ("EUR", lambda name: False),
        ("eurusd", lambda name: False),
        ("*USD", lambda name: name.endswith("USD")),
        ("EUR*D , USDJ??", lambda name: name.startswith("EUR") and name.endswith("D")),
        (",,EURUSD", lambda name: name == "EURUSD"),
    ],
)
def test_m24_group_masks(group: str, selects: Callable[[str], bool]) -> None:
    every = {item.name for item in mt5.symbols_get()}
    assert {"EURUSD", "GBPUSD", "USDJPY"} <= every
    assert {item.name for item in mt5.symbols_get(group)} == set(filter(selects, every))
