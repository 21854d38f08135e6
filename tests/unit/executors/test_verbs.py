"""Pending orders, changes, cancels and close by inside the executor, over a simulated venue and a real journal."""

from decimal import Decimal
from typing import Any

import pytest

from executors.errors import Code
from executors.messages import ExecutionReport
from executors.orders import OrderState, Outcome
from tests.simulated import (
    LOST_AFTER,
    LOST_BEFORE,
    NOT_CONNECTED,
    REQUOTE,
    Fault,
    make,
    make_config,
    make_open,
    make_spec,
)
from tests.simulated_changes import end, trigger, working
from tests.simulated_store import Machine

S = OrderState
LIMIT = {"order_type": "limit", "price": "1.09"}
ZERO = Decimal(0)


def last(machine: Machine, name: str) -> ExecutionReport:
    return [report for report in machine.reports if report.order_id == name][-1]


def place(machine: Machine, number: int, **fields: Any) -> tuple[str, int]:
    """A pending order at rest: its order id and its ticket."""
    name = machine.send(make_open(number, **(LIMIT | fields)))
    machine.until(lambda: name in machine.execution.resting)
    return name, machine.execution.resting[name][0]


# --- the life of a pending order ---


def test_it_is_placed_and_filled_when_its_price_comes(machine: Machine) -> None:
    name, ticket = place(machine, 1, stop_loss="1.0")
    assert machine.states(name) == ["INTENT", "PLACED"]
    assert last(machine, name).order_tickets == [ticket]
    trigger(machine.venue, ticket)
    machine.until(lambda: name not in machine.execution.open)
    report = last(machine, name)
    assert (report.state, report.filled_lots, report.price) == (S.FILLED, Decimal(1), Decimal("1.09"))
    assert report.position_tickets == [ticket]


def test_a_part_of_it_is_told_and_the_rest_may_be_cancelled(machine: Machine) -> None:
    name, ticket = place(machine, 1)
    trigger(machine.venue, ticket, Decimal("0.4"))
    machine.until(lambda: machine.row(name).state is S.PARTIAL)
    machine.until(lambda: name in machine.execution.resting)
    assert machine.send(make(2, "cancel", opened_by=1)) is not None
    machine.until(lambda: not machine.execution.open)
    assert machine.states(name) == ["INTENT", "PLACED", "PARTIAL", "PARTIAL", "CANCELLED"]
    report = last(machine, name)
    assert (report.filled_lots, report.code) == (Decimal("0.4"), Code.PENDING_CANCELLED)
    assert "0.4 of 1 lots" in report.message


@pytest.mark.parametrize(
    ("state", "ended", "code"),
    [
        (2, S.CANCELLED, Code.PENDING_CANCELLED),
        (6, S.EXPIRED, Code.PENDING_EXPIRED),
        (5, S.REJECTED, Code.BROKER_REFUSED),
    ],
)
def test_its_end_at_the_broker_is_its_end(
    machine: Machine, state: int, ended: OrderState, code: Code
) -> None:
    name, ticket = place(machine, 1)
    end(machine.venue, ticket, state)
    machine.until(lambda: name not in machine.execution.open)
    assert (last(machine, name).state, last(machine, name).code) == (ended, code)


def test_at_rest_it_costs_no_look_and_survives_a_restart(machine: Machine) -> None:
    name, ticket = place(machine, 1)
    assert not machine.resolution.due()
    machine.crash()
    trigger(machine.venue, ticket)
    machine.start()
    machine.until(lambda: name not in machine.execution.open)
    assert last(machine, name).state is S.FILLED


def test_a_placing_without_an_answer_is_found_or_not_executed(machine: Machine) -> None:
    machine.venue.script.extend([LOST_AFTER, LOST_BEFORE])
    found, lost = machine.send(make_open(1, **LIMIT)), machine.send(make_open(2, **LIMIT))
    machine.until(lambda: machine.row(lost).state is S.NOT_EXECUTED)
    assert machine.row(found).state is S.PLACED
    assert len(working(machine.venue)) == 1


