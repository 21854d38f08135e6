"""Unknown outcomes: resolved by looking, never by sending; lost and restored journals; fills that come late."""

from decimal import Decimal
from typing import Any

import pytest

from executors.errors import Code, TerminalError
from executors.orders import OrderState, Outcome, request_magic
from tests.simulated import (
    LATE,
    LOST_AFTER,
    LOST_BEFORE,
    NO_DEAL,
    REQUOTE,
    Fault,
    make_close,
    make_leg,
    make_open,
)
from tests.simulated_store import Machine

ZERO = Decimal(0)


# --- found ---


def test_a_fill_whose_answer_was_lost_is_found_by_its_magic(machine: Machine) -> None:
    machine.venue.script.append(LOST_AFTER)
    name = machine.send(make_open(1))
    assert machine.states(name) == ["INTENT", "UNKNOWN", "FILLED"]
    report = machine.last(name)
    assert (report.filled_lots, report.price) == (Decimal(1), Decimal("1.1002"))
    assert report.deal_tickets
    assert report.order_tickets == report.position_tickets


def test_a_broker_that_drops_the_magic_is_found_by_the_comment(machine: Machine) -> None:
    machine.venue.script.append(Fault(reply=-10005, drops_magic=True))
    name = machine.send(make_open(1))
    assert machine.states(name)[-1] == "FILLED"


