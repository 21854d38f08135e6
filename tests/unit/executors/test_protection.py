"""Where trailing stop and break-even put a stop loss."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.messages import ProtectSignal
from executors.protection import Protection, even_reached, next_stop
from executors.terminals.base import ZERO, Position, Tick
from tests.simulated import make, make_spec

TRAIL = Protection.model_validate({"trailing": {"distance": "0.0020", "step": "0.0005"}})
EVEN = Protection.model_validate({"break_even": {"trigger": "0.0010", "offset": "0.0002"}})


def position(kind: int = 0, sl: str = "0", tp: str = "0", opened: str = "1.1000") -> Position:
    return Position(
        1,
        1,
        "EURUSD",
        kind,
        0,
        Decimal(1),
        Decimal(opened),
        ZERO,
        Decimal(sl),
        Decimal(tp),
        ZERO,
        ZERO,
        "",
        0,
        0,
    )


def tick(bid: str, ask: str | None = None) -> Tick:
    return Tick("EURUSD", Decimal(bid), Decimal(ask or bid), ZERO, 0, 0)


@pytest.mark.parametrize(
    ("armed", "kind", "sl", "price", "wanted"),
    [
        (TRAIL, 0, "0", "1.1000", "1.0980"),
        (TRAIL, 0, "1.0980", "1.1004", None),  # less than a step
        (TRAIL, 0, "1.0980", "1.1005", "1.0985"),
        (TRAIL, 0, "1.0990", "1.1000", None),  # never back
        (TRAIL, 1, "0", "1.1000", "1.1020"),
        (TRAIL, 1, "1.1020", "1.0995", "1.1015"),
        (TRAIL, 1, "1.1020", "1.0996", None),
        (TRAIL, 1, "1.1010", "1.1005", None),
        (EVEN, 0, "0", "1.1009", None),
        (EVEN, 0, "0", "1.1010", "1.1002"),
        (EVEN, 0, "1.1002", "1.1050", None),
        (EVEN, 0, "1.1020", "1.1050", None),
        (EVEN, 1, "0", "1.0991", None),
        (EVEN, 1, "1.1200", "1.0990", "1.0998"),
    ],
)
def test_the_next_stop_loss(armed: Protection, kind: int, sl: str, price: str, wanted: str | None) -> None:
    found = next_stop(armed, position(kind, sl), tick(price), make_spec("EURUSD"))
    assert found == (None if wanted is None else Decimal(wanted))


def test_both_armed_the_better_one_counts() -> None:
    both = Protection(trailing=TRAIL.trailing, break_even=EVEN.break_even)
    spec = make_spec("EURUSD")
    assert next_stop(both, position(), tick("1.1010"), spec) == Decimal("1.1002")
    assert next_stop(both, position(), tick("1.1030"), spec) == Decimal("1.1010")


def test_a_buy_is_measured_by_bid_and_a_sell_by_ask() -> None:
    spec = make_spec("EURUSD")
    assert next_stop(TRAIL, position(0), tick("1.1000", "1.2000"), spec) == Decimal("1.0980")
    assert next_stop(TRAIL, position(1), tick("1.0000", "1.1000"), spec) == Decimal("1.1020")


def test_the_brokers_stops_level_is_kept() -> None:
    spec = make_spec("EURUSD", stops_level=300)
    assert next_stop(TRAIL, position(), tick("1.1000"), spec) == Decimal("1.0970")
    assert next_stop(EVEN, position(), tick("1.1010"), spec) is None  # too near: it waits
    assert next_stop(EVEN, position(), tick("1.1032"), spec) == Decimal("1.1002")


@pytest.mark.parametrize(("sl", "tp"), [("1.0995", "0"), ("0", "1.1005")])
def test_a_frozen_position_is_left_alone(sl: str, tp: str) -> None:
    spec = make_spec("EURUSD", freeze_level=60)
    tight = Protection.model_validate({"trailing": {"distance": "0.0001"}})
    assert next_stop(tight, position(sl=sl, tp=tp), tick("1.1000"), spec) is None
    assert next_stop(tight, position(sl=sl, tp=tp), tick("1.1000"), make_spec("EURUSD")) == Decimal("1.0999")


def test_levels_lie_on_the_symbols_prices_away_from_the_market() -> None:
    odd = Protection.model_validate({"trailing": {"distance": "0.00123"}})
    spec = make_spec("EURUSD", tick_size=Decimal("0.0005"))
    assert next_stop(odd, position(0), tick("1.1000"), spec) == Decimal("1.0985")
    assert next_stop(odd, position(1), tick("1.1000"), spec) == Decimal("1.1015")


PRICES = st.integers(90_000, 130_000).map(lambda n: Decimal(n) / 100_000)


@given(
    kind=st.sampled_from([0, 1]),
    prices=st.lists(PRICES, min_size=1, max_size=30),
    distance=st.integers(1, 3_000),
    step=st.integers(0, 500),
    level=st.integers(0, 200),
    trigger=st.integers(2, 2_000),
)
def test_it_only_ever_moves_in_favour_and_keeps_its_distance(
    kind: int, prices: list[Decimal], distance: int, step: int, level: int, trigger: int
) -> None:
    point = Decimal("0.00001")
    spec = make_spec("EURUSD", stops_level=level)
    armed = Protection.model_validate(
        {
            "trailing": {"distance": distance * point, "step": step * point},
            "break_even": {"trigger": trigger * point, "offset": (trigger // 2) * point},
        }
    )
    sign = 1 if kind == 0 else -1
    sl = ZERO
    for price in prices:
        wanted = next_stop(armed, position(kind, str(sl)), tick(str(price)), spec)
        if wanted is None:
            continue
        assert not sl or sign * (wanted - sl) > 0
        assert sign * (price - wanted) >= max(level, 1) * point
        assert wanted % point == 0
        sl = wanted


def signal(**fields: Any) -> ProtectSignal:
    made = make(1, "protect", all=True, **fields)
    assert isinstance(made, ProtectSignal)
    return made


def test_absent_leaves_and_null_removes() -> None:
    both = Protection(trailing=TRAIL.trailing, break_even=EVEN.break_even, error="old", moves=3)
    kept = both.merged(signal(trailing=None))
    assert (kept.trailing, kept.break_even, kept.error, kept.moves) == (None, EVEN.break_even, "", 3)
    assert not kept.merged(signal(break_even=None)).armed
    assert Protection().merged(signal(trailing={"distance": "0.0020", "step": "0.0005"})) == TRAIL


def test_break_even_is_done_when_the_stop_loss_is_there_or_better() -> None:
    assert not even_reached(EVEN, position())
    assert not even_reached(EVEN, position(sl="1.1001"))
    assert even_reached(EVEN, position(sl="1.1002"))
    assert even_reached(EVEN, position(1, sl="1.0900"))
    assert not even_reached(TRAIL, position(sl="1.2"))
