"""What one look at the terminal says about a request, and when absence counts."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from executors.orders import Outcome, comment_token, request_magic
from executors.reconcile import Sweep, SweepTracker, find
from executors.terminals.base import ZERO, Deal, Identity, Order, Position

MAGIC = request_magic("tests", "signal:terminal", 1)
TOKEN = comment_token(MAGIC)
LOTS = Decimal(1)
DEAL = Deal(
    900, 100, 100, "EURUSD", 0, 0, 3, MAGIC, LOTS, Decimal("1.1"), ZERO, ZERO, ZERO, ZERO, TOKEN, 1_000
)
ORDER = Order(
    100, "EURUSD", 0, 4, MAGIC, 100, 0, LOTS, ZERO, Decimal("1.1"), ZERO, ZERO, ZERO, 1, 0, 0, TOKEN, 1_000, 1_000
)  # fmt: skip
HELD = Position(
    100, 100, "EURUSD", 0, MAGIC, LOTS, Decimal("1.1"), Decimal("1.1"), ZERO, ZERO, ZERO, ZERO, TOKEN, 1_000, 1_000
)  # fmt: skip


def sweep(**found: Any) -> Sweep:
    parts: dict[str, Any] = {"orders": (), "positions": (), "history_orders": (), "deals": ()}
    return Sweep(Identity(7001, "Sim", ""), True, 2_000, **(parts | found))


def test_nothing_of_it_is_none() -> None:
    other = replace(DEAL, magic=0, comment="by hand", order=55)
    assert find(MAGIC, LOTS, sweep(deals=(other,), positions=(replace(HELD, magic=1, comment=""),))) is None


def test_a_deal_of_all_lots_is_filled_with_its_tickets() -> None:
    found = find(MAGIC, LOTS, sweep(deals=(DEAL,), history_orders=(ORDER,)))
    assert found is not None
    assert (found.outcome, found.filled_lots, found.price) == (Outcome.FILLED, LOTS, Decimal("1.1"))
    assert (found.deal_tickets, found.order_tickets, found.position_tickets) == ((900,), (100,), (100,))


def test_several_deals_give_a_volume_weighted_price() -> None:
    parts = (
        replace(DEAL, volume=Decimal("0.75"), price=Decimal("1.0")),
        replace(DEAL, ticket=901, volume=Decimal("0.25"), price=Decimal("2.0")),
    )
    found = find(MAGIC, LOTS, sweep(deals=parts))
    assert found is not None
    assert (found.outcome, found.price) == (Outcome.FILLED, Decimal("1.25"))


@pytest.mark.parametrize(
    "deal",
    [
        replace(DEAL, magic=0),
        replace(DEAL, magic=0, comment=TOKEN + "0"),
        replace(DEAL, comment="replaced by the broker"),
    ],
)
def test_magic_or_comment_is_enough(deal: Deal) -> None:
    found = find(MAGIC, LOTS, sweep(deals=(deal,)))
    assert found is not None
    assert found.outcome is Outcome.FILLED


def test_deals_without_magic_and_comment_are_found_through_their_order() -> None:
    bare = replace(DEAL, magic=0, comment="")
    found = find(MAGIC, LOTS, sweep(deals=(bare,), history_orders=(ORDER,)))
    assert found is not None
    assert found.outcome is Outcome.FILLED


def test_the_order_ticket_of_the_answer_finds_what_has_lost_magic_and_comment() -> None:
    bare = replace(ORDER, magic=0, comment="")
    assert find(MAGIC, LOTS, sweep(history_orders=(bare,))) is None
    found = find(
        MAGIC,
        LOTS,
        sweep(deals=(replace(DEAL, magic=0, comment=""),), history_orders=(bare,)),
        order_tickets=[100],
    )
    assert found is not None
    assert found.outcome is Outcome.FILLED


@pytest.mark.parametrize("reason", [4, 5, 6])
def test_deals_of_stop_loss_take_profit_and_stop_out_are_not_the_requests(reason: int) -> None:
    closing = replace(DEAL, ticket=901, order=101, entry=1, reason=reason, comment="[sl 1.0]")
    assert find(MAGIC, LOTS, sweep(deals=(closing,))) is None
    found = find(
        MAGIC,
        LOTS,
        sweep(deals=(DEAL, closing), history_orders=(ORDER, replace(ORDER, ticket=101, comment="[sl 1.0]"))),
    )
    assert found is not None
    assert (found.outcome, found.filled_lots) == (Outcome.FILLED, LOTS)


def test_part_of_the_lots_with_nothing_at_work_is_partial() -> None:
    half = replace(DEAL, volume=Decimal("0.5"))
    past = replace(ORDER, state=2, volume_current=Decimal("0.5"))
    found = find(MAGIC, LOTS, sweep(deals=(half,), history_orders=(past,)))
    assert found is not None
    assert (found.outcome, found.filled_lots) == (Outcome.PARTIAL, Decimal("0.5"))


def test_part_of_the_lots_with_the_rest_at_work_is_placed() -> None:
    half = replace(DEAL, volume=Decimal("0.5"))
    active = replace(ORDER, state=3, volume_current=Decimal("0.5"))
    found = find(MAGIC, LOTS, sweep(deals=(half,), orders=(active,)))
    assert found is not None
    assert (found.outcome, found.filled_lots) == (Outcome.PLACED, Decimal("0.5"))


def test_part_of_the_deals_of_an_order_that_is_filled_is_placed_until_all_are_shown() -> None:
    half = replace(DEAL, volume=Decimal("0.5"))
    found = find(MAGIC, LOTS, sweep(deals=(half,), history_orders=(ORDER,)))
    assert found is not None
    assert found.outcome is Outcome.PLACED


@pytest.mark.parametrize(
    ("past", "outcome"),
    [
        (ORDER, Outcome.PLACED),  # filled, its deals are still to be read
        (
            replace(ORDER, state=2, volume_current=Decimal("0.6")),
            Outcome.PLACED,
        ),  # cancelled after a part of it
        (replace(ORDER, state=2, volume_current=LOTS), Outcome.REFUSED),
        (replace(ORDER, state=5, volume_current=LOTS), Outcome.REFUSED),
        (replace(ORDER, state=6, volume_current=LOTS), Outcome.REFUSED),
        (replace(ORDER, state=4, volume_current=LOTS), Outcome.PLACED),
    ],
)
def test_a_past_order_without_deals(past: Order, outcome: Outcome) -> None:
    found = find(MAGIC, LOTS, sweep(history_orders=(past,)))
    assert found is not None
    assert found.outcome is outcome
    assert found.filled_lots == 0


def test_an_active_order_or_a_position_alone_is_placed() -> None:
    for part in ({"orders": (replace(ORDER, state=1),)}, {"positions": (HELD,)}):
        found = find(MAGIC, LOTS, sweep(**part))
        assert found is not None
        assert found.outcome is Outcome.PLACED


def test_a_position_outweighs_an_order_that_seems_ended() -> None:
    ended = replace(ORDER, state=2, volume_current=LOTS)
    found = find(MAGIC, LOTS, sweep(history_orders=(ended,), positions=(HELD,)))
    assert found is not None
    assert found.outcome is Outcome.PLACED


# --- when a look is clean ---


@pytest.mark.parametrize(
    ("changes", "newest", "clean"),
    [
        ({}, 0, True),
        ({}, 100, True),
        ({}, 101, False),
        ({"connected": False}, 0, False),
        ({"identity": Identity(7002, "Sim", "")}, 0, False),
        ({"identity": Identity(7001, "Other", "")}, 0, False),
    ],
)
def test_a_look_is_clean_when_account_connection_and_newest_ticket_are_right(
    changes: dict[str, Any], newest: int, *, clean: bool
) -> None:
    look = replace(sweep(history_orders=(ORDER,)), **changes)
    assert look.clean(login=7001, server="Sim", newest_ticket=newest) == clean


def test_two_looks_count_when_they_are_apart_and_late_enough() -> None:
    tracker = SweepTracker(gap_ms=5_000, settle_ms=15_000)
    settled = {"age_ms": 15_000, "answering_ms": 15_000}
    assert not tracker.absent(0, age_ms=14_999, answering_ms=99_999)
    assert not tracker.absent(0, age_ms=99_999, answering_ms=14_999)
    assert not tracker.absent(1_000, **settled)
    assert not tracker.absent(5_999, **settled)
    assert tracker.absent(6_000, **settled)


def test_a_disturbed_look_begins_again() -> None:
    tracker = SweepTracker(gap_ms=5_000, settle_ms=0)
    assert not tracker.absent(0, age_ms=1, answering_ms=1)
    tracker.disturbed()
    assert not tracker.absent(6_000, age_ms=1, answering_ms=1)
    assert tracker.absent(11_000, age_ms=1, answering_ms=1)
