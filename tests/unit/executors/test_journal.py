"""The journal on a real file: whose it is, what it holds after a crash, and that reports have no gaps."""

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from executors.execution import new_row
from executors.journal import Journal
from executors.journal_file import FOLD_AFTER, LOG_BYTES, JournalError
from executors.journal_reader import JournalReader
from executors.legs import LegRow, RequestRow
from executors.messages import ExecutionReport
from executors.orders import OrderState, Outcome
from executors.reporting import Trace, build_report
from tests.simulated import SimClock, make_leg, make_open

S = OrderState
Opener = Callable[..., Journal]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "terminal" / "journal.sqlite3"


@pytest.fixture
def opened(path: Path) -> Iterator[Opener]:
    made: list[Journal] = []

    def open_one(installation: str = "here", terminal_id: str = "sim-1") -> Journal:
        made.append(Journal(path, installation=installation, terminal_id=terminal_id))
        return made[-1]

    yield open_one
    for journal in made:
        journal.close()


@pytest.fixture
def reader(path: Path, opened: Opener) -> Iterator[JournalReader]:
    opened()
    made = JournalReader(path)
    yield made
    made.close()


def row_of(number: int, *, epoch: int = 1) -> LegRow:
    return new_row(make_leg(make_open(number), number, epoch=epoch), SimClock())


def told(row: LegRow, state: OrderState, *, ahead: int = 1) -> ExecutionReport:
    row.state = state
    clock = SimClock()
    trace = Trace.begin({}, "udp", clock.now_ms, clock.monotonic_ms)
    return build_report(row, state, seq=row.report_seq + ahead, time_ms=1, trace=trace)


def request(n: int, magic: int, outcome: Outcome = Outcome.PENDING, **fields: Any) -> RequestRow:
    return RequestRow(n, magic, {"position": 0, "volume": "1"}, Decimal(1), 10, outcome, **fields)


# --- whose it is ---


def test_a_new_file_gets_an_id_and_keeps_it(opened: Opener) -> None:
    first = opened()
    assert first.fresh
    first.close()
    second = opened()
    assert not second.fresh
    assert second.journal_id == first.journal_id
    assert len(second.journal_id) == 16


@pytest.mark.parametrize("other", [{"installation": "there"}, {"terminal_id": "sim-2"}])
def test_the_journal_of_something_else_is_refused(opened: Opener, other: dict[str, str]) -> None:
    opened()
    with pytest.raises(JournalError, match="another journal"):
        opened(**other)


def test_a_journal_of_another_schema_is_refused(path: Path, opened: Opener) -> None:
    opened().close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    database.close()
    with pytest.raises(JournalError, match="schema_version"):
        opened()


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"\x00" * 4096])
def test_a_damaged_file_is_refused(path: Path, opened: Opener, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(JournalError):
        opened()


def test_every_commit_is_flushed_to_the_disk(opened: Opener) -> None:
    journal = opened()
    assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)


# --- what it holds ---


def test_an_order_comes_back_as_it_was_written(opened: Opener) -> None:
    journal = opened()
    row = row_of(1)
    row.plan = {"tickets": [[5, "EURUSD", 0, "1.0"]], "waiting": ["a"]}
    row.wanted_lots, row.filled_lots = Decimal("0.30"), Decimal("0.10")
    row.requests.append(
        request(
            1,
            2**52 + 1,
            Outcome.PARTIAL,
            filled_lots=Decimal("0.10"),
            price=Decimal("1.10005"),
            retcode=10010,
            result={"orders": [7]},
            result_ms=11,
        )
    )
    journal.record(row, told(row, S.INTENT), request=row.requests[0])
    assert journal.get(row.order_id) == row
    assert journal.open_orders() == [row]
    assert journal.knows(row.order_id)
    assert journal.order_of_magic(2**52 + 1) == row.order_id


def test_what_it_does_not_know_is_none(opened: Opener) -> None:
    journal = opened()
    assert journal.get("nothing") is None
    assert not journal.knows("nothing")
    assert journal.order_of_magic(1) is None
    assert (journal.position(), journal.last_seq(1), journal.newest_ticket()) == (0, 0, (0, 0))
    assert journal.not_executed() == {}


def test_settled_orders_are_not_open(opened: Opener) -> None:
    journal = opened()
    for number, state in ((1, S.FILLED), (2, S.UNKNOWN), (3, S.NOT_EXECUTED)):
        row = row_of(number)
        journal.record(row, told(row, state))
    assert [row.leg.leg_seq for row in journal.open_orders()] == [2]


def test_numbers_are_counted_per_epoch(opened: Opener) -> None:
    journal = opened()
    for number, epoch in ((3, 1), (9, 2), (5, 1)):
        row = row_of(number, epoch=epoch)
        journal.record(row, told(row, S.DENIED))
    assert (journal.last_seq(1), journal.last_seq(2), journal.last_seq(3)) == (5, 9, 0)


