"""Closes of one open on a netting account whose history and answers come at odd times, over a simulated venue."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from executors.messages import ExecutionReport
from executors.orders import OrderState
from tests.simulated import HALF, LOST_BEFORE, REQUOTE, Fault, SimClock, make, make_open
from tests.simulated_changes import trigger, working
from tests.simulated_netting import SimNetting
from tests.simulated_store import Machine

S = OrderState
DAY_MS = 86_400_000
LIMIT = {"order_type": "limit", "price": "1.09"}


@pytest.fixture
def netting(tmp_path: Path, protocol_settings: Any) -> Iterator[Machine]:
    clock = SimClock()
    machine = Machine(tmp_path, clock=clock, venue=SimNetting(clock))
    yield machine
    machine.crash()


def last(machine: Machine, name: str) -> ExecutionReport:
    return [report for report in machine.reports if report.order_id == name][-1]


def settled(machine: Machine, name: str) -> ExecutionReport:
    machine.until(lambda: name not in machine.execution.open)
    return last(machine, name)


def volumes(machine: Machine) -> list[Decimal]:
    return [item.volume for item in machine.venue.held()]


def test_a_pending_order_of_days_ago_has_its_lots(netting: Machine) -> None:
    netting.send(make_open(1, lots="0.2"))
    name = netting.send(make_open(2, lots="0.3", **LIMIT))
    netting.until(lambda: name in netting.execution.resting)
    netting.send(make(3, "close", opened_by=1))
    netting.clock.advance(5 * DAY_MS)
    assert isinstance(netting.venue, SimNetting)
    netting.venue.trigger(working(netting.venue)[0].ticket)
    settled(netting, name)
    netting.send(make_open(4, lots="1"))
    assert settled(netting, netting.send(make(5, "close", opened_by=2))).filled_lots == Decimal("0.3")
    assert volumes(netting) == [1]


@pytest.mark.parametrize("fraction", [None, "0.5"])
def test_what_an_open_adds_after_its_close_was_planned_is_closed_too(
    netting: Machine, fraction: str | None
) -> None:
    """Half of it is filled, and the answer about the rest is lost."""
    netting.send(make_open(1, lots="0.2"))
    netting.venue.script.extend([HALF, Fault(after_ms=2_000, reply=-10005)])
    opened = netting.send(make_open(2, lots="1"))
    assert last(netting, opened).state is S.UNKNOWN
    part = {} if fraction is None else {"fraction": fraction}
    report = settled(netting, netting.send(make(3, "close", opened_by=2, **part)))
    assert (report.state, report.filled_lots) == (S.FILLED, Decimal(fraction or 1))
    assert volumes(netting) == [Decimal("1.2") - Decimal(fraction or 1)]


def test_on_a_hedging_account_too(machine: Machine) -> None:
    """A pending order is filled in parts, the second while the first is looked up."""
    name = machine.send(make_open(1, lots="0.4", **LIMIT))
    machine.until(lambda: name in machine.execution.resting)
    ticket = working(machine.venue)[0].ticket
    trigger(machine.venue, ticket, Decimal("0.1"))
    machine.execution.resting.clear()  # the change was seen, and not read yet
    machine.venue.failing = {"history_deals"}
    close = machine.send(make(2, "close", all=True))
    assert volumes(machine) == []
    machine.venue.failing = set()
    trigger(machine.venue, ticket, Decimal("0.3"))
    assert settled(machine, close).filled_lots == Decimal("0.4")
    assert volumes(machine) == []


def test_a_close_that_is_tried_again_asks_for_what_is_left_by_then(netting: Machine) -> None:
    for number, lots in ((1, "0.3"), (2, "1")):
        netting.send(make_open(number, lots=lots))
    netting.venue.script.append(REQUOTE)

    def by_hand(request: Any) -> None:
        netting.venue.before_send = lambda request: None
        assert isinstance(netting.venue, SimNetting)
        netting.venue.trade_by_hand(lots="0.2", side=1)

    netting.venue.before_send = by_hand
    report = settled(netting, netting.send(make(3, "close", opened_by=1)))
    assert (report.state, report.filled_lots) == (S.CANCELLED, Decimal("0.1"))
    assert volumes(netting) == [1]


def test_a_close_waits_for_an_opposite_open_that_may_have_taken_its_lots(netting: Machine) -> None:
    netting.send(make_open(1, lots="0.3"))
    netting.send(make_open(2, lots="1"))
    netting.venue.script.append(LOST_BEFORE)
    lost = netting.send(make_open(3, lots="0.1", side="sell"))
    assert last(netting, lost).state is S.UNKNOWN
    close = netting.send(make(4, "close", opened_by=1))
    assert volumes(netting) == [Decimal("1.1")], "what is certain goes at once"
    assert settled(netting, close).filled_lots == Decimal("0.3")
    assert volumes(netting) == [1]
    assert last(netting, lost).state is S.NOT_EXECUTED


def test_pending_orders_at_rest_hold_no_close_up(netting: Machine) -> None:
    netting.send(make_open(1, lots="0.3"))
    name = netting.send(make_open(2, lots="1", side="sell", order_type="limit", price="1.11"))
    netting.until(lambda: name in netting.execution.resting)
    assert last(netting, netting.send(make(3, "close", opened_by=1))).state is S.FILLED


def test_a_charge_outlives_a_crash_at_any_moment(netting: Machine) -> None:
    netting.send(make_open(1, lots="0.3"))
    netting.send(make_open(2, lots="1"))

    class Killed(BaseException):
        pass

    def kill(request: Any) -> None:
        netting.venue.before_send = lambda request: None
        netting.venue.send(request)
        raise Killed

    netting.clock.advance(10_000)
    netting.venue.lag_ms = netting.venue.deal_lag_ms = 4_000
    netting.venue.before_send = kill
    with pytest.raises(Killed):
        netting.send(make(3, "close", opened_by=1))
    netting.crash()
    netting.start()
    netting.link()
    netting.turn()
    again = netting.send(make(4, "close", opened_by=1))
    report = settled(netting, again)
    assert (report.state, report.filled_lots) == (S.DONE, Decimal(0))
    assert volumes(netting) == [1]


def test_a_close_is_charged_to_an_open_that_the_history_shows_after_it(netting: Machine) -> None:
    netting.send(make_open(1, lots="0.2"))
    netting.venue.lag_ms = 8_000
    netting.send(make_open(2, lots="0.1"))
    netting.send(make_open(3, lots="0.2"))
    netting.venue.lag_ms = 0
    assert last(netting, netting.send(make(4, "close", opened_by=2))).filled_lots == Decimal("0.1")
    assert last(netting, netting.send(make(5, "close", opened_by=2))).state is S.DONE
    assert volumes(netting) == [Decimal("0.4")]


def test_lots_of_an_earlier_position_are_not_this_ones_though_the_history_lags(netting: Machine) -> None:
    netting.venue.lag_ms = 8_000
    netting.send(make_open(1, lots="0.2"))
    netting.venue.stop_out(netting.venue.held()[0].ticket)
    netting.venue.trade_by_hand(lots="1")
    assert last(netting, netting.send(make(2, "close", opened_by=1))).state is S.DONE
    assert volumes(netting) == [1]
