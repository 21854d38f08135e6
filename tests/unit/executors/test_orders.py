"""States, the fold over requests, and how requests are named."""

from decimal import Decimal

import pytest

from executors.orders import (
    MAGIC_BASE,
    SETTLED,
    TRANSITIONS,
    IllegalTransition,
    OrderState,
    Outcome,
    RequestView,
    advance,
    comment_token,
    fold,
    magic_of_comment,
    order_id,
    request_magic,
)

S = OrderState
LOTS = Decimal(1)


def view(outcome: Outcome, filled: str = "0") -> RequestView:
    return RequestView(outcome, LOTS, Decimal(filled))


def test_the_table_names_every_state_and_the_settled_ones_go_nowhere_but_late_fills() -> None:
    assert set(TRANSITIONS) == set(OrderState)
    for state in SETTLED:
        assert TRANSITIONS[state] <= ({S.PLACED, S.PARTIAL, S.FILLED} if state is S.NOT_EXECUTED else set())
    assert {state for state in OrderState if state not in SETTLED} == {
        S.QUEUED,
        S.INTENT,
        S.PLACED,
        S.PARTIAL,
        S.UNKNOWN,
    }


def test_every_state_can_be_reached_and_every_open_one_can_settle() -> None:
    reached, frontier = {S.QUEUED}, [S.QUEUED]
    while frontier:
        for state in TRANSITIONS[frontier.pop()] - reached:
            reached.add(state)
            frontier.append(state)
    assert reached == set(OrderState)
    assert all(TRANSITIONS[state] & SETTLED for state in set(OrderState) - SETTLED)


def test_nothing_returns_to_queued() -> None:
    assert not any(S.QUEUED in targets for targets in TRANSITIONS.values())


@pytest.mark.parametrize(
    ("old", "new"), [(S.FILLED, S.INTENT), (S.QUEUED, S.FILLED), (S.EXPIRED, S.FILLED), (S.UNKNOWN, S.DENIED)]
)
def test_a_move_outside_the_table_is_an_error(old: OrderState, new: OrderState) -> None:
    with pytest.raises(IllegalTransition, match=f"{old} → {new}"):
        advance(old, new)


@pytest.mark.parametrize(
    ("requests", "wanted", "state"),
    [
        ([view(Outcome.FILLED, "1")], 1, S.FILLED),
        ([view(Outcome.REFUSED), view(Outcome.FILLED, "1")], 1, S.FILLED),
        ([view(Outcome.PARTIAL, "0.5"), view(Outcome.FILLED, "0.5")], 1, S.FILLED),
        ([view(Outcome.PARTIAL, "0.5"), view(Outcome.REFUSED)], 1, S.PARTIAL),
        ([view(Outcome.PLACED)], 1, S.PLACED),
        ([view(Outcome.PLACED, "0.5")], 1, S.PARTIAL),
        ([view(Outcome.FILLED, "1"), view(Outcome.PLACED)], 2, S.PARTIAL),
        ([view(Outcome.REFUSED)], 1, S.REJECTED),
        ([view(Outcome.DONE)], 0, S.DONE),
        ([view(Outcome.REFUSED), view(Outcome.DONE)], 0, S.DONE),
        # one position was closed already, the other was refused: lots are still wanted
        ([view(Outcome.DONE), view(Outcome.REFUSED)], 1, S.REJECTED),
        ([view(Outcome.DONE), view(Outcome.NOT_EXECUTED)], 1, S.NOT_EXECUTED),
        ([view(Outcome.DONE), view(Outcome.FILLED, "1")], 1, S.FILLED),
        ([view(Outcome.NOT_EXECUTED)], 1, S.NOT_EXECUTED),
        ([view(Outcome.FILLED, "1"), view(Outcome.NOT_EXECUTED)], 2, S.PARTIAL),
        ([view(Outcome.MANUAL)], 1, S.MANUAL),
        ([view(Outcome.FILLED, "1"), view(Outcome.UNKNOWN)], 2, S.UNKNOWN),
        ([view(Outcome.PENDING)], 1, S.INTENT),
        ([], 1, S.INTENT),
    ],
)
def test_the_state_folds_over_the_requests(
    requests: list[RequestView], wanted: int, state: OrderState
) -> None:
    assert fold(requests, Decimal(wanted), more=False) is state


def test_an_order_with_more_to_send_is_intent_unless_something_is_unknown() -> None:
    assert fold([view(Outcome.FILLED, "1")], Decimal(2), more=True) is S.INTENT
    assert fold([view(Outcome.UNKNOWN)], Decimal(2), more=True) is S.UNKNOWN


def test_a_magic_depends_on_installation_order_and_number_and_on_nothing_else() -> None:
    name = order_id("signal", "terminal")
    magics = {
        request_magic("a", name, 1),
        request_magic("a", name, 2),
        request_magic("b", name, 1),
        request_magic("a", order_id("signal", "terminal-2"), 1),
    }
    assert len(magics) == 4
    assert request_magic("a", name, 1) in magics
    assert all(MAGIC_BASE <= magic < 2**53 for magic in magics)


def test_a_token_fits_the_shortest_comment_and_leads_back_to_its_magic() -> None:
    magic = request_magic("a", "b:c", 1)
    token = comment_token(magic)
    assert len(token) == 15
    assert magic_of_comment(token) == magic
    assert magic_of_comment(token + " cut by a broker") == magic


@pytest.mark.parametrize(
    "comment", ["", "td", "td12345", "tdzzzzzzzzzzzzz", "[sl 1.1000]      ", "xx0000000000000"]
)
def test_other_comments_have_no_magic(comment: str) -> None:
    assert magic_of_comment(comment) is None