def test_a_crash_leaves_what_was_committed(opened: Opener, path: Path, tmp_path: Path) -> None:
    """A copy of the files without closing is what a killed process leaves."""
    journal = opened()
    row = row_of(1)
    row.requests.append(request(1, 2**52))
    journal.record(row, told(row, S.INTENT), request=row.requests[0])
    for name in ("journal.sqlite3", "journal.sqlite3-wal"):
        shutil.copy(path.parent / name, tmp_path / name)
    after = Journal(tmp_path / "journal.sqlite3", installation="here", terminal_id="sim-1")
    found = after.get(row.order_id)
    assert found is not None
    assert [item.outcome for item in found.requests] == [Outcome.PENDING]
    after.close()


def test_a_request_keeps_its_number_its_magic_and_its_question(opened: Opener) -> None:
    journal = opened()
    row = row_of(1)
    made = request(1, 2**52)
    row.requests.append(made)
    journal.record(row, told(row, S.INTENT), request=made)
    made.outcome, made.filled_lots, made.intent_ms, made.magic = Outcome.FILLED, Decimal(1), 99, 5
    journal.record(row, told(row, S.FILLED), request=made)
    found = journal.get(row.order_id)
    assert found is not None
    assert (found.requests[0].magic, found.requests[0].intent_ms) == (2**52, 10)
    assert found.requests[0].outcome is Outcome.FILLED


def test_one_magic_never_belongs_to_two_requests(opened: Opener) -> None:
    journal = opened()
    first, second = row_of(1), row_of(2)
    journal.record(first, told(first, S.INTENT), request=request(1, 2**52))
    with pytest.raises(sqlite3.IntegrityError):
        journal.record(second, told(second, S.INTENT), request=request(1, 2**52))
    assert not journal.knows(second.order_id)


def test_the_newest_ticket_is_the_highest_that_an_executed_request_was_told(opened: Opener) -> None:
    journal = opened()
    for number, (outcome, ticket) in enumerate(
        [(Outcome.FILLED, 70), (Outcome.PARTIAL, 90), (Outcome.UNKNOWN, 99), (Outcome.FILLED, 80)], 1
    ):
        row = row_of(number)
        made = request(1, 2**52 + number, outcome, result={"orders": [ticket]}, result_ms=number)
        journal.record(row, told(row, S.INTENT), request=made)
    assert journal.newest_ticket() == (90, 2)


def test_requests_that_were_looked_for_in_vain_are_remembered(opened: Opener) -> None:
    journal = opened()
    row = row_of(1)
    journal.record(row, told(row, S.NOT_EXECUTED), request=request(1, 2**52, Outcome.NOT_EXECUTED))
    assert journal.not_executed() == {2**52: (row.order_id, 10)}


# --- reports ---


def test_reports_follow_one_another_without_gaps(opened: Opener) -> None:
    journal = opened()
    row = row_of(1)
    journal.record(row, told(row, S.INTENT))
    with pytest.raises(JournalError, match="does not follow"):
        journal.record(row, told(row, S.FILLED, ahead=2))
    with pytest.raises(JournalError, match="does not follow"):
        journal.record(row, told(row, S.FILLED, ahead=0))
    journal.record(row, told(row, S.FILLED))
    assert row.report_seq == 2


def test_several_reports_are_one_commit(opened: Opener, reader: JournalReader) -> None:
    journal = opened()
    row = row_of(1)
    first = told(row, S.INTENT)
    second = told(row, S.DONE, ahead=2)
    journal.record(row, first, second)
    assert [item.report.state for item in reader.reports_after(0)] == [S.INTENT, S.DONE]
    assert journal.open_orders() == []


def test_a_report_knows_its_position_and_positions_rise(opened: Opener, reader: JournalReader) -> None:
    journal = opened()
    for number in (1, 2, 3):
        row = row_of(number)
        journal.record(row, told(row, S.INTENT))
    found = reader.reports_after(0)
    assert [item.position for item in found] == [1, 2, 3]
    assert all(
        item.report.position == item.position
        and ExecutionReport.model_validate_json(item.report_json) == item.report
        for item in found
    )
    assert reader.position() == journal.position() == 3


def test_positions_rise_over_restarts_even_when_reports_are_removed(opened: Opener) -> None:
    journal = opened()
    row = row_of(1)
    journal.record(row, told(row, S.INTENT))
    journal._db.execute("DELETE FROM reports")
    journal.close()
    again = opened()
    assert again.position() == 1
    row = row_of(2)
    again.record(row, told(row, S.INTENT))
    assert again.position() == 2


def test_the_reader_pages_and_brings_the_leg_with_each_report(opened: Opener, reader: JournalReader) -> None:
    journal = opened()
    row = row_of(1)
    for state in (S.INTENT, S.UNKNOWN, S.FILLED):
        journal.record(row, told(row, state))
    page = reader.reports_after(1, limit=1)
    assert [item.report.state for item in page] == [S.UNKNOWN]
    assert page[0].deadline_ms == row.leg.deadline_ms
    assert page[0].leg_json == row.leg.model_dump_json()


