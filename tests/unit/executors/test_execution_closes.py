"""Closes inside the executor, over a simulated venue and a real journal: what they freeze, wait for, and end as."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from executors.errors import Code, TerminalError
from executors.messages import ExecutionReport
from executors.orders import OrderState
from tests.simulated import (
    FILL,
    LOST_AFTER,
    LOST_BEFORE,
    REJECT,
    make_close,
    make_leg,
    make_open,
)
from tests.simulated_store import Machine

ZERO = Decimal(0)


def last(machine: Machine, name: str) -> ExecutionReport:
    return [report for report in machine.reports if report.order_id == name][-1]


def test_a_close_freezes_its_tickets_before_the_first_send(machine: Machine) -> None:
    tickets = [machine.venue.trade_by_hand() for _ in range(3)]
    frozen: list[Any] = []

    def look(request: Any) -> None:
        frozen.append([item[0] for item in machine.row(make_leg(make_close(1), 1).order_id).plan["tickets"]])
        if len(frozen) == 1:
            machine.venue.trade_by_hand()  # opened meanwhile: not meant

    machine.venue.before_send = look
    name = machine.send(make_close(1, symbol="EURUSD"))
    assert frozen == [tickets] * 3
    assert [item.position for item in machine.venue.sends] == tickets
    assert all(item.position for item in machine.venue.sends)
    assert last(machine, name).state is OrderState.FILLED
    assert len(machine.venue.held()) == 1


def test_a_close_goes_on_after_a_crash_with_what_it_froze(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets = [machine.venue.trade_by_hand() for _ in range(3)]

    class Killed(Exception):
        pass

    def kill(request: Any) -> None:
        if len(machine.venue.sends) == 1:
            raise Killed

    machine.venue.before_send = kill
    machine.store.accept(make_close(1), [("sim-1", 1)])
    machine.link()
    monkeypatch.setattr(machine.execution, "_send", lambda request, trace: machine.venue.send(request))
    with pytest.raises(Killed):
        machine.turn()
    machine.crash()
    machine.venue.before_send = lambda request: None
    machine.venue.trade_by_hand()
    machine.heal()
    name = make_leg(make_close(1), 1).order_id
    # the second was INTENT without RESULT: looked for, found not executed, and not sent again
    assert [item.position for item in machine.venue.sends] == [tickets[0], tickets[2]]
    assert machine.store.now.orders[name].state is OrderState.CANCELLED


def test_nothing_to_close_is_done(machine: Machine) -> None:
    name = machine.send(make_close(1, symbol="EURUSD"))
    assert machine.states(name) == ["INTENT", "DONE"]
    assert "no position" in last(machine, name).message


def test_a_position_that_is_gone_already_counts_as_closed(machine: Machine) -> None:
    tickets = [machine.venue.trade_by_hand() for _ in range(2)]
    machine.venue.before_send = lambda request: (
        machine.venue.stop_out(tickets[1]) if len(machine.venue.sends) == 0 else None
    )
    name = machine.send(make_close(1))
    assert last(machine, name).state is OrderState.FILLED
    assert last(machine, name).lots == 1


def test_a_refused_position_beside_one_that_was_gone_is_not_done(machine: Machine) -> None:
    gone, kept = machine.venue.trade_by_hand(), machine.venue.trade_by_hand()
    machine.venue.before_send = lambda request: (
        machine.venue.stop_out(gone) if request.position == gone else None
    )
    machine.venue.script += [FILL, REJECT]
    name = machine.send(make_close(1))
    assert last(machine, name).state is OrderState.REJECTED
    assert [item.ticket for item in machine.venue.held()] == [kept]


def test_positions_without_a_price_do_not_hold_up_the_others(machine: Machine) -> None:
    machine.venue.trade_by_hand("USDJPY")
    machine.venue.trade_by_hand("EURUSD")
    machine.venue.specs["USDJPY"] = replace(machine.venue.specs["USDJPY"], exemode=1)
    machine.venue.priced.discard("USDJPY")
    name = machine.send(make_close(1))
    assert [item.symbol for item in machine.venue.held()] == ["USDJPY"]
    assert machine.states(name)[-2:] == ["PARTIAL", "CANCELLED"]
    assert last(machine, name).code == Code.NO_PRICE


def test_an_open_without_a_price_is_denied_and_says_so(machine: Machine) -> None:
    machine.venue.specs["EURUSD"] = replace(machine.venue.specs["EURUSD"], exemode=1)
    machine.venue.priced.discard("EURUSD")
    name = machine.send(make_open(1))
    assert machine.states(name) == ["DENIED"]
    assert last(machine, name).code == Code.NO_PRICE


def test_instant_execution_sends_the_side_of_the_price_it_needs(machine: Machine) -> None:
    machine.venue.specs["EURUSD"] = replace(machine.venue.specs["EURUSD"], exemode=1)
    machine.send(make_open(1))
    machine.send(make_open(2, side="sell"))
    assert [item.price for item in machine.venue.sends] == [Decimal("1.1002"), Decimal("1.1000")]


def test_a_close_waits_for_the_position_of_an_open_that_was_just_filled(machine: Machine) -> None:
    """A terminal's list of positions lags behind its answers by up to a second."""
    machine.venue.lag_ms = 600
    machine.send(make_open(1))
    name = machine.send(make_close(2, symbol="EURUSD"))
    assert last(machine, name).state is OrderState.FILLED
    assert machine.venue.held() == []


