"""The trade server's rules, numbered: what `order_check` and `order_send` refuse, and with which code."""

from typing import Any

import pytest

from executors.terminals import paper as mt5
from tests.contract.desk import BASE, PEND, Desk

REFUSALS: dict[str, tuple[dict[str, Any], int]] = {
    "r01 no action": ({}, 10013),
    "r02 unknown action": ({**BASE, "action": 2}, 10013),
    "r03 unknown symbol": ({**BASE, "symbol": "NONE"}, 10013),
    "r04 no symbol": ({**BASE, "symbol": ""}, 10013),
    "r05 unknown position": ({**BASE, "position": 1}, 10036),
    "r06 unknown order to modify": ({"action": 7, "order": 1, "price": 1.0}, 10013),
    "r07 unknown order to remove": ({"action": 8, "order": 1}, 10013),
    "r08 stop levels without a position": ({"action": 6, "symbol": "EURUSD", "sl": 1.0}, 10013),
    "r09 close-by of unknown positions": ({"action": 10, "position": 1, "position_by": 2}, 10036),
    "r10 disabled symbol": ({**BASE, "symbol": "EURUSD.off"}, 10017),
    "r11 close-only symbol": ({**BASE, "symbol": "EURUSD.close"}, 10044),
    "r12 long-only symbol": ({**BASE, "symbol": "EURUSD.long", "type": 1}, 10042),
    "r13 short-only symbol": ({**BASE, "symbol": "EURUSD.short"}, 10043),
    "r14 pending type in a deal": ({**BASE, "type": 2}, 10013),
    "r15 deal type in a pending": ({**PEND, "type": 0}, 10013),
    "r16 order type not allowed": ({**PEND, "symbol": "EURUSD.mkt"}, 10035),
    "r17 stop levels not allowed": ({**BASE, "symbol": "EURUSD.mkt", "sl": 1.0}, 10016),
    "r18 no volume": ({**BASE, "volume": 0.0}, 10014),
    "r19 volume below the minimum": ({**BASE, "volume": 0.001}, 10014),
    "r20 volume above the maximum": ({**BASE, "volume": 501.0}, 10014),
    "r21 volume off the step": ({**BASE, "symbol": "EURUSD.step", "volume": 0.15}, 10014),
    "r22 volume is not a number": ({**BASE, "volume": float("nan")}, 10014),
    "r23 filling not in the mask": ({**BASE, "symbol": "EURUSD.gtc", "type_filling": 0}, 10030),
    "r24 RETURN in market execution": ({**BASE, "type_filling": 2}, 10030),
    "r25 BOC for a market order": ({**BASE, "type_filling": 3}, 10030),
    "r26 filling is refused before stops": ({**BASE, "type_filling": 2, "sl": 2.0}, 10030),
    "r27 expiration kind not allowed": ({**PEND, "symbol": "EURUSD.gtc", "type_time": 1}, 10022),
    "r28 expiration in the past": ({**PEND, "type_time": 2, "expiration": 1000}, 10022),
    "r29 expiration missing": ({**PEND, "type_time": 2}, 10022),
    "r30 pending without a price": ({**PEND, "price": 0.0}, 10015),
    "r31 buy limit above the ask": ({**PEND, "price": 1.1002}, 10015),
    "r32 buy limit at the ask": ({**PEND, "price": 1.1001}, 10015),
    "r33 sell limit below the bid": ({**PEND, "type": 3, "price": 1.0999}, 10015),
    "r34 buy stop below the ask": ({**PEND, "type": 4, "price": 1.0999}, 10015),
    "r35 sell stop above the bid": ({**PEND, "type": 5, "price": 1.1002}, 10015),
    "r36 pending inside the stops level": ({**PEND, "symbol": "EURUSD.far", "price": 1.0999}, 10015),
    "r37 price off the grid": ({**PEND, "price": 1.0900049}, 10015),
    "r38 stop-limit without a limit": ({**PEND, "type": 6, "price": 1.11}, 10015),
    "r39 stop-limit above its trigger": ({**PEND, "type": 6, "price": 1.11, "stoplimit": 1.12}, 10015),
    "r40 stop-loss of a buy at the bid": ({**BASE, "sl": 1.1}, 10016),
    "r41 stop-loss of a buy above": ({**BASE, "sl": 1.2}, 10016),
    "r42 take-profit of a buy below": ({**BASE, "tp": 1.0}, 10016),
    "r43 stop-loss of a sell below": ({**BASE, "type": 1, "sl": 1.0}, 10016),
    "r44 stop-loss inside the stops level": ({**BASE, "symbol": "EURUSD.far", "sl": 1.0999}, 10016),
    "r45 stop-loss of a pending above its price": ({**PEND, "sl": 1.095}, 10016),
    "r46 stop-loss off the grid": ({**BASE, "sl": 1.0900049}, 10016),
    "r47 no stop levels with the opening deal": ({**BASE, "symbol": "EURUSD.plain", "sl": 1.0}, 10016),
    "r48 volume limit of the symbol": ({**PEND, "symbol": "EURUSD.step", "volume": 5.0, "price": 1.0}, 0),
    "r49 more than the account can carry": ({**BASE, "volume": 20.0}, 10019),
    "r50 no price in request execution": ({**BASE, "symbol": "EURUSD.ask"}, 10015),
    "r51 IOC that the mask lacks in instant execution": (
        {**BASE, "symbol": "EURUSD.ask", "price": 1.1001},
        0,
    ),
    "r52 close-by where it is not allowed": ({"action": 10}, 10036),
}


@pytest.mark.parametrize(("request_", "retcode"), REFUSALS.values(), ids=REFUSALS)
def test_r01_to_r52_checks_in_the_terminal(desk: Desk, request_: dict[str, Any], retcode: int) -> None:
    check = mt5.order_check(request_)
    assert check is not None, mt5.last_error()
    assert check.retcode == retcode
    if retcode:
        result = mt5.order_send(request_)
        assert (result.retcode, result.request_id, result.order, result.deal) == (retcode, 0, 0, 0)
        assert (result.volume, result.price, result.bid, result.ask) == (0.0, 0.0, 0.0, 0.0)


SWITCHES = {
    "r60 algo trading off": ("algo_off", 10027),
    "r61 by the server": ("expert_off", 10026),
    "r62 no link to the server": ("no_connection", 10031),
    "r63 trade disabled": ("trade_disabled", 10017),
}


@pytest.mark.parametrize(("fault", "retcode"), SWITCHES.values(), ids=SWITCHES)
def test_r60_to_r63_switches(desk: Desk, fault: str, retcode: int) -> None:
    desk.broker.fault(fault)
    assert mt5.order_check(BASE).retcode == retcode
    assert desk.send(**{**BASE, "symbol": "NONE"}).retcode == retcode  # before anything else is looked at


def test_r64_the_api_switch_gives_no_result(desk: Desk) -> None:
    desk.broker.fault("api_off")
    assert mt5.order_send(BASE) is None
    assert mt5.last_error() == (-8, "Auto-Trading using Python API disabled in Terminal")


def test_r65_a_closed_market_is_not_seen_by_a_check(desk: Desk) -> None:
    desk.broker.fault("market_closed")
    assert mt5.order_check(BASE).retcode == 0
    refused = desk.send(**BASE)
    assert (refused.retcode, refused.comment) == (10018, "Market closed")
    assert refused.request_id > 0
