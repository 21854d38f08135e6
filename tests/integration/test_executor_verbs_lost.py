"""Requests that leave no magic, and pending orders, when their answer is lost, their executor dies, or what they were about
ends meanwhile: against the real paper broker. What is done is done once, and what is told is true."""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pytest

from executors.errors import Code
from executors.orders import OrderState, Outcome
from executors.terminals.base import Deal, TradeRequest
from tests.integration.test_executor_verbs import pending, signal_of
from tests.rig import LIMIT_S, LOTS, Rig

S = OrderState
RigOf = Callable[[str], Rig]


def prepared(rig: Rig) -> tuple[str, str]:
    """A position and a pending order: the signal ids of their opens."""
    opened = rig.open()
    rig.settle(opened)
    if rig.personality == "lab":
        rig.settle(rig.signal("open", side="sell"))
    return signal_of(opened), signal_of(pending(rig))


def change(rig: Rig, kind: str) -> str:
    opened, waiting = prepared(rig)
    match kind:
        case "SLTP":
            return rig.signal("modify", opened_by=opened, stop_loss=1.09)
        case "MODIFY":
            return rig.signal("modify", opened_by=waiting, price=1.085, take_profit=1.12)
        case "REMOVE":
            return rig.signal("cancel", opened_by=waiting)
        case "CLOSE_BY":
            return rig.signal("close_by", symbol="EURUSD")
    return rig.signal("open", order_type="stop", price=1.12)


def reached(rig: Rig, kind: str) -> bool:
    """Whether the broker has it."""
    match kind:
        case "SLTP":
            return any(item.sl == Decimal("1.09") for item in rig.positions())
        case "MODIFY":
            return [(item.price_open, item.tp) for item in rig.orders()] == [
                (Decimal("1.085"), Decimal("1.12"))
            ]
        case "REMOVE":
            return not rig.orders()
        case "CLOSE_BY":
            return not rig.positions()
    return any(item.price_open == Decimal("1.12") for item in rig.orders())


ALL = ["SLTP", "MODIFY", "REMOVE", "PENDING", "CLOSE_BY"]
KINDS = pytest.mark.parametrize("kind", ALL)


LOSSES = [
    (personality, kind, fault)
    for personality, kinds in (("lab", ALL), ("net", ALL[:-1]))
    for kind in kinds
    for fault in ("lose_answer", "ambiguous")
]


@pytest.mark.parametrize(("personality", "kind", "fault"), LOSSES)
def test_done_without_an_answer_is_found_done(rig_of: RigOf, personality: str, kind: str, fault: str) -> None:
    rig = rig_of(personality)
    name = change(rig, kind)
    rig.broker.fault(fault, login=rig.login, at=1)
    end = S.PLACED if kind == "PENDING" else S.DONE
    rig.until(lambda report: report.state is end, name)
    assert rig.states(name) == [S.INTENT, S.UNKNOWN, end]
    assert reached(rig, kind)
    row = rig.journal.get(name)
    assert row is not None
    assert len(row.requests) == 1
    assert row.requests[0].result["looked"]


@KINDS
def test_not_done_without_an_answer_is_found_not_done_and_never_sent_again(rig_of: RigOf, kind: str) -> None:
    rig = rig_of("lab")
    name = change(rig, kind)
    rig.broker.fault("lose_question", login=rig.login, at=1)
    report = rig.settle(name)
    assert rig.states(name) == [S.INTENT, S.UNKNOWN, S.NOT_EXECUTED]
    assert report.code == Code.NOT_EXECUTED
    assert not reached(rig, kind)
    for _ in range(5):
        rig.turn()
    assert not reached(rig, kind)


@KINDS
@pytest.mark.parametrize("executed", [True, False])
def test_killed_at_the_brokers_door_it_is_looked_up(rig_of: RigOf, kind: str, *, executed: bool) -> None:
    class Killed(BaseException):
        pass

    rig = rig_of("lab")
    name = change(rig, kind)
    send = rig.terminal.send

    def kill(request: Any) -> Any:
        if executed:
            send(request)
        raise Killed

    with patch.object(rig.terminal, "send", kill), pytest.raises(Killed):
        rig.turn()
    rig.kill()
    rig.start()
    end = (S.PLACED if kind == "PENDING" else S.DONE) if executed else S.NOT_EXECUTED
    rig.until(lambda report: report.state is end, name)
    assert reached(rig, kind) is executed


@pytest.mark.parametrize("kind", ["lab", "net"])
def test_a_pending_order_that_triggers_while_the_executor_is_down_is_told_after(
    rig_of: RigOf, kind: str
) -> None:
    rig = rig_of(kind)
    name = pending(rig)
    rig.kill()
    rig.broker.push("EURUSD", 1.0898, 1.0899)
    rig.start()
    report = rig.settle(name)
    assert (report.state, report.filled_lots) == (S.FILLED, LOTS)
    (position,) = rig.positions()
    assert report.position_tickets == [position.ticket]
    assert rig.journal.order_of_magic(position.magic) == name


