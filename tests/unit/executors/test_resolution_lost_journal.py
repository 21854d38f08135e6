"""A journal that was lost or restored: what may have been sent is looked up, and nothing is run again."""

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from executors.errors import Code
from executors.orders import OrderState
from tests.simulated import (
    LOST_AFTER,
    LOST_BEFORE,
    REQUOTE,
    Fault,
    make_close,
    make_leg,
    make_open,
)
from tests.simulated_store import Machine

ZERO = Decimal(0)


def test_a_lost_journal_makes_every_unsettled_order_unknown_and_holds_opens(machine: Machine) -> None:
    filled = machine.send(make_open(1))
    machine.venue.script += [LOST_AFTER, LOST_BEFORE]
    machine.venue.lag_ms = 1_000
    sent = machine.send(make_open(2))
    absent = machine.send(make_open(3))
    machine.venue.up = False
    machine.turn()
    queued = machine.send(make_open(4))
    machine.lose_journal()
    machine.venue.up = True
    machine.venue.lag_ms = 0
    machine.start()
    machine.link()
    assert {name: machine.row(name).state for name in (sent, absent, queued)} == dict.fromkeys(
        (sent, absent, queued), OrderState.UNKNOWN
    )
    machine.link()
    denied = machine.send(make_open(5))
    assert machine.last(denied).code == Code.HALTED
    assert any("journal lost" in text for text in machine.alarms)
    sends = len(machine.venue.sends)
    machine.heal()
    assert [machine.store.now.orders[name].state for name in (filled, sent, absent, queued)] == [
        "FILLED",
        "FILLED",
        "NOT_EXECUTED",
        "NOT_EXECUTED",
    ]
    assert len(machine.venue.sends) == sends
    assert machine.last(machine.send(make_open(6))).state is OrderState.FILLED


def test_the_hold_of_a_lost_journal_survives_a_restart(machine: Machine) -> None:
    machine.venue.script.append(LOST_BEFORE)
    machine.send(make_open(1))
    machine.lose_journal()
    machine.start()
    machine.link()
    machine.crash()
    machine.start()
    machine.link()
    assert machine.last(machine.send(make_open(2))).code == Code.HALTED


@pytest.mark.parametrize("path", ["udp", "tcp", "celery"])
def test_a_repeated_wake_up_does_not_run_what_the_lost_journal_ran(machine: Machine, path: str) -> None:
    """Celery delivers at least once and datagrams can be sent again: the deadline alone is no defence."""
    name = machine.send(make_open(1), ttl_ms=86_400_000)
    leg = machine.store.now.orders[name].leg
    machine.lose_journal()
    machine.start()
    machine.execution.arrive(leg, path)  # before the journals were compared
    machine.link()
    machine.turn()
    machine.execution.arrive(leg, path)
    machine.heal()
    assert len(machine.venue.sends) == 1


def test_a_leg_that_waited_before_the_adoption_is_not_run_after_it(machine: Machine) -> None:
    machine.venue.script.append(LOST_AFTER)
    machine.venue.lag_ms = 3_000
    name = machine.send(make_open(1))
    leg = machine.store.now.orders[name].leg
    machine.lose_journal()
    machine.start()
    machine.execution.arrive(leg, "celery")
    machine.heal()
    assert len(machine.venue.sends) == 1
    assert machine.store.now.orders[name].state is OrderState.FILLED


def test_the_very_first_order_is_safe_from_a_loss_before_its_first_report(machine: Machine) -> None:
    machine.store.accept(make_open(1), [("sim-1", 1)])
    machine.link()
    machine.turn()  # executed, and nothing of it published
    machine.lose_journal()
    machine.heal()
    assert len(machine.venue.sends) == 1
    assert machine.row(make_leg(make_open(1), 1).order_id).state is OrderState.FILLED


def test_legs_accepted_after_the_loss_run(machine: Machine) -> None:
    machine.send(make_open(1))
    machine.lose_journal()
    machine.start()
    machine.link()
    assert machine.last(machine.send(make_open(2))).state is OrderState.FILLED


def test_a_queued_leg_that_a_rollback_brings_back_after_the_loss_is_looked_up_not_run(
    machine: Machine,
) -> None:
    machine.store.accept(make_open(1), [("sim-1", 1)])
    before = machine.store.snapshot()
    machine.link()
    machine.turn()
    machine.link()
    machine.lose_journal()
    machine.start()
    machine.link()
    machine.store.roll_back(before)
    machine.published = -1
    machine.heal()
    name = make_leg(make_open(1), 1).order_id
    assert machine.row(name).state is OrderState.FILLED
    assert len(machine.venue.sends) == 1


