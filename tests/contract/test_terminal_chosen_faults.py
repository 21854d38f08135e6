"""Standing faults struck by chosen calls, crashes on command, and faults that mean a symbol; numbered.

Every kind at a chosen call, at a rate or for a time, as the paper module shows it.
"""

import time
from typing import Any

import pytest

from executors.terminals import paper as mt5
from executors.terminals.paper.broker.faults import AT_LOGIN, OF_A_CALL, OF_AN_ORDER, STANDING
from executors.terminals.paper.link import LinkError
from tests.contract.desk import BASE, DONE, FAR, Desk
from tests.contract.ways import only_over
from tests.paper import PASSWORD
from tests.waiting import wait_until

REFUSALS = {"algo_off": 10027, "expert_off": 10026, "trade_disabled": 10017, "market_closed": 10018,
            "no_connection": 10031}  # fmt: skip
LOST, NO_PIPE, STUCK = (-10002, "IPC recv failed"), (-10004, "No IPC connection"), (-10001, "IPC send failed")


def codes(desk: Desk, count: int, **more: Any) -> list[int]:
    return [desk.deal(0, 0.01, **more).retcode for _ in range(count)]


def logs_in(desk: Desk, timeout: int = 100) -> bool:
    return bool(mt5.initialize(desk.broker.url, login=Desk.last_login, password=PASSWORD, timeout=timeout))


@pytest.mark.parametrize("kind", REFUSALS)
def test_f40_a_standing_fault_at_a_chosen_order_at_a_rate_and_so_often(desk: Desk, kind: str) -> None:
    code, fault = REFUSALS[kind], desk.broker.fault
    fault(kind, at=3)
    assert codes(desk, 5) == [DONE, DONE, code, DONE, DONE]
    fault(kind, times=2)
    assert codes(desk, 4) == [code, code, DONE, DONE]
    desk.broker.oracle.call("fault_seed", 11)
    share = fault(kind, rate=0.4)
    first = codes(desk, 20)
    assert {DONE, code} == set(first)
    desk.broker.oracle.call("fault_clear", share)
    desk.broker.oracle.call("fault_seed", 11)
    fault(kind, rate=0.4)
    assert codes(desk, 20) == first


@pytest.mark.parametrize("kind", REFUSALS)
def test_f41_a_standing_fault_may_begin_at_a_chosen_order_and_last(desk: Desk, kind: str) -> None:
    desk.broker.fault(kind, at=2, lasts_ms=250)
    assert codes(desk, 3) == [DONE, REFUSALS[kind], REFUSALS[kind]]
    wait_until(lambda: desk.deal(0, 0.01).retcode == DONE)


def test_f42_the_python_api_switched_off_at_a_chosen_order(desk: Desk) -> None:
    desk.broker.fault("api_off", at=2)
    assert mt5.order_send(BASE).retcode == DONE
    assert mt5.order_send(BASE) is None
    assert mt5.last_error() == (-8, "Auto-Trading using Python API disabled in Terminal")
    assert mt5.order_send(BASE).retcode == DONE


def test_f43_order_check_sees_the_switches_too(desk: Desk) -> None:
    """It has no words of its own for the API's; the market's hours it does not see."""
    assert mt5.order_check(BASE).retcode == 0
    desk.broker.fault("api_off")
    assert mt5.terminal_info().tradeapi_disabled is True
    assert mt5.order_check(BASE) is None
    assert mt5.last_error() == (-8, "Terminal: Call failed")
    desk.broker.oracle.clear_faults()
    for kind, code in REFUSALS.items():
        desk.broker.fault(kind, method="order_check", times=1)
        assert mt5.order_check(BASE).retcode == (0 if kind == "market_closed" else code)
        assert mt5.order_check(BASE).retcode == 0
        desk.broker.oracle.clear_faults()


def test_f44_an_outage_begins_at_a_chosen_order(desk: Desk) -> None:
    desk.broker.fault("outage", at=2, lasts_ms=300)
    assert mt5.order_send(BASE).retcode == DONE
    assert mt5.order_send(BASE) is None
    assert mt5.last_error() == LOST
    assert logs_in(desk) is False
    wait_until(lambda: logs_in(desk))
    assert mt5.positions_total() == 1


@pytest.mark.parametrize("kind", ["auth_fail", "version_mismatch", "login_timeout", "relogin_timeout"])
def test_f45_a_login_fails_at_a_chosen_try(desk: Desk, kind: str) -> None:
    desk.broker.fault(kind, login=Desk.last_login, at=2)
    assert [logs_in(desk) for _ in range(4)] == [True, False, True, True]
    desk.broker.fault(kind, login=Desk.last_login, times=2)
    assert [logs_in(desk) for _ in range(3)] == [False, False, True]


