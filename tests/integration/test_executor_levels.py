"""Stop losses and take profits that several hands change at once, against the real paper broker: what a modify does not name
stays as it is at the broker, and what it names is told truly."""

import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from executors.orders import OrderState
from executors.terminals.base import Position, TradeRequest
from tests.integration.test_executor_verbs import pending, signal_of
from tests.rig import Rig
from tradedist.clock import now_ms

S = OrderState
RigOf = Callable[[str], Rig]
FOLLOWS = {"distance": 0.002, "step": 0.0005}


def trailing(rig: Rig) -> int:
    """A position whose stop loss is 0.002 below the price: its ticket."""
    ticket = rig.settle(rig.signal("open", trailing=FOLLOWS)).position_tickets[0]
    rig.turn()
    assert levels(rig)[ticket] == (Decimal("1.098"), Decimal(0))
    return ticket


def levels(rig: Rig) -> dict[int, tuple[Decimal, Decimal]]:
    return {item.ticket: (item.sl, item.tp) for item in rig.positions()}


def unanswered(rig: Rig, name: str) -> None:
    """It has been sent, and nobody has looked yet."""
    assert rig.execution.run_next()
    assert rig.states(name) == [S.INTENT, S.UNKNOWN]


@pytest.mark.parametrize("kind", ["lab", "net"])
def test_a_take_profit_leaves_a_stop_loss_that_has_followed_the_price(
    rig_of: RigOf, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It was planned when the stop loss was lower."""
    rig = rig_of(kind)
    ticket = trailing(rig)
    prepare = rig.execution.preparation.prepare

    def planned(row: Any) -> Any:
        denial = prepare(row)
        rig.terminal.send(
            TradeRequest(action=6, symbol="EURUSD", position=ticket, sl=Decimal("1.0985"))
        )  # as the guard, or a hand, may
        return denial

    monkeypatch.setattr(rig.execution.preparation, "prepare", planned)
    name = rig.signal("modify", symbol="EURUSD", take_profit=1.2)
    assert rig.settle(name).state is S.DONE
    assert levels(rig) == {ticket: (Decimal("1.0985"), Decimal("1.2"))}
    row = rig.journal.get(name)
    assert row is not None
    assert [(item.request["sl"], item.request["tp"]) for item in row.requests] == [("1.0985", "1.2")]


def test_of_two_positions_neither_loses_what_its_trailing_stop_has_won(rig_of: RigOf) -> None:
    """The answer about the first is lost, and the price rises before the second has its turn."""
    rig = rig_of("lab")
    first, second = trailing(rig), trailing(rig)
    rig.broker.fault("ambiguous", login=rig.login, at=1)
    name = rig.signal("modify", symbol="EURUSD", take_profit=1.2)
    unanswered(rig, name)
    rig.broker.push("EURUSD", 1.1050, 1.1051)
    rig.execution.guard.see(rig.positions())
    while rig.execution.guard.step():
        pass
    # the first may be changed by the lost request yet: it is left alone
    assert levels(rig)[first] == (Decimal("1.098"), Decimal("1.2"))
    assert levels(rig)[second] == (Decimal("1.103"), Decimal(0))
    assert rig.settle(name).state is S.DONE
    for _ in range(3):
        rig.turn()
    assert levels(rig) == dict.fromkeys((first, second), (Decimal("1.103"), Decimal("1.2")))


def test_a_take_profit_that_is_set_is_told_so_though_the_stop_loss_has_moved(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    opened = rig.settle(rig.signal("open", stop_loss=1.05))
    rig.broker.fault("ambiguous", login=rig.login, at=1)
    name = rig.signal("modify", position_ticket=opened.position_tickets[0], take_profit=1.2)
    unanswered(rig, name)
    rig.terminal.send(
        TradeRequest(
            action=6, symbol="EURUSD", position=opened.position_tickets[0], sl=Decimal("1.06"), tp=Decimal("1.2")
        )
    )  # fmt: skip
    assert rig.settle(name).state is S.DONE


@pytest.mark.parametrize(
    ("named", "then"),
    [
        ({"take_profit": 1.12}, ("1.085", "1.07", "1.12", 2)),
        ({"price": 1.08}, ("1.08", "1.07", "0", 2)),
        ({"expires_ms": 0}, ("1.085", "1.07", "0", 0)),
    ],
)
@pytest.mark.parametrize("lost", [False, True])
def test_a_pending_order_keeps_what_a_modify_does_not_name(
    rig_of: RigOf,
    monkeypatch: pytest.MonkeyPatch,
    named: dict[str, Any],
    then: tuple[Any, ...],
    *,
    lost: bool,
) -> None:
    """Somebody changes the rest of it between plan and request, or between a lost answer and the look."""
    rig = rig_of("lab")
    later = (now_ms() // 1000 + 7_200) * 1000
    name = pending(rig, stop_loss=1.06, expires_ms=later - 3_600_000)
    (order,) = rig.orders()

    def by_hand(entry: str = "1.085", tp: str = "0", until: int = later) -> None:
        rig.terminal.send(
            TradeRequest(
                action=7, order=order.ticket, price=Decimal(entry), sl=Decimal("1.07"), tp=Decimal(tp),
                type_time=2 if until else 0, expiration_ms=until,
            )
        )  # fmt: skip

    if lost:
        rig.broker.fault("ambiguous", login=rig.login, at=1)
        modify = rig.signal("modify", opened_by=signal_of(name), **named)
        unanswered(rig, modify)
        price, _, tp, kind = then
        by_hand(price, tp, later if kind else 0)
    else:
        prepare = rig.execution.preparation.prepare

        def planned(row: Any) -> Any:
            denial = prepare(row)
            by_hand()
            return denial

        monkeypatch.setattr(rig.execution.preparation, "prepare", planned)
        modify = rig.signal("modify", opened_by=signal_of(name), **named)
    assert rig.settle(modify).state is S.DONE
    (order,) = rig.orders()
    assert (order.price_open, order.sl, order.tp) == tuple(Decimal(item) for item in then[:3])
    assert order.type_time == then[3]


def test_the_executors_own_list_may_lag_behind_its_answers(
    rig_of: RigOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the guard has just moved is not shown yet when a modify completes its request, and the other way round."""
    rig = rig_of("lab")
    ticket = trailing(rig)
    shown = rig.terminal.positions
    old: list[tuple[Position, ...]] = []

    def lagging() -> tuple[Position, ...]:
        now = shown()
        return old.pop() if old else now

    monkeypatch.setattr(rig.terminal, "positions", lagging)
    rig.broker.push("EURUSD", 1.1050, 1.1051)
    before = shown()
    rig.turn()
    assert levels(rig)[ticket] == (Decimal("1.103"), Decimal(0))
    rig.execution.holdings.changed(
        TradeRequest(action=6, symbol="EURUSD", position=ticket, sl=Decimal("1.103"))
    )
    name = rig.signal("modify", position_ticket=ticket, take_profit=1.2)
    old.extend([before, before, before])
    assert rig.execution.run_next()
    assert levels(rig)[ticket] == (Decimal("1.103"), Decimal("1.2"))
    assert rig.settle(name).state is S.DONE
    # a moment later the price has risen, and the list is without the take profit
    before = tuple(item for item in before if item.ticket == ticket)
    rig.execution.holdings.changed(
        TradeRequest(action=6, symbol="EURUSD", position=ticket, sl=Decimal("1.103"), tp=Decimal("1.2"))
    )
    rig.broker.push("EURUSD", 1.1100, 1.1101)
    old.extend([before, before, before, before])
    limit = now_ms() + 5_000
    while levels(rig)[ticket][0] != Decimal("1.108") and now_ms() < limit:
        rig.turn()
    assert levels(rig)[ticket] == (Decimal("1.108"), Decimal("1.2"))


def lagging(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, lag_s: float = 0.3
) -> Callable[[], tuple[Position, ...]]:
    """The terminal's list shows levels only after a while, as they were before until then. Returns the true list."""
    true = rig.terminal.positions
    had: dict[int, list[tuple[float, Decimal, Decimal]]] = {}

    def shown() -> tuple[Position, ...]:
        now, found = time.monotonic(), []
        for item in true():
            past = had.setdefault(item.ticket, [])
            if not past or past[-1][1:] != (item.sl, item.tp):
                past.append((now, item.sl, item.tp))
            _, sl, tp = next((old for old in past[::-1] if old[0] <= now - lag_s), past[0])
            found.append(replace(item, sl=sl, tp=tp))
        return tuple(found)

    monkeypatch.setattr(rig.terminal, "positions", shown)
    shown()
    return true


@pytest.mark.parametrize("restarts", [False, True])
def test_a_stop_loss_whose_answer_was_lost_is_not_taken_back_by_a_take_profit(
    rig_of: RigOf, monkeypatch: pytest.MonkeyPatch, *, restarts: bool
) -> None:
    rig = rig_of("lab")
    which = {"opened_by": signal_of(name := rig.signal("open"))}
    rig.settle(name)
    true = lagging(rig, monkeypatch)
    rig.broker.fault("lose_answer", login=rig.login, at=1)
    lost = rig.signal("modify", **which, stop_loss=1.05)
    unanswered(rig, lost)
    if restarts:
        rig.kill()
        rig.start()
    assert rig.settle(rig.signal("modify", **which, take_profit=1.2)).state is S.DONE
    assert rig.settle(lost).state is S.DONE
    assert [(item.sl, item.tp) for item in true()] == [(Decimal("1.05"), Decimal("1.2"))]


def test_a_trailing_stop_whose_answer_was_lost_is_not_taken_back_by_a_take_profit(
    rig_of: RigOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = rig_of("lab")
    ticket = trailing(rig)
    true = lagging(rig, monkeypatch)
    rig.broker.fault("lose_answer", login=rig.login, at=1)
    rig.broker.push("EURUSD", 1.1100, 1.1101)
    rig.turn()
    rig.broker.push("EURUSD", 1.1090, 1.1091)
    assert rig.settle(rig.signal("modify", position_ticket=ticket, take_profit=1.2)).state is S.DONE
    assert [(item.sl, item.tp) for item in true()] == [(Decimal("1.108"), Decimal("1.2"))]
