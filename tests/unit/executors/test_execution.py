"""The life of an order inside its executor, over a simulated venue and a real journal."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from executors.errors import Code
from executors.messages import ExecutionReport
from executors.orders import OrderState, Outcome
from tests.simulated import (
    HALF,
    LOST_AFTER,
    NO_DEAL,
    NOT_CONNECTED,
    REJECT,
    REQUOTE,
    Fault,
    make_close,
    make_config,
    make_leg,
    make_open,
)
from tests.simulated_store import Machine

ZERO = Decimal(0)


def last(machine: Machine, name: str) -> ExecutionReport:
    return [report for report in machine.reports if report.order_id == name][-1]


# --- one order ---


def test_an_open_is_filled_once_with_intent_first(machine: Machine) -> None:
    name = machine.send(make_open(1))
    assert machine.states(name) == ["INTENT", "FILLED"]
    report = last(machine, name)
    assert report.filled_lots == 1
    assert report.price == Decimal("1.1002")
    assert report.position_tickets == [item.ticket for item in machine.venue.held()]
    assert machine.store.now.orders[name].state is OrderState.FILLED
    assert not machine.store.now.outbox["sim-1"]
    assert not machine.store.now.unsettled


def test_intent_with_the_whole_leg_is_on_disk_before_the_send(machine: Machine) -> None:
    seen: list[tuple[str, str]] = []

    def look(request: Any) -> None:
        row = machine.row(make_leg(make_open(1), 1).order_id)
        seen.append((row.state, row.requests[0].outcome))
        assert row.leg.signal == make_open(1)
        assert row.requests[0].magic == request.magic

    machine.venue.before_send = look
    machine.send(make_open(1))
    assert seen == [("INTENT", "PENDING")]


@pytest.mark.parametrize("path", ["udp", "tcp", "celery", "outbox"])
def test_a_known_order_is_a_no_op_by_any_path(machine: Machine, path: str) -> None:
    machine.send(make_open(1))
    machine.execution.arrive(machine.store.now.orders[make_leg(make_open(1), 1).order_id].leg, path)
    machine.turn()
    assert len(machine.venue.sends) == 1


def test_copies_that_wait_together_run_once(machine: Machine) -> None:
    leg = make_leg(make_open(1), 1)
    for path in ("udp", "tcp", "celery", "outbox", "udp"):
        machine.execution.arrive(leg, path)
    machine.turn()
    assert len(machine.venue.sends) == 1


def test_an_order_that_comes_again_under_another_number_runs_once(machine: Machine) -> None:
    """A store that was rolled back gives the same signal a new number, while the first copy still waits."""
    machine.venue.up = False
    machine.turn()
    machine.execution.arrive(make_leg(make_open(1), 1), "udp")
    machine.execution.arrive(make_leg(make_open(1), 2), "outbox")
    machine.execution.arrive(make_leg(make_open(2), 3), "udp")
    machine.venue.up = True
    machine.turn()
    machine.turn()
    assert len(machine.venue.sends) == 2
    assert not machine.execution.queue.gap()


def test_a_known_order_with_another_digest_is_refused(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.send(make_open(1))
    machine.execution.arrive(make_leg(make_open(1, lots="5"), 1), "udp")
    machine.turn()
    assert len(machine.venue.sends) == 1
    assert "another digest" in caplog.text


def test_a_leg_of_another_terminal_is_not_taken(machine: Machine) -> None:
    machine.execution.arrive(make_leg(make_open(1), 1, terminal_id="other"), "udp")
    machine.turn()
    assert machine.venue.sends == []


def test_a_leg_of_a_later_epoch_is_not_taken(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """The terminal was moved: another executor runs it."""
    leg = make_leg(make_open(1), 1)
    machine.execution.arrive(leg.model_copy(update={"epoch": leg.epoch + 1}), "udp")
    machine.turn()
    assert machine.venue.sends == []
    assert "a leg of epoch 2" in caplog.text


# --- order and gaps ---


def test_legs_run_in_their_order_and_a_gap_is_filled_from_the_outbox(machine: Machine) -> None:
    terminals = [("sim-1", 1)]
    legs = [machine.store.accept(make_open(n), terminals)[1][0] for n in (1, 2, 3)]
    machine.execution.arrive(legs[2], "udp")
    machine.execution.arrive(legs[1], "udp")
    machine.turn()
    assert machine.venue.sends == []
    machine.link()
    machine.turn()
    assert [report.order_id for report in machine.reports if report.state is OrderState.INTENT] == [
        leg.order_id for leg in legs
    ]


def test_a_number_that_the_outbox_does_not_have_is_waved_through(machine: Machine) -> None:
    machine.execution.arrive(make_leg(make_open(2), 2), "udp")
    machine.link()
    machine.turn()
    assert len(machine.venue.sends) == 1


def test_a_close_overtakes_opens_of_other_symbols_and_supersedes_those_it_covers(machine: Machine) -> None:
    held = machine.venue.trade_by_hand("EURUSD")
    machine.execution.arrive(make_leg(make_open(1, "USDJPY"), 1), "udp")
    machine.execution.arrive(make_leg(make_open(2, "EURUSD"), 2), "udp")
    machine.execution.arrive(make_leg(make_close(3, symbol="EURUSD"), 3), "udp")
    machine.turn()
    assert [(item.symbol, item.position) for item in machine.venue.sends] == [("EURUSD", held), ("USDJPY", 0)]
    superseded = last(machine, make_leg(make_open(2), 2).order_id)
    assert (superseded.state, superseded.code) == (OrderState.CANCELLED, Code.SUPERSEDED)


def test_an_overtaken_open_still_runs_after_a_crash(machine: Machine) -> None:
    machine.venue.up = False
    machine.turn()
    machine.store.accept(make_open(1, "USDJPY"), [("sim-1", 1)])
    machine.store.accept(make_close(2, symbol="EURUSD"), [("sim-1", 1)])
    machine.link()
    machine.venue.up = True
    machine.execution.run_next()
    machine.crash()
    machine.heal()
    assert [item.symbol for item in machine.venue.sends] == ["USDJPY"]


# --- deadlines ---


def test_what_is_late_expires_unsent_even_without_a_terminal(machine: Machine) -> None:
    machine.venue.up = False
    machine.turn()
    name = machine.send(make_open(1), ttl_ms=5_000)
    machine.clock.advance(5_001)
    machine.turn()
    assert machine.states(name) == ["EXPIRED"]
    assert machine.venue.sends == []


def test_the_deadline_is_measured_in_redis_time(machine: Machine) -> None:
    machine.clock.skew_ms = 6_000
    machine.execution.arrive(make_leg(make_open(1), 1, ttl_ms=5_000), "udp")
    machine.turn()
    assert machine.venue.sends == []


def test_the_deadline_is_checked_again_right_before_intent(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal answers the questions before the first send so slowly that the deadline passes meanwhile."""
    spec = machine.venue.spec

    def slow(symbol: str) -> Any:
        machine.clock.advance(6_000)
        return spec(symbol)

    monkeypatch.setattr(machine.venue, "spec", slow)
    name = machine.send(make_open(1), ttl_ms=5_000)
    assert machine.states(name) == ["EXPIRED"]
    assert machine.venue.sends == []


