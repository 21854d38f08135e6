"""The guard of stop losses over a simulated venue: what is armed, moved, refused, forgotten."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from executors.errors import TerminalError
from executors.guard import GONE_MS, HALTED
from executors.protection import Protection
from executors.terminals.base import ZERO
from tests.simulated import LOST_BEFORE, NOT_CONNECTED, REJECT, Fault, make, make_open
from tests.simulated_changes import trigger
from tests.simulated_store import Machine

TRAIL = {"distance": "0.0020", "step": "0.0005"}
FROM_1_1 = Decimal("1.0980")


def armed(machine: Machine, number: int = 1, **fields: Any) -> int:
    """A position with a trailing stop that has moved once: its ticket."""
    machine.send(make_open(number, **({"trailing": TRAIL} | fields)))
    machine.turn()
    return machine.venue.held()[-1].ticket


def of(machine: Machine, ticket: int) -> Protection:
    found = machine.execution.guard.of(ticket)
    assert found is not None
    return found


def test_an_open_arms_its_position_and_the_stop_loss_follows(machine: Machine) -> None:
    ticket = armed(machine, take_profit="1.5")
    assert machine.venue.held()[0].sl == FROM_1_1
    machine.venue.bid = Decimal("1.1010")
    machine.turn()
    assert machine.venue.held()[0].sl == Decimal("1.0990")
    assert machine.venue.held()[0].tp == Decimal("1.5")
    assert (of(machine, ticket).moves, of(machine, ticket).error) == (2, "")
    assert machine.reports[-1].state == "FILLED"  # moves are no orders: nothing is reported of them


def test_orders_go_first_and_moves_are_one_at_a_time(machine: Machine) -> None:
    for number in (1, 2, 3):
        armed(machine, number)
    machine.venue.bid = Decimal("1.2")
    machine.execution.guard.see(machine.venue.positions())
    before = len(machine.venue.sends)
    assert machine.execution.guard.step()
    assert len(machine.venue.sends) == before + 1
    assert [machine.execution.guard.step() for _ in range(3)] == [True, True, False]
    assert {item.sl for item in machine.venue.held()} == {Decimal("1.198")}


def test_positions_that_are_gone_when_their_stop_loss_is_to_move_hold_up_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        armed(machine, number)
    machine.venue.bid = Decimal("1.2")
    machine.execution.guard.see(machine.venue.positions())
    monkeypatch.setattr(machine.venue, "positions", lambda: ())
    assert not machine.execution.guard.step()


def test_what_is_armed_survives_a_restart_and_is_cleared_when_the_position_is_gone(machine: Machine) -> None:
    ticket = armed(machine)
    machine.crash()
    machine.start()
    machine.turn()
    assert of(machine, ticket).moves == 1
    machine.venue.stop_out(ticket)
    machine.turn()
    machine.clock.advance(GONE_MS / 2)
    machine.turn()
    assert machine.execution.guard.of(ticket) is not None  # lists lag: once missing is not gone
    machine.clock.advance(GONE_MS)
    machine.turn()
    assert machine.execution.guard.of(ticket) is None
    assert not machine.execution.guard.active
    assert machine.journal.protections() == []


def test_a_refusal_is_told_and_tried_again_ever_more_slowly(machine: Machine) -> None:
    machine.venue.script.extend([Fault(), REJECT, REJECT])
    ticket = armed(machine)
    assert "refused" in of(machine, ticket).error
    tries = []
    for _ in range(40):
        machine.clock.advance(100)
        machine.turn()
        tries.append(len(machine.venue.sends) - 1)
    assert tries[-1] == 3
    assert tries.index(2) < 15 < tries.index(3) + 5
    assert of(machine, ticket).error == ""


def test_no_connection_ends_the_turn(machine: Machine) -> None:
    machine.venue.script.extend([Fault(), NOT_CONNECTED])
    machine.send(make_open(1, trailing=TRAIL))
    assert not machine.ready
    machine.execution.guard.see(machine.venue.positions())
    machine.clock.advance(2_000)
    machine.venue.up = False
    with pytest.raises(TerminalError):
        machine.execution.guard.step()


def test_a_halted_terminal_moves_nothing_and_goes_on_at_once_when_resumed(machine: Machine) -> None:
    ticket = armed(machine)
    machine.execution.mode = "HALTED"
    machine.venue.bid = Decimal("1.1010")
    machine.turn()
    assert of(machine, ticket).error == HALTED
    assert machine.venue.held()[0].sl == FROM_1_1
    machine.execution.mode = "REDUCING"
    machine.turn()
    assert machine.venue.held()[0].sl == Decimal("1.0990")
    assert of(machine, ticket).error == ""


def test_the_traders_own_level_is_looked_at_first(machine: Machine) -> None:
    ticket = armed(machine)
    machine.venue.bid = Decimal("1.1010")
    held = machine.venue.position(ticket)
    assert held is not None
    machine.venue.hold(
        type(held)(**{name: getattr(held, name) for name in held.__slots__} | {"sl": Decimal("1.1")})
    )
    sends = len(machine.venue.sends)
    assert not machine.execution.guard.step()
    assert len(machine.venue.sends) == sends


def test_without_a_fill_nothing_stays_armed(machine: Machine) -> None:
    machine.venue.script.append(REJECT)
    machine.send(make_open(1, trailing=TRAIL))
    assert machine.journal.protections() == []


def test_a_pending_order_keeps_its_wish_until_it_makes_a_position(machine: Machine) -> None:
    name = machine.send(make_open(1, order_type="limit", price="1.09", trailing=TRAIL))
    machine.until(lambda: name in machine.execution.resting)
    machine.send(make(2, "protect", opened_by=1, break_even={"trigger": "0.5", "offset": "0.4"}))
    machine.crash()
    machine.start()
    machine.turn()
    trigger(machine.venue, machine.venue.entries[0].order.ticket)
    machine.until(lambda: name not in machine.execution.open)
    found = of(machine, machine.venue.held()[0].ticket)
    assert found.trailing is not None
    assert found.break_even is not None


def test_removed_stays_removed_while_the_open_may_still_be_bound(machine: Machine) -> None:
    ticket = armed(machine)
    machine.send(make(2, "protect", position_ticket=ticket, trailing=None))
    for _ in range(3):
        machine.clock.advance(1_000)
        machine.turn()
    assert machine.execution.guard.of(ticket) is None
    machine.clock.advance(GONE_MS)
    machine.turn()
    assert [row[:2] for row in machine.journal.protections()] in (
        [],
        [("00000000-0000-0000-0000-000000000001:sim-1", ticket)],
    )


def test_a_position_of_somebody_else_can_be_protected(machine: Machine) -> None:
    ticket = machine.venue.trade_by_hand()
    machine.send(make(1, "protect", symbol="EURUSD", trailing=TRAIL))
    machine.turn()
    assert machine.venue.held()[0].sl == FROM_1_1
    assert of(machine, ticket).moves == 1


def test_prices_that_stand_still_cost_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    armed(machine)
    machine.turn()
    judged: list[Any] = []
    monkeypatch.setattr("executors.guard.next_stop", lambda *given: judged.append(given))
    for _ in range(5):
        machine.turn()
    assert judged == []
    machine.venue.bid = Decimal("1.1001")
    machine.turn()
    assert len(judged) == 1


def test_a_protect_that_waited_for_an_open_that_was_not_executed_arms_nothing(machine: Machine) -> None:
    machine.venue.script.append(LOST_BEFORE)
    machine.send(make_open(1))
    name = machine.send(make(2, "protect", opened_by=1, trailing=TRAIL))
    machine.until(lambda: not machine.execution.open)
    assert machine.row(name).state == "REJECTED"
    assert machine.journal.protections() == []


def test_a_late_fill_is_protected_after_all(machine: Machine) -> None:
    machine.venue.script.append(Fault(after_ms=40_000, reply=-10005))
    name = machine.send(make_open(1, trailing=TRAIL))
    machine.until(lambda: machine.row(name).state == "NOT_EXECUTED")
    assert machine.journal.protections() == []
    machine.until(lambda: machine.row(name).state == "FILLED")
    machine.turn()
    assert machine.venue.held()[0].sl == FROM_1_1


@pytest.mark.parametrize("renamed", [False, True])
def test_what_was_armed_ends_with_the_side_or_the_ticket(machine: Machine, *, renamed: bool) -> None:
    """A netting account's position is turned over; some brokers keep its ticket."""
    ticket = armed(machine)
    held = machine.venue.held()[0]
    machine.venue.release(ticket)
    machine.venue.hold(replace(held, ticket=77 if renamed else ticket, type=1, sl=ZERO))
    machine.venue.bid = Decimal("1.0500")
    machine.turn()
    machine.turn()
    assert machine.venue.held()[0].sl == ZERO
    assert machine.execution.guard.of(ticket) is None
    assert all(name != ticket for _, name, _ in machine.journal.protections())


