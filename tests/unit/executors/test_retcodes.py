"""What MetaTrader's answers mean: one table of definite refusals, everything else unknown."""

from decimal import Decimal
from typing import Any

import pytest

from executors.orders import Outcome
from executors.retcodes import NOT_SENT, REFUSALS, RETRIABLE, filled_lots, judge
from executors.terminals.base import ZERO, SendReply, SendResult, TradeRequest

REQUEST = TradeRequest(action=1, symbol="EURUSD", volume=Decimal("1.0"))


def answer(code: int, **fields: Any) -> SendReply:
    values: dict[str, Any] = {
        "retcode": code,
        "deal": 0,
        "order": 0,
        "volume": ZERO,
        "price": ZERO,
        "bid": ZERO,
        "ask": ZERO,
        "comment": "",
        "request_id": 0,
    }
    return SendReply(SendResult(**(values | fields)))


def done(code: int = 10009, **fields: Any) -> SendReply:
    values: dict[str, Any] = {"deal": 5, "order": 6, "volume": Decimal("1.0"), "price": Decimal("1.1")}
    return answer(code, **(values | fields))


@pytest.mark.parametrize(
    ("reply", "outcome", "filled"),
    [
        (done(), Outcome.FILLED, "1"),
        (done(10010, volume=Decimal("0.4")), Outcome.PARTIAL, "0.4"),
        # some servers know deal, price or lots only later
        (done(deal=0), Outcome.PLACED, "0"),
        (done(price=ZERO), Outcome.PLACED, "0"),
        (done(volume=ZERO), Outcome.PLACED, "0"),
        (done(volume=Decimal("0.4")), Outcome.PLACED, "0"),
        (done(10010, volume=ZERO), Outcome.PLACED, "0"),
        (done(10010, deal=0), Outcome.PLACED, "0"),
        (done(10008), Outcome.PLACED, "0"),
    ],
)
def test_success_counts_as_filled_only_with_deal_price_and_lots(
    reply: SendReply, outcome: Outcome, filled: str
) -> None:
    verdict = judge(REQUEST, reply)
    assert verdict.outcome is outcome
    assert filled_lots(verdict, REQUEST, reply) == Decimal(filled)


def test_with_return_filling_the_rest_of_a_partial_fill_is_still_at_the_broker() -> None:
    request = TradeRequest(action=1, symbol="EURUSD", volume=Decimal("1.0"), type_filling=2)
    assert judge(request, done(10010, volume=Decimal("0.4"))).outcome is Outcome.PLACED


@pytest.mark.parametrize("action", [6, 7, 8, 10])
def test_what_has_no_lots_is_done(action: int) -> None:
    request = TradeRequest(action=action)
    assert judge(request, answer(10009)).outcome is Outcome.DONE
    assert judge(request, answer(10008)).outcome is Outcome.UNKNOWN  # its state tells
    unchanged = Outcome.DONE if action in (6, 7) else Outcome.REFUSED
    assert judge(request, answer(10025)).outcome is unchanged
    assert judge(request, answer(10036)).outcome is Outcome.REFUSED


@pytest.mark.parametrize("code", [10008, 10009, 10010])
def test_a_pending_order_is_placed_by_any_success(code: int) -> None:
    assert judge(TradeRequest(action=5), answer(code)).outcome is Outcome.PLACED


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_a_definite_refusal_says_why_and_with_which_code(code: int) -> None:
    verdict = judge(REQUEST, answer(code, comment="the broker's words"))
    assert verdict.outcome is Outcome.REFUSED
    assert REFUSALS[code] in verdict.message
    assert str(code) in verdict.message
    assert "the broker's words" in verdict.message
    assert verdict.retriable == (code in RETRIABLE)


@pytest.mark.parametrize("code", [0, 1, 10001, 10011, 10012, 10031, 10037, 10099, -1])
def test_a_code_outside_the_table_is_unknown(code: int) -> None:
    verdict = judge(REQUEST, answer(code))
    assert (verdict.outcome, verdict.retriable) == (Outcome.UNKNOWN, False)


@pytest.mark.parametrize("code", [-1, -3, -5, -6, -10000, -10001, -10002, -10003, -10005, 1, 0])
def test_no_answer_is_unknown_whatever_the_last_error_says(code: int) -> None:
    assert judge(REQUEST, SendReply(None, (code, "text"))).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("code", sorted(NOT_SENT))
def test_what_never_left_the_client_is_refused(code: int) -> None:
    verdict = judge(REQUEST, SendReply(None, (code, "text")))
    assert verdict.outcome is Outcome.REFUSED
    assert verdict.retriable == (code == -10004)


def test_only_refusals_of_a_price_or_a_filling_policy_are_retried() -> None:
    assert {10004, 10020, 10021, 10030} == RETRIABLE
