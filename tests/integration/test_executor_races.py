"""A pending order that is filled, or ends, while a modify, protect or cancel of it is under way, at every moment of it: against
the real paper broker."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from executors.errors import Code
from executors.orders import OrderState
from executors.terminals.base import TradeRequest
from tests.integration.test_executor_verbs import RigOf, pending, signal_of
from tests.rig import Rig

S = OrderState
AT = Decimal("1.05")
AT_90 = {"order_type": "limit", "price": 1.09}
CALLS = ("orders", "positions", "send")
BY = ["opened_by", "symbol", "order_ticket"]


def before_call(rig: Rig, monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> list[str]:
    """`act` right before the n-th look at what the terminal holds, or request; the calls so far."""
    calls: list[str] = []

    def wrap(name: str) -> None:
        real = getattr(rig.terminal, name)

        def call(*given: Any) -> Any:
            calls.append(name)
            if len(calls) == number:
                act()
            return real(*given)

        monkeypatch.setattr(rig.terminal, name, call)

    for name in CALLS:
        wrap(name)
    return calls


def waiting(rig: Rig, by: str) -> tuple[str, dict[str, Any]]:
    """A buy limit at rest, and how a signal names it."""
    name = pending(rig)
    selector: dict[str, Any] = {"opened_by": signal_of(name), "symbol": "EURUSD"}
    return name, {by: selector.get(by, rig.orders()[0].ticket)}


@pytest.mark.parametrize(("kind", "by"), [*(("lab", by) for by in BY), ("net", "opened_by")])
@pytest.mark.parametrize("number", range(1, 6))
def test_a_stop_loss_reaches_what_the_pending_order_becomes(
    rig_of: RigOf, monkeypatch: pytest.MonkeyPatch, kind: str, by: str, number: int
) -> None:
    rig = rig_of(kind)
    opened, which = waiting(rig, by)
    calls = before_call(rig, monkeypatch, number, lambda: rig.broker.push("EURUSD", 1.0898, 1.0899))
    name = rig.signal("modify", **which, stop_loss=AT)
    report = rig.settle(name)
    assert rig.settle(opened).state is S.FILLED
    assert len(calls) >= number
    assert (report.state, [item.sl for item in rig.positions()]) == (S.DONE, [AT]), report.message


@pytest.mark.parametrize("by", ["opened_by", "order_ticket"])
@pytest.mark.parametrize("number", range(1, 4))
def test_a_protection_reaches_what_the_pending_order_becomes(
    rig_of: RigOf, monkeypatch: pytest.MonkeyPatch, by: str, number: int
) -> None:
    rig = rig_of("lab")
    opened, which = waiting(rig, by)
    before_call(rig, monkeypatch, number, lambda: rig.broker.push("EURUSD", 1.0898, 1.0899))
    assert rig.settle(rig.signal("protect", **which, trailing={"distance": 0.002})).state is S.DONE
    assert rig.settle(opened).state is S.FILLED
    rig.turn()
    assert rig.execution.guard.of(rig.positions()[0].ticket) is not None
    rig.turn()
    assert [item.sl for item in rig.positions()] == [Decimal("1.0878")]


@pytest.mark.parametrize("by", ["opened_by", "order_ticket"])
@pytest.mark.parametrize("number", range(1, 6))
def test_a_modify_of_what_is_cancelled_meanwhile_says_that_it_is_gone(
    rig_of: RigOf, monkeypatch: pytest.MonkeyPatch, by: str, number: int
) -> None:
    rig = rig_of("lab")
    opened, which = waiting(rig, by)
    ticket = rig.orders()[0].ticket
    send = rig.terminal.send

    def cancelled() -> None:
        send(TradeRequest(action=8, order=ticket))

    before_call(rig, monkeypatch, number, cancelled)
    report = rig.settle(rig.signal("modify", **which, stop_loss=AT))
    assert rig.settle(opened).state is S.CANCELLED
    done_before = number == 5 and report.state is S.DONE
    assert done_before or (report.state, report.code) in (
        (S.DENIED, Code.NO_TARGET),
        (S.REJECTED, Code.NO_TARGET),
        (S.REJECTED, Code.BROKER_REFUSED),
    )
    assert rig.execution.breaker.reason == ""
    assert rig.positions() == ()


@pytest.mark.parametrize("number", range(1, 6))
def test_an_entry_is_not_given_to_a_position(
    rig_of: RigOf, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    rig = rig_of("lab")
    _, which = waiting(rig, "opened_by")
    before_call(rig, monkeypatch, number, lambda: rig.broker.push("EURUSD", 1.0898, 1.0899))
    report = rig.settle(rig.signal("modify", **which, price=1.08, stop_loss=AT))
    if report.state is not S.DONE:  # it was changed before it could be filled
        assert report.state in (S.DENIED, S.REJECTED)
        assert [item.sl for item in rig.positions()] == [0]


def test_five_cancels_that_come_too_late_do_not_trip_the_breaker(rig_of: RigOf) -> None:
    """A fill that wins the race is no fault of the broker's."""
    rig = rig_of("lab")
    for _ in range(6):
        name = pending(rig)
        rig.broker.fault("race_fill", login=rig.login, at=1)
        report = rig.settle(rig.signal("cancel", opened_by=signal_of(name)))
        assert report.state is S.REJECTED
        assert rig.settle(name).state is S.FILLED
    assert rig.execution.breaker.reason == ""
    for _ in range(5):
        rig.broker.fault("reject", login=rig.login, at=1)
        rig.settle(rig.signal("modify", all=True, take_profit=0, stop_loss=0))
    assert rig.settle(rig.open()).state is S.FILLED


