"""Positions that a terminal does not show yet."""

from executors.lagging import LaggingHoldings
from tests.simulated import SimVenue, make_close, make_open
from tests.simulated_store import Machine


def filled(machine: Machine, lag_ms: float) -> LaggingHoldings:
    machine.venue.lag_ms = lag_ms
    row = machine.row(machine.send(make_open(1)))
    positions = LaggingHoldings(lambda: machine.venue, machine.clock)
    positions.filled(row)
    return positions


def test_a_position_that_lags_is_waited_for(machine: Machine) -> None:
    positions = filled(machine, 300)
    before = machine.clock.monotonic_ms()
    assert len(positions.read(positions.meant_by(make_close(2)))) == 1
    assert 280 <= machine.clock.monotonic_ms() - before <= 320


def test_what_the_close_does_not_mean_is_not_waited_for(machine: Machine) -> None:
    positions = filled(machine, 300)
    before = machine.clock.monotonic_ms()
    assert positions.read(positions.meant_by(make_close(2, symbol="USDJPY"))) == ()
    assert machine.clock.monotonic_ms() == before


def test_a_close_by_ticket_waits_for_that_fill(machine: Machine) -> None:
    positions = filled(machine, 300)
    ticket = machine.venue.held()[0].ticket
    assert [item.ticket for item in positions.read(positions.meant_by(make_close(2, ticket=ticket)))] == [
        ticket
    ]


def test_the_wait_ends_with_the_lag_s_limit(machine: Machine) -> None:
    positions = filled(machine, 100_000)
    before = machine.clock.monotonic_ms()
    assert positions.read(positions.meant_by(make_close(2))) == ()
    assert 1_000 <= machine.clock.monotonic_ms() - before <= 1_020
    assert positions.meant_by(make_close(3)) == []


def test_a_position_that_was_seen_is_not_waited_for_when_it_is_gone(machine: Machine) -> None:
    positions = filled(machine, 0)
    assert len(positions.read([])) == 1
    venue: SimVenue = machine.venue
    venue.stop_out(venue.held()[0].ticket)
    before = machine.clock.monotonic_ms()
    assert positions.read(positions.meant_by(make_close(2))) == ()
    assert machine.clock.monotonic_ms() == before