def test_no_retry_is_sent_after_the_deadline(machine: Machine) -> None:
    machine.venue.script.append(REQUOTE)
    machine.venue.before_send = lambda request: machine.clock.advance(4_990)
    name = machine.send(make_open(1), ttl_ms=5_000)
    assert machine.states(name) == ["INTENT", "INTENT", "REJECTED"]
    assert last(machine, name).code == Code.EXPIRED
    assert len(machine.venue.sends) == 1


# --- refusals and retries ---


def test_a_requote_is_retried_with_a_wider_deviation_and_its_own_magic(machine: Machine) -> None:
    machine.venue.script += [REQUOTE, REQUOTE]
    name = machine.send(make_open(1))
    assert machine.states(name)[-1] == "FILLED"
    assert [item.deviation for item in machine.venue.sends] == [20, 40, 60]
    assert len({item.magic for item in machine.venue.sends}) == 3
    assert machine.clock.slept == [0.05, 0.1]


def test_retries_end_at_the_limit(machine: Machine) -> None:
    machine.venue.default = REQUOTE
    name = machine.send(make_open(1))
    assert len(machine.venue.sends) == 3
    assert last(machine, name).code == Code.BROKER_REFUSED


@pytest.mark.parametrize("code", [10006, 10013, 10018, 10019, -2, -8])
def test_other_definite_refusals_are_final(machine: Machine, code: int) -> None:
    machine.venue.script.append(Fault(ZERO, reply=code))
    name = machine.send(make_open(1))
    assert machine.states(name) == ["INTENT", "REJECTED"]
    assert len(machine.venue.sends) == 1
    assert str(code) in last(machine, name).message


