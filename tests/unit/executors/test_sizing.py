"""From a signal's lots to a terminal's, and the last line of risk."""

from decimal import Decimal
from typing import Any, get_args

import pytest

from executors.errors import Code
from executors.messages import ACTIONS, Mode, RiskLimits, Sizing
from executors.signals import Action
from executors.sizing import Denial, RateBucket, check_mode, check_trade_mode, size, strictest
from tests.simulated import make_spec

NO_LIMITS = RiskLimits()


def sized(
    lots: str, *, method: str = "multiplier", value: str = "1", limits: RiskLimits = NO_LIMITS, **spec: Any
) -> Decimal | Denial:
    sizing = Sizing.model_validate({"method": method, "value": value})
    return size(Decimal(lots), sizing, limits, make_spec("EURUSD", **spec))


@pytest.mark.parametrize(
    ("lots", "method", "value", "wanted"),
    [
        ("1", "multiplier", "1", "1.00"),
        ("0.3", "multiplier", "0.5", "0.15"),
        ("0.1", "multiplier", "0.333", "0.03"),
        ("5", "fixed", "0.2", "0.20"),
        ("0.019", "multiplier", "1", "0.01"),
        ("0.07", "multiplier", "3", "0.21"),
    ],
)
def test_lots_are_sized_and_rounded_down_to_the_step(lots: str, method: str, value: str, wanted: str) -> None:
    assert sized(lots, method=method, value=value) == Decimal(wanted)


def test_whole_steps_stay_whole() -> None:
    assert sized("250", volume_step=Decimal(100), volume_min=Decimal(100), volume_max=Decimal(1000)) == 200
    assert sized("7", volume_step=Decimal("2.5"), volume_min=Decimal("2.5")) == Decimal("5.0")


@pytest.mark.parametrize(
    ("denied", "code"),
    [
        (sized("0.009"), Code.LOTS_BELOW_MIN),
        (sized("1", value="0.001"), Code.LOTS_BELOW_MIN),
        (sized("101"), Code.LOTS_ABOVE_MAX),
        (sized("3", limits=RiskLimits(max_lots=Decimal(2))), Code.LOTS_ABOVE_MAX),
        (sized("1", volume_step=Decimal(0)), Code.SYMBOL_NOT_TRADABLE),
    ],
)
def test_what_does_not_fit_is_denied_and_never_cut_down(denied: Decimal | Denial, code: Code) -> None:
    assert isinstance(denied, Denial)
    assert denied.code is code
    assert len(denied.message) > 40


def test_the_limit_itself_is_allowed() -> None:
    assert sized("2", limits=RiskLimits(max_lots=Decimal(2))) == Decimal("2.00")
    assert sized("100") == Decimal("100.00")


def test_halted_stops_all_but_cancels_and_reducing_only_what_opens() -> None:
    denied = {
        (mode, action): denial.code
        for mode in get_args(Mode)
        for action in get_args(Action)
        if (denial := check_mode(mode, action)) is not None
    }
    assert denied == {("REDUCING", "open"): Code.REDUCING} | {
        ("HALTED", action): Code.HALTED for action in ACTIONS if action != "cancel"
    }


@pytest.mark.parametrize(
    ("modes", "wanted"),
    [
        ([], "ACTIVE"),
        (["ACTIVE", "REDUCING"], "REDUCING"),
        (["HALTED", "ACTIVE"], "HALTED"),
        (["ACTIVE", "nonsense"], "REDUCING"),
        (["", "HALTED"], "HALTED"),
    ],
)
def test_the_strictest_mode_holds_and_what_cannot_be_read_reduces(modes: list[str], wanted: str) -> None:
    assert strictest(modes) == wanted


@pytest.mark.parametrize(
    ("mode", "side", "allowed"),
    [
        (0, "buy", False),
        (1, "buy", True),
        (1, "sell", False),
        (2, "sell", True),
        (2, "buy", False),
        (3, "buy", False),
        (4, "sell", True),
    ],
)
def test_the_symbols_own_trade_mode_is_obeyed(mode: int, side: str, *, allowed: bool) -> None:
    denial = check_trade_mode(make_spec("EURUSD", trade_mode=mode), side)
    assert (denial is None) == allowed
    if denial is not None:
        assert denial.code is Code.SYMBOL_NOT_TRADABLE


def test_the_bucket_allows_a_second_s_burst_and_then_its_rate() -> None:
    bucket = RateBucket()
    assert [bucket.take(3, 0.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(3, 200.0)
    assert bucket.take(3, 400.0)
    assert [bucket.take(3, 10_000.0) for _ in range(4)] == [True, True, True, False]


def test_a_rate_of_zero_is_no_limit_and_time_that_steps_back_gives_nothing() -> None:
    bucket = RateBucket()
    assert all(bucket.take(0, 0.0) for _ in range(100))
    assert bucket.take(1, 1_000.0)
    assert not bucket.take(1, 0.0)
