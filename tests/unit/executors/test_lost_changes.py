"""A modify, cancel or close by whose journal was lost or restored ends as what the terminal holds tells, or is left to an
operator; it is never called NOT_EXECUTED for want of a trace."""

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from executors.errors import Code
from executors.messages import ExecutionReport
from executors.orders import OrderState
from tests.simulated import LOST_AFTER, LOST_BEFORE, Fault, make, make_open
from tests.simulated_changes import end, trigger, working
from tests.simulated_store import Machine
from tests.unit.executors.test_settling import settle, wish

S = OrderState
LIMIT = {"order_type": "limit", "price": "1.09"}
LATER_MS = 60_000


def last(machine: Machine, name: str) -> ExecutionReport:
    return [report for report in machine.reports if report.order_id == name][-1]


def prepared(machine: Machine) -> dict[str, int]:
    """A buy and a sell position, a pending order, all old: their tickets."""
    machine.send(make_open(1, "EURUSD", "0.5"))
    machine.send(make_open(2, "EURUSD", "0.2", side="sell"))
    name = machine.send(make_open(3, **LIMIT))
    machine.until(lambda: name in machine.execution.resting)
    machine.clock.advance(LATER_MS)
    buy, sell = (item.ticket for item in machine.venue.held("EURUSD"))
    return {"buy": buy, "sell": sell, "order": machine.execution.resting[name][0]}


def lost_after(machine: Machine, fault: Fault, action: str, **fields: Any) -> str:
    """It is sent, without an answer, and the journal is lost before anybody looks: its name."""
    machine.venue.script.append(fault)
    machine.due_look = float("inf")
    name = machine.send(make(9, action, **fields))
    assert machine.states(name)[-1] == "UNKNOWN"
    machine.lose_journal()
    machine.start()
    machine.link()
    return name


WISHES: dict[str, tuple[str, dict[str, Any]]] = {
    "a position by ticket": ("modify", {"position_ticket": "buy", "stop_loss": "1.05"}),
    "what an open made": ("modify", {"opened_by": 1, "stop_loss": "1.05", "take_profit": "1.5"}),
    "a position by its symbol": ("modify", {"symbol": "USDJPY", "take_profit": "1.5"}),
    "a pending order by ticket": ("modify", {"order_ticket": "order", "price": "1.08"}),
    "a pending order by its open": ("modify", {"opened_by": 3, "expires_ms": 2**42}),
    "cancel by ticket": ("cancel", {"order_ticket": "order"}),
    "cancel by its open": ("cancel", {"opened_by": 3}),
    "cancel by symbol": ("cancel", {"symbol": "EURUSD"}),
    "cancel all": ("cancel", {"all": True}),
    "close by, two": ("close_by", {"position_ticket": "buy", "by_position_ticket": "sell"}),
    "close by, a symbol": ("close_by", {"symbol": "EURUSD"}),
}


@pytest.mark.parametrize("what", WISHES)
@pytest.mark.parametrize("done", [True, False])
def test_it_ends_as_the_terminal_shows_it(machine: Machine, what: str, *, done: bool) -> None:
    if "by its symbol" in what:
        machine.send(make_open(4, "USDJPY"))
    tickets = prepared(machine)
    action, wished = WISHES[what]
    fields = {
        name: tickets.get(value, value) if isinstance(value, str) else value for name, value in wished.items()
    }
    sends = len(machine.venue.sends) + 1
    name = lost_after(machine, LOST_AFTER if done else LOST_BEFORE, action, **fields)
    machine.until(lambda: name not in machine.execution.open)
    assert machine.row(name).state is (S.DONE if done else S.NOT_EXECUTED)
    assert len(machine.venue.sends) == sends
    machine.until(lambda: not machine.execution.hold)  # though a pending order is at rest
    assert last(machine, machine.send(make_open(20))).state is S.FILLED


def test_of_two_of_which_one_is_so_nobody_can_tell(machine: Machine) -> None:
    """Then an operator must: it stays UNKNOWN, raises an alarm, holds no opens, and is settled by hand."""
    for number in (1, 2):
        machine.send(make_open(number))
    machine.clock.advance(LATER_MS)
    machine.venue.script.append(Fault())
    name = lost_after(machine, LOST_BEFORE, "modify", symbol="EURUSD", stop_loss="1.05")
    machine.until(lambda: any("cannot be told" in text for text in machine.alarms))
    assert machine.row(name).state is S.UNKNOWN
    assert last(machine, machine.send(make_open(20))).state is S.FILLED
    machine.crash()
    machine.start()
    machine.heal(limit_ms=200_000)
    assert machine.row(name).state is S.UNKNOWN
    assert len([text for text in machine.alarms if "cannot be told" in text]) == 1
    assert settle(machine, wish(machine, name, truth="given_up"))[0].done
    assert machine.row(name).state is S.MANUAL
    assert not machine.resolution.due()


