"""When the account is read: at once after an order, seldom in a burst of them, and every so often without any."""

import struct
from pathlib import Path
from typing import Any, cast

import pytest

from executors import host_page, session
from executors.host_page import HostPage
from executors.session import BURST_SYNC_MS, PUT_OFF_MS, SPREAD_MS, SYNC_AFTER_MS, Session
from tests.simulated import make_config


class Reads:
    """The account sync, and the clock it is timed by."""

    def __init__(self) -> None:
        self.now_ms = 10_000.0
        self.times: list[float] = []

    def run(self, config: object) -> None:
        self.times.append(self.now_ms)

    def pass_time(self, made: Session, until_ms: float, order_every_ms: float = 0.0) -> None:
        next_order = self.now_ms if order_every_ms else float("inf")
        while self.now_ms < until_ms:
            if self.now_ms >= next_order:
                made.changed()
                next_order += order_every_ms
            if self.now_ms >= made.due_sync_ms:
                made.sync()
            self.now_ms += 1


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    found = Reads()
    monkeypatch.setattr(session, "monotonic_ms", lambda: found.now_ms)
    return found


def test_an_order_is_shown_soon_a_burst_of_them_not_each(reads: Reads, settings: Any) -> None:
    settings.ACCOUNT_SYNC_MS = 60_000
    nothing = cast(Any, None)
    made = Session(
        nothing, make_config(), facts=nothing, progress=nothing, alerts=nothing, show=nothing,
        account_sync=cast(Any, reads),
    )  # fmt: skip
    reads.pass_time(made, 10_001)
    assert reads.times == [10_000], "the first one at once"
    reads.now_ms = 20_000.0
    reads.pass_time(made, 21_000, order_every_ms=5)
    assert reads.times[1] == 20_000 + SYNC_AFTER_MS
    assert len(reads.times) - 1 == 1 + (1_000 - SYNC_AFTER_MS) // BURST_SYNC_MS
    last_order = 21_000
    reads.pass_time(made, 30_000)
    assert last_order < reads.times[-1] <= last_order + BURST_SYNC_MS, "what came last is shown, too"
    shown = len(reads.times)
    reads.pass_time(made, 40_000)
    assert len(reads.times) == shown


def a_session(reads: Reads) -> Session:
    nothing = cast(Any, None)
    return Session(
        nothing, make_config(), facts=nothing, progress=nothing, alerts=nothing, show=nothing,
        account_sync=cast(Any, reads),
    )  # fmt: skip


def test_a_read_gives_way_to_orders_of_other_terminals_for_a_while(reads: Reads) -> None:
    made = a_session(reads)
    assert not made.gives_way(reads.now_ms - SYNC_AFTER_MS), "the last one is over"
    began, last = reads.now_ms, 0.0
    while made.gives_way(reads.now_ms):  # one order after the other
        assert reads.now_ms < made.due_sync_ms <= reads.now_ms + SYNC_AFTER_MS + SPREAD_MS
        last = reads.now_ms = made.due_sync_ms
    assert last == began + PUT_OFF_MS
    assert made.gives_way(reads.now_ms), "the next read anew"


def test_executors_of_a_host_tell_each_other_of_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = HostPage(tmp_path / "host"), HostPage(tmp_path / "host")
    monkeypatch.setattr(host_page, "monotonic_ms", lambda: 5_000.0)
    theirs._map[:] = struct.pack("<d", float("nan"))
    assert mine.last_ms(5_100.0) < -50_000, "not written yet, or not by us"
    theirs.begins()
    assert mine.last_ms(5_100.0) == 5_000.0
    assert mine.last_ms(4_000.0) < 0, "of before the machine started anew"
    mine.close()
    theirs.close()