@pytest.mark.parametrize("code", [10011, 10012, 10031, 10999, -1, -10001, -10002, -10005])
def test_everything_else_is_unknown_and_never_sent_again(machine: Machine, code: int) -> None:
    machine.venue.script.append(Fault(ZERO, reply=code))
    name = machine.send(make_open(1))
    assert machine.states(name) == ["INTENT", "UNKNOWN"]
    machine.heal()
    assert machine.states(name)[-1] == "NOT_EXECUTED"
    assert len(machine.venue.sends) == 1


def test_an_exception_in_the_send_is_unknown(machine: Machine) -> None:
    machine.venue.script.append(Fault(reply=SystemError("returned a result with an exception set")))
    name = machine.send(make_open(1))
    assert machine.states(name)[:2] == ["INTENT", "UNKNOWN"]
    machine.heal()
    assert machine.states(name)[-1] == "FILLED"


def test_without_a_connection_before_the_call_the_order_goes_on_when_it_is_back(machine: Machine) -> None:
    machine.venue.script.append(NOT_CONNECTED)
    name = machine.send(make_open(1))
    assert machine.states(name) == ["INTENT", "INTENT"]
    assert not machine.ready
    machine.turn()
    assert machine.states(name)[-1] == "FILLED"


def test_what_was_halted_while_an_order_waited_for_the_terminal_is_not_sent(machine: Machine) -> None:
    machine.venue.script.append(NOT_CONNECTED)
    name = machine.send(make_open(1))
    sent = len(machine.venue.sends)
    machine.execution.mode = "HALTED"
    machine.turn()
    assert machine.states(name)[-1] == "REJECTED"
    assert last(machine, name).code == "HALTED"
    assert len(machine.venue.sends) == sent
    assert not machine.venue.held()


def test_the_rest_of_a_partial_fill_is_asked_for(machine: Machine) -> None:
    machine.venue.script.append(HALF)
    name = machine.send(make_open(1))
    assert [item.volume for item in machine.venue.sends] == [Decimal(1), Decimal("0.50")]
    assert last(machine, name).state is OrderState.FILLED
    assert last(machine, name).filled_lots == 1


def test_a_partial_fill_whose_rest_is_refused_is_told_as_partial_and_cancelled(machine: Machine) -> None:
    machine.venue.script += [HALF, REJECT]
    name = machine.send(make_open(1))
    assert machine.states(name)[-2:] == ["PARTIAL", "CANCELLED"]
    assert last(machine, name).filled_lots == Decimal("0.5")
    assert machine.store.now.orders[name].state is OrderState.CANCELLED