def test_a_lost_journal_finds_it_again(machine: Machine) -> None:
    name, ticket = place(machine, 1)
    machine.lose_journal()
    machine.start()
    machine.link()
    machine.until(lambda: machine.row(name).state is S.PLACED)
    trigger(machine.venue, ticket)
    machine.until(lambda: machine.row(name).state is S.FILLED)


def test_it_is_sized_and_has_its_expiration(machine: Machine) -> None:
    machine.config = machine.execution.config = make_config(sizing={"method": "multiplier", "value": "0.5"})
    at = machine.clock.redis_ms() + 3_600_500
    place(machine, 1, expires_ms=at)
    (request,) = machine.venue.sends
    assert (request.action, request.type, request.volume, request.type_filling) == (5, 2, Decimal("0.5"), 2)
    assert (request.type_time, request.expiration_ms) == (2, at // 1000 * 1000)


def test_prices_have_no_more_digits_than_the_broker_takes(machine: Machine) -> None:
    machine.venue.specs["EURUSD"] = make_spec("EURUSD", digits=3)
    place(machine, 1, price="1.09012", stop_loss="1.08049")
    assert [(item.price, item.sl) for item in machine.venue.sends] == [(Decimal("1.090"), Decimal("1.080"))]


@pytest.mark.parametrize(
    ("spec", "fields", "code"),
    [
        ({"order_mode": 1}, {}, Code.ORDER_TYPE_NOT_ALLOWED),
        ({"expiration_mode": 1}, {"expires_ms": 2**42}, Code.EXPIRATION_NOT_ALLOWED),
        ({"expiration_mode": 14}, {}, Code.EXPIRATION_NOT_ALLOWED),
        ({}, {"expires_ms": 1000}, Code.EXPIRATION_NOT_ALLOWED),
    ],
)
def test_what_the_symbol_does_not_take_is_denied(
    machine: Machine, spec: dict[str, Any], fields: dict[str, Any], code: Code
) -> None:
    machine.venue.specs["EURUSD"] = make_spec("EURUSD", **spec)
    name = machine.send(make_open(1, **LIMIT, **fields))
    assert (last(machine, name).state, last(machine, name).code) == (S.DENIED, code)
    assert machine.venue.sends == []


# --- changes ---


def test_each_change_has_an_intent_of_its_own_and_all_are_frozen_first(machine: Machine) -> None:
    for number in (1, 2):
        machine.send(make_open(number))
    seen: list[list[str]] = []

    def look(request: Any) -> None:
        row = machine.row(name)
        seen.append([item.outcome for item in row.requests])
        assert [item["position"] for item in row.plan["changes"]] == [
            item.ticket for item in machine.venue.held()
        ]

    name = machine.send(make(3, "modify", symbol="EURUSD", stop_loss="1.05"), run=False)
    machine.venue.before_send = look
    machine.link()
    machine.turn()
    assert seen == [[Outcome.PENDING], [Outcome.DONE, Outcome.PENDING]]
    assert last(machine, name).state is S.DONE
    assert {item.sl for item in machine.venue.held()} == {Decimal("1.05")}


def test_no_connection_makes_a_change_wait_and_a_requote_tries_again(machine: Machine) -> None:
    machine.send(make_open(1))
    machine.venue.script.extend([NOT_CONNECTED, REQUOTE])
    name = machine.send(make(2, "modify", opened_by=1, take_profit="1.5"))
    machine.until(lambda: name not in machine.execution.open)
    assert last(machine, name).state is S.DONE
    assert len(machine.row(name).requests) == 3


def test_a_change_that_another_one_overtook_is_not_called_done(machine: Machine) -> None:
    machine.send(make_open(1))
    machine.venue.script.append(LOST_BEFORE)
    first = machine.send(make(2, "modify", opened_by=1, stop_loss="1.05"))
    second = machine.send(make(3, "modify", opened_by=1, stop_loss="1.06"))
    machine.until(lambda: not machine.execution.open)
    assert last(machine, first).state is S.NOT_EXECUTED
    assert "later change" in last(machine, first).message
    assert last(machine, second).state is S.DONE


def test_a_restart_between_two_changes_goes_on_with_the_second(machine: Machine) -> None:
    for number in (1, 2):
        machine.send(make_open(number))

    class Killed(BaseException):
        pass

    def kill(request: Any) -> None:
        if len(machine.venue.sends) == 3:
            raise Killed

    machine.venue.before_send = kill
    with pytest.raises(Killed):
        machine.send(make(3, "modify", symbol="EURUSD", stop_loss="1.05"))
    machine.venue.before_send = lambda request: None
    machine.crash()
    machine.start()
    machine.until(lambda: not machine.execution.open)
    # the second was at the broker's door: it is looked for, not sent again
    assert [item.sl for item in machine.venue.held()] == [Decimal("1.05"), ZERO]
    assert machine.reports[-1].code == Code.PARTLY_DONE


def test_a_close_by_in_pairs(machine: Machine) -> None:
    for number, side, lots in ((1, "buy", "0.5"), (2, "sell", "0.2"), (3, "sell", "0.4")):
        machine.send(make_open(number, side=side, lots=lots))
    machine.venue.script.append(LOST_AFTER)
    name = machine.send(make(4, "close_by", symbol="EURUSD"))
    machine.until(lambda: name not in machine.execution.open)
    assert last(machine, name).state is S.DONE
    assert [(item.type, item.volume) for item in machine.venue.held()] == [(1, Decimal("0.1"))]


# --- what waits, and what is overtaken ---


def test_a_cancel_waits_for_a_pending_order_whose_placing_is_unknown(machine: Machine) -> None:
    machine.venue.lag_ms = 8_000
    machine.venue.script.append(LOST_AFTER)
    opened = machine.send(make_open(1, **LIMIT))
    name = machine.send(make(2, "cancel", symbol="EURUSD"))
    assert "Waits" in last(machine, name).message
    machine.until(lambda: not machine.execution.open)
    assert (last(machine, name).state, last(machine, opened).state) == (S.DONE, S.CANCELLED)
    assert working(machine.venue) == []


@pytest.mark.parametrize("action", ["modify", "protect", "close"])
def test_what_means_an_unknown_open_acts_when_it_is_found(machine: Machine, action: str) -> None:
    machine.venue.lag_ms = 8_000
    machine.venue.script.append(LOST_AFTER)
    machine.send(make_open(1))
    wishes: dict[str, dict[str, Any]] = {
        "modify": {"stop_loss": "1.05"}, "protect": {"break_even": {"trigger": "1"}}, "close": {"fraction": "0.5"}
    }  # fmt: skip
    name = machine.send(make(2, action, opened_by=1, **wishes[action]))
    assert "Waits" in last(machine, name).message
    machine.until(lambda: not machine.execution.open)
    (position,) = machine.venue.held()
    assert position.sl == (Decimal("1.05") if action == "modify" else ZERO)
    assert position.volume == (Decimal("0.5") if action == "close" else 1)
    assert (machine.execution.guard.of(position.ticket) is not None) is (action == "protect")


def test_a_close_does_not_wait_for_a_pending_order_at_rest(machine: Machine) -> None:
    place(machine, 1)
    machine.send(make_open(2))
    name = machine.send(make(3, "close", all=True))
    assert last(machine, name).state is S.FILLED
    assert machine.venue.held() == []
    assert len(working(machine.venue)) == 1


def test_a_netting_account_closes_by_ticket_after_the_opens_before_it(machine: Machine) -> None:
    """All opens of a symbol make one position there: an older open must not come after the close of its ticket."""
    first = machine.send(make_open(1))
    ticket = last(machine, first).position_tickets[0]
    machine.turn()  # the terminal's positions are read
    machine.send(make_open(2), run=False)
    machine.send(make(3, "close", position_ticket=ticket), run=False)
    machine.send(make_open(4, "USDJPY"), run=False)
    machine.send(make(5, "close", position_ticket=ticket), run=False)
    machine.link()
    machine.turn()
    asked = [(item.symbol, item.position) for item in machine.venue.sends[1:]]
    assert asked[:2] == [("EURUSD", 0), ("EURUSD", ticket)]


def test_an_empty_wish_is_denied_and_reports_are_as_the_journal_has_them(machine: Machine) -> None:
    name = machine.send(make(1, "protect", all=True, trailing={"distance": "0.1"}))
    assert (last(machine, name).state, last(machine, name).code) == (S.DENIED, Code.NO_TARGET)
    assert last(machine, name).action == "protect"
    assert machine.store.now.orders[name].state is S.DENIED


def test_a_late_placing_after_not_executed_is_adopted(machine: Machine) -> None:
    machine.venue.script.append(Fault(after_ms=40_000, reply=-10005))
    name = machine.send(make_open(1, **LIMIT))
    machine.until(lambda: machine.row(name).state is S.NOT_EXECUTED)
    machine.until(lambda: machine.row(name).state is S.PLACED, limit_ms=400_000)
    assert any("executed late" in text for text in machine.alarms)
    assert machine.send(make(2, "cancel", all=True))
    machine.until(lambda: machine.row(name).state is S.CANCELLED)


def test_pending_orders_count_towards_the_limit_of_positions(machine: Machine) -> None:
    machine.config = machine.execution.config = make_config(
        limits={"max_positions": 2, "orders_per_second": 0}
    )
    place(machine, 1)
    place(machine, 2)
    denied = last(machine, machine.send(make_open(3, **LIMIT)))
    assert (denied.state, denied.code) == (S.DENIED, Code.TOO_MANY_POSITIONS)
    assert last(machine, machine.send(make_open(4))).state is S.FILLED  # two at once are allowed


def test_a_protect_tells_which_positions_it_armed(machine: Machine) -> None:
    machine.send(make_open(1))
    name = machine.send(make(2, "protect", symbol="EURUSD", trailing={"distance": "0.1"}))
    assert last(machine, name).state is S.DONE
    assert last(machine, name).position_tickets == [machine.venue.held()[0].ticket]


def test_a_cancel_of_what_is_gone_says_so(machine: Machine) -> None:
    _, ticket = place(machine, 1)

    def go(request: Any) -> None:
        end(machine.venue, ticket, 2)

    machine.venue.before_send = go
    name = machine.send(make(2, "cancel", order_ticket=ticket))
    assert last(machine, name).state is S.REJECTED
    assert f"Order {ticket} is not there" in last(machine, name).message


@pytest.mark.parametrize("why", ["mode", "clock"])
def test_what_only_reduces_may_not_move_a_stop_loss_away(machine: Machine, why: str) -> None:
    machine.send(make_open(1, stop_loss="1.05"))
    if why == "mode":
        machine.execution.mode = "REDUCING"
    else:
        machine.execution.skewed = "The clock is wrong."
    away = last(machine, machine.send(make(2, "modify", opened_by=1, stop_loss="1.04")))
    assert (away.state, away.code) == (S.DENIED, Code.RAISES_RISK)
    assert last(machine, machine.send(make(3, "modify", opened_by=1, stop_loss="1.06"))).state is S.DONE


@pytest.mark.parametrize(("state", "ended"), [(2, S.CANCELLED), (5, S.REJECTED), (6, S.EXPIRED)])
def test_a_pending_order_found_again_after_a_lost_journal_ends_as_the_broker_ends_it(
    machine: Machine, state: int, ended: OrderState
) -> None:
    name, ticket = place(machine, 1)
    machine.lose_journal()
    machine.start()
    machine.link()
    machine.until(lambda: machine.row(name).state is S.PLACED)
    end(machine.venue, ticket, state)
    machine.until(lambda: name not in machine.execution.open)
    assert machine.row(name).state is ended
