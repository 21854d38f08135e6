"""Drift: what no order of ours explains is told once, what one explains is not, and late history is waited for."""

from collections.abc import Collection
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from executors.drift import CONFIRM_MS, HISTORY_MS, MOST_EVENTS, DriftWatch, Holdings, Known, Levels, added
from executors.messages import AccountState, DriftEvent, DriftLog, PendingOrderState, PositionState
from executors.terminals.base import ZERO, Deal, Order

OURS = 777
AT = 1_000_000


def position(ticket: int = 1, **fields: Any) -> PositionState:
    values: dict[str, Any] = {
        "terminal_id": "a", "position_ticket": ticket, "symbol": "EURUSD", "broker_symbol": "EURUSD", "side": "buy",
        "lots": "1", "price_open": "1.1", "price_current": "1.1", "profit": "0", "swap": "0", "magic": 0,
        "opened_ms": 1,
    }  # fmt: skip
    return PositionState.model_validate(values | fields)


def pending(ticket: int = 5, **fields: Any) -> PendingOrderState:
    values: dict[str, Any] = {
        "terminal_id": "a", "order_ticket": ticket, "symbol": "EURUSD", "broker_symbol": "EURUSD",
        "order_type": "buy_limit", "lots": "1", "price": "1.0", "magic": 0, "placed_ms": 1,
    }  # fmt: skip
    return PendingOrderState.model_validate(values | fields)


def deal(ticket: int = 90, position_id: int = 1, **fields: Any) -> Deal:
    made = Deal(
        ticket,
        80,
        position_id,
        "EURUSD",
        0,
        0,
        0,
        0,
        Decimal(1),
        Decimal("1.1"),
        ZERO,
        ZERO,
        ZERO,
        ZERO,
        "",
        AT,
    )
    return replace(made, **fields)


def past(ticket: int, state: int) -> Order:
    return Order(
        ticket, "EURUSD", 2, state, 0, 0, 0, Decimal(1), ZERO, ZERO, ZERO, ZERO, ZERO, 0, 0, 0, "", 1, AT
    )  # fmt: skip


class Desk:
    """A watch with what it is shown, and time."""

    def __init__(
        self,
        *positions: PositionState,
        orders: Collection[PendingOrderState] = (),
        balance: str = "100",
        hedging: bool = True,
    ) -> None:
        self.now = AT
        self.hedging = hedging
        self.watch = DriftWatch()
        self.deals: list[Deal] = []
        self.history: list[Order] = []
        self.asked: dict[int, set[Levels]] = {}
        self.removed: set[int] = set()
        self.balance = balance
        assert self.look(*positions, orders=orders) == []

    def look(
        self,
        *positions: PositionState,
        orders: Collection[PendingOrderState] = (),
        after_ms: int = 500,
    ) -> list[str]:
        """Codes of the events that a look finds."""
        return [event.code for event in self.events(*positions, orders=orders, after_ms=after_ms)]

    def events(
        self, *positions: PositionState, orders: Collection[PendingOrderState] = (), after_ms: int = 500
    ) -> list[DriftEvent]:
        self.now += after_ms
        account = AccountState.model_validate(
            {
                "terminal_id": "a", "login": 1, "server": "S", "currency": "USD", "balance": self.balance, "equity": "0",
                "margin": "0", "margin_free": "0", "margin_level": "0", "profit": "0", "leverage": 1, "hedging": self.hedging,
                "trade_allowed": True, "connected": True, "time_ms": self.now,
            }
        )  # fmt: skip
        held = {item.position_ticket: item for item in positions}
        waiting = {item.order_ticket: item for item in orders}
        self.watch.compare(Holdings(account, held, waiting, self.now))
        known = Known(
            lambda deal: deal.magic == OURS,
            lambda ticket: self.asked.get(ticket, set()),
            lambda ticket: ticket in self.removed,
        )
        return self.watch.judge(self.deals, self.history, known)


def test_what_was_there_at_the_first_look_is_no_drift() -> None:
    desk = Desk(position(1), orders=[pending(5)])
    assert desk.look(position(1), orders=[pending(5)], after_ms=60_000) == []
    assert desk.watch.history_from() is None


def test_a_position_that_nobody_ordered_is_told_once() -> None:
    desk = Desk()
    assert desk.look(position(2)) == []
    assert desk.look(position(2), after_ms=CONFIRM_MS) == ["POSITION_NOT_OURS"]
    assert desk.look(position(2), after_ms=60_000) == []


def test_a_deal_by_hand_says_so_at_once() -> None:
    desk = Desk()
    desk.deals = [deal(91, 2, time_ms=AT + 400)]
    (event,) = desk.events(position(2))
    assert (event.code, event.ticket) == ("POSITION_NOT_OURS", 2)
    assert "deal 91" in event.message


