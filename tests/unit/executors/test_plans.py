"""From an order to its next request."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from executors.execution import new_row
from executors.legs import LegRow, RequestRow
from executors.messages import CloseSignal, OpenSignal
from executors.orders import Outcome, comment_token
from executors.plans import Step, already_closed, build_request, filling, late, next_step
from executors.terminals.base import ZERO, Tick
from tests.simulated import SimClock, make_close, make_config, make_leg, make_open, make_spec

CONFIG = make_config()
TICK = Tick("EURUSD", Decimal("1.1000"), Decimal("1.1002"), ZERO, 0, 0)


def row_of(signal: OpenSignal | CloseSignal, *tickets: tuple[int, int, str]) -> LegRow:
    row = new_row(make_leg(signal, 1), SimClock())
    row.plan = {"tickets": [[ticket, "EURUSD", kind, lots] for ticket, kind, lots in tickets]}
    return row


def asked(
    row: LegRow, outcome: Outcome, *, position: int = 0, lots: str = "1", filled: str = "0", **result: Any
) -> None:
    row.requests.append(
        RequestRow(
            len(row.requests) + 1,
            1,
            {"position": position},
            Decimal(lots),
            0,
            outcome,
            filled_lots=Decimal(filled),
            result=result,
        )
    )


def test_an_open_is_one_market_order_of_its_lots() -> None:
    assert next_step(row_of(make_open(1)), CONFIG) == Step("EURUSD", 0, Decimal(1), 1)
    assert next_step(row_of(make_open(1, side="sell")), CONFIG) == Step("EURUSD", 1, Decimal(1), 1)


@pytest.mark.parametrize(
    ("outcome", "filled", "result", "left"),
    [
        (Outcome.FILLED, "1", {}, None),
        (Outcome.REFUSED, "0", {"retriable": False}, None),
        (Outcome.REFUSED, "0", {"retriable": True}, "1"),
        (Outcome.PARTIAL, "0.4", {}, "0.6"),
        (Outcome.PARTIAL, "0.4", {"looked": True}, None),
        (Outcome.PLACED, "0", {}, None),
        (Outcome.NOT_EXECUTED, "0", {}, None),
        (Outcome.MANUAL, "0", {}, None),
        (Outcome.DONE, "0", {}, None),
    ],
)
def test_after_a_request_an_open_asks_again_only_for_what_was_certainly_refused(
    outcome: Outcome, filled: str, result: dict[str, Any], left: str | None
) -> None:
    row = row_of(make_open(1))
    asked(row, outcome, filled=filled, **result)
    step = next_step(row, CONFIG)
    assert (step.lots if step else None) == (Decimal(left) if left else None)
    assert step is None or step.attempt == 2


def test_attempts_are_limited_per_position() -> None:
    row = row_of(make_close(1), (11, 0, "1"), (12, 1, "2"))
    for _ in range(3):
        asked(row, Outcome.REFUSED, position=11, retriable=True)
    assert next_step(row, CONFIG) == Step("EURUSD", 0, Decimal(2), 1, 12)
    asked(row, Outcome.FILLED, position=12, filled="2")
    assert next_step(row, CONFIG) is None


def test_a_close_takes_the_opposite_side_of_each_position_in_turn() -> None:
    row = row_of(make_close(1), (11, 0, "1"), (12, 1, "2"))
    assert next_step(row, CONFIG) == Step("EURUSD", 1, Decimal(1), 1, 11)
    asked(row, Outcome.FILLED, position=11, filled="1")
    assert next_step(row, CONFIG) == Step("EURUSD", 0, Decimal(2), 1, 12)


def test_the_rest_of_a_position_may_be_closed_after_a_look() -> None:
    row = row_of(make_close(1), (11, 0, "1"))
    asked(row, Outcome.PARTIAL, position=11, filled="0.4", looked=True)
    step = next_step(row, CONFIG)
    assert step is not None
    assert step.lots == Decimal("0.6")


def test_a_rest_below_the_minimum_is_not_asked_for() -> None:
    row = row_of(make_open(1))
    asked(row, Outcome.PARTIAL, filled="0.95")
    assert next_step(row, CONFIG, min_lots=Decimal("0.1")) is None


def test_a_request_carries_its_magic_and_token_and_widens_its_deviation() -> None:
    row = row_of(make_open(1, stop_loss="1.0", take_profit="1.2"))
    for attempt in (1, 2, 3):
        step = Step("EURUSD", 0, Decimal(1), attempt)
        request = build_request(step, row, CONFIG, make_spec("EURUSD"), TICK, 2**52 + 5)
        assert request.deviation == 20 * attempt
    assert (request.magic, request.comment) == (2**52 + 5, comment_token(2**52 + 5))
    assert (request.sl, request.tp, request.price) == (Decimal("1.0"), Decimal("1.2"), ZERO)


@pytest.mark.parametrize(
    ("exemode", "kind", "price"), [(0, 0, "1.1002"), (1, 1, "1.1000"), (2, 0, "0"), (3, 1, "0")]
)
def test_only_request_and_instant_execution_name_a_price(exemode: int, kind: int, price: str) -> None:
    step = Step("EURUSD", kind, Decimal(1), 1, 11)
    request = build_request(
        step, row_of(make_close(1)), CONFIG, make_spec("EURUSD", exemode=exemode), TICK, 2**52
    )
    assert request.price == Decimal(price)
    assert (request.position, request.sl, request.tp) == (11, ZERO, ZERO)


@pytest.mark.parametrize(
    ("exemode", "mask", "policy"),
    [(0, 0, 0), (1, 2, 0), (2, 1, 0), (2, 3, 0), (2, 2, 1), (3, 0, 2), (3, 4, 2)],
)
def test_the_filling_policy_is_one_that_the_symbol_takes(exemode: int, mask: int, policy: int) -> None:
    assert filling(make_spec("EURUSD", exemode=exemode, filling_mode=mask)) == policy


@pytest.mark.parametrize(
    ("mask", "refused", "policy"),
    [(3, [], 0), (3, [0], 1), (3, [0, 1], 2), (2, [1], 0), (0, [2], 0), (3, [0, 1, 2], 0)],
)
def test_a_policy_that_was_refused_is_not_asked_for_again(mask: int, refused: list[int], policy: int) -> None:
    """Symbols' masks have named policies that their brokers do not take."""
    row = row_of(make_open(1))
    for used in refused:
        asked(row, Outcome.REFUSED, retriable=True)
        row.requests[-1].request["type_filling"] = used
        row.requests[-1].retcode = 10030
    step = Step("EURUSD", 0, Decimal(1), len(refused) + 1)
    spec = make_spec("EURUSD", exemode=2, filling_mode=mask)
    assert build_request(step, row, CONFIG, spec, TICK, 5).type_filling == policy


def test_only_a_position_that_is_gone_counts_as_closed() -> None:
    step = Step("EURUSD", 1, Decimal(1), 1, 11)
    assert already_closed(step, 10036)
    assert not already_closed(step, 10006)
    assert not already_closed(replace(step, position=0), 10036)


def test_a_late_order_says_how_late_it_is() -> None:
    leg = make_leg(make_open(1), 1, ttl_ms=1_000)
    assert "passed 250 ms" in late(leg, leg.deadline_ms + 250)
