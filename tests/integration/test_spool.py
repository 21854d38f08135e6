"""The spool on a real disk and a real Valkey: what it keeps, for how long, and what a store that lost it gets back."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from executors.legs import JournalReport
from executors.messages import CloseSignal, ExecutionReport, Leg, OpenSignal, Targets
from executors.orders import OrderState, order_id
from executors.reaccept import Reaccept
from executors.spool import Kept, Spool, _Slot, confirmed
from executors.state import ExecutorStore, Recorded, SignalStore
from tests.integration.test_state import journaled
from tests.waiting import eventually
from tradedist import keys
from tradedist.clock import now_ms
from tradedist.redis import async_state
from tradedist.redis_line import Line

S = OrderState
ALPHA_BETA = (("alpha", 1), ("beta", 1))


def a_kept(number: int = 1, **fields: Any) -> Kept:
    wish = OpenSignal(
        signal_id=str(UUID(int=number)),
        symbol="EURUSD",
        side="buy",
        lots=Decimal("0.1"),
        targets=Targets(terminals=["alpha", "beta"]),
    )
    values: dict[str, Any] = {
        "signal": wish,
        "user_id": 7,
        "username": "trader",
        "source": "socket",
        "ttl_ms": 5_000,
        "received_ms": now_ms(),
        "targets": ALPHA_BETA,
    }
    return Kept(**values | fields)


class Web:
    """What a web process has of it: a spool, the store, and the look that compares the two."""

    def __init__(self, directory: Path) -> None:
        self.client = async_state()
        self.line = Line(self.client)
        self.store = SignalStore(self.client, line=self.line)
        self.spool = Spool(directory, max_orders=1_000)
        self.woken: list[Leg] = []
        self.reaccept = Reaccept(self.spool, self.store, self._wake)

    def _wake(self, legs: Any) -> None:
        self.woken += [leg for leg, _ in legs]

    async def accept(self, entry: Kept) -> Recorded:
        """As dispatch does."""
        on_disk = self.spool.keep(entry)
        recorded = await self.store.record(
            entry.signal,
            targets=entry.targets,
            user_id=entry.user_id,
            username=entry.username,
            source=entry.source,
            ttl_ms=entry.ttl_ms,
            received_ms=entry.received_ms,
        )
        seqs = tuple(Leg.model_validate_json(text).leg_seq for text in recorded.legs)
        self.spool.confirm(confirmed(entry, recorded.accepted_ms, recorded.deadline_ms, seqs))
        assert await on_disk
        return recorded

    async def look(self) -> None:
        """At everything, however young."""
        for entry in self.spool.entries.values():
            self.spool.entries[entry.signal_id] = replace(entry, at_ms=entry.at_ms - 1_000)
        await self.reaccept.look()

    async def inherited(self, count: int) -> None:
        self.spool.start()
        await eventually(lambda: len(self.spool.entries) >= count)  # a thread brings them

    async def close(self) -> None:
        await self.spool.close()
        await self.line.close()
        await self.client.aclose()


Maker = Callable[[], Web]


@pytest.fixture
async def make_web(state_redis: Any, tmp_path: Path) -> AsyncIterator[Maker]:
    made: list[Web] = []

    def make() -> Web:
        made.append(Web(tmp_path / "spool"))
        return made[-1]

    yield make
    for web in made:
        await web.close()


def on_disk(directory: Path) -> dict[str, Kept]:
    found = {}
    for path in directory.glob("*.sqlite3"):
        with contextlib.closing(sqlite3.connect(path)) as rows:
            for signal_id, text in rows.execute("SELECT signal_id, kept FROM signals"):
                found[signal_id] = Kept.from_json(text)
    return found


def reports_of(client: Any, name: str) -> list[tuple[int, str]]:
    rows = [
        ExecutionReport.model_validate_json(fields["report"]) for _, fields in client.xrange(keys.REPORTS)
    ]
    return [(row.report_seq, row.state.value) for row in rows if row.order_id == name]


def executed(leg: Leg, *states: S) -> list[JournalReport]:
    return journaled(leg, *(states or (S.INTENT, S.FILLED)))


async def test_a_signal_is_on_disk_when_keep_has_answered(make_web: Maker, tmp_path: Path) -> None:
    web = make_web()
    entry = a_kept()
    assert await web.spool.keep(entry)
    assert on_disk(tmp_path / "spool") == {entry.signal_id: entry}
    close = CloseSignal(signal_id=str(UUID(int=2)), all=True, targets=Targets(terminals=["alpha"]))
    other = a_kept(2, signal=close, seqs=(4,), accepted_ms=5, deadline_ms=6, store_life="abc")
    assert await web.spool.keep(other)
    assert on_disk(tmp_path / "spool")[other.signal_id] == other


async def test_many_signals_share_a_commit(
    make_web: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = make_web()
    await web.spool.keep(a_kept(1))
    commits: list[int] = []
    write = _Slot.write

    def counted(slot: _Slot, rows: dict[str, Kept | None]) -> None:
        commits.append(len(rows))
        write(slot, rows)

    monkeypatch.setattr(_Slot, "write", counted)
    kept = await asyncio.gather(*(web.spool.keep(a_kept(number)) for number in range(1, 400)))
    assert all(kept)
    assert len(on_disk(tmp_path / "spool")) == 399
    assert sum(commits) == 398
    assert len(commits) < 100


async def test_it_goes_when_every_order_has_left_queued(
    make_web: Maker, state_redis: Any, tmp_path: Path
) -> None:
    web = make_web()
    recorded = await web.accept(a_kept())
    alpha, beta = (Leg.model_validate_json(text) for text in recorded.legs)
    await web.look()
    assert len(web.spool.entries) == 1
    ExecutorStore(state_redis, "alpha").publish("ja", 1, executed(alpha), after=0)
    await web.look()
    assert len(web.spool.entries) == 1
    ExecutorStore(state_redis, "beta").publish("jb", 1, executed(beta, S.INTENT), after=0)
    await web.look()
    assert web.spool.entries == {}
    assert web.woken == []
    await web.spool.close()
    assert on_disk(tmp_path / "spool") == {}


async def test_a_store_that_lost_it_gets_it_back_as_it_was(make_web: Maker, state_redis: Any) -> None:
    web = make_web()
    for number in (1, 2):
        recorded = await web.accept(a_kept(number))
    before = [Leg.model_validate_json(text) for text in recorded.legs]
    view = await web.store.view(str(UUID(int=2)))
    state_redis.flushdb()
    await web.look()
    again = await web.store.view(str(UUID(int=2)))
    assert view is not None
    assert again is not None
    for made, was in zip(again.orders, view.orders, strict=True):
        # the trace tells milliseconds of a time that was taken in microseconds
        assert made.report.trace["accepted"] == was.report.trace["accepted"]
        assert made.report.model_copy(update={"trace": was.report.trace}) == was.report
    assert again.model_dump(exclude={"orders"}) == view.model_dump(exclude={"orders"})
    legs = [leg for leg in web.woken if leg.signal.signal_id == str(UUID(int=2))]
    for leg, sent in zip(legs, before, strict=True):
        assert leg.model_copy(update={"trace": sent.trace}) == sent  # numbers, times, user
    assert {leg.leg_seq for leg in web.woken} == {1, 2}
    for terminal_id in ("alpha", "beta"):
        assert state_redis.zrange(keys.outbox(terminal_id), 0, -1) == [
            order_id(str(UUID(int=number)), terminal_id) for number in (1, 2)
        ]
        assert state_redis.get(keys.leg_seq(terminal_id)) == "2"
    web.woken.clear()
    await web.look()
    assert web.woken == []  # once is enough


async def test_what_executors_published_again_stays(make_web: Maker, state_redis: Any) -> None:
    """One executor had executed its order and publishes it again before the web process looks; the other never heard."""
    web = make_web()
    recorded = await web.accept(a_kept())
    alpha, beta = (Leg.model_validate_json(text) for text in recorded.legs)
    state_redis.flushdb()
    ExecutorStore(state_redis, "alpha").publish("ja", 1, executed(alpha), after=0)
    await web.look()
    view = await web.store.view(alpha.signal.signal_id)
    assert view is not None
    assert {order.terminal_id: order.state for order in view.orders} == {"alpha": S.FILLED, "beta": S.QUEUED}
    assert (view.user, view.source, view.accepted_ms) == ("trader", "socket", recorded.accepted_ms)
    assert state_redis.zrange(keys.outbox("alpha"), 0, -1) == []
    assert reports_of(state_redis, alpha.order_id) == [(0, "QUEUED"), (1, "INTENT"), (2, "FILLED")]
    assert reports_of(state_redis, beta.order_id) == [(0, "QUEUED")]


async def test_what_executors_publish_afterwards_counts_on(make_web: Maker, state_redis: Any) -> None:
    web = make_web()
    recorded = await web.accept(a_kept())
    alpha, _ = (Leg.model_validate_json(text) for text in recorded.legs)
    state_redis.flushdb()
    await web.look()
    ExecutorStore(state_redis, "alpha").publish("ja", 1, executed(alpha), after=0)
    assert reports_of(state_redis, alpha.order_id) == [(0, "QUEUED"), (1, "INTENT"), (2, "FILLED")]


async def test_the_first_report_of_a_close_is_made_again_too(make_web: Maker, state_redis: Any) -> None:
    web = make_web()
    close = CloseSignal(signal_id=str(UUID(int=9)), all=True, targets=Targets(terminals=["alpha"]))
    recorded = await web.accept(a_kept(9, signal=close, targets=(("alpha", 1),)))
    leg = Leg.model_validate_json(recorded.legs[0])
    first = ExecutionReport.model_validate_json(recorded.reports[0])
    state_redis.flushdb()
    ExecutorStore(state_redis, "alpha").publish("ja", 1, executed(leg, S.DONE), after=0)
    again = [
        ExecutionReport.model_validate_json(fields["report"])
        for _, fields in state_redis.xrange(keys.REPORTS)
    ]
    assert again[0] == first
    assert again[1].report_seq == 1


async def test_a_restarted_process_reads_its_spool(make_web: Maker, state_redis: Any) -> None:
    first = make_web()
    await first.accept(a_kept())
    await first.close()
    state_redis.flushdb()
    second = make_web()
    await second.inherited(1)
    await second.look()
    assert [leg.leg_seq for leg in second.woken] == [1, 1]


async def test_a_living_process_takes_over_what_another_left(
    make_web: Maker, state_redis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executors.spool.ADOPT_S", 0.05)
    first, second = make_web(), make_web()
    await first.accept(a_kept(1))
    await second.accept(a_kept(2))
    await asyncio.sleep(0.2)
    assert [set(web.spool.entries) for web in (first, second)] == [{str(UUID(int=1))}, {str(UUID(int=2))}]
    await first.close()
    await second.inherited(2)
    state_redis.flushdb()
    await second.look()
    assert len(second.woken) == 4
    await second.close()
    assert len(list((tmp_path / "spool").glob("*.sqlite3"))) == 1
    assert len(on_disk(tmp_path / "spool")) == 2


async def test_a_signal_whose_call_was_not_answered_is_found_out(make_web: Maker, state_redis: Any) -> None:
    web = make_web()
    known, never = a_kept(1), a_kept(2)
    for entry in (known, never):
        await web.spool.keep(entry)
    await web.store.record(
        known.signal,
        targets=ALPHA_BETA,
        user_id=7,
        username="trader",
        source="socket",
        ttl_ms=5_000,
        received_ms=1,
    )
    await web.look()
    assert web.spool.entries[known.signal_id].accepted_ms > 0
    assert web.spool.entries[known.signal_id].seqs == (1, 1)
    assert never.signal_id in web.spool.entries  # the store may still run the call
    web.spool.entries[never.signal_id] = replace(never, at_ms=never.at_ms - 60_000)
    await web.reaccept.look()
    assert never.signal_id not in web.spool.entries
    assert not await web.store.known(never.signal_id)


@pytest.mark.parametrize("life", ["same", "another"])
async def test_a_process_that_died_in_the_call_may_have_answered(
    make_web: Maker, state_redis: Any, life: str
) -> None:
    """The same store would know the signal if it had been recorded; one that was rolled back may have lost it."""
    first = make_web()
    entry = a_kept(store_life=await first.store.life() if life == "same" else "an earlier life")
    await first.spool.keep(entry)
    await first.close()
    second = make_web()
    await second.inherited(1)
    await second.look()
    assert (second.woken == []) == (life == "same")
    if life == "another":
        assert {leg.deadline_ms for leg in second.woken} == {entry.received_ms + 5_000}
    else:
        assert second.spool.entries == {}


async def test_a_full_spool_and_a_failing_disk_say_so(
    make_web: Maker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    web = make_web()
    web.spool._max_orders = 3
    assert await web.spool.keep(a_kept(1))
    assert not await web.spool.keep(a_kept(2))
    assert "the spool holds 2 orders" in caplog.text
    (tmp_path / "spool-two").write_text("a file where the directory belongs")
    failing = Spool(tmp_path / "spool-two", max_orders=10)
    assert not await failing.keep(a_kept(1))
    assert "cannot be read" in caplog.text
    await failing.close()


async def test_a_damaged_file_is_set_aside(
    make_web: Maker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "0.sqlite3").write_bytes(b"no database at all" * 100)
    web = make_web()
    assert await web.spool.keep(a_kept())
    assert (tmp_path / "spool" / "0.damaged").exists()
    assert "damaged" in caplog.text


async def test_another_wish_with_the_same_id_does_not_take_its_place(
    make_web: Maker, state_redis: Any
) -> None:
    web = make_web()
    first = a_kept()
    other = a_kept(signal=first.signal.model_copy(update={"side": "sell"}))
    await web.accept(first)
    assert await web.spool.keep(other)
    web.spool.drop(other)  # as dispatch does after the conflict
    assert web.spool.entries[first.signal_id].signal == first.signal
