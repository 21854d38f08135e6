"""Properties of plans without lots, and of what a look says of them, over random outcomes and states."""

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from executors.comparing import compare, lasting
from executors.endings import ending
from executors.execution import new_row
from executors.legs import LegRow, RequestRow
from executors.orders import TRANSITIONS, OrderState, Outcome, advance
from executors.plans import build_request, jsonable, next_step
from executors.reconcile import Sweep
from executors.terminals.base import ZERO, Deal, Identity, Order, Position
from tests.simulated import SimClock, make, make_config, make_leg

CONFIG = make_config(max_attempts=3)
LEVELS = st.sampled_from(["0", "1.05", "1.06"])
CHANGE = st.one_of(
    st.builds(
        lambda ticket, sl, tp: {"action": 6, "symbol": "EURUSD", "position": ticket, "sl": sl, "tp": tp},
        st.integers(1, 4), LEVELS, LEVELS,
    ),
    st.builds(lambda ticket: {"action": 8, "order": ticket, "type": 2}, st.integers(11, 14)),
    st.builds(
        lambda ticket, price, sl: {
            "action": 7, "order": ticket, "type": 2, "price": price, "stoplimit": "0", "sl": sl, "tp": "0",
            "type_time": 0, "expiration_ms": 0,
        },
        st.integers(21, 24), st.sampled_from(["1.08", "1.09"]), LEVELS,
    ),
    st.builds(lambda one, other: {"action": 10, "position": one, "position_by": other}, st.integers(31, 33), st.integers(34, 36)),
)  # fmt: skip
ANSWERS = st.lists(
    st.sampled_from(["done", "refused", "again", "lost", "not executed"]), min_size=30, max_size=30
)


def target(request: dict[str, Any]) -> tuple[int, int, int]:
    return request.get("position", 0), request.get("order", 0), request.get("position_by", 0)


def planned(changes: list[dict[str, Any]]) -> LegRow:
    row = new_row(make_leg(make(1, "cancel", all=True), 1), SimClock())
    row.plan = {"changes": changes, "waiting": []}
    row.state = OrderState.INTENT
    return row


OUTCOMES: dict[str, tuple[Outcome, dict[str, Any]]] = {
    "done": (Outcome.DONE, {}),
    "refused": (Outcome.REFUSED, {"retriable": False, "message": "no"}),
    "again": (Outcome.REFUSED, {"retriable": True, "message": "later"}),
    "lost": (Outcome.DONE, {"looked": True}),
    "not executed": (Outcome.NOT_EXECUTED, {"retriable": False, "looked": True}),
}


@given(changes=st.lists(CHANGE, max_size=6, unique_by=target), answers=ANSWERS)
def test_each_target_is_asked_once_unless_it_was_definitely_refused_for_now(
    changes: list[dict[str, Any]], answers: list[str]
) -> None:
    row = planned(changes)
    for answer in answers:
        step = next_step(row, CONFIG)
        if step is None:
            break
        assert step.change in changes
        request = jsonable(build_request(step, row, CONFIG, None, None, 77))
        assert target(request) == target(step.change or {})
        outcome, result = OUTCOMES[answer]
        row.requests.append(
            RequestRow(len(row.requests) + 1, 77, request, ZERO, 0, outcome, result=dict(result))
        )
    assert next_step(row, CONFIG) is None
    for change in changes:
        made = [item for item in row.requests if target(item.request) == target(change)]
        assert 1 <= len(made) <= 3
        assert all(item.result.get("retriable") for item in made[:-1])
    asked = [target(item.request) for item in row.requests]
    assert list(dict.fromkeys(asked)) == [target(change) for change in changes]


