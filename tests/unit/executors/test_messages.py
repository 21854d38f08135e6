"""The schema of signals: what each action needs, what it refuses and in which words, and that stores change nothing."""

from typing import Any
from uuid import UUID

import pytest
from django.test import override_settings
from pydantic import ValidationError

from executors.dispatch import describe, parse, time_to_live
from executors.errors import Code, Refused
from executors.messages import SIGNAL, Leg, ModifySignal, OpenSignal, ProtectSignal
from executors.signals import in_words

ID, OTHER = str(UUID(int=1)), str(UUID(int=2))
LIMIT = {"order_type": "limit", "price": 1.1}


def body(action: str, **fields: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"signal_id": ID, "action": action, "targets": {"terminals": ["sim-1"]}}
    if action == "open":
        out |= {"symbol": "EURUSD", "side": "buy", "lots": 0.1}
    return out | fields


GOOD = [
    body("open"),
    body("open", stop_loss=1.0, take_profit=1.2),
    body("open", **LIMIT, stop_loss=1.0, take_profit=1.2, expires_ms=1_795_322_044_000),
    body("open", order_type="stop", price=1.1, side="sell", stop_loss=1.2),
    body("open", order_type="stop_limit", price=1.1, limit_price=1.09),
    body("open", trailing={"distance": 0.002, "step": 0.0005}, break_even={"trigger": 0.001}),
    body("modify", position_ticket=7, stop_loss=0),
    body("modify", order_ticket=7, price=1.1, expires_ms=0),
    body("modify", opened_by=OTHER, take_profit=1.2),
    body("modify", all=True, stop_loss=0, take_profit=0),
    body("close", position_ticket=7, lots=0.1),
    body("close", opened_by=OTHER, fraction=0.5),
    body("close", symbol="EURUSD"),
    body("close", all=True),
    body("cancel", order_ticket=7),
    body("cancel", opened_by=OTHER),
    body("cancel", all=True),
    body("close_by", position_ticket=7, by_position_ticket=8),
    body("close_by", symbol="EURUSD"),
    body("protect", symbol="EURUSD", trailing={"distance": 0.002}),
    body("protect", opened_by=OTHER, trailing=None, break_even={"trigger": 0.002, "offset": 0.0001}),
    body("protect", position_ticket=7, break_even=None),
]


@pytest.mark.parametrize("wish", GOOD, ids=lambda wish: wish["action"])
def test_a_signal_is_the_same_after_every_store(wish: dict[str, Any]) -> None:
    signal = SIGNAL.validate_python(wish)
    stored = SIGNAL.validate_json(signal.model_dump_json(exclude_none=True))
    leg = Leg(
        signal=signal, digest=signal.digest(), terminal_id="sim-1", epoch=1, leg_seq=1, accepted_ms=1,
        deadline_ms=2, user_id=1,
    )  # fmt: skip
    kept = Leg.model_validate_json(leg.model_dump_json()).signal
    assert stored == kept == signal
    assert stored.digest() == kept.digest() == signal.digest()