def test_deals_that_trail_their_order_leave_it_placed_until_they_show(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is in the history, cancelled after half of it was executed; the deal is not shown yet."""
    machine.venue.script.append(Fault(Decimal("0.5"), reply=-10005))
    monkeypatch.setattr(machine.venue, "history_deals", lambda a, b: ())
    monkeypatch.setattr(machine.venue, "positions", lambda: ())
    name = machine.send(make_open(1))
    assert machine.states(name)[-1] == "PLACED"
    monkeypatch.undo()
    machine.until(lambda: machine.states(name)[-1] == "CANCELLED")
    assert machine.last(name).filled_lots == Decimal("0.5")


def test_an_open_found_filled_in_part_is_not_sent_again_for_the_rest(machine: Machine) -> None:
    machine.venue.script.append(Fault(Decimal("0.5"), reply=-10005))
    name = machine.send(make_open(1))
    machine.until(lambda: not machine.execution.open)
    assert machine.states(name)[-2:] == ["PARTIAL", "CANCELLED"]
    assert len(machine.venue.sends) == 1


def test_a_close_found_filled_in_part_goes_on_with_its_position(machine: Machine) -> None:
    machine.venue.trade_by_hand()
    machine.venue.script.append(Fault(Decimal("0.5"), reply=-10005))
    name = machine.send(make_close(1))
    machine.until(lambda: not machine.execution.open)
    assert machine.states(name)[-1] == "FILLED"
    assert machine.venue.held() == []


def test_a_close_of_several_goes_on_once_its_unknown_request_is_known(machine: Machine) -> None:
    for _ in range(3):
        machine.venue.trade_by_hand()
    machine.venue.script += [Fault(), LOST_AFTER]
    name = machine.send(make_close(1))
    assert machine.states(name)[:4] == ["INTENT", "INTENT", "INTENT", "UNKNOWN"]
    machine.until(lambda: not machine.execution.open)
    assert machine.states(name)[-1] == "FILLED"
    assert machine.venue.held() == []
    assert len(machine.venue.sends) == 3


def test_an_order_that_the_broker_ended_unfilled_was_refused(machine: Machine) -> None:
    machine.venue.script.append(Fault(ZERO, working=True, reply=-10005))
    name = machine.send(make_open(1))
    assert machine.states(name)[-1] == "PLACED"
    machine.venue.end_working(machine.venue.entries[-1].order.ticket, fill=False)
    machine.until(lambda: not machine.execution.open)
    assert machine.states(name)[-1] == "REJECTED"


def test_a_position_that_stop_loss_closed_meanwhile_does_not_change_what_was_filled(machine: Machine) -> None:
    machine.venue.script.append(LOST_AFTER)
    machine.venue.lag_ms = 1_000
    name = machine.send(make_open(1))
    machine.venue.lag_ms = 0
    machine.venue.stop_out(machine.venue.held()[0].ticket)
    machine.until(lambda: not machine.execution.open)
    assert machine.states(name)[-1] == "FILLED"
    assert machine.last(name).filled_lots == 1


# --- absent ---


def test_two_clean_looks_after_the_settling_time_make_it_not_executed(machine: Machine) -> None:
    machine.venue.script.append(LOST_BEFORE)
    name = machine.send(make_open(1))
    assert 20_000 <= machine.looks_until(name, "NOT_EXECUTED") <= 21_500
    assert machine.last(name).code == Code.NOT_EXECUTED
    machine.link()
    assert machine.store.now.orders[name].state is OrderState.NOT_EXECUTED


def test_a_failed_query_is_not_an_empty_one(machine: Machine) -> None:
    machine.venue.script.append(LOST_AFTER)
    machine.venue.failing.add("history_deals")
    machine.venue.lag_ms = 100_000
    name = machine.send(make_open(1))
    for _ in range(120):
        machine.clock.advance(500)
        machine.turn()
    assert machine.states(name)[-1] == "UNKNOWN"
    machine.venue.failing.clear()
    machine.clock.advance(60_000)
    machine.turn()
    machine.turn()
    assert machine.states(name)[-1] == "FILLED"


@pytest.mark.parametrize("query", ["identity", "orders", "positions", "history_orders", "status"])
def test_any_query_that_fails_begins_the_wait_anew(machine: Machine, query: str) -> None:
    machine.venue.script.append(LOST_BEFORE)
    name = machine.send(make_open(1))
    for _ in range(36):
        machine.clock.advance(500)
        machine.turn()
    machine.venue.failing.add(query)
    machine.clock.advance(500)
    machine.turn()
    machine.venue.failing.clear()
    assert machine.looks_until(name, "NOT_EXECUTED") >= 20_000


def test_a_lost_link_to_the_trade_server_begins_the_wait_anew(machine: Machine) -> None:
    """The terminal answers all the while, with what it knew before the link was lost."""
    machine.venue.script.append(LOST_BEFORE)
    name = machine.send(make_open(1))
    machine.venue.linked = False
    for _ in range(100):
        machine.clock.advance(500)
        machine.turn()
    assert machine.states(name)[-1] == "UNKNOWN"
    machine.venue.linked = True
    assert machine.looks_until(name, "NOT_EXECUTED") >= 20_000


def test_another_accounts_history_proves_nothing_and_teaches_nothing(machine: Machine) -> None:
    machine.venue.script.append(LOST_AFTER)
    machine.venue.lag_ms = 5_000
    name = machine.send(make_open(1))
    known = machine.execution.newest_ticket
    machine.venue.login = 99
    for _ in range(120):
        machine.clock.advance(500)
        machine.resolution.look()
    assert machine.states(name)[-1] == "UNKNOWN"
    assert machine.execution.newest_ticket == known
    machine.venue.login = machine.config.login
    machine.until(lambda: not machine.execution.open)
    assert machine.states(name)[-1] == "FILLED"


def test_a_history_that_misses_the_newest_known_ticket_proves_nothing(machine: Machine) -> None:
    first = machine.send(make_open(1))
    machine.venue.script.append(LOST_BEFORE)
    name = machine.send(make_open(2))
    machine.venue.hidden = set(machine.last(first).order_tickets)
    for _ in range(120):
        machine.clock.advance(500)
        machine.turn()
    assert machine.states(name)[-1] == "UNKNOWN"
    machine.venue.hidden.clear()
    assert machine.looks_until(name, "NOT_EXECUTED") >= 5_000


def test_the_newest_known_ticket_survives_a_restart(machine: Machine) -> None:
    """A terminal that was restarted with its executor may still be loading its history."""
    first = machine.send(make_open(1))
    machine.venue.script.append(LOST_BEFORE)
    name = machine.send(make_open(2))
    machine.crash()
    machine.start()
    machine.venue.hidden = set(machine.last(first).order_tickets)
    for _ in range(120):
        machine.clock.advance(500)
        machine.link()
        machine.turn()
    assert machine.row(name).state is OrderState.UNKNOWN


def test_a_clock_that_is_set_forward_proves_nothing(machine: Machine) -> None:
    machine.venue.script.append(LOST_AFTER)
    machine.venue.lag_ms = 12_000
    name = machine.send(make_open(1))
    machine.clock.utc += 3_600_000
    machine.until(lambda: machine.states(name)[-1] != "UNKNOWN")
    assert machine.states(name)[-1] == "FILLED"


def test_a_restart_begins_the_wait_anew(machine: Machine) -> None:
    machine.venue.script.append(LOST_BEFORE)
    name = machine.send(make_open(1))
    for _ in range(36):
        machine.clock.advance(500)
        machine.turn()
    machine.crash()
    machine.start()
    machine.link()
    assert machine.looks_until(name, "NOT_EXECUTED") >= 20_000


def test_what_the_broker_promised_is_never_given_up_but_told_of(machine: Machine) -> None:
    machine.venue.script.append(Fault(ZERO, reply=10008))
    name = machine.send(make_open(1))
    for _ in range(120):
        machine.clock.advance(500)
        machine.turn()
    assert machine.states(name) == ["INTENT", "PLACED", "PLACED"]
    assert machine.reports[-1].code == Code.NOT_SHOWN
    assert len([text for text in machine.alarms if "shows nothing of it" in text]) == 1


# --- a crash around the send ---


@pytest.mark.parametrize("executed", [True, False])
def test_intent_without_result_is_unknown_after_a_restart(machine: Machine, *, executed: bool) -> None:
    class Killed(BaseException):
        pass

    def kill(request: Any) -> None:
        if executed:
            machine.venue.before_send = lambda request: None
            machine.venue.send(request)
        raise Killed

    machine.venue.before_send = kill
    machine.store.accept(make_open(1), [("sim-1", 1)])
    machine.link()
    with pytest.raises(Killed):
        machine.turn()
    machine.crash()
    machine.venue.before_send = lambda request: None
    machine.heal()
    name = make_leg(make_open(1), 1).order_id
    assert machine.states(name)[:2] == ["INTENT", "UNKNOWN"]
    assert machine.states(name)[-1] == ("FILLED" if executed else "NOT_EXECUTED")
    assert machine.venue.broker_orders(request_magic("tests", name, 1)) == int(executed)


def test_a_definite_refusal_before_a_crash_is_retried_after_it(machine: Machine) -> None:
    class Killed(BaseException):
        pass

    def kill(_seconds: float) -> None:
        raise Killed

    machine.venue.script.append(REQUOTE)
    machine.clock.before_sleep = kill
    machine.store.accept(make_open(1), [("sim-1", 1)])
    machine.link()
    with pytest.raises(Killed):
        machine.turn()
    machine.clock.before_sleep = lambda seconds: None
    machine.crash()
    machine.heal()
    assert len(machine.venue.sends) == 2
    assert len(machine.venue.held()) == 1


# --- late fills ---


def test_a_fill_after_not_executed_is_adopted_with_an_alarm(machine: Machine) -> None:
    machine.venue.script.append(LATE)
    name = machine.send(make_open(1))
    machine.looks_until(name, "NOT_EXECUTED")
    machine.looks_until(name, "FILLED")
    assert any("executed late" in text for text in machine.alarms)
    assert machine.store.now.orders[name].state is OrderState.NOT_EXECUTED
    machine.link()
    assert machine.store.now.orders[name].state is OrderState.FILLED
    assert len(machine.venue.sends) == 1


def test_a_late_fill_whose_position_is_gone_again_is_found_in_the_history(machine: Machine) -> None:
    machine.venue.script.append(LATE)
    name = machine.send(make_open(1))
    machine.looks_until(name, "NOT_EXECUTED")
    while machine.venue.pending():
        machine.clock.advance(500)
        machine.venue.happen()
    machine.venue.stop_out(machine.venue.held()[0].ticket)
    machine.looks_until(name, "FILLED")


def test_a_late_close_is_adopted(machine: Machine) -> None:
    machine.venue.trade_by_hand()
    machine.venue.script.append(LATE)
    name = machine.send(make_close(1))
    machine.looks_until(name, "NOT_EXECUTED")
    machine.looks_until(name, "FILLED")
    assert machine.last(name).filled_lots == 1


def test_a_late_fill_is_adopted_after_a_restart(machine: Machine) -> None:
    machine.venue.script.append(LATE)
    name = machine.send(make_open(1))
    machine.looks_until(name, "NOT_EXECUTED")
    machine.crash()
    machine.start()
    machine.looks_until(name, "FILLED")


def test_a_late_fill_of_one_position_of_several_is_kept_with_its_request(machine: Machine) -> None:
    for _ in range(2):
        machine.venue.trade_by_hand()
    machine.venue.script.append(LATE)
    name = machine.send(make_close(1))
    machine.looks_until(name, "CANCELLED")
    machine.until(lambda: any("executed late" in text for text in machine.alarms))
    row = machine.row(name)
    assert [item.outcome for item in row.requests] == [Outcome.FILLED, Outcome.FILLED]
    assert row.state is OrderState.CANCELLED


def test_a_look_that_fails_is_told_to_the_caller(machine: Machine) -> None:
    machine.venue.script.append(LOST_BEFORE)
    machine.send(make_open(1))
    machine.venue.failing.add("orders")
    with pytest.raises(TerminalError):
        machine.resolution.look()


def test_nothing_to_look_for_asks_the_terminal_nothing(machine: Machine) -> None:
    machine.venue.failing |= {"identity", "orders"}
    assert not machine.resolution.due()
    machine.resolution.look()


def test_placed_without_deal_and_unknown_are_both_due(machine: Machine) -> None:
    machine.venue.lag_ms = 60_000
    machine.venue.script.append(NO_DEAL)
    machine.send(make_open(1))
    assert machine.resolution.due()
