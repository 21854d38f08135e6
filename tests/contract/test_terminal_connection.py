"""The paper module's connection, numbered: attaching, logging in, losing the terminal; and Market Watch."""

import pytest

from executors.terminals import paper as mt5
from tests.contract.desk import LOGIN, deal
from tests.paper import PASSWORD, PaperBroker

OK = (1, "Success")

pytestmark = pytest.mark.usefixtures("connected")


def test_m25_without_initialize_nothing_answers() -> None:
    mt5.shutdown()
    assert mt5.account_info() is None
    assert mt5.last_error() == (-10004, "No IPC connection")
    assert mt5.version() == (0, 0, "")
    assert mt5.symbol_select("EURUSD") is False
    assert mt5.order_send(deal()) is None
    assert mt5.shutdown() is True


def test_m26_a_broker_that_is_not_there() -> None:
    assert mt5.initialize("tcp://127.0.0.1:1") is False
    assert mt5.last_error() == (-10003, "IPC initialize failed, MetaTrader 5 x64 not found")


def test_m27_login_switches_the_account(module_broker: PaperBroker) -> None:
    assert mt5.login(LOGIN + 1, PASSWORD)
    assert mt5.account_info().login == LOGIN + 1
    assert mt5.login(LOGIN + 1, password="wrong") is False
    assert mt5.last_error() == (-6, "Terminal: Authorization failed")
    assert mt5.account_info().login == LOGIN + 1  # the pipe stays open


def test_m28_an_investor_reads_and_may_not_trade(module_broker: PaperBroker) -> None:
    module_broker.account(LOGIN + 2, "lab", investor="looking-only")
    assert mt5.login(LOGIN + 2, password="looking-only")
    assert mt5.account_info().trade_allowed is False
    assert mt5.order_send(deal()).retcode == 10017


def test_m29_a_terminal_that_dies_is_lost_until_initialize(module_broker: PaperBroker) -> None:
    assert module_broker.oracle.call("drop_connections", LOGIN) == 1
    assert mt5.positions_get() is None
    assert mt5.last_error()[0] in (-10001, -10002)
    assert mt5.positions_get() is None
    assert mt5.last_error() == (-10004, "No IPC connection")
    assert mt5.initialize(module_broker.url, login=LOGIN, password=PASSWORD)
    assert mt5.positions_get() is not None


def test_m30_an_answer_that_comes_twice_is_noticed(module_broker: PaperBroker) -> None:
    module_broker.fault("double_answer", method="account_info", at=1)
    assert mt5.account_info() is not None
    assert mt5.terminal_info() is None
    assert mt5.last_error() == (-10000, "IPC call failed")
    assert mt5.terminal_info() is not None


def test_m31_a_bare_initialize_finds_what_the_terminal_is_logged_in_to(module_broker: PaperBroker) -> None:
    assert mt5.initialize(module_broker.url)
    assert mt5.account_info().login == LOGIN


def test_m32_buy_sell_and_close_work_as_the_packages_own() -> None:
    assert mt5.Close("GBPUSD") is False
    result = mt5.Buy("GBPUSD", 0.1)
    assert result.retcode == 10009
    assert mt5.Sell("GBPUSD", 0.1, 1.0).retcode == 10009
    assert mt5.Close("GBPUSD", ticket=0) is False  # no such position; it does not mean all of them
    assert mt5.Close("GBPUSD", ticket=result.order) is True
    assert mt5.Close("GBPUSD") is True
    with pytest.raises(AttributeError):
        mt5.Buy("FAKE", 0.1)


def test_m33_depth_needs_to_be_asked_for_and_comes_by_descending_price() -> None:
    assert mt5.market_book_get("EURUSD.thin") is None or mt5.market_book_release("EURUSD.thin")
    assert mt5.market_book_add("EURUSD.thin") is True
    rows = mt5.market_book_get("EURUSD.thin")
    assert [row.type for row in rows] == [1] * 5 + [2] * 5
    prices = [row.price for row in rows]
    assert prices == sorted(prices, reverse=True)
    assert type(rows[0].volume) is int
    assert mt5.market_book_release("EURUSD.thin") is True
    assert mt5.market_book_add("FAKE") is False
    assert mt5.last_error() == OK


def test_m34_market_watch_keeps_what_is_in_use() -> None:
    assert mt5.symbol_select("XAUUSD", False) is True
    assert mt5.symbol_info("XAUUSD").visible is False
    assert mt5.symbol_info_tick("XAUUSD") is None
    assert mt5.last_error() == (-4, "Terminal: Not found")
    assert mt5.order_check(deal(symbol="XAUUSD")).retcode == 10021
    assert mt5.symbol_select("XAUUSD") is True
    assert mt5.order_send(deal(symbol="EURUSD")).retcode == 10009
    assert mt5.symbol_select("EURUSD", False) is False
    assert mt5.symbols_total() == len(mt5.symbols_get())