def test_the_reader_sees_commits_from_another_thread_and_cannot_write(
    opened: Opener, reader: JournalReader
) -> None:
    journal = opened()
    row = row_of(1)
    journal.record(row, told(row, S.INTENT))
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(reader.position()))
    thread.start()
    thread.join()
    assert seen == [1]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._db.execute("DELETE FROM reports")


# --- several writes as one ---


def test_what_is_written_together_is_there_together_or_not_at_all(
    opened: Opener, reader: JournalReader
) -> None:
    journal = opened()
    first, second = row_of(1), row_of(2)

    def fail() -> None:
        with journal.together():
            journal.record(first, told(first, S.INTENT))
            assert reader.position() == 0
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not journal.knows(first.order_id)
    first.report_seq = 0
    with journal.together():
        journal.record(first, told(first, S.INTENT))
        journal.record(second, told(second, S.INTENT))
    assert reader.position() == 2


def test_the_last_report_of_an_order_answers_for_it(opened: Opener) -> None:
    journal = opened()
    row = row_of(1)
    assert journal.last_report(row.order_id) is None
    for state in (S.INTENT, S.UNKNOWN):
        journal.record(row, told(row, state))
    report = journal.last_report(row.order_id)
    assert report is not None
    assert (report.state, report.report_seq) == (S.UNKNOWN, 2)


def test_a_tripped_breaker_is_remembered_until_it_is_resumed(opened: Opener) -> None:
    journal = opened()
    assert journal.tripped() is None
    journal.note_tripped(0)
    journal.close()
    journal = opened()
    assert journal.tripped() == 0
    journal.note_tripped(None)
    assert journal.tripped() is None


def test_the_number_of_a_lost_journal_is_kept_and_never_lowered(opened: Opener) -> None:
    journal = opened()
    assert journal.adopted_seq() == 0
    journal.note_adopted(7)
    journal.note_adopted(5)
    journal.close()
    assert opened().adopted_seq() == 7


def test_an_order_that_moves_on_keeps_leg_and_plan_and_one_that_is_missing_is_written_whole(
    opened: Opener,
) -> None:
    journal = opened()
    row = row_of(1)
    row.plan = {"tickets": [[7, "EURUSD", 0, "1"]]}
    journal.record(row, told(row, S.INTENT))
    assert row.plan_kept
    row.state, row.filled_lots = S.FILLED, Decimal("0.5")
    journal.record(row, told(row, S.FILLED))
    assert journal.get(row.order_id) == row
    assert journal.digest(row.order_id) == row.leg.digest
    other = row_of(2)
    other.plan, other.plan_kept = {"tickets": []}, True  # as after a transaction that was rolled back
    journal.record(other, told(other, S.INTENT))
    assert journal.get(other.order_id) == other
    assert journal.digest("nothing:sim-1") is None


def test_a_log_that_is_folded_is_written_over_and_does_not_grow(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite3", installation="i", terminal_id="t")
    log = tmp_path / "j.sqlite3-wal"
    sizes = []
    for _ in range(6):
        for number in range(FOLD_AFTER):
            journal.note_tripped(number)
        journal.fold()
        sizes.append(log.stat().st_size)
    assert sizes[0] >= LOG_BYTES
    assert len(set(sizes)) == 1
    assert journal.tripped() == FOLD_AFTER - 1
    journal.close()
    with sqlite3.connect(tmp_path / "j.sqlite3") as file:
        assert file.execute("SELECT count(*) FROM meta WHERE key = 'room'").fetchone() == (0,)


def test_what_was_committed_after_a_fold_is_there_after_a_kill(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite3", installation="i", terminal_id="t")
    for number in range(FOLD_AFTER):
        journal.note_tripped(number)
    journal.fold()
    journal.note_tripped(77)
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in (
        "j.sqlite3",
        "j.sqlite3-wal",
    ):  # as the disk has them, older frames behind the newest included
        shutil.copy(tmp_path / name, killed / name)
    journal.close()
    again = Journal(killed / "j.sqlite3", installation="i", terminal_id="t")
    assert again.tripped() == 77
    again.close()


def test_a_reader_meanwhile_costs_the_fold_nothing_but_room(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite3", installation="i", terminal_id="t")
    with sqlite3.connect(tmp_path / "j.sqlite3", isolation_level=None) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM meta").fetchall()
        for number in range(FOLD_AFTER):
            journal.note_tripped(number)
        journal.fold()
        assert reader.execute("SELECT value FROM meta WHERE key = 'tripped'").fetchone() is None
    assert journal.tripped() == FOLD_AFTER - 1
    reader.close()
    journal.close()
