"""What a look says of requests that leave no magic."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from executors.comparing import compare, is_change, lasting
from executors.orders import Outcome
from executors.reconcile import Sweep
from executors.terminals.base import ZERO, Deal, Identity, Order, Position

HELD = Position(
    1, 1, "EURUSD", 0, 0, Decimal(1), Decimal("1.1"), ZERO, Decimal("1.05"), ZERO, ZERO, ZERO, "", 0, 0
)
WORKING = Order(
    11, "EURUSD", 2, 1, 0, 0, 0, Decimal(1), Decimal(1), Decimal("1.09"), ZERO, Decimal("1.05"), ZERO, 2, 2, 60_000,
    "", 0, 0,
)  # fmt: skip
LEVELS = {"action": 6, "position": 1, "sl": "1.05", "tp": "0"}
MODIFY = {
    "action": 7, "order": 11, "price": "1.09", "stoplimit": "0", "sl": "1.05", "tp": "0", "type_time": 2,
    "expiration_ms": 60_400,
}  # fmt: skip
REMOVE = {"action": 8, "order": 11}
CLOSE_BY = {"action": 10, "position": 1, "position_by": 2}


def look(**parts: Any) -> Sweep:
    nothing: dict[str, Any] = {"orders": (), "positions": (), "history_orders": (), "deals": ()}
    return Sweep(Identity(1, "s", ""), True, 0, **(nothing | parts))


def deal(position_id: int, entry: int = 1, reason: int = 3, order: int = 0) -> Deal:
    return Deal(
        9,
        order,
        position_id,
        "EURUSD",
        1,
        entry,
        reason,
        0,
        Decimal(1),
        Decimal(1),
        ZERO,
        ZERO,
        ZERO,
        ZERO,
        "",
        0,
    )


def past(state: int) -> Order:
    return replace(WORKING, state=state)


def test_a_position_that_was_turned_over_ends_by_the_deals_of_its_identifier() -> None:
    """Order 20 turned position 5 over: since then its ticket is 20, and its deals go on to name 5."""
    turned = replace(past(4), ticket=20, position_id=5)
    before, turning = replace(deal(5, order=19), ticket=8), replace(deal(5, entry=2, order=20), ticket=9)
    gone = replace(deal(5, order=21, reason=4), ticket=10)
    wish = LEVELS | {"position": 20}
    assert outcome(wish, history_orders=(turned,), deals=(before, turning)) is None  # not shown yet
    found = compare(wish, look(history_orders=(turned,), deals=(before, turning, gone)))
    assert found is not None
    assert (found.outcome, found.position_tickets) == (Outcome.REFUSED, (20,))
    assert "by its stop loss" in found.message


def outcome(request: dict[str, Any], **parts: Any) -> Outcome | None:
    found = compare(request, look(**parts))
    return found.outcome if found is not None else None


def test_what_leaves_no_magic_is_compared() -> None:
    assert [action for action in range(12) if is_change({"action": action})] == [6, 7, 8, 10]
    assert not is_change({"position": 0})  # of a journal that was lost


def test_levels_are_reached_when_the_position_has_them() -> None:
    assert outcome(LEVELS, positions=(HELD,)) is Outcome.DONE
    assert outcome(LEVELS | {"tp": "1.2"}, positions=(HELD,)) is None
    assert outcome(LEVELS | {"sl": "0"}, positions=(HELD,)) is None


@pytest.mark.parametrize(
    ("reason", "said"),
    [(3, "meanwhile"), (4, "by its stop loss"), (5, "by its take profit"), (6, "stop-out")],
)
def test_of_a_position_that_has_gone_its_end_is_told(reason: int, said: str) -> None:
    found = compare(LEVELS, look(deals=(deal(1, entry=0), deal(1, reason=reason))))
    assert found is not None
    assert found.outcome is Outcome.REFUSED
    assert said in found.message


def test_a_position_that_is_not_shown_proves_nothing_without_its_last_deal() -> None:
    assert outcome(LEVELS) is None
    assert outcome(LEVELS, deals=(deal(1, entry=0), deal(2))) is None


@pytest.mark.parametrize(
    "other",
    [
        {"price": "1.08"},
        {"sl": "0"},
        {"tp": "1.2"},
        {"stoplimit": "1.08"},
        {"type_time": 0},
        {"expiration_ms": 61_000},
    ],
)
def test_a_modify_is_reached_when_all_of_it_is(other: dict[str, Any]) -> None:
    assert outcome(MODIFY, orders=(WORKING,)) is Outcome.DONE
    assert outcome(MODIFY | other, orders=(WORKING,)) is None
    forever = replace(WORKING, type_time=0, expiration_ms=-7_200_000)
    assert outcome(MODIFY | {"type_time": 0, "expiration_ms": 0}, orders=(forever,)) is Outcome.DONE


@pytest.mark.parametrize(("state", "said"), [(2, "was cancelled"), (4, "was filled"), (6, "expired")])
def test_of_an_order_that_has_gone_its_end_is_told(state: int, said: str) -> None:
    found = compare(MODIFY, look(history_orders=(past(state),)))
    assert found is not None
    assert found.outcome is Outcome.REFUSED
    assert said in found.message
    assert outcome(MODIFY) is None


def test_a_remove_is_reached_unless_it_was_filled() -> None:
    assert outcome(REMOVE, orders=(WORKING,)) is None
    assert outcome(REMOVE) is None
    assert outcome(REMOVE, history_orders=(past(2),)) is Outcome.DONE
    assert outcome(REMOVE, history_orders=(past(6),)) is Outcome.DONE
    assert outcome(REMOVE, history_orders=(past(4),)) is Outcome.REFUSED


def test_a_close_by_is_reached_by_its_order() -> None:
    made = replace(WORKING, ticket=20, type=8, state=4, position_id=2, position_by_id=1)
    found = compare(
        CLOSE_BY, look(history_orders=(made,), deals=(deal(1, 3, order=20), deal(2, 3, order=20)))
    )
    assert found is not None
    assert (found.outcome, found.order_tickets) == (Outcome.DONE, (20,))
    two = replace(HELD, ticket=2, type=1)
    assert outcome(CLOSE_BY, positions=(HELD, two)) is None
    assert outcome(CLOSE_BY, positions=(HELD,)) is None
    assert outcome(CLOSE_BY, positions=(HELD,), deals=(deal(2, 3),)) is None  # its order is not shown yet
    assert outcome(CLOSE_BY, positions=(HELD,), deals=(deal(2),)) is Outcome.REFUSED
    other = replace(made, position_by_id=3)
    assert outcome(CLOSE_BY, positions=(HELD, two), history_orders=(other,)) is None


def test_what_lasts_is_not_executed_but_a_removal_of_what_is_gone_is_done() -> None:
    assert lasting(LEVELS, look(positions=(HELD,))).outcome is Outcome.NOT_EXECUTED
    assert lasting(REMOVE, look(orders=(WORKING,))).outcome is Outcome.NOT_EXECUTED
    assert lasting(REMOVE, look()).outcome is Outcome.DONE