@given(changes=st.lists(CHANGE, max_size=6, unique_by=target), answers=ANSWERS)
def test_the_end_is_legal_and_done_only_when_all_is_done(
    changes: list[dict[str, Any]], answers: list[str]
) -> None:
    row = planned(changes)
    for change, answer in zip(changes, answers, strict=False):
        outcome, result = OUTCOMES[answer]
        row.requests.append(RequestRow(1, 77, change, ZERO, 0, outcome, result=dict(result)))
    end = ending(row)
    state = row.state
    for step, _, _ in end.steps:
        state = advance(state, step)
    assert not TRANSITIONS[state] or state is OrderState.NOT_EXECUTED
    outcomes = [item.outcome for item in row.requests]
    assert (state is OrderState.DONE) == all(item is Outcome.DONE for item in outcomes)
    assert (state is OrderState.NOT_EXECUTED) == bool(outcomes and set(outcomes) == {Outcome.NOT_EXECUTED})


def position(ticket: int, sl: str, tp: str) -> Position:
    return Position(
        ticket, ticket, "EURUSD", 0, 0, Decimal(1), ZERO, ZERO, Decimal(sl), Decimal(tp), ZERO, ZERO, "", 0, 0
    )


def order(ticket: int, price: str, sl: str, state: int, kind: int = 2) -> Order:
    return Order(
        ticket, "EURUSD", kind, state, 0, 0, 0, Decimal(1), Decimal(1), Decimal(price), ZERO, Decimal(sl), ZERO, 2, 0,
        0, "", 0, 0,
    )  # fmt: skip


DEALS = st.lists(
    st.builds(
        lambda ticket, entry: Deal(
            1, 0, ticket, "EURUSD", 1, entry, 3, 0, Decimal(1), Decimal(1), ZERO, ZERO, ZERO, ZERO, "", 0
        ),
        st.sampled_from([1, 2, 31, 34]), st.sampled_from([0, 1, 3]),
    ),
    max_size=3,
)  # fmt: skip
HELD = st.builds(position, st.sampled_from([1, 2, 31, 34]), LEVELS, LEVELS)
PRICES = st.sampled_from(["1.08", "1.09"])
ACTIVE = st.builds(order, st.sampled_from([11, 12, 21, 22]), PRICES, LEVELS, st.just(1))
PAST = st.builds(order, st.sampled_from([13, 14, 23, 24]), PRICES, LEVELS, st.sampled_from([2, 4, 6]))
SWEEPS = st.builds(
    lambda positions, orders, past, deals: Sweep(
        Identity(1, "s", ""), True, 0, tuple(orders), tuple(positions), tuple(past), tuple(deals)
    ),
    st.lists(HELD, max_size=3, unique_by=lambda item: item.ticket),
    st.lists(ACTIVE, max_size=3, unique_by=lambda item: item.ticket),
    st.lists(PAST, max_size=3),
    DEALS,
)


@given(request=CHANGE, sweep=SWEEPS)
def test_done_is_said_only_of_what_is_there_and_never_while_the_old_state_stands(
    request: dict[str, Any], sweep: Sweep
) -> None:
    found = compare(request, sweep)
    held = {item.ticket: item for item in sweep.positions}
    active = {item.ticket: item for item in sweep.orders}
    if request["action"] == 6 and request["position"] in held:
        levels = (held[request["position"]].sl, held[request["position"]].tp)
        wished = (Decimal(request["sl"]), Decimal(request["tp"]))
        assert (found is not None) == (levels == wished)
        assert found is None or found.outcome is Outcome.DONE
    elif request["action"] in (7, 8) and request["order"] in active:
        same = (active[request["order"]].price_open, active[request["order"]].sl)
        reached = request["action"] == 7 and same == (Decimal(request["price"]), Decimal(request["sl"]))
        assert (found is not None) == reached
    elif found is not None and found.outcome is Outcome.DONE:
        assert (
            request["action"] == 8
        )  # gone, as wished; a close by is only done by its own order, which is not there
    if found is None:
        assert lasting(request, sweep).outcome in (Outcome.NOT_EXECUTED, Outcome.DONE)
        gone = request["action"] == 8 and request["order"] not in active
        assert (lasting(request, sweep).outcome is Outcome.DONE) == gone