def test_what_it_was_about_has_ended(machine: Machine) -> None:
    tickets = prepared(machine)
    name = lost_after(machine, LOST_BEFORE, "modify", order_ticket=tickets["order"], price="1.08")
    trigger(machine.venue, tickets["order"])
    machine.until(lambda: name not in machine.execution.open)
    assert (machine.row(name).state, last(machine, name).code) == (S.REJECTED, Code.BROKER_REFUSED)
    assert "was filled" in last(machine, name).message
    assert machine.execution.breaker.reason == ""


def test_a_position_that_was_closed_too(machine: Machine) -> None:
    tickets = prepared(machine)
    name = lost_after(machine, LOST_BEFORE, "modify", position_ticket=tickets["buy"], stop_loss="1.05")
    machine.venue.stop_out(tickets["buy"])
    machine.until(lambda: name not in machine.execution.open)
    assert machine.row(name).state is S.REJECTED
    assert "stop-out" in last(machine, name).message


def test_a_cancel_of_what_was_filled_says_so(machine: Machine) -> None:
    tickets = prepared(machine)
    name = lost_after(machine, LOST_BEFORE, "cancel", opened_by=3)
    trigger(machine.venue, tickets["order"])
    machine.until(lambda: name not in machine.execution.open)
    assert machine.row(name).state is S.REJECTED
    assert "filled meanwhile" in last(machine, name).message


def test_a_cancel_that_was_stopped_halfway_cannot_be_told(machine: Machine) -> None:
    for number in (1, 2):
        machine.send(make_open(number, **LIMIT))
    machine.until(lambda: len(machine.execution.resting) == 2)
    machine.clock.advance(LATER_MS)
    machine.venue.script.append(Fault())
    name = lost_after(machine, LOST_BEFORE, "cancel", symbol="EURUSD")
    machine.until(lambda: any("cannot be told" in text for text in machine.alarms))
    assert machine.row(name).state is S.UNKNOWN
    end(machine.venue, working(machine.venue)[0].ticket, 2)  # and then it can
    machine.until(lambda: machine.row(name).state is S.DONE, limit_ms=200_000)


def test_what_came_with_it_cannot_witness_against_it(machine: Machine) -> None:
    """Whether the position was there when the order came depends on two clocks."""
    machine.send(make_open(1))
    name = lost_after(machine, LOST_BEFORE, "modify", symbol="EURUSD", stop_loss="1.05")
    machine.until(lambda: any("cannot be told" in text for text in machine.alarms))
    assert machine.row(name).state is S.UNKNOWN


def test_what_came_later_says_nothing(machine: Machine) -> None:
    machine.send(make_open(1))
    machine.clock.advance(LATER_MS)
    name = lost_after(machine, LOST_AFTER, "modify", symbol="EURUSD", stop_loss="1.05")
    machine.clock.advance(LATER_MS)
    machine.venue.trade_by_hand()
    machine.until(lambda: name not in machine.execution.open)
    assert machine.row(name).state is S.DONE


@pytest.mark.parametrize("fault", [Fault(), LOST_AFTER, LOST_BEFORE])
def test_a_restored_journal_looks_at_what_its_plan_left_to_do(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """It was copied between the two requests; what came after the copy is compared."""

    class Killed(BaseException):
        pass

    for number in (1, 2):
        machine.send(make_open(number))
    of, calls = machine.execution.preparation.completion.of, []

    def dies(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            raise Killed
        return of(*given)

    monkeypatch.setattr(machine.execution.preparation.completion, "of", dies)
    with pytest.raises(Killed):
        machine.send(make(9, "modify", symbol="EURUSD", stop_loss="1.05"))
    machine.crash()
    shutil.copy(machine.path, tmp_path / "copy")
    machine.start()
    machine.venue.script.append(fault)
    machine.heal()
    sends = len(machine.venue.sends)
    name = next(name for name in machine.store.now.orders if "00000009:" in name)
    machine.lose_journal()
    shutil.copy(tmp_path / "copy", machine.path)
    machine.start()
    machine.heal()
    row = machine.row(name)
    assert len(machine.venue.sends) == sends
    levels = [item.sl for item in machine.venue.held()]
    if fault is LOST_BEFORE:
        assert levels == [Decimal("1.05"), 0]
        assert (row.state, last(machine, name).code) == (S.REJECTED, Code.PARTLY_DONE)
    else:
        assert levels == [Decimal("1.05")] * 2
        assert row.state is S.DONE
