"""When slower wake-ups go: never before those that may have lost their datagram, as late as allowed for the others."""

from typing import Any

import pytest

from executors import graces
from executors.graces import Progress
from executors.messages import ExecutionReport


def said(
    order_id: str = "s:t", seq: int = 1, state: str = "INTENT", woken_by: Any = "udp"
) -> ExecutionReport:
    signal_id, _, terminal_id = order_id.partition(":")
    return ExecutionReport(
        order_id=order_id, signal_id=signal_id, terminal_id=terminal_id, report_seq=seq, state=state,
        action="open", time_ms=1, woken_by=woken_by,
    )  # fmt: skip


@pytest.mark.parametrize("orders", [1, 10, 100, 1000])
def test_a_lost_datagram_costs_at_most_what_is_promised(orders: int) -> None:
    assert graces.frames_s(orders) <= (0.005 if orders == 1 else 0.05)
    assert graces.frames_s(orders) <= graces.last_frames_s(orders) <= 0.2
    assert graces.tasks_s(orders) + graces.open_tasks_s(orders) <= 1.1
    assert graces.open_tasks_s(1) < 0.01


def test_an_order_is_taken_and_ended_by_its_executors_word_alone() -> None:
    progress = Progress()
    progress.begin(["s:t"])
    progress.reported(said(seq=0, state="QUEUED"))
    assert not progress.taken("s:t"), "accept's own report"
    progress.reported(said(state="INTENT"))
    assert progress.taken("s:t")
    assert not progress.ended("s:t")
    progress.reported(said(seq=2, state="FILLED"))
    assert progress.ended("s:t")
    progress.end(["s:t"])
    assert len(progress) == 0


def test_what_was_not_begun_here_is_not_kept() -> None:
    progress = Progress()
    progress.reported(said())
    assert len(progress) == 0
    assert not progress.taken("s:t"), "so that its frame goes"
    assert progress.ended("s:t"), "so that no task waits for it"


def test_a_terminal_is_deaf_until_a_datagram_arrives_first() -> None:
    progress = Progress()
    for number, (path, deaf) in enumerate(
        [("udp", False), ("tcp", True), ("restart", True), ("outbox", True), ("udp", False), ("celery", True)]
    ):
        progress.begin([f"s{number}:t"])
        progress.reported(said(f"s{number}:t", woken_by=path))
        assert progress.deaf("t") is deaf, path
    assert not progress.deaf("other")


def test_deaf_terminals_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graces, "MOST_TERMINALS", 3)
    progress = Progress()
    for number in range(5):
        progress.begin([f"s:t{number}"])
        progress.reported(said(f"s:t{number}", woken_by="tcp"))
    assert [progress.deaf(f"t{number}") for number in range(5)] == [False, False, True, True, True]