BAD = [
    (body("open", price=1.1), "price belongs to pending orders: leave it out of a market order"),
    (body("open", expires_ms=5), "expires_ms belongs to pending orders"),
    (body("open", order_type="stop"), "order_type stop needs a price"),
    (body("open", **LIMIT, limit_price=1.0), "limit_price belongs to stop_limit orders"),
    (body("open", order_type="stop_limit", price=1.1), "limit_price belongs to stop_limit orders"),
    (body("open", order_type="stop_limit", price=1.1, limit_price=1.2), "limit_price must lie below price"),
    (body("open", **LIMIT, stop_loss=1.1), "stop_loss must lie below the entry price"),
    (body("open", **LIMIT, take_profit=1.05), "take_profit must lie above the entry price"),
    (body("open", stop_loss=1.2, take_profit=1.1), "exchange the two"),
    (body("open", trailing={"distance": 0}), "trailing.distance must be above 0"),
    (body("open", break_even={"trigger": 0}), "break_even.trigger must be above 0"),
    (body("open", break_even={"trigger": 1, "offset": 1}), "offset must be less than trigger"),
    (body("open", trailing={"distance": -1}), "greater than or equal to 0"),
    (body("open", order_type="trail"), "order_type"),
    (body("open", symbol=None), "symbol"),
    (body("modify", symbol="EURUSD"), "give at least one of price"),
    (body("modify", stop_loss=1.1), "give exactly one of position_ticket, order_ticket, opened_by, symbol or all"),
    (body("modify", all=True, stop_loss=1.1), "one price does not fit all symbols"),
    (body("modify", position_ticket=7, price=1.1), "belong to pending orders: name order_ticket"),
    (body("modify", position_ticket=7, order_ticket=8, stop_loss=1), "give exactly one of"),
    (body("modify", opened_by="7", stop_loss=1), "opened_by"),
    (body("modify", opened_by=OTHER.replace("-", "x"), stop_loss=1), "UUID"),
    (body("close", lots=0.1, symbol="EURUSD"), "lots belong to one position"),
    (body("close", lots=0.1, fraction=0.5, position_ticket=7), "give lots or fraction, not both"),
    (body("close", all=True, fraction=1), "less than 1"),
    (body("close", all=True, fraction=0), "greater than 0"),
    (body("close", order_ticket=7), "order_ticket: there is no such field"),
    (body("close", all=False), "all"),
    (body("cancel", position_ticket=7), "position_ticket: there is no such field"),
    (body("cancel"), "give exactly one of order_ticket, opened_by, symbol or all: true"),
    (body("cancel", order_ticket=7, targets={"groups": ["all"]}), "order_ticket belongs to one terminal"),
    (body("close_by", position_ticket=7), "give position_ticket and by_position_ticket, or symbol"),
    (body("close_by", symbol="EURUSD", position_ticket=7, by_position_ticket=8), "or symbol"),
    (body("close_by"), "or symbol"),
    (body("close_by", position_ticket=7, by_position_ticket=7), "must be two positions"),
    (body("close_by", position_ticket=7, by_position_ticket=8, targets={"groups": ["a"]}), "one terminal"),
    (body("protect", symbol="EURUSD"), "give trailing, break_even or both; null removes one"),
    (body("protect", trailing=None), "give exactly one of"),
    (body("protect", all=True, break_even={"trigger": 1, "offset": 2}), "offset must be less than trigger"),
    (body("protect", all=True, stop_loss=1, trailing=None), "stop_loss: there is no such field"),
    (body("buy"), "action: give open, modify, close, cancel, close_by or protect"),
]  # fmt: skip


@pytest.mark.parametrize(("wish", "said"), BAD, ids=lambda item: str(item)[:40])
def test_a_bad_signal_is_refused_with_what_to_change(wish: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(wish)
    assert refused.value.code is Code.INVALID
    assert said in refused.value.message


def test_the_name_of_the_action_is_no_part_of_where_the_fault_is() -> None:
    with pytest.raises(ValidationError) as wrong:
        SIGNAL.validate_python(body("close_by", symbol="?"))
    assert describe(wrong.value).startswith("symbol: ")


def test_null_removes_and_absent_leaves() -> None:
    removed = SIGNAL.validate_python(body("protect", all=True, trailing=None))
    assert isinstance(removed, ProtectSignal)
    assert removed.trailing is not None
    assert removed.trailing.distance == 0
    assert removed.break_even is None
    other = SIGNAL.validate_python(body("protect", all=True, trailing=None, break_even=None))
    assert other.digest() != removed.digest()


def test_a_modify_of_prices_means_pending_orders_only() -> None:
    def modify(**fields: Any) -> ModifySignal:
        signal = SIGNAL.validate_python(body("modify", **fields))
        assert isinstance(signal, ModifySignal)
        return signal

    assert modify(symbol="EURUSD", price=1.1).pending_only
    assert modify(symbol="EURUSD", expires_ms=0).pending_only
    assert modify(order_ticket=7, stop_loss=1.1).pending_only
    assert not modify(symbol="EURUSD", stop_loss=1.1).pending_only


def test_pending_is_what_is_not_at_the_market() -> None:
    assert not OpenSignal.model_validate(body("open")).pending
    assert OpenSignal.model_validate(body("open", **LIMIT)).pending


@override_settings(MARKET_TTL_MS=5_000, PENDING_TTL_MS=60_000, CLOSE_TTL_MS=86_400_000, MAX_TTL_MS=86_400_000)
@pytest.mark.parametrize(
    ("wish", "ttl_ms"),
    [
        (body("open"), 5_000),
        (body("open", **LIMIT), 60_000),
        (body("open", **LIMIT, ttl_ms=700), 700),
        *((item, 86_400_000) for item in GOOD if item["action"] != "open"),
    ],
)
def test_each_action_lives_as_long_as_it_is_wanted(wish: dict[str, Any], ttl_ms: int) -> None:
    assert time_to_live(parse(wish)) == ttl_ms


def test_a_wish_is_told_in_one_line() -> None:
    told = [in_words(SIGNAL.validate_python(wish)) for wish in GOOD]
    assert told[0] == "open buy 0.1 EURUSD"
    assert told[2] == "open buy 0.1 EURUSD limit at 1.1"
    assert f"close opened by {OTHER}" in told
    assert "close EURUSD" in told
    assert "cancel everything" in told
    assert "cancel order 7" in told
    assert "close position 7 by 8" in told
    assert "close EURUSD by opposite positions" in told
    assert "protect EURUSD" in told
