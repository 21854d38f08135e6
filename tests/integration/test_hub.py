"""The hub's reader of results: bursts in pages, and after whatever wakes executors."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.live import a_report, publish_report
from tests.waiting import eventually
from tradedist import hub as hubs
from tradedist import keys
from tradedist.hub import Event, Hub


@pytest.fixture
async def hub(state_redis: Any, ticks_redis: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    monkeypatch.setattr(hubs, "READS_A_SECOND", 20)
    monkeypatch.setattr(hubs, "READS_AT_ONCE", 3)
    made = Hub()
    made.start()
    assert await made.ready("state", 60)
    yield made
    await made.close()


async def test_a_burst_comes_in_pages_and_whole(
    hub: Hub, state_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    pages: list[int] = []
    hub.subscribe(keys.REPORTS, lambda event: heard.append(event.entry_id))
    read = hubs.read_entries

    def counted(answer: Any) -> list[tuple[str, str]]:
        pages.append(1)
        return read(answer)

    monkeypatch.setattr(hubs, "read_entries", counted)
    began = time.monotonic()
    sent = []
    for seq in range(60):
        publish_report(state_redis, a_report("alpha", seq=seq))
        sent.append(state_redis.xrevrange(keys.REPORTS, count=1)[0][0])
        await asyncio.sleep(0.005)
    await eventually(lambda: len(heard) == 60)
    assert heard == sent
    assert len(pages) <= 4 + 20 * (time.monotonic() - began)


async def test_reports_wait_for_what_is_more_urgent_a_few_turns_long(hub: Hub, state_redis: Any) -> None:
    turns: list[str] = []

    def urgent() -> bool:
        turns.append("asked")
        return len(turns) < 3

    def heard(_: Event) -> None:
        turns.append("report")

    hub.gives_way_to(urgent)
    hub.subscribe(keys.REPORTS, heard)
    publish_report(state_redis, a_report("alpha"))
    await eventually(lambda: "report" in turns)
    assert turns == ["asked", "asked", "asked", "report"]
    hub.gives_way_to(lambda: True)  # for ever: it is not waited for
    publish_report(state_redis, a_report("alpha", seq=1))
    await eventually(lambda: turns.count("report") == 2)


async def test_it_ends_although_a_reader_takes_a_cancel_for_its_own_time_limit(
    state_redis: Any, ticks_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    async def stubborn(self: Hub, reader: str, *_: Any) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if reader in taken:
                raise
            taken.append(reader)

    monkeypatch.setattr(Hub, "_read_channels", stubborn)
    made = Hub()
    made.start()
    await eventually(lambda: made._up.get("reports"))
    async with asyncio.timeout(60):
        await made.close()
    assert sorted(taken) == ["state", "ticks"]
