"""`opened_by` names an open that the journal does not know: it is lost, on another host, or has forgotten it. What is there is
found by the numbers that its requests must have at the broker; what cannot be known is said, and nothing is called done."""

from decimal import Decimal
from typing import Any

import pytest

from executors.errors import Code
from executors.messages import ExecutionReport
from executors.orders import OrderState
from tests.simulated import Fault, make, make_open
from tests.simulated_changes import working
from tests.simulated_store import Machine

S = OrderState
WISHES: dict[str, dict[str, Any]] = {
    "close": {},
    "modify": {"stop_loss": "1.05"},
    "protect": {"trailing": {"distance": "0.02"}},
}


def said(machine: Machine, action: str, **fields: Any) -> ExecutionReport:
    name = machine.send(make(9, action, **fields))
    return [report for report in machine.reports if report.order_id == name][-1]


def forget(machine: Machine) -> None:
    machine.clock.advance(60_000)
    machine.lose_journal()
    machine.start()
    machine.link()
    machine.turn()
    machine.until(lambda: not machine.execution.hold)


@pytest.mark.parametrize("action", WISHES)
@pytest.mark.parametrize("by", ["magic", "comment"])
def test_its_position_is_found(machine: Machine, action: str, by: str) -> None:
    machine.send(make_open(2))
    machine.venue.script.append(Fault(drops_magic=by == "comment"))
    machine.send(make_open(1))
    other, mine = (item.ticket for item in machine.venue.held())
    forget(machine)
    report = said(machine, action, opened_by=1, **WISHES[action])
    assert report.state is (S.FILLED if action == "close" else S.DONE)
    left = {item.ticket: item.sl for item in machine.venue.held()}
    if action == "close":
        assert left == {other: 0}
    elif action == "modify":
        assert left == {other: 0, mine: Decimal("1.05")}
    else:
        assert machine.execution.guard.of(mine) is not None
        assert machine.execution.guard.of(other) is None


def test_its_pending_order_is_found(machine: Machine) -> None:
    for number in (1, 2):
        machine.send(make_open(number, order_type="limit", price="1.09"))
    kept = working(machine.venue)[1].ticket
    forget(machine)
    assert said(machine, "cancel", opened_by=1).state is S.DONE
    assert [item.ticket for item in working(machine.venue)] == [kept]


@pytest.mark.parametrize("number", [1, 2])
def test_its_share_of_a_netting_position_is_not_known_and_not_guessed(machine: Machine, number: int) -> None:
    machine.venue.margin_mode = 0
    for one in (1, 2):
        machine.send(make_open(one))
    forget(machine)
    sends = len(machine.venue.sends)
    report = said(machine, "close", opened_by=number)
    assert (report.state, report.code) == (S.DENIED, Code.LOTS_NOT_KNOWN)
    assert "journal" in report.message
    assert len(machine.venue.sends) == sends


@pytest.mark.parametrize("netting", [False, True])
def test_of_an_open_that_was_never_here_nothing_is_there(machine: Machine, *, netting: bool) -> None:
    machine.venue.margin_mode = 0 if netting else 2
    machine.send(make_open(1))
    forget(machine)
    report = said(machine, "close", opened_by=7)
    assert (report.state, report.message) == (S.DONE, "There was no position to close.")
    assert len(machine.venue.held()) == 1