def test_a_position_that_turns_over_while_its_stop_loss_is_to_move_is_left_alone(
    machine: Machine,
) -> None:
    armed(machine)
    machine.venue.bid = Decimal("1.2")
    machine.execution.guard.see(machine.venue.positions())
    machine.venue.hold(replace(machine.venue.held()[0], type=1, sl=ZERO))
    machine.venue.bid = Decimal("0.9")
    assert not machine.execution.guard.step()
    assert machine.venue.held()[0].sl == ZERO


def test_which_side_was_meant_outlives_a_restart(machine: Machine) -> None:
    ticket = machine.venue.trade_by_hand()
    machine.send(make(1, "protect", position_ticket=ticket, trailing=TRAIL))
    machine.turn()
    machine.crash()
    machine.venue.hold(replace(machine.venue.held()[0], type=1, sl=ZERO))
    machine.start()
    machine.turn()
    assert machine.execution.guard.of(ticket) is None
    machine.send(make(2, "protect", position_ticket=ticket, trailing=TRAIL))
    machine.turn()
    assert of(machine, ticket).side == 1


def test_a_protect_of_a_position_that_has_just_turned_over_arms_it_anew(machine: Machine) -> None:
    ticket = armed(machine)
    machine.venue.hold(replace(machine.venue.held()[0], type=1, sl=ZERO))
    machine.send(make(2, "protect", position_ticket=ticket, break_even={"trigger": "0.5"}))
    machine.turn()
    assert of(machine, ticket).trailing is None
    assert of(machine, ticket).break_even is not None
