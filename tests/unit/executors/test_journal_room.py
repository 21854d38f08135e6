"""What a journal forgets and when, and what it says when it cannot be written."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from executors.journal import DAY_MS, PRUNED_AT_ONCE, Journal
from executors.journal_file import JournalUnwritable
from executors.orders import OrderState
from tests.unit.executors.test_journal import row_of, told

S = OrderState
NOW = 2_000_000_000_000


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite3", installation="here", terminal_id="sim-1")
    yield made
    made.close()


def keep(journal: Journal, number: int, *states: OrderState, age_days: float) -> str:
    row = row_of(number)
    row.received_ms = NOW - round(age_days * DAY_MS)
    for state in states:
        journal.record(row, told(row, state))
    return row.order_id


def test_old_settled_and_published_orders_are_forgotten_and_no_others(journal: Journal) -> None:
    old = keep(journal, 1, S.INTENT, S.FILLED, age_days=31)
    unsettled = keep(journal, 2, S.INTENT, S.UNKNOWN, age_days=40)
    published = journal.position()
    unpublished = keep(journal, 3, S.DENIED, age_days=31)
    young = keep(journal, 4, S.INTENT, S.FILLED, age_days=29)
    before = journal.position()
    pruned = journal.prune(NOW, published=published)
    assert (pruned.orders, pruned.more, pruned.too_large) == (1, False, False)
    assert not journal.knows(old)
    assert journal.last_report(old) is None
    assert all(journal.knows(name) for name in (unsettled, unpublished, young))
    assert journal.position() == before
    assert journal.prune(NOW, published=published).orders == 0
    assert journal.prune(NOW, published=before).orders == 1
    assert not journal.knows(unpublished)


def test_the_position_outlives_the_last_report(journal: Journal) -> None:
    keep(journal, 1, S.DENIED, age_days=31)
    journal.prune(NOW, published=journal.position())
    assert journal.position() == 1
    row = row_of(2)
    journal.record(row, told(row, S.DENIED))
    assert journal.position() == 2


def test_nothing_is_forgotten_while_it_is_not_known_what_redis_has(journal: Journal) -> None:
    old = keep(journal, 1, S.DENIED, age_days=31)
    assert journal.prune(NOW, published=-1).orders == 0
    assert journal.knows(old)


def test_it_goes_in_small_steps_to_the_end_and_begins_again(journal: Journal) -> None:
    count = PRUNED_AT_ONCE * 2 + 5
    with journal.together():
        for number in range(1, count + 1):
            keep(journal, number, S.DENIED, age_days=31)
    steps = []
    while True:
        steps.append(journal.prune(NOW, published=journal.position()))
        if not steps[-1].more:
            break
    assert [step.orders for step in steps] == [PRUNED_AT_ONCE, PRUNED_AT_ONCE, 5]
    late = keep(journal, count + 1, S.DENIED, age_days=31)
    assert journal.prune(NOW, published=journal.position()).orders == 1
    assert not journal.knows(late)


def test_a_journal_above_its_limit_forgets_sooner_but_never_within_days(
    journal: Journal, settings: Any
) -> None:
    settings.JOURNAL_MAX_MB = 0
    kept = {}
    with journal.together():
        for number in range(1, 11):
            kept[number] = keep(journal, number, S.INTENT, S.FILLED, age_days=10 if number < 10 else 2)
    assert journal.prune(NOW, published=journal.position()).too_large
    assert not journal.knows(kept[1])
    while journal.prune(NOW, published=journal.position()).more:
        pass
    assert journal.knows(kept[10])


def test_a_full_disk_is_told_from_other_faults_and_nothing_is_half_written(journal: Journal) -> None:
    first = keep(journal, 1, S.INTENT, S.FILLED, age_days=0)
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    position = journal.position()
    number = 1
    with pytest.raises(JournalUnwritable, match="cannot be written"):  # noqa: PT012  (which of them it is is not the point)
        while number < 60:
            number += 1
            keep(journal, number, S.INTENT, S.FILLED, age_days=0)
    assert journal.knows(first)
    assert journal.position() >= position
    row = journal.get(row_of(number).order_id)
    assert row is None or row.report_seq == 1  # INTENT, or nothing
    journal._db.execute("PRAGMA max_page_count = 100000")
    keep(journal, 100, S.INTENT, S.FILLED, age_days=0)
    assert journal.last_report(row_of(100).order_id) is not None


def test_a_disk_without_room_is_no_place_to_begin(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.prove_room()
    journal.prove_writable()
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(JournalUnwritable, match="are free"):
        journal.prove_room()
