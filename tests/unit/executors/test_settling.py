"""Settling by hand in the executor: what the journal takes, what it refuses, crashes in between, forced ones."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from executors.errors import Code
from executors.messages import ExecutionReport
from executors.orders import OrderState
from executors.settlement import Answer, Settlement
from executors.settling import Settling
from tests.simulated import LOST_AFTER, LOST_BEFORE, NO_DEAL, Fault, make_close, make_leg, make_open
from tests.simulated_store import Machine

ZERO = Decimal(0)


def wish(machine: Machine, name: str, **fields: Any) -> Settlement:
    row = machine.journal.get(name)
    values: dict[str, Any] = {
        "settlement_id": "settle-1",
        "order_id": name,
        "terminal_id": machine.config.terminal_id,
        "truth": "not_executed",
        "evidence": "The broker's statement.",
        "reason": "Its history is gone.",
        "by": "ann",
        "report_seq": row.report_seq if row else 0,
        "asked_ms": 1,
    }
    return Settlement.model_validate(values | fields)


def settle(machine: Machine, *wishes: Settlement, begun: bool = True) -> list[Answer]:
    answers: list[Answer] = []
    settling = Settling(
        machine.execution,
        machine.resolution,
        answer=lambda w, a: answers.append(a),
        alarm=machine.alarms.append,
    )
    settling.take(wishes)
    assert answers == []
    if begun:
        settling.begin()
    return answers


def last(machine: Machine, name: str) -> ExecutionReport:
    return [report for report in machine.reports if report.order_id == name][-1]


def unknown(machine: Machine, number: int = 1) -> str:
    machine.venue.script.append(LOST_BEFORE)
    name = machine.send(make_open(number))
    assert machine.states(name)[-1] == "UNKNOWN"
    return name


def test_an_unknown_order_is_settled_and_reported_once(machine: Machine) -> None:
    name = unknown(machine)
    said = wish(machine, name, truth="executed", filled_lots="0.5", price="1.1")
    (answer,) = settle(machine, said)
    assert answer.done
    report = last(machine, name)
    assert (report.state, report.filled_lots, report.price) == ("MANUAL", Decimal("0.5"), Decimal("1.1"))
    assert report.code == Code.SETTLED_BY_HAND
    assert "ann" in report.message
    assert "The broker's statement." in report.message
    (again,) = settle(machine, said)
    assert again.done
    assert machine.states(name).count("MANUAL") == 1
    machine.link()
    assert machine.store.now.orders[name].state == "MANUAL"
    machine.heal()
    assert machine.states(name)[-1] == "MANUAL"
    assert len(machine.venue.sends) == 1


def test_another_settlement_of_a_settled_order_is_refused(machine: Machine) -> None:
    name = unknown(machine)
    settle(machine, wish(machine, name))
    (answer,) = settle(machine, wish(machine, name, settlement_id="settle-2", truth="given_up"))
    assert not answer.done
    assert "MANUAL" in answer.message


def test_what_the_executor_resolved_meanwhile_stands(machine: Machine) -> None:
    machine.venue.script.append(LOST_AFTER)
    machine.venue.lag_ms = 3_000
    name = machine.send(make_open(1))
    said = wish(machine, name)
    machine.until(lambda: machine.states(name)[-1] == "FILLED")
    (answer,) = settle(machine, said)
    assert not answer.done
    assert "FILLED" in answer.message
    assert machine.states(name)[-1] == "FILLED"


def test_an_order_that_moved_on_is_to_be_looked_at_again(machine: Machine) -> None:
    name = unknown(machine)
    (answer,) = settle(machine, wish(machine, name, report_seq=1))
    assert not answer.done
    assert "moved on" in answer.message
    assert machine.states(name)[-1] == "UNKNOWN"


def test_a_placed_order_is_settled_with_no_fewer_lots_than_known(machine: Machine) -> None:
    machine.venue.script.append(Fault(Decimal("0.5"), working=True, reply=-10005))
    name = machine.send(make_open(1))
    assert machine.states(name)[-1] == "PARTIAL"
    (few,) = settle(machine, wish(machine, name))
    assert not few.done
    assert "0.5 lots are known" in few.message
    (many,) = settle(machine, wish(machine, name, truth="executed", filled_lots="1.5"))
    assert not many.done
    assert "Only 1 lots" in many.message
    (answer,) = settle(machine, wish(machine, name, truth="executed", filled_lots="1", price="1.2"))
    assert answer.done
    assert last(machine, name).filled_lots == 1


def test_a_placed_order_that_never_shows_is_settled(machine: Machine) -> None:
    machine.venue.deal_lag_ms = 1e9
    machine.venue.script.append(NO_DEAL)
    name = machine.send(make_open(1))
    assert machine.states(name)[-1] == "PLACED"
    (answer,) = settle(machine, wish(machine, name, truth="given_up"))
    assert answer.done


def test_a_close_that_waited_for_it_goes_on(machine: Machine) -> None:
    machine.venue.trade_by_hand()
    name = unknown(machine)
    close = machine.send(make_close(2))
    assert machine.states(close)[-1] == "INTENT"
    assert close in machine.execution.open
    settle(machine, wish(machine, name))
    machine.execution.resume()
    assert machine.states(close)[-1] == "FILLED"
    assert machine.venue.held() == []


def test_settling_lets_go_what_was_held_for_it(machine: Machine) -> None:
    names = [unknown(machine, number) for number in (1, 2, 3)]
    assert machine.execution.breaker.reason
    settle(machine, wish(machine, names[0]))
    assert machine.resolution.due()
    for name in names[1:]:
        settle(machine, wish(machine, name))
    assert not machine.execution.breaker.reason
    assert not machine.resolution.due()


@pytest.mark.parametrize("journaled", [False, True])
def test_a_crash_leaves_it_to_be_done_again(machine: Machine, journaled: bool) -> None:
    """The wish stays in Redis until it is answered: a new process is given the same one."""
    name = unknown(machine)
    said = wish(machine, name)
    settle(machine, said, begun=journaled)
    machine.crash()
    machine.start()
    (answer,) = settle(machine, said)
    assert answer.done
    assert machine.row(name).state == "MANUAL"
    machine.link()
    assert [state for order, _, state in machine.store.now.stream if order == name].count(
        OrderState.MANUAL
    ) == 1


def test_what_it_does_not_know_is_refused_unless_forced(machine: Machine) -> None:
    leg = make_leg(make_open(9), 1)
    (answer,) = settle(machine, wish(machine, leg.order_id))
    assert not answer.done
    assert machine.journal.get(leg.order_id) is None


def test_a_forced_settlement_is_journaled_before_the_order_could_run(machine: Machine) -> None:
    """Its executor was stated to be dead while the order waited; then it comes back."""
    name = machine.send(make_open(1), run=False)
    leg = machine.store.now.orders[name].leg
    forced = wish(machine, name, forced=True, leg=leg.model_dump_json(), truth="given_up")
    (answer,) = settle(machine, forced)
    assert answer.done
    machine.execution.arrive(leg, "celery")  # a task that had waited all the time
    machine.heal()
    assert machine.venue.sends == []
    assert machine.row(name).state == "MANUAL"


def test_a_journal_that_knows_better_says_so_behind_the_forced_report(machine: Machine) -> None:
    name = machine.send(make_open(1))
    row = machine.row(name)
    assert row.state == "FILLED"
    forced = wish(machine, name, forced=True, leg=row.leg.model_dump_json(), report_seq=1)
    (answer,) = settle(machine, forced)
    assert not answer.done
    assert machine.alarms
    assert machine.row(name).report_seq == row.report_seq + 1
    said = machine.journal.last_report(name)
    assert said is not None
    assert (said.state.value, said.filled_lots) == ("FILLED", Decimal(1))


@pytest.mark.parametrize(
    "fields",
    [
        {"truth": "executed"},
        {"truth": "not_executed", "filled_lots": "1"},
        {"truth": "done", "filled_lots": "1"},
        {"truth": "given_up", "price": "1.1"},
        {"evidence": ""},
        {"reason": "x" * 301},
        {"filled_lots": "-1", "truth": "executed"},
        {"filled_lots": "NaN", "truth": "executed"},
    ],
)
def test_statements_that_contradict_themselves(machine: Machine, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        wish(machine, "x:y", **fields)