def test_a_position_of_an_order_of_ours_is_none() -> None:
    desk = Desk()
    assert desk.look(position(2, order_id="x:a"), after_ms=60_000) == []
    assert desk.look(position(2, order_id="x:a"), position(3)) == []
    assert desk.look(position(2, order_id="x:a"), position(3, order_id="y:a"), after_ms=60_000) == []


def test_a_broker_that_drops_the_magic_from_positions_still_shows_our_deal() -> None:
    desk = Desk()
    desk.deals = [deal(91, 2, magic=OURS)]
    assert desk.look(position(2)) == []
    assert desk.look(position(2), after_ms=60_000) == []


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({"magic": OURS, "reason": 3}, []),
        ({"reason": 4}, []),  # stop loss
        ({"reason": 5}, []),
        ({"reason": 6}, []),  # stop out
        ({"reason": 1}, ["POSITION_CLOSED"]),
        ({"reason": 2, "magic": OURS}, ["POSITION_CLOSED"]),  # it repeats the position's magic
        ({"reason": 3}, ["POSITION_CLOSED"]),  # another program
    ],
)
def test_a_position_that_is_gone_is_explained_by_its_deal(fields: dict[str, Any], codes: list[str]) -> None:
    desk = Desk(position(1))
    desk.deals = [deal(92, 1, entry=1, **fields)]
    assert desk.look() == codes
    assert desk.look(after_ms=HISTORY_MS) == []


def test_a_filled_orders_position_that_is_missing_without_a_deal() -> None:
    desk = Desk(position(1, order_id="x:a"))
    desk.deals = [deal(90, 1, magic=OURS)]  # its opening explains nothing
    assert desk.look() == []
    assert desk.look(after_ms=HISTORY_MS - 1) == []
    assert desk.look(after_ms=1) == ["POSITION_MISSING"]


def test_history_that_comes_late_is_waited_for() -> None:
    desk = Desk(position(1))
    assert desk.look() == []
    desk.deals = [deal(92, 1, entry=1, magic=OURS)]
    assert desk.look(after_ms=HISTORY_MS - 1_000) == []
    assert desk.look(after_ms=HISTORY_MS) == []


@pytest.mark.parametrize(("lots", "entry"), [("0.4", 1), ("1.5", 0)])
def test_lots_that_somebody_else_changed(lots: str, entry: int) -> None:
    desk = Desk(position(1))
    desk.deals = [deal(92, 1, entry=entry, reason=0)]
    assert desk.look(position(1, lots=lots)) == ["LOTS_CHANGED"]
    ours = Desk(position(1))
    ours.deals = [deal(92, 1, entry=entry, magic=OURS)]
    assert ours.look(position(1, lots=lots), after_ms=60_000) == []
    silent = Desk(position(1))
    assert silent.look(position(1, lots=lots)) == []
    assert silent.look(position(1, lots=lots), after_ms=HISTORY_MS) == ["LOTS_CHANGED"]


def test_a_deal_by_hand_is_told_once_though_the_rest_closes_later() -> None:
    desk = Desk(position(1))
    desk.deals = [deal(92, 1, entry=1, reason=0)]
    assert desk.look(position(1, lots="0.4")) == ["LOTS_CHANGED"]
    desk.deals.append(deal(93, 1, entry=1, reason=4))
    assert desk.look() == []


def test_stops_changed_at_the_terminal() -> None:
    desk = Desk(position(1, stop_loss="1.0"))
    changed = position(1, stop_loss="1.05", take_profit="1.2")
    assert desk.look(changed) == []
    (event,) = desk.events(changed, after_ms=CONFIRM_MS)
    assert event.code == "STOPS_CHANGED"
    assert "1.05 / 1.2" in event.message


def test_stops_that_we_asked_for_or_that_came_back_or_are_trailed_are_none() -> None:
    desk = Desk(position(1))
    desk.asked[1] = {(Decimal("1.05"), None)}
    assert desk.look(position(1, stop_loss="1.05"), after_ms=60_000) == []
    assert desk.look(position(1, stop_loss="1.06")) == []
    assert desk.look(position(1, stop_loss="1.05"), after_ms=60_000) == []
    trailed = {"trailing": {"distance": "0.001"}, "stop_loss": "1.07"}
    desk = Desk(position(1))
    assert desk.look(position(1, **trailed), after_ms=60_000) == []


def test_a_position_that_was_turned_over_twice_has_the_deals_of_its_identifier() -> None:
    """A reversal on a netting account changes the ticket; deals go on to name the identifier."""
    desk = Desk(position(7, position_id=1, order_id="x:a"), hedging=False)
    desk.deals = [deal(92, 1, entry=2, magic=OURS)]
    turned = {"position_id": 1, "side": "sell", "order_id": "y:a"}
    assert desk.look(position(8, **turned), after_ms=HISTORY_MS) == []
    desk.deals.append(deal(93, 1, entry=0, magic=OURS, time_ms=desk.now))
    assert desk.look(position(8, **turned, lots="1.5"), after_ms=HISTORY_MS) == []
    assert desk.look(after_ms=500) == []
    assert desk.look(after_ms=HISTORY_MS) == ["POSITION_MISSING"]