# --- a close and an open whose outcome is not known ---


def test_a_close_that_covers_an_unknown_open_acts_when_that_resolves(machine: Machine) -> None:
    machine.venue.script.append(LOST_AFTER)
    machine.venue.lag_ms = 2_000
    opened = machine.send(make_open(1))
    closed = machine.send(make_close(2, symbol="EURUSD"))
    assert machine.states(closed) == ["INTENT"]
    machine.until(lambda: not machine.execution.open)
    assert machine.states(opened)[-1] == "FILLED"
    assert machine.states(closed)[-1] == "FILLED"
    assert machine.venue.held() == []


def test_a_close_that_waited_for_an_open_that_was_not_executed_is_done(machine: Machine) -> None:
    machine.venue.script.append(LOST_BEFORE)
    machine.send(make_open(1))
    closed = machine.send(make_close(2))
    machine.until(lambda: not machine.execution.open)
    assert machine.states(closed)[-1] == "DONE"


def test_a_waiting_close_spares_what_was_opened_after_it(machine: Machine) -> None:
    machine.venue.script.append(LOST_AFTER)
    machine.venue.lag_ms = 2_000
    machine.send(make_open(1))
    closed = machine.send(make_close(2, symbol="EURUSD"))
    machine.venue.lag_ms = 0
    later = machine.send(make_open(3))
    machine.until(lambda: not machine.execution.open)
    assert machine.states(closed)[-1] == "FILLED"
    assert [item.ticket for item in machine.venue.held()] == last(machine, later).position_tickets


def test_a_waiting_close_survives_a_crash_and_a_terminal_error(machine: Machine) -> None:
    machine.venue.script.append(LOST_AFTER)
    machine.venue.lag_ms = 2_000
    machine.send(make_open(1))
    machine.send(make_close(2, symbol="EURUSD"))
    machine.crash()
    machine.start()
    machine.clock.advance(2_500)
    machine.link()
    machine.venue.connect()
    machine.resolution.look()
    machine.venue.failing.add("positions")
    with pytest.raises(TerminalError):
        machine.execution.resume()
    machine.heal()
    assert machine.venue.held() == []
    assert not machine.execution.open


def test_a_close_whose_time_is_over_while_it_waits_does_not_claim_to_be_done(machine: Machine) -> None:
    machine.venue.script.append(LOST_AFTER)
    machine.venue.lag_ms = 9_000
    machine.send(make_open(1))
    closed = machine.send(make_close(2, symbol="EURUSD"), ttl_ms=6_000)
    machine.until(lambda: not machine.execution.open)
    assert machine.states(closed)[-1] == "REJECTED"
    assert last(machine, closed).code == Code.EXPIRED
    assert len(machine.venue.held()) == 1


def test_a_waiting_close_in_a_market_without_prices_ends_without_killing_the_executor(
    machine: Machine,
) -> None:
    machine.venue.specs["EURUSD"] = replace(machine.venue.specs["EURUSD"], exemode=1)
    machine.venue.script.append(LOST_AFTER)
    machine.venue.lag_ms = 2_000
    machine.send(make_open(1))
    closed = machine.send(make_close(2, symbol="EURUSD"))
    machine.venue.priced.clear()
    machine.until(lambda: not machine.execution.open)
    assert machine.states(closed)[-1] == "REJECTED"
    assert last(machine, closed).code == Code.NO_PRICE


def test_a_close_that_waited_and_whose_own_request_was_lost_is_not_executed(machine: Machine) -> None:
    machine.venue.trade_by_hand()
    machine.venue.script += [LOST_BEFORE, LOST_BEFORE]
    machine.send(make_open(1))
    closed = machine.send(make_close(2))
    machine.until(lambda: not machine.execution.open)
    assert machine.states(closed)[-2:] == ["INTENT", "NOT_EXECUTED"]