def test_f46_a_terminal_attached_wrongly_at_a_chosen_try_stays_so(desk: Desk) -> None:
    desk.broker.fault("cross_wired", at=1)
    assert logs_in(desk)
    assert "Another" in mt5.terminal_info().path
    assert "Another" in mt5.terminal_info().path
    assert logs_in(desk)
    assert "Another" not in mt5.terminal_info().path


def test_f47_a_pipe_is_busy_from_a_chosen_try_on(desk: Desk) -> None:
    desk.broker.fault("pipe_busy", at=2, lasts_ms=400)
    assert logs_in(desk)
    began = time.monotonic()
    assert logs_in(desk)
    assert time.monotonic() - began > 0.35


@only_over("paper", "remote", why="mt5linux's client takes dates as datetimes alone")
def test_f48_what_a_chosen_order_made_is_told_of_late(desk: Desk) -> None:
    """Also by the functions that count."""
    desk.broker.fault("position_lag", at=2, value=1_000)
    desk.broker.fault("history_lag", at=2, value=1_000)
    first, second = desk.deal(0).order, desk.deal(0).order
    assert [item.ticket for item in mt5.positions_get()] == [first]
    assert mt5.positions_total() == mt5.history_orders_total(0, FAR) == 1
    assert len(desk.trades()) == 1
    deals = mt5.history_deals_total(0, FAR)
    assert mt5.history_deals_get(ticket=second) == mt5.history_orders_get(ticket=second) == ()
    wait_until(lambda: mt5.positions_total() == 2)
    wait_until(lambda: mt5.history_orders_total(0, FAR) == 2)
    assert mt5.history_deals_total(0, FAR) == deals + 1
    desk.broker.fault("position_lag", value=60_000)
    assert mt5.positions_total() == len(mt5.positions_get()) == 0


@pytest.mark.parametrize(("kind", "executed"), [("crash", 0), ("crash_after", 1), ("stuck", 0)])
def test_f49_a_terminal_crashes_at_a_chosen_order_and_starts_again(
    desk: Desk, kind: str, executed: int
) -> None:
    """initialize starts it and waits, whatever its timeout; other calls fail as with a broken pipe, or a stuck one."""
    desk.broker.fault(kind, login=Desk.last_login, at=2, value=400)
    assert mt5.order_send(BASE).retcode == DONE
    assert mt5.order_send(BASE) is None
    assert mt5.last_error() == (STUCK if kind == "stuck" else LOST)
    assert mt5.account_info() is None
    assert mt5.last_error() == (STUCK if kind == "stuck" else NO_PIPE)
    began = time.monotonic()
    assert logs_in(desk)
    assert time.monotonic() - began > 0.3
    assert mt5.positions_total() == 1 + executed
    assert mt5.order_send(BASE).retcode == DONE
    desk.broker.check(magics_unique=False)


def test_f50_crashes_at_a_seeded_rate(desk: Desk) -> None:
    def run() -> list[bool]:
        desk.open()
        desk.broker.oracle.call("fault_seed", 5)
        fault = desk.broker.fault("crash_after", login=Desk.last_login, rate=0.3, value=0)
        answered = []
        for _ in range(12):
            answered.append(mt5.order_send({**BASE, "volume": 0.01}) is not None)
            assert answered[-1] or logs_in(desk)
        desk.broker.oracle.call("fault_clear", fault)
        assert mt5.positions_total() == 12  # an answer was lost, an order never
        return answered

    first = run()
    assert set(first) == {True, False}
    assert run() == first


def test_f51_a_terminal_may_crash_at_any_call_and_again_for_a_time(desk: Desk) -> None:
    desk.broker.fault("crash", method="positions", for_ms=300, value=10)
    assert mt5.order_send(BASE).retcode == DONE
    assert mt5.positions_get() is None
    assert logs_in(desk)
    assert mt5.positions_get() is None

    def over() -> bool:
        return logs_in(desk) and mt5.positions_get() is not None

    wait_until(over)