def test_stops_that_an_open_of_ours_brought_into_a_netting_position_are_none() -> None:
    desk = Desk(position(1, take_profit="1.2"), hedging=False)
    changed = position(1, stop_loss="1.05", take_profit="1.2")
    assert desk.look(changed, after_ms=CONFIRM_MS * 2) == []  # the history may trail
    desk.deals = [deal(92, 1, entry=0, magic=OURS)]
    desk.history = [replace(past(80, 4), sl=Decimal("1.05"))]
    assert desk.look(changed) == []
    assert desk.look(changed, after_ms=HISTORY_MS) == []
    assert desk.watch.history_from() is None


@pytest.mark.parametrize("fields", [{"magic": 1}, {"magic": OURS, "entry": 1}, {"magic": OURS, "order": 81}])
def test_stops_of_a_netting_position_that_no_open_of_ours_explains(fields: dict[str, Any]) -> None:
    desk = Desk(position(1), hedging=False)
    desk.deals = [deal(92, 1, **fields)]
    desk.history = [replace(past(80, 4), sl=Decimal("1.05")), replace(past(81, 4), sl=Decimal("1.06"))]
    changed = position(1, stop_loss="1.05")
    assert desk.look(changed) == []
    assert desk.look(changed, after_ms=HISTORY_MS) == ["STOPS_CHANGED"]


def test_pending_orders_of_others_and_changed_ones() -> None:
    desk = Desk(orders=[pending(5)])
    assert desk.look(orders=[pending(5), pending(6)]) == []
    assert desk.look(orders=[pending(5), pending(6)], after_ms=CONFIRM_MS) == ["ORDER_NOT_OURS"]
    moved = [pending(5, price="1.01"), pending(6)]
    assert desk.look(orders=moved) == []
    assert desk.look(orders=moved, after_ms=CONFIRM_MS) == ["ORDER_CHANGED"]
    desk.asked[5] = {(Decimal("1.02"), None, None)}
    assert desk.look(orders=[pending(5, price="1.02"), pending(6)], after_ms=60_000) == []


@pytest.mark.parametrize(
    ("state", "codes"),
    [(4, []), (3, []), (6, []), (5, []), (2, ["ORDER_REMOVED"]), (None, ["ORDER_MISSING"])],
)
def test_a_pending_order_that_is_gone(state: int | None, codes: list[str]) -> None:
    desk = Desk(orders=[pending(5)])
    desk.history = [past(5, state)] if state is not None else []
    assert desk.look() + desk.look(after_ms=HISTORY_MS) == codes


def test_a_stop_limit_whose_stop_was_reached_is_no_drift() -> None:
    desk = Desk(orders=[pending(5, order_type="buy_stop_limit", limit_price="0.99")])
    assert desk.look(orders=[pending(5, price="0.99")], after_ms=60_000) == []


def test_an_order_that_we_removed_is_no_drift() -> None:
    desk = Desk(orders=[pending(5)])
    desk.removed.add(5)
    desk.history = [past(5, 2)]
    assert desk.look(after_ms=60_000) == []


def test_a_balance_that_the_deals_make_up() -> None:
    desk = Desk(balance="100")
    desk.balance = "112.50"
    desk.deals = [
        deal(80, 9, profit=Decimal(1000), time_ms=AT - 1),  # the balance held this one already
        deal(91, 1, profit=Decimal(13), time_ms=AT + 1),
        deal(92, 1, commission=Decimal("-0.5"), time_ms=AT + 2),
    ]
    assert desk.look(after_ms=60_000) == []
    assert desk.watch.doubts == {}


def test_a_deposit_is_a_deal_and_credit_is_no_balance() -> None:
    desk = Desk(balance="100")
    desk.balance = "150"
    desk.deals = [
        deal(91, 0, type=2, profit=Decimal(50)),
        deal(92, 0, type=3, profit=Decimal(7), time_ms=AT + 9),
    ]
    assert desk.look(after_ms=60_000) == []


def test_a_balance_that_changes_without_a_deal() -> None:
    desk = Desk(balance="100")
    desk.balance = "150"
    desk.deals = [deal(91, 1, profit=Decimal(20))]
    assert desk.look() == []
    (event,) = desk.events(after_ms=HISTORY_MS)
    assert event.code == "BALANCE_UNEXPLAINED"
    assert "100 to 150 USD" in event.message
    assert desk.look(after_ms=HISTORY_MS) == []


def test_the_log_counts_all_and_keeps_the_newest() -> None:
    events = [DriftEvent(code="A", message=str(n), time_ms=n) for n in range(MOST_EVENTS + 5)]
    log = added(DriftLog(counts={"A": 1, "B": 2}), events)
    assert log.counts == {"A": MOST_EVENTS + 6, "B": 2}
    assert len(log.events) == MOST_EVENTS
    assert log.events[0].time_ms == MOST_EVENTS + 4