def test_what_the_broker_refuses_five_times_does(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    ticket = rig.settle(rig.open()).position_tickets[0]
    for _ in range(5):
        rig.broker.fault("reject", login=rig.login, at=1)
        report = rig.settle(rig.signal("modify", position_ticket=ticket, stop_loss=AT))
        assert (report.state, report.code) == (S.REJECTED, Code.BROKER_REFUSED)
    assert rig.settle(rig.open()).code == Code.HALTED


def test_a_close_by_that_waited_for_an_open_ends_with_the_denial_that_came_of_it(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    rig.broker.fault("ambiguous", login=rig.login, at=1)
    for lag in ("position_lag", "history_lag"):
        rig.broker.fault(lag, login=rig.login, value=200)
    opened = rig.signal("open", symbol="EURUSD.gtc")
    rig.until(lambda report: report.state is S.UNKNOWN, opened)
    name = rig.signal("close_by", symbol="EURUSD.gtc")
    report = rig.settle(name)
    assert any("Waits" in item.message for item in rig.reports if item.order_id == name)
    assert (report.state, report.code) == (S.REJECTED, Code.ORDER_TYPE_NOT_ALLOWED)
    assert "does not close EURUSD.gtc by" in report.message
    assert rig.execution.breaker.reason == ""


def by_another_hand(rig: Rig) -> int:
    """A buy limit that is no open of ours."""
    request = TradeRequest(
        action=5, symbol="EURUSD", volume=Decimal("0.1"), type=2, price=Decimal("1.09"), type_filling=2
    )
    reply = rig.terminal.send(request)
    assert reply.result is not None
    return reply.result.order


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("number", [3, 4])
def test_a_stop_loss_for_what_is_cancelled_meanwhile_is_not_given_to_other_trades_of_a_netting_account(
    rig_of: RigOf, monkeypatch: pytest.MonkeyPatch, number: int, *, ours: bool
) -> None:
    rig = rig_of("net")
    assert rig.settle(rig.signal("open")).state is S.FILLED
    if ours:
        pending(rig)
    ticket = rig.orders()[0].ticket if ours else by_another_hand(rig)
    send = rig.terminal.send

    def cancelled() -> None:
        send(TradeRequest(action=8, order=ticket))

    before_call(rig, monkeypatch, number, cancelled)
    report = rig.settle(rig.signal("modify", order_ticket=ticket, stop_loss=AT))
    assert report.state in (S.DENIED, S.REJECTED)
    assert [item.sl for item in rig.positions()] == [0]


def test_a_stop_loss_follows_anothers_pending_order_into_the_position_of_a_netting_account(
    rig_of: RigOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = rig_of("net")
    assert rig.settle(rig.signal("open")).state is S.FILLED
    ticket = by_another_hand(rig)
    before_call(rig, monkeypatch, 3, lambda: rig.broker.push("EURUSD", 1.0898, 1.0899))
    report = rig.settle(rig.signal("modify", order_ticket=ticket, stop_loss=AT))
    assert (report.state, [item.sl for item in rig.positions()]) == (S.DONE, [AT]), report.message


@pytest.mark.parametrize("kind", ["lab", "net"])
@pytest.mark.parametrize("how", ["answered", "looked up", "restarted", "placed"])
def test_a_close_or_cancel_finds_what_the_terminal_does_not_show_yet(
    rig_of: RigOf, kind: str, how: str
) -> None:
    rig = rig_of(kind)
    rig.broker.fault("position_lag", login=rig.login, value=700)
    if how == "looked up":
        rig.broker.fault("lose_answer", login=rig.login, at=1)
    entry = AT_90 if how == "placed" else {}
    opened = rig.signal("open", **entry)
    rig.until(lambda report: report.state in (S.FILLED, S.PLACED), opened)
    if how in ("restarted", "placed"):
        rig.kill()
        rig.start()
    action = "cancel" if how == "placed" else "close"
    report = rig.settle(rig.signal(action, opened_by=signal_of(opened)))
    rig.broker.oracle.clear_faults()
    assert report.state is (S.DONE if how == "placed" else S.FILLED), report.message
    assert (rig.positions(), rig.orders()) == ((), ())


@pytest.mark.parametrize(("kind", "entry", "most"), [("lab", {}, 1), ("net", {}, 2), ("lab", AT_90, 1)])
def test_the_limit_of_positions_holds_for_what_the_terminal_does_not_show_yet(
    rig_of: RigOf, kind: str, entry: dict[str, Any], most: int
) -> None:
    """A netting account has one position of a symbol."""
    rig = rig_of(kind)
    limits = rig.config.limits.model_copy(update={"max_positions": most})
    rig.execution.config = rig.config.model_copy(update={"limits": limits})
    rig.broker.fault("position_lag", login=rig.login, value=700)
    first = rig.signal("open", **entry)
    rig.until(lambda report: report.state in (S.FILLED, S.PLACED), first)
    report = rig.settle(rig.signal("open", **entry))
    assert (report.state, report.code) == (
        (S.DENIED, Code.TOO_MANY_POSITIONS) if kind == "lab" else (S.FILLED, "")
    )
    rig.broker.oracle.clear_faults()
    assert len(rig.positions()) + len(rig.orders()) == 1
