"""Every action of a signal against the real paper broker, on hedging ("lab") and netting ("net") accounts: what the order
comes to, and what the broker holds then."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from executors.errors import Code
from executors.orders import OrderState
from tests.rig import LOTS, Rig
from tradedist.clock import now_ms

S = OrderState
ZERO = Decimal(0)
DAY_MS = 86_400_000
BOTH = pytest.mark.parametrize("kind", ["lab", "net"])
RigOf = Callable[[str], Rig]


def signal_of(order_id: str) -> str:
    return order_id.partition(":")[0]


def pending(rig: Rig, **fields: Any) -> str:
    """A buy limit below the market, placed and seen at rest."""
    name = rig.signal("open", **({"order_type": "limit", "price": 1.0900} | fields))
    rig.until(lambda report: report.state is S.PLACED and name in rig.execution.resting, name)
    return name


# --- pending orders ---


TYPES = {
    "buy limit": ({"order_type": "limit", "price": 1.09}, 2, (1.0899, 1.09)),
    "sell limit": ({"order_type": "limit", "price": 1.11, "side": "sell"}, 3, (1.1101, 1.1102)),
    "buy stop": ({"order_type": "stop", "price": 1.11}, 4, (1.1109, 1.111)),
    "sell stop": ({"order_type": "stop", "price": 1.09, "side": "sell"}, 5, (1.0899, 1.09)),
}


@BOTH
@pytest.mark.parametrize("what", TYPES)
def test_a_pending_order_is_placed_and_filled_at_its_price(rig_of: RigOf, kind: str, what: str) -> None:
    fields, order_type, price = TYPES[what]
    rig = rig_of(kind)
    name = pending(rig, **fields, stop_loss=1.05 if fields.get("side") != "sell" else 1.15)
    (order,) = rig.orders()
    assert (order.type, order.volume_current) == (order_type, LOTS)
    rig.broker.push("EURUSD", *price)
    report = rig.settle(name)
    assert report.state is S.FILLED
    assert report.filled_lots == LOTS
    (position,) = rig.positions()
    assert report.position_tickets == [position.ticket]
    assert position.sl in (Decimal("1.05"), Decimal("1.15"))
    assert rig.truth() == [LOTS]


def test_a_stop_limit_becomes_a_limit_and_is_filled(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    name = pending(rig, order_type="stop_limit", price=1.11, limit_price=1.105)
    rig.broker.push("EURUSD", 1.1109, 1.1110)
    for _ in range(3):
        rig.turn()
    assert rig.orders()[0].type == 2
    rig.until(lambda report: name in rig.execution.resting, name)
    rig.broker.push("EURUSD", 1.1048, 1.1049)
    assert rig.settle(name).state is S.FILLED


def test_a_pending_order_expires_at_its_time(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    name = pending(rig, expires_ms=now_ms() + 2_500)
    assert rig.orders()[0].type_time == 2
    limit = now_ms() + 8_000
    while rig.orders() and now_ms() < limit:
        rig.broker.push("EURUSD", 1.10000, 1.10010)
        rig.turn()
    report = rig.settle(name)
    assert (report.state, report.code) == (S.EXPIRED, Code.PENDING_EXPIRED)


def test_what_the_symbol_does_not_take_is_denied(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    late = {"order_type": "limit", "price": 1.09, "expires_ms": now_ms() + 3_600_000}
    report = rig.settle(rig.signal("open", symbol="EURUSD.gtc", **late))
    assert (report.state, report.code) == (S.DENIED, Code.EXPIRATION_NOT_ALLOWED)
    report = rig.settle(rig.signal("open", symbol="EURUSD.mkt", order_type="limit", price=1.09))
    assert (report.state, report.code) == (S.DENIED, Code.ORDER_TYPE_NOT_ALLOWED)
    report = rig.settle(rig.signal("open", order_type="limit", price=1.09, expires_ms=5))
    assert (report.state, report.code) == (S.DENIED, Code.EXPIRATION_NOT_ALLOWED)
    assert rig.orders() == ()


def test_a_price_on_the_wrong_side_is_refused_by_the_broker(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    report = rig.settle(rig.signal("open", order_type="limit", price=1.2))
    assert (report.state, report.retcode) == (S.REJECTED, 10015)


@BOTH
def test_a_pending_order_is_changed_on_every_terminal_by_its_signal(rig_of: RigOf, kind: str) -> None:
    rig = rig_of(kind)
    name = pending(rig, stop_loss=1.08)
    at = (now_ms() // 1000 + 3_600) * 1000
    report = rig.settle(
        rig.signal("modify", opened_by=signal_of(name), price=1.085, take_profit=1.12, expires_ms=at)
    )
    assert report.state is S.DONE
    (order,) = rig.orders()
    assert (order.price_open, order.sl, order.tp) == (Decimal("1.085"), Decimal("1.08"), Decimal("1.12"))
    assert (order.type_time, order.expiration_ms) == (2, at)
    assert report.order_tickets == [order.ticket]
    assert (
        rig.settle(rig.signal("modify", order_ticket=order.ticket, stop_loss=0, expires_ms=0)).state is S.DONE
    )
    (order,) = rig.orders()
    assert (order.sl, order.type_time) == (ZERO, 0)


@BOTH
@pytest.mark.parametrize("by", ["opened_by", "order_ticket", "symbol", "all"])
def test_a_pending_order_is_cancelled(rig_of: RigOf, kind: str, by: str) -> None:
    rig = rig_of(kind)
    name = pending(rig)
    which: dict[str, Any] = {
        "opened_by": signal_of(name), "order_ticket": rig.orders()[0].ticket, "symbol": "EURUSD", "all": True
    }  # fmt: skip
    report = rig.settle(rig.signal("cancel", **{by: which[by]}))
    assert report.state is S.DONE
    assert rig.orders() == ()
    end = rig.settle(name)
    assert (end.state, end.code) == (S.CANCELLED, Code.PENDING_CANCELLED)


def test_a_cancel_just_after_the_placing_finds_it(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    rig.broker.fault("position_lag", login=rig.login, value=300)
    name = rig.signal("open", order_type="limit", price=1.09)
    cancel = rig.signal("cancel", symbol="EURUSD")
    assert rig.settle(cancel).state in (S.DONE, S.CANCELLED)
    assert rig.settle(name).state is S.CANCELLED
    assert rig.orders() == ()


def test_cancelling_and_closing_nothing_is_done_and_changing_nothing_denied(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    assert rig.settle(rig.signal("cancel", all=True)).state is S.DONE
    assert rig.settle(rig.signal("close", symbol="EURUSD")).state is S.DONE
    for action, fields in (
        ("modify", {"symbol": "EURUSD", "stop_loss": 1}),
        ("protect", {"all": True, "trailing": {"distance": 0.01}}),
        ("close_by", {"symbol": "EURUSD"}),
        ("modify", {"opened_by": signal_of(rig.signal("cancel", all=True)), "stop_loss": 1}),
    ):
        report = rig.settle(rig.signal(action, **fields))
        assert (report.state, report.code) == (S.DENIED, Code.NO_TARGET), action


# --- positions ---


@BOTH
def test_stop_loss_and_take_profit_are_set_moved_and_removed(rig_of: RigOf, kind: str) -> None:
    rig = rig_of(kind)
    name = rig.open()
    ticket = rig.settle(name).position_tickets[0]
    report = rig.settle(rig.signal("modify", opened_by=signal_of(name), stop_loss=1.09, take_profit=1.2))
    assert report.state is S.DONE
    assert [(item.sl, item.tp) for item in rig.positions()] == [(Decimal("1.09"), Decimal("1.2"))]
    assert rig.settle(rig.signal("modify", position_ticket=ticket, take_profit=0)).state is S.DONE
    assert [(item.sl, item.tp) for item in rig.positions()] == [(Decimal("1.09"), ZERO)]
    again = rig.settle(rig.signal("modify", symbol="EURUSD", stop_loss=1.09))
    assert (again.state, again.retcode) == (S.DONE, 10025)
    assert rig.settle(rig.signal("modify", all=True, stop_loss=0)).state is S.DONE
    assert [(item.sl, item.tp) for item in rig.positions()] == [(ZERO, ZERO)]


def test_what_one_of_several_positions_cannot_have_is_counted(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    rig.settle(rig.open())
    rig.settle(rig.signal("open", side="sell"))
    report = rig.settle(rig.signal("modify", symbol="EURUSD", stop_loss=1.09))
    assert (report.state, report.code) == (S.REJECTED, Code.PARTLY_DONE)
    assert report.message.startswith("1 of 2 were done.")


@BOTH
def test_a_part_is_closed_by_lots_and_by_fraction(rig_of: RigOf, kind: str) -> None:
    rig = rig_of(kind)
    name = rig.signal("open", lots=1)
    ticket = rig.settle(name).position_tickets[0]
    report = rig.settle(rig.signal("close", position_ticket=ticket, lots=0.25))
    assert (report.state, report.filled_lots) == (S.FILLED, Decimal("0.25"))
    report = rig.settle(rig.signal("close", opened_by=signal_of(name), fraction=0.333))
    assert report.state is S.FILLED
    assert "rounded to" in report.message
    left = rig.positions()[0].volume
    assert report.filled_lots in (Decimal("0.24"), Decimal("0.25"))
    few = rig.settle(rig.signal("close", all=True, fraction=0.001))
    assert (few.state, few.code) == (S.DENIED, Code.LOTS_BELOW_MIN)
    many = rig.settle(rig.signal("close", position_ticket=rig.positions()[0].ticket, lots=5))
    assert (many.state, many.code) == (S.DENIED, Code.LOTS_ABOVE_MAX)
    assert rig.positions()[0].volume == left


def test_a_netting_position_gives_back_what_one_open_added(rig_of: RigOf) -> None:
    rig = rig_of("net")
    rig.settle(rig.open())
    second = rig.signal("open", lots=0.3)
    rig.settle(second)
    assert rig.positions()[0].volume == Decimal("0.4")
    report = rig.settle(rig.signal("close", opened_by=signal_of(second)))
    assert (report.state, report.filled_lots) == (S.FILLED, Decimal("0.3"))
    assert rig.positions()[0].volume == LOTS


def test_opposite_positions_close_each_other(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    for side, lots in (("buy", 0.3), ("sell", 0.1), ("sell", 0.1)):
        rig.settle(rig.signal("open", side=side, lots=lots))
    report = rig.settle(rig.signal("close_by", symbol="EURUSD"))
    assert report.state is S.DONE
    assert [(item.type, item.volume) for item in rig.positions()] == [(0, LOTS)]
    rig.settle(rig.signal("open", side="sell"))
    one, other = (item.ticket for item in rig.positions())
    report = rig.settle(rig.signal("close_by", position_ticket=one, by_position_ticket=other))
    assert report.state is S.DONE
    assert report.position_tickets == [one, other]
    # its deals are known to be ours by its order
    assert {
        deal.order
        for deal in rig.terminal.history_deals(now_ms() - DAY_MS, now_ms() + DAY_MS)
        if deal.entry == 3
    } >= set(report.order_tickets)
    assert report.order_tickets
    assert rig.positions() == ()


def test_close_by_is_denied_where_it_cannot_be(rig_of: RigOf) -> None:
    net = rig_of("net")
    net.settle(net.open())
    assert net.settle(net.signal("close_by", symbol="EURUSD")).code == Code.NETTING_ACCOUNT
    lab = rig_of("lab")
    for side in ("buy", "sell"):
        lab.settle(lab.signal("open", symbol="EURUSD.gtc", side=side))
    assert lab.settle(lab.signal("close_by", symbol="EURUSD.gtc")).code == Code.ORDER_TYPE_NOT_ALLOWED


# --- modes ---


def test_a_terminal_that_reduces_takes_what_does_not_raise_the_risk(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    opened = rig.signal("open", stop_loss=1.09)
    rig.settle(opened)
    waiting = pending(rig)
    rig.execution.mode = "REDUCING"
    assert rig.settle(rig.signal("open", order_type="limit", price=1.08)).code == Code.REDUCING
    assert rig.settle(rig.signal("modify", opened_by=signal_of(opened), stop_loss=1.095)).state is S.DONE
    for fields in ({"stop_loss": 1.08}, {"stop_loss": 0}):
        report = rig.settle(rig.signal("modify", opened_by=signal_of(opened), **fields))
        assert (report.state, report.code) == (S.DENIED, Code.RAISES_RISK)
    assert rig.settle(rig.signal("modify", opened_by=signal_of(waiting), price=1.08)).code == Code.RAISES_RISK
    armed = rig.signal("protect", opened_by=signal_of(opened), trailing={"distance": 0.02})
    assert rig.settle(armed).state is S.DONE
    assert rig.settle(rig.signal("cancel", all=True)).state is S.DONE
    assert rig.settle(rig.signal("close", all=True)).state is S.FILLED


def test_a_halted_terminal_takes_nothing_but_cancels(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    held = signal_of(rig.open())
    waiting = pending(rig)
    rig.execution.mode = "HALTED"
    for action, fields in (
        ("open", {}),
        ("close", {"all": True}),
        ("modify", {"opened_by": held, "stop_loss": 1.09}),
        ("protect", {"opened_by": held, "trailing": {"distance": 0.01}}),
        ("close_by", {"symbol": "EURUSD"}),
    ):
        report = rig.settle(rig.signal(action, **fields))
        assert (report.state, report.code) == (S.DENIED, Code.HALTED), action
    assert rig.settle(rig.signal("cancel", opened_by=signal_of(waiting))).state is S.DONE
    assert rig.orders() == ()
    assert len(rig.positions()) == 1
