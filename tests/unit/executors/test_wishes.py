"""What a signal means at a terminal, and what it wishes of each position and pending order."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.errors import Code
from executors.execution import new_row
from executors.legs import LegRow, RequestRow
from executors.messages import (
    CancelSignal,
    CloseBySignal,
    CloseSignal,
    ModifySignal,
    ProtectSignal,
)
from executors.orders import Outcome
from executors.sizing import Denial
from executors.terminals.base import ZERO, Order, Position, SymbolSpec
from executors.wishes import (
    Meaning,
    expiration,
    freeze_close,
    freeze_close_by,
    orders_meant,
    positions_meant,
)
from tests.simulated import SimClock, make, make_config, make_leg, make_open, make_spec

CONFIG = make_config()
HEDGING, NETTING = Meaning(CONFIG, hedging=True), Meaning(CONFIG, hedging=False)
NOW = 1_700_000_000_000
T = TypeVar("T")


def position(
    ticket: int, symbol: str = "EURUSD", kind: int = 0, lots: str = "1", sl: str = "0", magic: int = 0
) -> Position:
    return Position(
        ticket, ticket, symbol, kind, magic, Decimal(lots), Decimal("1.1"), ZERO, Decimal(sl), ZERO, ZERO, ZERO, "",
        0, 0,
    )  # fmt: skip


def order(ticket: int, symbol: str = "EURUSD", kind: int = 2, magic: int = 0, **more: Any) -> Order:
    made = Order(
        ticket, symbol, kind, 1, magic, 0, 0, Decimal(1), Decimal(1), Decimal("1.09"), ZERO, ZERO, ZERO, 2, 0, 0, "",
        0, 0,
    )  # fmt: skip
    return replace(made, **more)


def opened(
    number: int = 1, filled: str = "1", *, magic: int = 77, tickets: tuple[int, ...] = (), **fields: Any
) -> LegRow:
    row = new_row(make_leg(make_open(number, **fields), 1), SimClock())
    row.filled_lots = Decimal(filled)
    result = {"positions": list(tickets), "orders": list(tickets)}
    row.requests.append(RequestRow(1, magic, {}, Decimal(1), 0, Outcome.FILLED, result=result))
    return row


def spec_of(**changes: Any) -> Callable[[str], SymbolSpec | None]:
    return lambda symbol: make_spec(symbol, **changes)


def a(kind: type[T], action: str, **fields: Any) -> T:
    signal = make(2, action, **fields)
    assert isinstance(signal, kind)
    return signal


HELD = (position(1), position(2, "USDJPY"), position(3, kind=1, magic=77))
PENDING = (order(11), order(12, "USDJPY"), order(13, magic=77), order(14, kind=0))


# --- who is meant ---


@pytest.mark.parametrize(
    ("fields", "tickets"),
    [
        ({"position_ticket": 2}, [2]),
        ({"position_ticket": 9}, []),
        ({"symbol": "EURUSD"}, [1, 3]),
        ({"symbol": "GBPUSD"}, []),
        ({"all": True}, [1, 2, 3]),
        ({"opened_by": 1}, [3]),
    ],
)
def test_the_positions_that_a_selector_means(fields: dict[str, Any], tickets: list[int]) -> None:
    meaning = replace(HEDGING, opened=opened(side="sell"))
    for signal in (
        a(CloseSignal, "close", **fields),
        a(ModifySignal, "modify", **fields, take_profit=0),
        a(ProtectSignal, "protect", **fields, trailing=None),
    ):
        assert [item.ticket for item in positions_meant(signal, HELD, meaning)] == tickets


def test_a_position_that_was_turned_over_is_none_of_the_other_side() -> None:
    """It keeps its identifier, and at some brokers its ticket and magic."""
    for turned in (position(3, kind=1, magic=77), replace(position(9, kind=1), identifier=3)):
        for side, meant in (("buy", ()), ("sell", (turned,))):
            for meaning in (HEDGING, NETTING):
                row = opened(side=side, tickets=(3,))
                close = a(CloseSignal, "close", opened_by=1)
                assert positions_meant(close, (turned,), replace(meaning, opened=row)) == meant


@pytest.mark.parametrize(
    ("fields", "tickets"),
    [
        ({"order_ticket": 12}, [12]),
        ({"order_ticket": 14}, [14]),  # the rest of a market order, by its ticket only
        ({"symbol": "EURUSD"}, [11, 13]),
        ({"all": True}, [11, 12, 13]),
        ({"opened_by": 1}, [13]),
    ],
)
def test_the_pending_orders_that_a_selector_means(fields: dict[str, Any], tickets: list[int]) -> None:
    meaning = replace(HEDGING, opened=opened())
    cancel = a(CancelSignal, "cancel", **fields)
    assert [item.ticket for item in orders_meant(cancel, PENDING, meaning)] == tickets
    assert positions_meant(cancel, HELD, meaning) == ()
    modify = a(ModifySignal, "modify", **fields, expires_ms=0)
    assert [item.ticket for item in orders_meant(modify, PENDING, meaning)] == tickets
    assert positions_meant(modify, HELD, meaning) == ()


def test_the_brokers_names_decide() -> None:
    meaning = Meaning(make_config(symbol_suffix=".pro", symbol_map={"GOLD": "XAUUSD.pro"}), hedging=True)
    held = (position(1, "EURUSD.pro"), position(2, "XAUUSD.pro"), position(3, "EURUSD"))
    close = a(CloseSignal, "close", symbol="EURUSD")
    assert [item.ticket for item in positions_meant(close, held, meaning)] == [1]
    close = a(CloseSignal, "close", symbol="GOLD")
    assert [item.ticket for item in positions_meant(close, held, meaning)] == [2]


def test_of_an_open_that_is_not_known_nothing_is_meant() -> None:
    assert positions_meant(a(CloseSignal, "close", opened_by=9), HELD, HEDGING) == ()
    assert orders_meant(a(CancelSignal, "cancel", opened_by=9), PENDING, HEDGING) == ()


def test_on_a_netting_account_the_symbols_position_is_all_opens() -> None:
    close = a(CloseSignal, "close", opened_by=1)
    held = (position(50),)
    assert positions_meant(close, held, replace(NETTING, opened=opened())) == held
    for other in (opened(filled="0"), opened(symbol="USDJPY"), opened(side="sell")):
        assert positions_meant(close, held, replace(NETTING, opened=other)) == ()
    assert positions_meant(close, held, replace(HEDGING, opened=opened())) == ()


# --- close ---


def frozen(signal: CloseSignal, *held: Position, most: str = "100", **spec: Any) -> Any:
    return freeze_close(signal, held, spec_of(**spec), lambda item: Decimal(most))


def test_a_whole_close_takes_all_of_each() -> None:
    signal = a(CloseSignal, "close", all=True)
    assert frozen(signal, position(1), position(2, lots="0.3", kind=1)) == (
        [[1, "EURUSD", 0, "1"], [2, "EURUSD", 1, "0.3"]],
        [],
    )
    assert frozen(signal, position(1), most="0.4")[0] == [[1, "EURUSD", 0, "0.4"]]


def test_a_part_is_rounded_down_and_says_what_that_cost() -> None:
    tickets, notes = frozen(a(CloseSignal, "close", all=True, fraction="0.5"), position(1, lots="0.05"))
    assert tickets == [[1, "EURUSD", 0, "0.02"]]
    assert notes == ["0.025 lots of position 1 were rounded to 0.02."]
    tickets, notes = frozen(a(CloseSignal, "close", position_ticket=1, lots="0.5"), position(1))
    assert (tickets, notes) == ([[1, "EURUSD", 0, "0.5"]], [])


def test_less_than_the_minimum_stays_and_is_said() -> None:
    signal = a(CloseSignal, "close", all=True, fraction="0.1")
    tickets, notes = frozen(signal, position(1, lots="0.05"), position(2))
    assert [item[0] for item in tickets] == [2]
    assert "below the broker's minimum of 0.01" in notes[0]
    denied = frozen(signal, position(1, lots="0.05"))
    assert isinstance(denied, Denial)
    assert denied.code is Code.LOTS_BELOW_MIN


def test_more_than_a_position_has_is_denied() -> None:
    denied = frozen(a(CloseSignal, "close", position_ticket=1, lots=2), position(1))
    assert isinstance(denied, Denial)
    assert denied.code is Code.LOTS_ABOVE_MAX


@given(
    lots=st.integers(1, 10_000).map(lambda n: Decimal(n) / 100),
    fraction=st.integers(1, 999).map(lambda n: Decimal(n) / 1000),
    step=st.sampled_from(["0.01", "0.1", "1"]),
)
def test_a_fraction_is_on_the_step_and_never_more_than_meant(
    lots: Decimal, fraction: Decimal, step: str
) -> None:
    signal = a(CloseSignal, "close", all=True, fraction=str(fraction))
    result = frozen(signal, position(1, lots=str(lots)), volume_step=Decimal(step), volume_min=Decimal(step))
    if isinstance(result, Denial):
        assert lots * fraction < Decimal(step)
        return
    ((_, _, _, asked),), _ = result
    assert Decimal(asked) % Decimal(step) == 0
    assert lots * fraction - Decimal(step) < Decimal(asked) <= lots * fraction


# --- expiration ---


@pytest.mark.parametrize(
    ("mask", "expires_ms", "kept"),
    [
        (15, None, (0, 0)),
        (1, None, (0, 0)),
        (4, NOW + 1_999, (2, NOW + 1_000)),
        (15, NOW, None),
        (15, NOW + 999, None),
        (14, None, None),
        (11, NOW + 60_000, None),
    ],
)
def test_an_expiration_is_what_the_symbol_takes(mask: int, expires_ms: int | None, kept: Any) -> None:
    found = expiration(expires_ms, make_spec("EURUSD", expiration_mode=mask), NOW)
    if kept is None:
        assert isinstance(found, Denial)
        assert found.code is Code.EXPIRATION_NOT_ALLOWED
    else:
        assert found == kept


# --- close by ---


def netted(*held: Position, hedging: bool = True, **fields: Any) -> Any:
    signal = a(CloseBySignal, "close_by", **(fields or {"symbol": "EURUSD"}))
    return freeze_close_by(signal, held, spec_of(), hedging=hedging)


def test_opposite_positions_are_matched_oldest_first() -> None:
    changes = netted(
        position(4, kind=1, lots="0.4"), position(1, lots="0.5"), position(2, kind=1, lots="0.2")
    )
    assert [(item["position"], item["position_by"]) for item in changes] == [(1, 2), (1, 4)]
    assert netted(position(1), position(2)) == []


@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(1, 50)), max_size=8))
def test_close_by_nets_all_that_can_be(sides: list[tuple[int, int]]) -> None:
    held = [
        position(number, kind=kind, lots=str(Decimal(lots) / 10))
        for number, (kind, lots) in enumerate(sides, 1)
    ]
    left = {item.ticket: item.volume for item in held}
    for change in netted(*held):
        lots = min(left[change["position"]], left[change["position_by"]])
        assert lots > 0
        left[change["position"]] -= lots
        left[change["position_by"]] -= lots
    sums = [sum((left[item.ticket] for item in held if item.type == kind), ZERO) for kind in (0, 1)]
    assert min(sums) == 0
    before = [sum((item.volume for item in held if item.type == kind), ZERO) for kind in (0, 1)]
    assert sums[0] - sums[1] == before[0] - before[1]


def test_two_by_ticket_must_be_opposite_and_there() -> None:
    both: dict[str, Any] = {"position_ticket": 1, "by_position_ticket": 2}
    assert netted(position(1), position(2, kind=1), **both) == [
        {"action": 10, "position": 1, "position_by": 2}
    ]
    for held in ((position(1),), (position(1), position(2)), (position(1), position(2, "USDJPY", 1))):
        denied = netted(*held, **both)
        assert isinstance(denied, Denial)
        assert denied.code is Code.NO_TARGET
    assert netted(position(1), hedging=False).code is Code.NETTING_ACCOUNT
