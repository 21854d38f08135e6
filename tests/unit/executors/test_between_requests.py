"""What is said between two requests of one order counts for the second as for a new order."""

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from executors.errors import Code
from executors.messages import ExecutionReport
from executors.orders import OrderState
from tests.simulated import HALF, REQUOTE, Fault, make, make_open
from tests.simulated_store import Machine

S = OrderState


def last(machine: Machine, name: str) -> ExecutionReport:
    return [report for report in machine.reports if report.order_id == name][-1]


def mode(word: str) -> Callable[[Machine], None]:
    return lambda machine: setattr(machine.execution, "mode", word)


def hold(machine: Machine) -> None:
    machine.execution.hold = "The journal was lost."


def skew(machine: Machine) -> None:
    machine.execution.skewed = "The clock is wrong."


def trip(machine: Machine) -> None:
    machine.execution.breaker.trip()


def lose(machine: Machine) -> None:
    machine.execution.breaker.unknown(3)


STOPS: dict[str, tuple[Callable[[Machine], None], Code]] = {
    "halted": (mode("HALTED"), Code.HALTED),
    "reducing": (mode("REDUCING"), Code.REDUCING),
    "skewed": (skew, Code.CLOCK_SKEW),
    "held": (hold, Code.HALTED),
    "tripped by rejections": (trip, Code.HALTED),
    "tripped by unknown outcomes": (lose, Code.HALTED),
}


def during_the_first(machine: Machine, said: Callable[[Machine], None]) -> None:
    def once(request: Any) -> None:
        machine.venue.before_send = lambda request: None
        said(machine)

    machine.venue.before_send = once


@pytest.mark.parametrize("why", STOPS)
@pytest.mark.parametrize("first", [REQUOTE, HALF])
def test_an_opens_second_request_is_stopped(machine: Machine, why: str, first: Fault) -> None:
    said, code = STOPS[why]
    machine.venue.script.append(first)
    during_the_first(machine, said)
    name = machine.send(make_open(1))
    assert len(machine.venue.sends) == 1
    filled = first is HALF
    assert (last(machine, name).state, last(machine, name).code) == (
        S.CANCELLED if filled else S.REJECTED,
        code,
    )
    assert last(machine, name).filled_lots == (Decimal("0.5") if filled else 0)


@pytest.mark.parametrize("why", [name for name in STOPS if name != "halted"])
def test_a_closes_second_request_is_not(machine: Machine, why: str) -> None:
    machine.send(make_open(1))
    machine.venue.script.append(REQUOTE)
    during_the_first(machine, STOPS[why][0])
    assert last(machine, machine.send(make(2, "close", all=True))).state is S.FILLED


def test_a_cancel_goes_on_when_the_terminal_is_halted(machine: Machine) -> None:
    for number in (1, 2):
        name = machine.send(make_open(number, order_type="limit", price="1.09"))
        machine.until(partial(machine.execution.resting.__contains__, name))
    during_the_first(machine, mode("HALTED"))
    name = machine.send(make(3, "cancel", all=True))
    assert last(machine, name).state is S.DONE
    assert len(machine.venue.sends) == 4
    machine.until(lambda: not machine.execution.open)


@pytest.mark.parametrize("why", ["reducing", "skewed"])
def test_a_frozen_change_may_not_raise_the_risk_when_the_terminal_reduces(machine: Machine, why: str) -> None:
    for number in (1, 2):
        machine.send(make_open(number, stop_loss="1.09"))
    during_the_first(machine, STOPS[why][0])
    name = machine.send(make(3, "modify", symbol="EURUSD", stop_loss="1.08"))
    assert last(machine, name).state is S.REJECTED
    assert "1 of 2" in last(machine, name).message
    assert sorted(item.sl for item in machine.venue.held()) == [Decimal("1.08"), Decimal("1.09")]
