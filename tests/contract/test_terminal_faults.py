"""Faults on command, numbered, as the paper module shows them: at a chosen order, at a rate, for a time."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from executors.terminals import paper as mt5
from tests.contract.desk import BASE, DONE, PARTLY, Desk
from tests.paper import PASSWORD
from tests.waiting import wait_until

FAULTS: dict[str, tuple[str, dict[str, Any], Callable[[Any], bool], int]] = {
    # name: kind, settings, what the result must be, positions afterwards
    "f01 rejection": ("reject", {}, lambda r: r.retcode == 10006, 0),
    "f02 requote": ("requote", {}, lambda r: r.retcode == 10004 and r.bid > 0, 0),
    "f03 price off": ("price_off", {}, lambda r: r.retcode == 10021, 0),
    "f04 partial fill": ("partial", {"value": 0.4}, lambda r: (r.retcode, r.volume) == (PARTLY, 0.04), 1),
    "f05 slippage": ("slippage", {"value": 25}, lambda r: r.price == 1.10035, 1),
    "f06 no deal told": (
        "blank",
        {},
        lambda r: (r.retcode, r.deal, r.price, r.volume) == (DONE, 0, 0.0, 0.0),
        1,
    ),
    "f07 placed only": ("placed", {}, lambda r: (r.retcode, r.deal) == (10008, 0), 1),
    "f08 ambiguous": ("ambiguous", {}, lambda r: (r.retcode, r.order) == (10012, 0), 1),
    "f09 answer lost": ("lose_answer", {}, lambda r: r is None, 1),
    "f10 question lost": ("lose_question", {}, lambda r: r is None, 0),
    "f11 pipe timeout": ("timeout", {}, lambda r: r is None, 0),
    "f12 call failed": ("error", {}, lambda r: r is None, 0),
    "f13 late fill": (
        "late_fill",
        {"value": 300},
        lambda r: (r.retcode, r.deal, r.volume) == (DONE, 0, 0.0),
        0,
    ),
    "f14 slow": ("delay", {"value": 30}, lambda r: r.retcode == DONE, 1),
    "f15 hang, nothing done": ("hang", {"value": 0.05}, lambda r: r is None, 0),
    "f16 hang after it was done": ("hang_after", {"value": 0.05}, lambda r: r is None, 1),
}
ERRORS = {"f09 answer lost": -10002, "f10 question lost": -10002, "f11 pipe timeout": -10005, "f12 call failed": -1,
          "f15 hang, nothing done": -10005, "f16 hang after it was done": -10005}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_f01_to_f16_a_fault_at_a_chosen_order(desk: Desk, name: str) -> None:
    kind, settings, fits, positions = FAULTS[name]
    desk.deal(0, symbol="GBPUSD")
    desk.broker.fault(kind, login=Desk.last_login, at=2, **settings)
    assert desk.deal(0, symbol="GBPUSD").retcode == DONE  # the first is not meant
    result = mt5.order_send(BASE)
    error = mt5.last_error()
    assert fits(result), result
    assert error[0] == ERRORS.get(name, 1)
    assert mt5.initialize(desk.broker.url, login=Desk.last_login, password=PASSWORD)
    assert len(mt5.positions_get(symbol="EURUSD")) == positions
    assert mt5.order_send(BASE).retcode == DONE  # and only that one
    desk.broker.check(magics_unique=False)


def test_f20_a_late_fill_comes_and_a_second_close_meanwhile_is_refused(desk: Desk) -> None:
    ticket = desk.deal(0).order
    desk.broker.fault("late_fill", value=400, at=1)
    assert desk.deal(1, position=ticket).retcode == DONE
    assert mt5.positions_total() == 1
    assert mt5.orders_total() == 1
    assert desk.deal(1, position=ticket).retcode == 10039
    wait_until(lambda: not mt5.positions_total())
    assert mt5.orders_total() == 0


def test_f21_history_and_positions_may_lag(desk: Desk) -> None:
    desk.broker.fault("history_lag", value=60_000)
    desk.broker.fault("position_lag", value=60_000)
    order = desk.deal(0).order
    assert mt5.positions_get() == ()
    assert mt5.history_deals_get(ticket=order) == ()
    assert mt5.history_orders_get(ticket=order) == ()
    desk.broker.oracle.clear_faults()
    assert len(mt5.positions_get()) == len(mt5.history_deals_get(ticket=order)) == 1


def test_f22_a_rate_is_seeded(desk: Desk) -> None:
    def run() -> list[int]:
        desk.open()
        desk.broker.oracle.call("fault_seed", 7)
        fault = desk.broker.fault("reject", login=Desk.last_login, rate=0.3)
        codes = [desk.deal(0, 0.01).retcode for _ in range(40)]
        desk.broker.oracle.call("fault_clear", fault)
        return codes

    first = run()
    assert 4 <= first.count(10006) <= 20
    assert run() == first


def test_f23_a_fault_may_stand_for_a_time(desk: Desk) -> None:
    desk.broker.fault("reject", for_ms=150)
    assert desk.deal(0).retcode == 10006
    wait_until(lambda: desk.deal(0).retcode == DONE)


def test_f24_what_is_named_may_be_gone_when_the_request_arrives(desk: Desk) -> None:
    order = desk.pending(2, 1.09).order
    desk.broker.fault("race_fill", at=1)
    assert desk.send(action=8, order=order).retcode == 10023
    (position,) = mt5.positions_get()
    assert position.ticket == order
    desk.broker.fault("race_fill", at=1)
    assert desk.send(action=6, position=order, sl=1.0).retcode == 10036
    assert mt5.positions_total() == 0


def test_f25_logins_fail_on_command(desk: Desk) -> None:
    for kind, code, timeout in (
        ("auth_fail", -6, 20_000),
        ("login_timeout", -10005, 150),
        ("version_mismatch", -5, 20_000),
    ):
        desk.broker.fault(kind)
        assert (
            mt5.initialize(desk.broker.url, login=Desk.last_login, password=PASSWORD, timeout=timeout)
            is False
        )
        assert mt5.last_error()[0] == code
        desk.broker.oracle.clear_faults()
    assert mt5.initialize(desk.broker.url, login=Desk.last_login, password=PASSWORD)


def test_f26_an_outage_cuts_every_terminal(desk: Desk) -> None:
    desk.broker.fault("outage")
    assert mt5.account_info() is None
    assert mt5.last_error()[0] in (-10001, -10002)
    assert mt5.initialize(desk.broker.url, login=Desk.last_login, password=PASSWORD) is False
    desk.broker.oracle.clear_faults()
    assert mt5.initialize(desk.broker.url, login=Desk.last_login, password=PASSWORD)


def test_f27_a_terminal_without_its_server_still_answers_from_its_cache(desk: Desk) -> None:
    desk.broker.fault("no_connection")
    assert mt5.terminal_info().connected is False
    assert mt5.account_info().trade_allowed is False
    assert mt5.account_info().balance == 10_000.0


def test_f28_a_login_that_nobody_answers_takes_the_clients_timeout(desk: Desk) -> None:
    """Unless the trade server answers within it."""
    desk.broker.fault("login_timeout")
    started = time.monotonic()
    assert mt5.initialize(desk.broker.url, login=Desk.last_login, password=PASSWORD, timeout=400) is False
    assert time.monotonic() - started > 0.35
    assert mt5.last_error() == (-10005, "IPC timeout")
    desk.broker.oracle.clear_faults()
    desk.broker.fault("login_timeout", for_ms=300)
    assert mt5.initialize(desk.broker.url, login=Desk.last_login, password=PASSWORD, timeout=20_000) is True


def test_f29_a_busy_pipe_keeps_initialize_waiting_whatever_its_timeout(desk: Desk) -> None:
    desk.broker.fault("pipe_busy", login=Desk.last_login)
    freed = threading.Event()

    def free() -> None:
        freed.set()
        desk.broker.oracle.clear_faults()

    timer = threading.Timer(0.6, free)
    timer.start()
    assert mt5.initialize(desk.broker.url, login=Desk.last_login, password=PASSWORD, timeout=400) is True
    assert freed.is_set()
    timer.join()


def test_f30_a_running_terminal_may_refuse_credentials_and_take_a_bare_attach(desk: Desk) -> None:
    desk.broker.fault("relogin_timeout", login=Desk.last_login)
    assert mt5.initialize(desk.broker.url, login=Desk.last_login, password=PASSWORD, timeout=50) is False
    assert mt5.last_error() == (-10005, "IPC timeout")
    assert mt5.initialize(desk.broker.url) is True
    assert mt5.account_info().login == Desk.last_login


def test_f31_a_terminal_may_die_without_breaking_its_pipe(desk: Desk) -> None:
    desk.broker.oracle.call("drop_connections", Desk.last_login, "stuck")
    for _ in range(3):
        assert mt5.order_send(BASE) is None
        assert mt5.last_error() == (-10001, "IPC send failed")
    assert mt5.initialize(desk.broker.url, login=Desk.last_login, password=PASSWORD) is True
    assert mt5.order_send(BASE).retcode == DONE


def test_f32_another_threads_call_may_overwrite_the_last_error(desk: Desk) -> None:
    desk.broker.fault("last_error_race", login=Desk.last_login, at=1)
    assert mt5.order_send(BASE) is None
    assert mt5.last_error() == (1, "Success")
    assert mt5.positions_total() == 1


def test_f33_spreads_widen_and_set_off_what_they_touch(desk: Desk) -> None:
    """As at rollover: the ask alone reaches a sell's stop."""
    desk.deal(1, sl=1.1005)
    desk.broker.fault("wide_spread", symbol="EURUSD", value=60)
    desk.price(1.10000, 1.10010)
    assert mt5.symbol_info_tick("EURUSD").ask == 1.1007
    assert mt5.positions_total() == 0
    assert desk.trades()[-1].comment == "[sl 1.10050]"
    desk.broker.oracle.clear_faults()
    desk.price(1.10000, 1.10010)
    assert mt5.symbol_info_tick("EURUSD").ask == 1.1001


def test_f34_a_failed_initialize_has_the_packages_own_words(desk: Desk) -> None:
    desk.broker.fault("error", method="initialize", value=-10003, at=1)
    assert mt5.initialize(desk.broker.url, login=Desk.last_login, password=PASSWORD) is False
    assert mt5.last_error() == (-10003, "IPC initialize failed, MetaTrader 5 x64 not found")
    assert mt5.initialize(desk.broker.url, login=Desk.last_login, password=PASSWORD) is True