def test_a_pending_order_that_is_cancelled_by_others_while_the_executor_is_down_is_told_after(
    rig_of: RigOf,
) -> None:
    rig = rig_of("lab")
    name = pending(rig)
    ticket = rig.orders()[0].ticket
    rig.kill()
    other = rig.terminal
    other.connect()

    assert other.send(TradeRequest(action=8, order=ticket)).result is not None
    other.disconnect()
    rig.start()
    report = rig.settle(name)
    assert (report.state, report.code) == (S.CANCELLED, Code.PENDING_CANCELLED)


def test_a_pending_order_at_rest_is_not_looked_for_in_the_history_again(
    rig_of: RigOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = rig_of("lab")
    pending(rig)
    asked: list[int] = []
    history = rig.terminal.history_deals

    def counted(from_ms: int, to_ms: int) -> tuple[Deal, ...]:
        asked.append(from_ms)
        return history(from_ms, to_ms)

    monkeypatch.setattr(rig.terminal, "history_deals", counted)
    for _ in range(20):
        rig.turn()
    assert asked == []
    rig.broker.push("EURUSD", 1.0898, 1.0899)
    rig.turn()
    rig.turn()
    assert asked


def test_what_a_change_was_about_has_gone_meanwhile(rig_of: RigOf) -> None:
    """The answer is lost, and the stop loss strikes before anybody can look."""
    rig = rig_of("lab")
    opened = rig.signal("open", stop_loss=1.095)
    rig.settle(opened)
    rig.broker.fault("lose_question", login=rig.login, at=1)
    name = rig.signal("modify", opened_by=signal_of(opened), stop_loss=1.09)
    rig.until(lambda report: report.state is S.UNKNOWN, name)
    rig.broker.push("EURUSD", 1.0940, 1.0941)
    report = rig.settle(name)
    assert report.state is S.REJECTED
    assert "by its stop loss" in report.message


def test_a_cancel_that_comes_too_late_says_that_the_order_was_filled(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    waiting = pending(rig)
    rig.broker.fault("lose_question", login=rig.login, at=1)
    name = rig.signal("cancel", all=True)
    rig.until(lambda report: report.state is S.UNKNOWN, name)
    rig.broker.push("EURUSD", 1.0898, 1.0899)
    assert "was filled meanwhile" in rig.settle(name).message
    assert rig.settle(waiting).state is S.FILLED


@pytest.mark.parametrize("kind", ["lab", "net"])
@pytest.mark.parametrize("fault", ["lose_question", "lose_answer"])
def test_a_stop_loss_reaches_the_position_that_its_pending_order_became(
    rig_of: RigOf, kind: str, fault: str
) -> None:
    rig = rig_of(kind)
    waiting = pending(rig)
    rig.broker.fault(fault, login=rig.login, at=1)
    name = rig.signal("modify", opened_by=signal_of(waiting), stop_loss=1.05)
    assert rig.execution.run_next()
    assert rig.states(name) == [S.INTENT, S.UNKNOWN]
    rig.broker.push("EURUSD", 1.0898, 1.0899)
    assert rig.settle(name).state is S.DONE
    assert [(item.sl, item.tp) for item in rig.positions()] == [(Decimal("1.05"), Decimal(0))]
    row = rig.journal.get(name)
    assert row is not None
    assert len(row.requests) == (2 if fault == "lose_question" else 1)


@pytest.mark.parametrize("action", ["close", "modify", "protect"])
def test_what_means_an_unknown_open_waits_for_it(rig_of: RigOf, action: str) -> None:
    rig = rig_of("lab")
    rig.broker.fault("ambiguous", login=rig.login, at=1)
    for lag in ("position_lag", "history_lag"):
        rig.broker.fault(lag, login=rig.login, value=200)
    opened = rig.open()
    rig.until(lambda report: report.state is S.UNKNOWN, opened)
    wishes: dict[str, dict[str, Any]] = {
        "close": {}, "modify": {"stop_loss": 1.08}, "protect": {"trailing": {"distance": 0.05}}
    }  # fmt: skip
    name = rig.signal(action, opened_by=signal_of(opened), **wishes[action])
    report = rig.settle(name)
    assert report.state is (S.FILLED if action == "close" else S.DONE)
    assert any("Waits" in item.message for item in rig.reports if item.order_id == name)
    if action == "close":
        assert rig.positions() == ()
    else:
        (position,) = rig.positions()
        rig.turn()
        assert position.sl == (Decimal("1.08") if action == "modify" else rig.positions()[0].sl)
        armed = rig.execution.guard.of(position.ticket)
        assert (armed is not None) is (action == "protect")


def test_a_netting_close_of_an_unknown_open_closes_what_that_added(rig_of: RigOf) -> None:
    rig = rig_of("net")
    rig.settle(rig.open())
    rig.broker.fault("ambiguous", login=rig.login, at=1)
    for lag in ("position_lag", "history_lag"):
        rig.broker.fault(lag, login=rig.login, value=200)
    opened = rig.signal("open", lots=0.3)
    rig.until(lambda report: report.state is S.UNKNOWN, opened)
    report = rig.settle(rig.signal("close", opened_by=signal_of(opened)))
    assert (report.state, report.filled_lots) == (S.FILLED, Decimal("0.3"))
    assert [item.volume for item in rig.positions()] == [LOTS]


# --- trailing stop and break-even ---


@pytest.mark.parametrize("kind", ["lab", "net"])
def test_a_trailing_stop_follows_in_favour_and_survives_a_restart(rig_of: RigOf, kind: str) -> None:
    rig = rig_of(kind)
    name = rig.signal("open", trailing={"distance": 0.002, "step": 0.0005})
    rig.settle(name)
    levels = []
    for bid in (1.1000, 1.1010, 1.1012, 1.1000):
        rig.broker.push("EURUSD", bid, bid + 0.0001)
        rig.turn()
        levels.append(str(rig.positions()[0].sl.normalize()))
    assert levels == ["1.098", "1.099", "1.099", "1.099"]
    (position,) = rig.positions()
    rig.kill()
    rig.broker.push("EURUSD", 1.1050, 1.1051)
    rig.start()
    rig.turn()
    rig.turn()
    assert rig.positions()[0].sl == Decimal("1.103")
    armed = rig.execution.guard.of(position.ticket)
    assert armed is not None
    assert (armed.moves, armed.error) == (3, "")
    rig.broker.push("EURUSD", 1.1020, 1.1021)
    rig.turn()
    assert rig.positions() == ()


def test_two_opens_of_one_netting_position_the_newest_wish_counts(rig_of: RigOf) -> None:
    rig = rig_of("net")
    rig.settle(rig.signal("open", trailing={"distance": 0.003}))
    rig.turn()
    assert rig.positions()[0].sl == Decimal("1.097")
    rig.settle(rig.signal("open", trailing={"distance": 0.002}))
    rig.turn()
    assert (rig.positions()[0].volume, rig.positions()[0].sl) == (Decimal("0.2"), Decimal("1.098"))


def test_break_even_moves_once_to_the_open_price(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    name = rig.open()
    rig.settle(name)
    protect = rig.signal(
        "protect", opened_by=signal_of(name), break_even={"trigger": 0.001, "offset": 0.0002}
    )
    assert rig.settle(protect).state is S.DONE
    opened_at = rig.positions()[0].price_open
    rig.turn()
    assert not rig.positions()[0].sl
    rig.broker.push("EURUSD", 1.1012, 1.1013)
    rig.turn()
    assert rig.positions()[0].sl == opened_at + Decimal("0.0002")
    rig.broker.push("EURUSD", 1.1052, 1.1053)
    rig.turn()
    assert rig.positions()[0].sl == opened_at + Decimal("0.0002")


def test_a_pending_order_arms_what_it_makes(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    name = pending(rig, trailing={"distance": 0.002})
    other = signal_of(name)
    assert rig.settle(rig.signal("protect", opened_by=other, trailing={"distance": 0.003})).state is S.DONE
    rig.kill()
    rig.start()
    rig.broker.push("EURUSD", 1.0898, 1.0899)
    rig.settle(name)
    rig.turn()
    assert rig.positions()[0].sl == Decimal("1.0868")


def test_null_takes_the_protection_away(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    name = rig.signal("open", trailing={"distance": 0.002}, break_even={"trigger": 0.5})
    rig.settle(name)
    rig.turn()
    ticket = rig.positions()[0].ticket
    assert rig.settle(rig.signal("protect", position_ticket=ticket, trailing=None)).state is S.DONE
    armed = rig.execution.guard.of(ticket)
    assert armed is not None
    assert armed.trailing is None
    assert armed.break_even is not None
    assert rig.settle(rig.signal("protect", opened_by=signal_of(name), break_even=None)).state is S.DONE
    for _ in range(3):
        rig.turn()
    assert rig.execution.guard.of(ticket) is None


def test_what_the_broker_refuses_is_said_and_tried_again_later(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    rig.broker.fault("reject", login=rig.login, at=2)  # after the open itself
    rig.settle(rig.signal("open", trailing={"distance": 0.002}))
    ticket = rig.positions()[0].ticket
    armed = rig.execution.guard.of(ticket)
    assert armed is not None
    assert "refused" in armed.error
    limit = time.monotonic() + LIMIT_S
    while not rig.positions()[0].sl and time.monotonic() < limit:
        rig.turn()
        time.sleep(0.05)
    armed = rig.execution.guard.of(ticket)
    assert armed is not None
    assert (armed.moves, armed.error) == (1, "")


def test_a_lost_answer_of_a_move_does_no_harm(rig_of: RigOf) -> None:
    rig = rig_of("lab")
    rig.broker.fault("lose_answer", login=rig.login, at=2)
    rig.settle(rig.signal("open", trailing={"distance": 0.002}))
    for _ in range(4):
        rig.turn()
    assert rig.positions()[0].sl == Decimal("1.098")
    assert not any(
        item.outcome is Outcome.UNKNOWN for row in rig.execution.open.values() for item in row.requests
    )