def test_what_was_adopted_is_still_adopted_after_a_restart(machine: Machine) -> None:
    """The order was in memory, its plan written, before the comparison showed that the journal is a restored one."""
    machine.venue.script.append(Fault(ZERO, working=True, reply=10008))
    name = machine.send(make_open(1))
    row = machine.execution.open[name]
    machine.resolution.lost_journal.adopt([], last_seq=1)
    assert row.plan["foreign"]
    machine.crash()
    machine.start()
    assert machine.execution.open[name].plan["foreign"]
    assert machine.execution.hold


def test_adoption_is_all_or_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.venue.default = LOST_BEFORE
    names = [machine.send(make_open(number)) for number in (1, 2, 3)]
    machine.lose_journal()
    machine.start()
    record, calls = machine.journal.record, []

    class Killed(BaseException):
        pass

    def dies(*args: Any, **more: Any) -> None:
        calls.append(args)
        if len(calls) == 60:
            raise Killed
        record(*args, **more)

    monkeypatch.setattr(machine.journal, "record", dies)
    with pytest.raises(Killed):
        machine.link()
    machine.crash()
    monkeypatch.undo()
    machine.start()
    assert machine.journal.open_orders() == []
    machine.link()
    assert {row.order_id for row in machine.journal.open_orders()} == set(names)


def copy_journal(machine: Machine, to: Path) -> None:
    machine.crash()
    shutil.copy(machine.path, to)
    machine.start()
    machine.link()
    machine.turn()


def restore_journal(machine: Machine, copy: Path) -> None:
    machine.lose_journal()
    shutil.copy(copy, machine.path)
    machine.start()


def test_a_restored_journal_does_not_repeat_a_request_made_after_its_copy(
    machine: Machine, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(_seconds: float) -> None:
        raise Killed

    machine.venue.script += [REQUOTE]
    machine.clock.before_sleep = kill
    machine.store.accept(make_open(1), [("sim-1", 1)])
    machine.link()
    with pytest.raises(Killed):
        machine.turn()
    machine.clock.before_sleep = lambda seconds: None
    machine.link()
    machine.crash()
    shutil.copy(machine.path, tmp_path / "copy")
    machine.start()
    machine.link()
    machine.turn()
    machine.link()
    name = make_leg(make_open(1), 1).order_id
    assert machine.store.now.orders[name].state is OrderState.FILLED
    restore_journal(machine, tmp_path / "copy")
    machine.heal()
    assert len(machine.venue.sends) == 2
    assert machine.row(name).state is OrderState.FILLED
    assert machine.store.now.orders[name].state is OrderState.FILLED


def test_a_restored_journal_does_not_run_again_what_it_has_forgotten(
    machine: Machine, tmp_path: Path
) -> None:
    machine.send(make_open(1))
    copy_journal(machine, tmp_path / "copy")
    name = machine.send(make_open(2), ttl_ms=86_400_000)
    leg = machine.store.now.orders[name].leg
    restore_journal(machine, tmp_path / "copy")
    machine.execution.arrive(leg, "celery")
    machine.link()
    machine.turn()
    machine.execution.arrive(leg, "udp")
    machine.heal()
    assert len(machine.venue.sends) == 2
    assert machine.store.now.orders[name].state is OrderState.FILLED


def test_a_restored_journals_reports_count_on_from_what_the_store_has(
    machine: Machine, tmp_path: Path
) -> None:
    machine.venue.script.append(Fault(ZERO, working=True, reply=-10005))
    machine.venue.lag_ms = 3_000
    name = machine.send(make_open(1))
    copy_journal(machine, tmp_path / "copy")
    machine.until(lambda: machine.states(name)[-1] == "PLACED")
    machine.link()
    seq = machine.store.now.orders[name].report_seq
    restore_journal(machine, tmp_path / "copy")
    machine.link()
    machine.turn()
    machine.link()
    machine.venue.end_working(machine.venue.entries[-1].order.ticket, fill=True)
    machine.heal()
    assert machine.store.now.orders[name].state is OrderState.FILLED
    assert machine.store.now.orders[name].report_seq > seq


def test_a_restored_close_goes_no_further_by_itself(machine: Machine, tmp_path: Path) -> None:
    """What it has closed since the copy is not known: the trader sees the truth and decides."""
    for _ in range(2):
        machine.venue.trade_by_hand()
    machine.venue.script += [Fault(reply=-10005)]
    machine.venue.lag_ms = 1_000
    name = machine.send(make_close(1))
    copy_journal(machine, tmp_path / "copy")
    machine.until(lambda: not machine.execution.open)
    machine.link()
    restore_journal(machine, tmp_path / "copy")
    machine.heal()
    assert machine.row(name).state is OrderState.FILLED
    assert machine.row(name).filled_lots == 2
    assert len(machine.venue.sends) == 2
