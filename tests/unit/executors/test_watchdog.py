"""Who is frozen and who is only slow, by what the kernel and the shared progress say."""

import os
import threading
from pathlib import Path

import pytest

from executors.progress import Phase, Progress, Sample
from executors.restarts import EXIT_JOURNAL, EXIT_LOCKED, EXIT_MOVED, Ended, judge_end
from executors.watchdog import ThreadLook, Verdict, Watchdog, look_at
from tradedist.clock import monotonic_ms


def judged(
    still_ms: float,
    state: str,
    *,
    call: str = "",
    limit_ms: float = 2_000,
    runs: bool = False,
    every: float = 250,
) -> Verdict:
    """The verdict after two looks, the second of them `still_ms` after the thread's last move."""
    dog = Watchdog()
    sample = Sample(0.0, limit_ms, 0.0, 1, 1, Phase.SERVING, "READY", call)
    dog.judge(sample, None, still_ms - 2 * every)
    dog.judge(sample, ThreadLook(state, 5, still_ms - every), still_ms - every)
    return dog.judge(sample, ThreadLook(state, 6 if runs else 5, still_ms), still_ms)


def test_a_stopped_process_is_shown_after_a_second_and_killed_after_its_limit() -> None:
    assert not judged(900, "T").why
    shown = judged(1_300, "T")
    assert "stopped by a signal" in shown.why
    assert not shown.kill
    assert judged(2_000, "T").kill


def test_a_thread_asleep_that_never_wakes_is_frozen() -> None:
    assert judged(1_300, "S").why
    assert judged(2_100, "S").kill


@pytest.mark.parametrize(("state", "runs"), [("R", False), ("D", False), ("S", True)])
def test_a_thread_that_waits_for_core_disk_or_interpreter_is_alive(state: str, runs: bool) -> None:
    assert judged(10_000, state, runs=runs) == Verdict()
    assert judged(20_000, state, runs=runs).kill  # but not for ever


def test_a_call_is_named_and_has_its_own_limit() -> None:
    shown = judged(5_000, "S", call="order_send", limit_ms=30_000)
    assert shown == Verdict("order_send has not returned for 5.0 s.", False)
    assert judged(30_000, "R", call="order_send", limit_ms=30_000).kill
    assert judged(5_000, "S", call="initialize", limit_ms=120_000) == Verdict()
    assert judged(120_000, "S", call="initialize", limit_ms=120_000).kill


def test_a_supervisor_that_was_away_itself_judges_nobody() -> None:
    """The machine was suspended, or has no core to give."""
    assert judged(60_000, "T", every=3_000) == Verdict()


def test_one_look_is_not_enough() -> None:
    dog = Watchdog()
    sample = Sample(0.0, 2_000, 0.0, 1, 1, Phase.SERVING, "READY", "")
    for now in range(0, 10_000, 900):
        assert dog.judge(sample, None, float(now)) == Verdict()
    assert dog.judge(sample, ThreadLook("T", 5, 10_000), 10_000) == Verdict()


def test_the_kernel_is_read() -> None:
    look = look_at(os.getpid(), threading.get_native_id(), 7.0)
    assert look is not None
    assert look.state in "RS"
    assert look.switches > 0
    assert look_at(os.getpid(), 2**22 + 1, 7.0) is None


def test_progress_is_shared_and_another_version_is_nobody(tmp_path: Path) -> None:
    path = tmp_path / "t" / "progress"
    mine, theirs = Progress(path), Progress(path)
    mine.begin(12, 34, 20.0)
    mine.status = "READY"
    mine.reached(Phase.SERVING)
    before = monotonic_ms()
    mine.moved(30.0, "order_send")
    seen = theirs.read()
    assert (seen.pid, seen.tid, seen.phase, seen.status, seen.call) == (
        12, 34, Phase.SERVING, "READY", "order_send",
    )  # fmt: skip
    assert seen.allowed_ms == 30_000
    assert before <= seen.at_ms <= monotonic_ms()
    path.write_bytes(b"\xff" * 200)
    assert theirs.read().pid == 0
    mine.close()
    theirs.close()


def ended(
    code: int | None, *, failures: int = 0, ran: bool = True, lived_ms: float = 60_000, **more: bool
) -> Ended:
    given = {"ours": True, "expected": False} | more
    return judge_end(failures=failures, code=code, ran=ran, lived_ms=lived_ms, **given)


def test_three_failed_starts_stop_and_each_waits_longer() -> None:
    first = ended(78, ran=False, lived_ms=50)
    second = ended(78, ran=False, lived_ms=50, failures=first.failures)
    third = ended(1, lived_ms=4_000, failures=second.failures)
    assert [first.stop, second.stop, third.stop] == [False, False, True]
    assert first.pause_ms < second.pause_ms < third.pause_ms


def test_a_killed_executor_is_back_at_once_and_a_hunted_one_after_a_moment() -> None:
    assert ended(-9) == Ended(0, 0)
    assert ended(-9, failures=2) == Ended(0, 0)
    assert ended(-9, lived_ms=500) == Ended(0, 100)
    assert ended(-9, ran=False, lived_ms=500, failures=2).stop  # killed before it could begin, three times


def test_what_is_no_failed_start() -> None:
    assert ended(EXIT_LOCKED, failures=1, ran=False, lived_ms=5) == Ended(1, 100)
    assert ended(EXIT_MOVED, failures=2, ran=False, lived_ms=5) == Ended(0, 0)
    assert ended(EXIT_JOURNAL, failures=2, ran=False, lived_ms=5) == Ended(0, 2_000)
    assert ended(1, ran=False, lived_ms=5, expected=True) == Ended(0, 0)
    assert ended(None, lived_ms=500, ours=False) == Ended(0, 100)
    assert ended(1) == Ended(0, 0)  # after a minute
