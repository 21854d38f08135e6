"""A pending order is filled at any moment of a modify or protect of it: what is wished reaches the position, whichever call to
the terminal the fill comes before, however its lists lag, and though its answer is lost. And levels that traders and trailing
stops change at once, with answers lost: what a change does not name stays. `ORDER_MODEL_EXAMPLES` sets how many of each are
tried."""

import os
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from executors.orders import OrderState
from tests.simulated import FILL, LOST_AFTER, LOST_BEFORE, NOT_CONNECTED, REQUOTE, make, make_open
from tests.simulated_changes import trigger
from tests.simulated_store import Machine
from tests.simulated_watch import LevelsWatch

CALLS = 14
EXAMPLES = int(os.environ.get("ORDER_MODEL_EXAMPLES", "25"))
WISHES = st.sampled_from(
    [
        ("modify", {"stop_loss": "1.05"}),
        ("modify", {"take_profit": "1.5"}),
        ("modify", {"stop_loss": "1.05", "take_profit": "1.5"}),
        ("protect", {"trailing": {"distance": "0.02"}}),
    ]
)


@pytest.fixture(autouse=True)
def _quiet(settings: Any) -> None:
    settings.INSTALLATION_ID = "races"


@effort(deadline=None, max_examples=EXAMPLES)
@given(
    wish=WISHES,
    by=st.sampled_from(["opened_by", "order_ticket", "symbol"]),
    number=st.integers(1, CALLS),
    netting=st.booleans(),
    older=st.booleans(),
    level_lag_ms=st.sampled_from([0, 300]),
    lost=st.booleans(),
)
def test_it_reaches_the_position(
    wish: tuple[str, dict[str, Any]],
    by: str,
    number: int,
    *,
    netting: bool,
    older: bool,
    level_lag_ms: int,
    lost: bool,
) -> None:
    action, fields = wish
    if action == "protect" and by == "symbol":
        by = "opened_by"  # of a symbol only positions are meant
    with TemporaryDirectory() as directory:
        machine = Machine(Path(directory))
        machine.link()
        machine.turn()
        machine.venue.margin_mode = 0 if netting else 2
        machine.venue.level_lag_ms = level_lag_ms
        opened = machine.send(make_open(1, order_type="limit", price="1.09", stop_loss="1.01"))
        machine.until(lambda: opened in machine.execution.resting)
        ticket = machine.execution.resting[opened][0]
        if older and not netting:
            machine.send(make_open(2, stop_loss="1.02"))
        if lost and action == "modify":
            machine.venue.script.append(LOST_AFTER)
        calls = [0]

        def count(_: Any) -> None:
            calls[0] += 1
            if calls[0] == number:
                trigger(machine.venue, ticket)

        machine.venue.before_ask = machine.venue.before_send = count
        which: dict[str, Any] = {"opened_by": 1, "order_ticket": ticket, "symbol": "EURUSD"}
        name = machine.send(make(9, action, **{by: which[by]}, **fields))
        machine.until(lambda: name not in machine.execution.open and calls[0] >= number)
        machine.until(lambda: opened not in machine.execution.open)
        assert machine.row(name).state is OrderState.DONE, machine.row(name)
        made = machine.venue.position(ticket)
        assert made is not None
        if action == "modify":
            wished = {"stop_loss": "1.01", "take_profit": "0"} | fields
            assert (made.sl, made.tp) == (Decimal(wished["stop_loss"]), Decimal(wished["take_profit"]))
        else:
            machine.turn()
            assert machine.execution.guard.of(ticket) is not None
        machine.crash()


FAULTS = st.sampled_from([FILL, FILL, FILL, LOST_AFTER, LOST_BEFORE, REQUOTE, NOT_CONNECTED])
NAMED = st.sampled_from(
    [{"take_profit": "1.5"}, {"take_profit": "1.6"}, {"take_profit": 0}, {"stop_loss": "1.01"}, {"stop_loss": 0}]
)  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.just("price"), st.integers(1_0950, 1_1500).map(lambda n: str(Decimal(n) / 10_000))),
    st.tuples(st.just("modify"), st.tuples(NAMED, st.lists(FAULTS, max_size=3))),
    st.tuples(st.just("wait"), st.sampled_from([20, 200, 3_000])),
)


@effort(deadline=None, max_examples=EXAMPLES)
@given(steps=st.lists(STEPS, min_size=2, max_size=12), level_lag_ms=st.sampled_from([0, 50, 300]))
def test_what_a_change_does_not_name_stays(steps: list[tuple[str, Any]], level_lag_ms: int) -> None:
    with TemporaryDirectory() as directory:
        machine = Machine(Path(directory))
        machine.link()
        machine.turn()
        for number in (1, 2):
            machine.send(make_open(number, trailing={"distance": "0.002", "step": "0.0005"}))
        watch = LevelsWatch(machine)
        machine.venue.level_lag_ms = level_lag_ms
        for number, (kind, given_) in enumerate(steps, 10):
            if kind == "price":
                machine.venue.bid = Decimal(given_)
            elif kind == "wait":
                machine.clock.advance(given_)
            else:
                fields, faults = given_
                machine.venue.script.extend(faults)
                machine.send(make(number, "modify", symbol="EURUSD", **fields), run=False)
            machine.link()
            machine.turn()
            watch.check()
        machine.venue.script.clear()
        machine.heal()
        watch.check()
        machine.crash()
