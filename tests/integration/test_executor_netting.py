"""A netting account has one position a symbol, of all opens together: a close of one open takes what is left of that, and
nothing of the others', against the real paper broker."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from executors.errors import Code, TerminalError
from executors.messages import ExecutionReport
from executors.orders import OrderState
from executors.terminals.base import TradeRequest
from tests.integration.test_executor_verbs import signal_of
from tests.rig import LOTS, Rig
from tradedist.clock import now_ms

S = OrderState
RigOf = Callable[[str], Rig]


def opened(rig: Rig, lots: float = 0.1, side: str = "buy", **more: Any) -> str:
    """The signal id of an open that is filled."""
    name = rig.signal("open", lots=lots, side=side, **more)
    assert rig.settle(name).state is S.FILLED
    return signal_of(name)


def close(rig: Rig, signal_id: str, **more: Any) -> ExecutionReport:
    return rig.settle(rig.signal("close", opened_by=signal_id, **more))


def held(rig: Rig) -> list[tuple[int, Decimal]]:
    return [(item.type, item.volume) for item in rig.positions()]


def by_hand(rig: Rig, side: int, lots: str) -> None:
    """Somebody trades at the terminal."""
    reply = rig.terminal.send(TradeRequest(action=1, symbol="EURUSD", volume=Decimal(lots), type=side))
    assert reply.result is not None
    assert reply.result.retcode == 10009


def restarted(rig: Rig) -> None:
    rig.kill()
    rig.start()
    rig.turn()


@pytest.mark.parametrize("restarts", [False, True])
def test_a_second_close_of_an_open_closes_nothing_of_the_others(rig_of: RigOf, *, restarts: bool) -> None:
    rig = rig_of("net")
    first = opened(rig)
    opened(rig, 0.3)
    assert close(rig, first).filled_lots == LOTS
    if restarts:
        restarted(rig)
    again = close(rig, first)
    assert (again.state, again.filled_lots) == (S.DONE, Decimal(0))
    assert "left" in again.message
    assert held(rig) == [(0, Decimal("0.3"))]


def test_a_fraction_is_of_what_is_left_and_the_rest_is_the_rest(rig_of: RigOf) -> None:
    rig = rig_of("net")
    first, _ = opened(rig, 0.4), opened(rig, 1)
    for lots in ("0.2", "0.1", "0.05"):
        assert close(rig, first, fraction=0.5).filled_lots == Decimal(lots)
    assert close(rig, first).filled_lots == Decimal("0.05")
    assert close(rig, first, fraction=0.5).state is S.DONE
    assert held(rig) == [(0, Decimal(1))]


def test_what_others_closed_is_taken_first_in_first_out(rig_of: RigOf) -> None:
    rig = rig_of("net")
    first, second = opened(rig, 0.2), opened(rig, 0.3)
    by_hand(rig, 1, "0.1")
    assert close(rig, first).filled_lots == LOTS
    assert held(rig) == [(0, Decimal("0.3"))]
    rig.settle(rig.signal("close", symbol="EURUSD", fraction=0.5))
    assert close(rig, second).filled_lots == Decimal("0.15")
    assert held(rig) == []


def test_an_opposite_open_takes_first_in_first_out(rig_of: RigOf) -> None:
    rig = rig_of("net")
    first, second = opened(rig, 0.2), opened(rig, 0.3)
    short = opened(rig, 0.25, "sell")
    assert close(rig, first).state is S.DONE
    assert close(rig, short).state is S.DONE
    assert close(rig, second).filled_lots == Decimal("0.25")
    assert held(rig) == []


def test_a_stop_loss_ends_its_open_and_the_next_begins_anew(rig_of: RigOf) -> None:
    rig = rig_of("net")
    first = opened(rig, 0.1, stop_loss=1.095)
    rig.broker.push("EURUSD", 1.0940, 1.0941)
    assert held(rig) == []
    second = opened(rig, 0.1, "sell")
    third = opened(rig, 0.1, "sell")
    assert close(rig, first).state is S.DONE
    assert close(rig, second).filled_lots == LOTS
    assert close(rig, second).state is S.DONE
    assert held(rig) == [(1, LOTS)]
    assert close(rig, third).filled_lots == LOTS


def test_what_another_hand_added_is_nobodys(rig_of: RigOf) -> None:
    rig = rig_of("net")
    first = opened(rig)
    by_hand(rig, 0, "0.5")
    assert close(rig, first).filled_lots == LOTS
    assert close(rig, first).state is S.DONE
    assert held(rig) == [(0, Decimal("0.5"))]


@pytest.mark.parametrize("executed", [True, False])
def test_a_close_waits_for_one_whose_answer_was_lost(rig_of: RigOf, *, executed: bool) -> None:
    rig = rig_of("net")
    first, _ = opened(rig), opened(rig, 0.3)
    for lag in ("position_lag", "history_lag"):
        rig.broker.fault(lag, login=rig.login, value=200)
    rig.broker.fault("lose_answer" if executed else "lose_question", login=rig.login, at=1)
    lost = rig.signal("close", opened_by=first)
    rig.until(lambda report: report.state is S.UNKNOWN, lost)
    report = close(rig, first)
    assert rig.settle(lost).state is (S.FILLED if executed else S.NOT_EXECUTED)
    assert (report.state, report.filled_lots) == ((S.DONE, Decimal(0)) if executed else (S.FILLED, LOTS))
    assert held(rig) == [(0, Decimal("0.3"))]


def test_a_close_that_was_answered_counts_before_the_history_shows_it(rig_of: RigOf) -> None:
    rig = rig_of("net")
    first, _ = opened(rig), opened(rig, 0.3)
    rig.broker.fault("history_lag", login=rig.login, value=3_000)
    assert close(rig, first).filled_lots == LOTS
    assert close(rig, first).state is S.DONE
    deals = rig.terminal.history_deals(now_ms() - 86_400_000, now_ms() + 86_400_000)
    assert sum(deal.type in (0, 1) for deal in deals) == 0, "the history was to lag"
    rig.broker.oracle.clear_faults()
    assert held(rig) == [(0, Decimal("0.3"))]


@pytest.mark.parametrize("action", ["close", "modify", "protect"])
def test_an_open_that_was_turned_over_means_nothing(rig_of: RigOf, action: str) -> None:
    rig = rig_of("net")
    first = opened(rig)
    opened(rig, 0.3, "sell")
    assert held(rig) == [(1, Decimal("0.2"))]
    wishes: dict[str, dict[str, Any]] = {
        "close": {}, "modify": {"stop_loss": 1.2}, "protect": {"trailing": {"distance": 0.05}}
    }  # fmt: skip
    report = rig.settle(rig.signal(action, opened_by=first, **wishes[action]))
    if action == "close":
        assert report.state is S.DONE
    else:
        assert (report.state, report.code) == (S.DENIED, Code.NO_TARGET)
    (position,) = rig.positions()
    assert (position.volume, position.sl) == (Decimal("0.2"), Decimal(0))
    assert rig.execution.guard.of(position.ticket) is None


def test_a_trade_turned_over_twice_is_the_last_opens(rig_of: RigOf) -> None:
    rig = rig_of("net")
    first = opened(rig)
    second = opened(rig, 0.3, "sell")
    third = opened(rig, 0.5)
    for signal_id in (first, second):
        assert close(rig, signal_id).state is S.DONE
    assert close(rig, third).filled_lots == Decimal("0.3")
    assert held(rig) == []


@pytest.mark.parametrize("by", ["opened_by", "symbol"])
def test_a_close_that_waited_takes_what_a_late_fill_added_to_its_ticket(rig_of: RigOf, by: str) -> None:
    rig = rig_of("net")
    first = opened(rig)
    rig.broker.fault("ambiguous", login=rig.login, at=1)
    for lag in ("position_lag", "history_lag"):
        rig.broker.fault(lag, login=rig.login, value=400)
    late = rig.signal("open", lots=0.3)
    rig.until(lambda report: report.state is S.UNKNOWN, late)
    other = signal_of(late)
    report = rig.settle(rig.signal("close", **({"symbol": "EURUSD"} if by == "symbol" else {by: other})))
    assert report.state is S.FILLED
    assert report.filled_lots == (Decimal("0.4") if by == "symbol" else Decimal("0.3"))
    rig.broker.oracle.clear_faults()
    assert held(rig) == ([] if by == "symbol" else [(0, LOTS)])
    assert close(rig, first).filled_lots == (0 if by == "symbol" else LOTS)


def test_a_history_that_cannot_be_read_denies_and_holds_nothing_up(
    rig_of: RigOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = rig_of("net")
    first = opened(rig)

    def fails(from_ms: int, to_ms: int) -> Any:
        raise TerminalError("history_deals_get", (-1, "Terminal: Call failed"))

    with monkeypatch.context() as patch:
        patch.setattr(rig.terminal, "history_deals", fails)
        report = close(rig, first)
    assert (report.state, report.code) == (S.DENIED, Code.LOTS_NOT_KNOWN)
    assert close(rig, first).filled_lots == LOTS


@pytest.mark.parametrize("distance", [None, 0.004])
def test_a_trailing_stop_ends_with_the_trade_that_asked_for_it(rig_of: RigOf, distance: float | None) -> None:
    rig = rig_of("net")
    opened(rig, trailing={"distance": 0.002})
    rig.turn()
    (position,) = rig.positions()
    assert position.sl == Decimal("1.098")
    opened(rig, 0.3, "sell", **({"trailing": {"distance": distance}} if distance else {}))
    for bid in (1.1000, 1.0950):
        rig.broker.push("EURUSD", bid, bid + 0.0001)
        rig.turn()
    (turned,) = rig.positions()
    assert turned.sl == (Decimal("1.0991") if distance else 0)
    assert rig.execution.guard.of(position.ticket) is None


@pytest.mark.parametrize("by", ["symbol", "opened_by", "position_ticket"])
def test_a_close_that_is_tried_again_turns_nothing_over_of_which_a_hand_has_closed_a_part(
    rig_of: RigOf, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    rig = rig_of("net")
    means = {"symbol": "EURUSD", "opened_by": opened(rig, 0.4), "position_ticket": 0}
    means["position_ticket"] = rig.positions()[0].ticket
    rig.broker.fault("requote", login=rig.login, at=1)
    send, asked = rig.terminal.send, []

    def sent(request: TradeRequest) -> Any:
        asked.append(request.volume)
        reply = send(request)
        if len(asked) == 1:
            monkeypatch.setattr(rig.terminal, "send", send)
            by_hand(rig, 1, "0.3")
        return reply

    monkeypatch.setattr(rig.terminal, "send", sent)
    report = rig.settle(rig.signal("close", **{by: means[by]}))
    assert asked == [Decimal("0.4")]
    assert report.filled_lots == LOTS
    assert held(rig) == []


@pytest.mark.parametrize("number", [0, 1])
def test_a_journal_that_knows_none_of_the_opens_closes_nothing_of_one(rig_of: RigOf, number: int) -> None:
    """It was lost: whose lots are left cannot be said, and the other open's are never closed for it."""
    rig = rig_of("net")
    opens = [opened(rig), opened(rig, 0.3)]
    rig.kill()
    for part in rig.path.parent.glob(f"{rig.path.name}*"):
        part.unlink()
    rig.start()
    rig.execution.queue.drop_through(rig.seq)  # as the adoption of what the store knows does
    rig.turn()
    report = close(rig, opens[number])
    assert (report.state, report.code) == (S.DENIED, Code.LOTS_NOT_KNOWN)
    assert held(rig) == [(0, Decimal("0.4"))]
    assert rig.settle(rig.signal("close", symbol="EURUSD")).state is S.FILLED
    assert held(rig) == []