def test_f52_a_symbols_fault_strikes_requests_that_name_only_a_ticket(desk: Desk) -> None:
    """SLTP, a close, MODIFY, REMOVE and CLOSE_BY; another symbol's are not meant."""
    fault = desk.broker.fault
    ours = [desk.deal(0).order, desk.deal(1).order]
    other = desk.deal(0, symbol="GBPUSD").order
    order, others = desk.pending(2, 1.05).order, desk.pending(2, 1.2, symbol="GBPUSD").order
    requests = [
        {"action": 6, "position": ours[0], "sl": 1.0},
        {"action": 1, "position": ours[0], "volume": 0.05, "type": 1, "type_filling": 1},
        {"action": 7, "order": order, "price": 1.06},
        {"action": 10, "position": ours[0], "position_by": ours[1]},
        {"action": 8, "order": order},
    ]
    stop = 1.0
    for request in requests:
        fault("reject", symbol="EURUSD", times=1)
        assert desk.send(action=7, order=others, price=1.2 + 0.0001 * request["action"]).retcode == DONE
        assert desk.send(**request).retcode == 10006
        for kind, code in REFUSALS.items():
            if (kind, request["action"]) == ("market_closed", 8):
                continue  # orders may be removed at any time
            fault(kind, symbol="EURUSD")
            assert desk.send(**request).retcode == code, (kind, request)
            stop += 0.001
            assert desk.send(action=6, position=other, sl=round(stop, 3)).retcode == DONE
            desk.broker.oracle.clear_faults()
        assert desk.send(**request).retcode == DONE  # nothing else was in its way


def test_f53_a_symbols_fault_strikes_other_calls_about_it(desk: Desk) -> None:
    desk.broker.fault("error", method="symbol_tick", symbol="EURUSD", times=1)
    assert mt5.symbol_info_tick("GBPUSD") is not None
    assert mt5.symbol_info_tick("EURUSD") is None
    assert mt5.symbol_info_tick("EURUSD") is not None
    desk.deal(0)
    desk.deal(0, symbol="GBPUSD")
    desk.broker.fault("position_lag", symbol="EURUSD", value=60_000)
    assert [item.symbol for item in mt5.positions_get()] == ["GBPUSD"]
    assert mt5.positions_total() == 1


def test_f56_a_closed_market_lets_orders_be_removed(desk: Desk) -> None:
    order = desk.pending(2, 1.05).order
    desk.broker.fault("market_closed")
    assert desk.send(action=7, order=order, price=1.06).retcode == 10018
    assert desk.send(action=8, order=order).retcode == DONE


@pytest.mark.parametrize("kind", sorted({*OF_A_CALL, *STANDING}))
def test_f54_every_kind_takes_a_chosen_call_a_rate_and_a_time_or_says_why_not(desk: Desk, kind: str) -> None:
    fault, oracle = desk.broker.fault, desk.broker.oracle
    lasts = {"lasts_ms": 10} if kind == "pipe_busy" else {}
    if kind == "wide_spread":
        settings: tuple[dict[str, Any], ...] = ({"at": 3}, {"rate": 0.5}, {"times": 2})
        for more in settings:
            with pytest.raises(LinkError, match="a matter of the market"):
                fault(kind, **more)
    else:
        at_calls: list[dict[str, Any]] = [{"at": 3}, {"rate": 0.5}, {"times": 2}]
        if kind in OF_AN_ORDER:
            with pytest.raises(LinkError, match="a matter of order_send"):
                fault(kind, method="initialize")
        else:
            at_calls.append({"method": "initialize"})
        for more in at_calls:
            assert fault(kind, **more, **lasts) > 0
        counts = {item["method"] for item in oracle.call("fault_list")} - {"initialize"}
        assert counts == (set() if kind in AT_LOGIN else {"order_send"})
    assert fault(kind, for_ms=1) > 0
    oracle.clear_faults()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"kind": "reject", "method": "order_sent"}, "there is no call 'order_sent'"),
        ({"kind": "pipe_busy", "at": 1}, "needs lasts_ms"),
        ({"kind": "auth_fail", "method": "order_send"}, "needs lasts_ms"),
        ({"kind": "auth_fail", "symbol": "EURUSD"}, "leave symbol away"),
        ({"kind": "algo_off", "lasts_ms": 5}, "else take for_ms"),
        ({"kind": "reject", "at": 1, "lasts_ms": 5}, "else take for_ms"),
        ({"kind": "algo_off", "rate": 1.5}, "a share from 0 to 1"),
        ({"kind": "algo_off", "lasts_ms": -5, "at": 1}, "are 0 or more"),
        ({"kind": "algo_off", "for_ms": -5}, "are 0 or more"),
        ({"kind": "partial", "value": 5}, "share that is filled"),
        ({"kind": "partial", "value": 1}, "share that is filled"),
        ({"kind": "error", "value": 0}, "below 0"),
        ({"kind": "reject", "value": 0}, "a return code"),
        ({"kind": "hang", "value": -1}, "0 or more"),
        ({"kind": "requote", "method": "positions"}, "a matter of order_send"),
    ],
)
def test_f55_settings_that_could_never_act_are_refused(desk: Desk, spec: dict[str, Any], says: str) -> None:
    with pytest.raises(LinkError, match=says):
        desk.broker.fault(**spec)
    assert desk.broker.oracle.call("fault_list") == []