def test_partial_and_cancelled_are_one_commit(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between the two would leave an order PARTIAL that nothing ever looks at again."""
    machine.venue.script += [HALF, REJECT]
    record, seen = machine.journal.record, []

    def watch(row: Any, *reports: ExecutionReport, **more: Any) -> None:
        seen.append([report.state.value for report in reports])
        record(row, *reports, **more)

    monkeypatch.setattr(machine.journal, "record", watch)
    machine.send(make_open(1))
    assert seen[-1] == ["PARTIAL", "CANCELLED"]


def test_a_rest_below_the_brokers_minimum_is_given_up(machine: Machine) -> None:
    machine.venue.specs["EURUSD"] = replace(machine.venue.specs["EURUSD"], volume_min=Decimal("0.8"))
    machine.venue.script.append(HALF)
    name = machine.send(make_open(1))
    assert len(machine.venue.sends) == 1
    assert machine.states(name)[-2:] == ["PARTIAL", "CANCELLED"]


def test_done_without_a_deal_is_placed_until_the_deal_is_read(machine: Machine) -> None:
    machine.venue.script.append(NO_DEAL)
    machine.venue.lag_ms = 3_000
    name = machine.send(make_open(1))
    assert machine.states(name) == ["INTENT", "PLACED"]
    machine.until(lambda: machine.states(name)[-1] == "FILLED")
    assert last(machine, name).price == Decimal("1.1002")
    assert len(machine.venue.sends) == 1


def test_placed_stays_open_past_its_deadline(machine: Machine) -> None:
    machine.venue.script.append(Fault(ZERO, working=True, reply=10008))
    name = machine.send(make_open(1), ttl_ms=5_000)
    machine.clock.advance(60_000)
    machine.turn()
    assert machine.states(name) == ["INTENT", "PLACED"]
    ticket = machine.venue.entries[-1].order.ticket
    machine.venue.end_working(ticket, fill=False)
    machine.until(lambda: machine.states(name)[-1] == "REJECTED")


def test_with_return_filling_the_rest_stays_at_the_broker_and_is_not_asked_for_again(
    machine: Machine,
) -> None:
    machine.venue.specs["EURUSD"] = replace(machine.venue.specs["EURUSD"], exemode=3, filling_mode=0)
    machine.venue.script.append(Fault(Decimal("0.5"), working=True))
    name = machine.send(make_open(1))
    assert len(machine.venue.sends) == 1
    machine.until(lambda: machine.states(name)[-1] == "PARTIAL")
    machine.venue.end_working(machine.venue.entries[-1].order.ticket, fill=True)
    machine.until(lambda: machine.states(name)[-1] == "FILLED")
    assert last(machine, name).filled_lots == 1


# --- a terminal that does not answer ---


def test_an_order_waits_at_its_place_while_the_terminal_does_not_answer(machine: Machine) -> None:
    machine.venue.failing.add("spec")
    first = machine.send(make_open(1))
    machine.send(make_open(2))
    assert machine.states(first) == []
    machine.venue.failing.clear()
    machine.turn()
    machine.turn()
    assert next(report.order_id for report in machine.reports if report.state is OrderState.FILLED) == first
    assert len(machine.venue.sends) == 2


# --- modes, holds, limits ---


def test_halted_denies_everything_and_reducing_only_opens(machine: Machine) -> None:
    machine.venue.trade_by_hand()
    machine.execution.mode = "HALTED"
    assert last(machine, machine.send(make_close(1))).code == Code.HALTED
    machine.execution.mode = "REDUCING"
    assert last(machine, machine.send(make_open(2))).code == Code.REDUCING
    assert last(machine, machine.send(make_close(3))).state is OrderState.FILLED


def test_three_unknown_outcomes_hold_opens_until_all_are_resolved(machine: Machine) -> None:
    machine.venue.script += [LOST_AFTER] * 3
    machine.venue.lag_ms = 2_000
    for number in (1, 2, 3):
        machine.send(make_open(number))
    denied = machine.send(make_open(4))
    assert (last(machine, denied).state, last(machine, denied).code) == (OrderState.DENIED, Code.HALTED)
    machine.until(lambda: not machine.execution.open)
    assert last(machine, machine.send(make_open(5))).state is OrderState.FILLED


def test_five_rejections_hold_opens_until_an_operator_resumes(machine: Machine) -> None:
    machine.venue.script += [REJECT] * 5
    for number in range(1, 6):
        machine.send(make_open(number))
    assert last(machine, machine.send(make_open(6))).code == Code.HALTED
    machine.execution.breaker.resume()
    assert last(machine, machine.send(make_open(7))).state is OrderState.FILLED


def test_limits_of_the_terminal_deny_with_what_to_change(tmp_path: Path, protocol_settings: Any) -> None:
    config = make_config(
        symbols=["EURUSD", "NOSUCH"],
        limits={"max_lots": "2", "max_positions": 1, "orders_per_second": 2},
    )
    machine = Machine(tmp_path, config=config)
    wanted = [
        (make_open(1, "USDJPY"), Code.SYMBOL_NOT_ALLOWED),
        (make_open(2, "NOSUCH"), Code.SYMBOL_NOT_ALLOWED),
        (make_open(3, lots="2.01"), Code.LOTS_ABOVE_MAX),
        (make_open(4, lots="0.001"), Code.LOTS_BELOW_MIN),
    ]
    for signal, code in wanted:
        assert last(machine, machine.send(signal)).code == code
    assert last(machine, machine.send(make_open(5))).state is OrderState.FILLED
    assert last(machine, machine.send(make_open(6))).code == Code.TOO_MANY_POSITIONS
    machine.send(make_close(7))
    assert last(machine, machine.send(make_open(8))).state is OrderState.FILLED
    machine.send(make_close(9))
    assert last(machine, machine.send(make_open(10))).code == Code.TOO_MANY_ORDERS
    machine.crash()


def test_outcomes_are_kept_with_the_request(machine: Machine) -> None:
    machine.venue.script += [REQUOTE, HALF]
    row = machine.row(machine.send(make_open(1)))
    assert [item.outcome for item in row.requests] == [Outcome.REFUSED, Outcome.PARTIAL, Outcome.FILLED]
    assert [item.retcode for item in row.requests] == [10004, 10010, 10009]
    assert row.filled_lots == 1
