"""What a terminal holds, in the canonical words of RTS."""

from decimal import Decimal

from executors.holdings import account_state, pending_states, position_states
from executors.terminals.base import ZERO, Order, Position
from tests.simulated import SimClock, SimVenue, make_config

CONFIG = make_config(symbol_suffix=".x")


def position(ticket: int, kind: int, **levels: Decimal) -> Position:
    return Position(
        ticket, ticket, "EURUSD.x", kind, 77, Decimal("0.5"), Decimal("1.1"), Decimal("1.2"),
        levels.get("sl", ZERO), levels.get("tp", ZERO), Decimal(5), Decimal("-0.1"), "", 1_000, 1_000,
    )  # fmt: skip


def test_an_account_is_told_with_whether_it_may_trade() -> None:
    venue = SimVenue(SimClock())
    told = account_state(CONFIG, venue.account(), venue.status(), 5)
    assert (told.login, told.currency, told.balance, told.hedging) == (7001, "USD", Decimal(10000), True)
    assert told.trade_allowed
    assert told.connected
    venue.linked = False
    assert not account_state(CONFIG, venue.account(), venue.status(), 5).connected


def test_positions_have_canonical_symbols_sides_and_their_orders() -> None:
    held = (position(1, 0, sl=Decimal("1.0")), position(2, 1, tp=Decimal("0.9")))
    first, second = position_states(CONFIG, held, {1: "signal:sim-1"})
    assert (first.symbol, first.broker_symbol, first.side, first.order_id) == (
        "EURUSD",
        "EURUSD.x",
        "buy",
        "signal:sim-1",
    )
    assert (first.stop_loss, first.take_profit) == (Decimal("1.0"), None)
    assert (second.side, second.order_id) == ("sell", None)
    assert (second.stop_loss, second.take_profit) == (None, Decimal("0.9"))


def test_pending_orders_are_named_and_carry_what_is_left_of_them() -> None:
    order = Order(
        9, "EURUSD.x", 3, 1, 77, 0, 0, Decimal(2), Decimal("1.5"), Decimal("1.3"), ZERO, ZERO, ZERO,
        2, 0, 0, "", 1_000, 0,
    )  # fmt: skip
    (told,) = pending_states(CONFIG, (order,), {77: "signal:sim-1"}.get)
    assert (told.order_type, told.lots, told.order_id) == ("sell_limit", Decimal("1.5"), "signal:sim-1")
