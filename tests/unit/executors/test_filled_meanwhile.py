"""A pending order is filled while the answer to a modify of it is missing: the position gets the stop loss that was wished,
once, by a request of its own; or an operator is told."""

from decimal import Decimal
from typing import Any

import pytest

from executors.errors import Code
from executors.messages import ExecutionReport
from executors.orders import OrderState, Outcome
from tests.simulated import LOST_AFTER, LOST_BEFORE, REJECT, Fault, make, make_config, make_open
from tests.simulated_changes import end, trigger
from tests.simulated_store import Machine

S = OrderState
SLTP, MODIFY = 6, 7
LEVELS: dict[str, Any] = {"stop_loss": "1.05", "take_profit": "1.5"}


def pending(machine: Machine, *, netting: bool = False, **more: Any) -> int:
    """A pending order at rest: its ticket."""
    machine.venue.margin_mode = 0 if netting else 2
    opened = machine.send(make_open(1, order_type="limit", price="1.09", stop_loss="1.01", **more))
    machine.until(lambda: opened in machine.execution.resting)
    return machine.execution.resting[opened][0]


def modified(machine: Machine, ticket: int, fault: Fault, by: str = "order_ticket", **levels: Any) -> str:
    """Its answer is lost, and the order is filled before anybody looks."""
    machine.venue.script.append(fault)
    machine.due_look = float("inf")
    which: dict[str, Any] = {"order_ticket": ticket, "opened_by": 1, "symbol": "EURUSD"}
    name = machine.send(make(9, "modify", **{by: which[by]}, **levels))
    assert machine.states(name)[-1] == "UNKNOWN"
    trigger(machine.venue, ticket)
    return name


def settled(machine: Machine, name: str) -> ExecutionReport:
    machine.due_look = 0.0
    machine.until(lambda: name not in machine.execution.open)
    return [report for report in machine.reports if report.order_id == name][-1]


def asked(machine: Machine, name: str) -> list[tuple[int | None, Outcome]]:
    return [(item.request.get("action"), item.outcome) for item in machine.row(name).requests]


def levels_of(machine: Machine, ticket: int) -> tuple[Decimal, Decimal]:
    held = machine.venue.position(ticket)
    assert held is not None
    return held.sl, held.tp


@pytest.mark.parametrize("by", ["order_ticket", "opened_by", "symbol"])
@pytest.mark.parametrize("netting", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
def test_the_position_gets_it(machine: Machine, by: str, *, netting: bool, restarts: bool) -> None:
    ticket = pending(machine, netting=netting)
    name = modified(machine, ticket, LOST_BEFORE, by, **LEVELS)
    if restarts:
        machine.crash()
        machine.start()
        machine.link()
    assert settled(machine, name).state is S.DONE
    assert levels_of(machine, ticket) == (Decimal("1.05"), Decimal("1.5"))
    assert asked(machine, name) == [(MODIFY, Outcome.REFUSED), (SLTP, Outcome.DONE)]
    assert len({item.magic for item in machine.row(name).requests}) == 2
    assert machine.alarms == []


def test_what_it_does_not_name_stays(machine: Machine) -> None:
    ticket = pending(machine)
    name = modified(machine, ticket, LOST_BEFORE, take_profit="1.5")
    assert settled(machine, name).state is S.DONE
    assert levels_of(machine, ticket) == (Decimal("1.01"), Decimal("1.5"))


def test_what_the_order_had_when_it_was_filled_is_done_and_not_asked_again(machine: Machine) -> None:
    ticket = pending(machine)
    name = modified(machine, ticket, LOST_AFTER, **LEVELS)
    assert settled(machine, name).state is S.DONE
    assert levels_of(machine, ticket) == (Decimal("1.05"), Decimal("1.5"))
    assert asked(machine, name) == [(MODIFY, Outcome.DONE)]


def test_levels_that_were_changed_since_are_newer(machine: Machine) -> None:
    ticket = pending(machine)
    name = modified(machine, ticket, LOST_BEFORE, **LEVELS)
    later = machine.send(make(10, "modify", position_ticket=ticket, stop_loss="1.07"))
    assert machine.states(later)[-1] == "DONE"
    report = settled(machine, name)
    assert (report.state, report.code) == (S.REJECTED, Code.OVERTAKEN)
    assert levels_of(machine, ticket) == (Decimal("1.07"), Decimal(0))
    assert ["look at the position" in text for text in machine.alarms] == [True]


def test_levels_that_came_with_an_entry_are_told(machine: Machine) -> None:
    ticket = pending(machine)
    name = modified(machine, ticket, LOST_BEFORE, price="1.08", stop_loss="1.05")
    report = settled(machine, name)
    assert (report.state, report.code) == (S.REJECTED, Code.OVERTAKEN)
    assert f"not given to position {ticket}" in report.message
    assert levels_of(machine, ticket)[0] == Decimal("1.01")
    assert len(machine.alarms) == 1


def test_what_the_broker_refuses_is_told(machine: Machine) -> None:
    ticket = pending(machine)
    name = modified(machine, ticket, LOST_BEFORE, **LEVELS)
    machine.venue.script.append(REJECT)
    report = settled(machine, name)
    assert (report.state, report.code) == (S.REJECTED, Code.BROKER_REFUSED)
    assert len(machine.alarms) == 1


def test_of_a_position_that_was_closed_since_nobody_needs_to_hear(machine: Machine) -> None:
    ticket = pending(machine)
    name = modified(machine, ticket, LOST_BEFORE, **LEVELS)
    machine.venue.stop_out(ticket)
    assert settled(machine, name).state is S.REJECTED
    assert machine.alarms == []


@pytest.mark.parametrize("state", [2, 6])
def test_an_order_that_ended_without_a_fill_has_no_position(machine: Machine, state: int) -> None:
    ticket = pending(machine)
    machine.venue.script.append(LOST_BEFORE)
    machine.due_look = float("inf")
    name = machine.send(make(9, "modify", order_ticket=ticket, **LEVELS))
    end(machine.venue, ticket, state)
    assert settled(machine, name).state is S.REJECTED
    assert asked(machine, name) == [(MODIFY, Outcome.REFUSED)]
    assert machine.alarms == []


def test_an_answer_that_it_is_gone_is_followed_even_by_who_tries_but_once(
    tmp_path: Any, settings: Any
) -> None:
    settings.INSTALLATION_ID = "tests"
    machine = Machine(tmp_path, config=make_config().model_copy(update={"max_attempts": 1}))
    machine.link()
    machine.turn()
    ticket = pending(machine)
    machine.venue.before_send = lambda _request: trigger(machine.venue, ticket)
    name = machine.send(make(9, "modify", order_ticket=ticket, **LEVELS))
    assert settled(machine, name).state is S.DONE
    assert levels_of(machine, ticket) == (Decimal("1.05"), Decimal("1.5"))
    assert asked(machine, name) == [(MODIFY, Outcome.REFUSED), (SLTP, Outcome.DONE)]
