"""What a modify names, what is sent of it, and the prices that a symbol can have."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.errors import Code
from executors.levels import (
    completed,
    freeze_modify,
    has_become,
    may_have_joined,
    of_its_position,
    on_grid,
    raises_risk,
    vanishing,
)
from executors.messages import ModifySignal
from executors.sizing import Denial
from executors.terminals.base import Order, Position
from tests.simulated import make_open, make_spec
from tests.unit.executors.test_wishes import NOW, a, order, position, spec_of


def modified(signal: ModifySignal, *held: Position, orders: tuple[Order, ...] = (), **spec: Any) -> Any:
    return freeze_modify(signal, held, orders, spec_of(**spec), NOW)


# --- what is named ---


def test_only_what_is_named_is_frozen_and_zero_removes() -> None:
    (change,) = modified(a(ModifySignal, "modify", all=True, take_profit=0), position(1, sl="1.05"))
    assert change == {"action": 6, "symbol": "EURUSD", "position": 1, "tp": "0"}
    fine = a(ModifySignal, "modify", symbol="EURUSD", stop_loss="1.01234567")
    (change,) = modified(fine, position(1), digits=4)
    assert change == {"action": 6, "symbol": "EURUSD", "position": 1, "sl": "1.0123"}


def test_of_a_pending_order_too() -> None:
    signal = a(
        ModifySignal, "modify", order_ticket=11, price="1.08", stop_loss="1.07", expires_ms=NOW + 60_900
    )
    (change,) = modified(signal, orders=(order(11),))
    assert change == {
        "action": 7, "symbol": "EURUSD", "order": 11, "type": 2, "price": "1.08", "sl": "1.07", "type_time": 2,
        "expiration_ms": NOW + 60_000,
    }  # fmt: skip
    until = order(11, type_time=2, expiration_ms=NOW + 5_000)
    (removed,) = modified(a(ModifySignal, "modify", order_ticket=11, expires_ms=0), orders=(until,))
    assert (removed["type_time"], removed["expiration_ms"]) == (0, 0)


def test_a_limit_price_belongs_to_stop_limits() -> None:
    signal = a(ModifySignal, "modify", order_ticket=11, limit_price="1.08")
    denied = modified(signal, orders=(order(11),))
    assert isinstance(denied, Denial)
    (change,) = modified(signal, orders=(order(11, kind=6),))
    assert change["stoplimit"] == "1.08"
    of_all = a(ModifySignal, "modify", symbol="EURUSD", limit_price="1.08")
    assert [item["order"] for item in modified(of_all, orders=(order(11), order(12, kind=7)))] == [12]


# --- what is sent ---


def test_what_is_not_named_is_sent_as_it_is_now() -> None:
    wish = {"action": 6, "symbol": "EURUSD", "position": 1, "tp": "1.5"}
    assert completed(wish, position(1, sl="1.09")) == wish | {"sl": "1.09"}
    assert completed(wish | {"sl": "0"}, position(1, sl="1.09")) == wish | {"sl": "0"}


@given(
    names=st.sets(st.sampled_from(["price", "stoplimit", "sl", "tp", "until"])),
    now=st.tuples(*[st.sampled_from(["0", "1.05", "1.15"])] * 4),
    timed=st.booleans(),
)
def test_a_pending_orders_request_is_its_state_with_what_is_named(
    names: set[str], now: tuple[str, ...], *, timed: bool
) -> None:
    price, limit, sl, tp = (Decimal(item) for item in now)
    held = order(
        11, kind=6, price_open=price, price_stoplimit=limit, sl=sl, tp=tp, type_time=2 if timed else 0,
        expiration_ms=5_000 if timed else -7_200_000,
    )  # fmt: skip
    wish: dict[str, Any] = {"action": 7, "symbol": "EURUSD", "order": 11, "type": 6}
    wish |= {name: "1.2" for name in names - {"until"}}
    if "until" in names:
        wish |= {"type_time": 2, "expiration_ms": 9_000}
    whole = completed(wish, held)
    assert not isinstance(whole, Denial)
    shown = {"price": price, "stoplimit": limit, "sl": sl, "tp": tp}
    for name, value in shown.items():
        assert Decimal(whole[name]) == (Decimal("1.2") if name in names else value)
    until = (2, 9_000) if "until" in names else (2, 5_000) if timed else (0, 0)
    assert (whole["type_time"], whole["expiration_ms"]) == until
    assert whole.keys() <= {
        "action", "order", "type", "price", "stoplimit", "sl", "tp", "type_time", "expiration_ms"
    }  # fmt: skip


def test_the_entry_of_a_stop_limit_is_not_given_to_the_limit_that_it_became() -> None:
    wish = {"action": 7, "symbol": "EURUSD", "order": 11, "type": 6}
    for entry in ({"price": "1.12"}, {"stoplimit": "1.11"}):
        denied = completed(wish | entry, order(11, kind=2))
        assert isinstance(denied, Denial)
        assert denied.code is Code.ORDER_TYPE_NOT_ALLOWED
    whole = completed(wish | {"sl": "1.05"}, order(11, kind=2))
    assert not isinstance(whole, Denial)
    assert (whole["type"], whole["sl"]) == (2, "1.05")


def test_levels_go_on_to_the_position() -> None:
    wish = {"action": 7, "symbol": "EURUSD", "order": 11, "type": 2, "sl": "1.05"}
    assert of_its_position(wish, position(11)) == {
        "action": 6, "symbol": "EURUSD", "position": 11, "sl": "1.05"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("held", "hedging", "is_it"),
    [
        (position(11), True, True),
        (position(1), True, False),
        (position(1), False, False),
        (position(11), False, True),
        (position(11, kind=1), False, False),
    ],
)
def test_what_a_fill_has_made(held: Position, *, hedging: bool, is_it: bool) -> None:
    wish = {"action": 7, "symbol": "EURUSD", "order": 11, "type": 2, "sl": "1.05"}
    assert has_become(wish, held, hedging=hedging) is is_it


@pytest.mark.parametrize(
    ("held", "is_it"),
    [(position(1), True), (position(1, kind=1), False), (position(1, "USDJPY"), False)],
)
def test_where_a_fill_goes_on_a_netting_account(held: Position, *, is_it: bool) -> None:
    wish = {"action": 7, "symbol": "EURUSD", "order": 11, "type": 2, "sl": "1.05"}
    assert may_have_joined(wish, held) is is_it


# --- risk ---


@pytest.mark.parametrize(
    ("now", "wished", "kind", "raised"),
    [
        ("0", "1.05", 0, False),
        ("1.05", "1.06", 0, False),
        ("1.05", "1.05", 0, False),
        ("1.05", "1.04", 0, True),
        ("1.05", "0", 0, True),
        ("1.15", "1.14", 1, False),
        ("1.15", "1.16", 1, True),
        ("1.15", "0", 1, True),
    ],
)
def test_a_stop_loss_further_away_raises_the_risk(now: str, wished: str, kind: int, *, raised: bool) -> None:
    held = (position(1, sl=now, kind=kind),)
    change = {"action": 6, "symbol": "EURUSD", "position": 1, "sl": wished}
    assert bool(raises_risk([change], held, ())) is raised
    pending = (order(11, kind=2 + kind, sl=Decimal(now)),)
    change = {"action": 7, "order": 11, "sl": wished}
    assert bool(raises_risk([change], (), pending)) is raised
    assert raises_risk([change | {"price": "1.08"}], (), pending) is not None
    assert raises_risk([{"action": 6, "position": 1, "tp": "5"}], held, ()) is None
    assert raises_risk([{"action": 8, "order": 11}], held, pending) is None


# --- prices ---


def test_prices_are_cut_to_the_brokers_digits_only_when_they_have_more() -> None:
    spec = make_spec("EURUSD", digits=3)
    assert str(on_grid(Decimal("1.1"), spec)) == "1.1"
    assert str(on_grid(Decimal("1.10051"), spec)) == "1.101"
    assert str(on_grid(Decimal("1.10051"), None)) == "1.10051"


@given(
    price=st.integers(1, 10**9).map(lambda n: Decimal(n) / 10**6),
    digits=st.integers(0, 5),
    tick_size=st.sampled_from(["0", "0.00001", "0.001", "0.25", "5"]),
)
def test_a_price_is_on_the_grid_and_near_or_is_denied(price: Decimal, digits: int, tick_size: str) -> None:
    spec = make_spec("X", digits=digits, tick_size=Decimal(tick_size))
    step = max(Decimal(tick_size), Decimal(1).scaleb(-digits))
    found = on_grid(price, spec)
    assert found % step == 0
    assert abs(found - price) <= step / 2
    modify = a(ModifySignal, "modify", symbol="X", stop_loss=str(price))
    denied = vanishing(modify, spec)
    assert (denied is None) == bool(found)
    if denied is not None:
        assert denied.code is Code.PRICE_TOO_SMALL
        assert "0 to remove" in denied.message


@pytest.mark.parametrize("name", ["price", "limit_price", "stop_loss", "take_profit"])
def test_what_would_count_as_none_is_denied_by_its_name(name: str) -> None:
    spec = make_spec("EURUSD")
    fields = {"price": "1.2", "limit_price": "1.1", "stop_loss": "1.05", "take_profit": "1.5"}
    signal = make_open(1, order_type="stop_limit", **fields)
    assert vanishing(signal, spec) is None
    denied = vanishing(signal.model_copy(update={name: Decimal("0.000001")}), spec)
    assert denied is not None
    assert denied.message.startswith(f"{name} 0.000001 ")
    assert vanishing(replace_price(signal, name), None) is None


def replace_price(signal: Any, name: str) -> Any:
    return signal.model_copy(update={name: Decimal("0.000001")})


def test_a_modify_with_such_a_level_changes_nothing() -> None:
    signal = a(ModifySignal, "modify", symbol="EURUSD", stop_loss="0.000001")
    for denied in (modified(signal, position(1, sl="1.05")), modified(signal, orders=(order(11),))):
        assert isinstance(denied, Denial)
        assert denied.code is Code.PRICE_TOO_SMALL
    coarse = modified(signal, position(1), digits=6, tick_size=Decimal("0.000001"))
    assert coarse[0]["sl"] == "0.000001"


def test_older_plans_that_froze_everything_are_sent_as_they_are() -> None:
    old = {"action": 6, "symbol": "EURUSD", "position": 1, "sl": "1.05", "tp": "0"}
    assert completed(old, replace(position(1, sl="1.09"), tp=Decimal("1.2"))) == old
