"""What a user's targets mean is asked once for a burst, again beside later orders, and never shown when it is old."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from executors import grants, target_cache
from executors.errors import Code, Refused
from executors.messages import Targets
from executors.target_cache import AGE_MS, REFRESH_MS, TargetCache

pytestmark = pytest.mark.django_db(transaction=True)  # the readers' threads look after their connections

TARGETS = Targets(terminals=["sim-1"])


@dataclass
class Asked:
    """The tables and the store's version, as far as the cache sees them; and its clock."""

    epoch: int = 1
    version: str = "1"
    now_ms: float = 0.0
    refusal: Refused | None = None
    calls: list[float] = field(default_factory=list)

    async def get(self, name: str) -> str:
        return self.version

    def resolve_targets(self, user: Any, targets: Targets, *, cancels: bool) -> list[tuple[str, int]]:
        self.calls.append(self.now_ms)
        if self.refusal:
            raise self.refusal
        return [("sim-1", self.epoch)]


class User:
    pk = 7


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    made = Asked()
    monkeypatch.setattr(grants, "resolve_targets", made.resolve_targets)
    monkeypatch.setattr(target_cache, "monotonic_ms", lambda: made.now_ms)
    return made


async def settled() -> None:
    """Whatever is read beside the orders has been read."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)


async def test_a_burst_asks_once(asked: Asked) -> None:
    cache = TargetCache(cast(Any, asked))
    found = await asyncio.gather(*(cache.resolve(User(), TARGETS) for _ in range(20)))
    assert {tuple(item.targets) for item in found} == {(("sim-1", 1),)}
    assert len(asked.calls) == 1


async def test_what_a_cancel_may_is_not_what_others_may(asked: Asked) -> None:
    cache = TargetCache(cast(Any, asked))
    await cache.resolve(User(), TARGETS, cancels=True)
    asked.refusal = Refused(Code.TRADING_HALTED, "halted")
    await cache.resolve(User(), TARGETS, cancels=True)
    with pytest.raises(Refused):
        await cache.resolve(User(), TARGETS)


async def test_a_stream_of_orders_never_waits_and_sees_what_changed(asked: Asked) -> None:
    cache = TargetCache(cast(Any, asked))
    first = await cache.resolve(User(), TARGETS)
    asked.epoch, asked.version, asked.now_ms = 2, "2", REFRESH_MS + 1.0
    assert await cache.resolve(User(), TARGETS) is first, "it is read beside the order"
    await settled()
    assert len(asked.calls) == 2
    second = await cache.resolve(User(), TARGETS)
    assert (second.targets, second.version) == ([("sim-1", 2)], "2")
    asked.epoch, asked.now_ms = 3, asked.now_ms + AGE_MS
    assert (await cache.resolve(User(), TARGETS)).targets == [("sim-1", 3)], "too old to be shown"


async def test_a_refusal_reaches_everyone_and_is_not_remembered(asked: Asked) -> None:
    cache = TargetCache(cast(Any, asked))
    await cache.resolve(User(), TARGETS)
    asked.refusal = Refused(Code.FORBIDDEN, "You may not.", 403)
    asked.now_ms = REFRESH_MS + 1.0
    await cache.resolve(User(), TARGETS)
    await settled()
    found = await asyncio.gather(*(cache.resolve(User(), TARGETS) for _ in range(2)), return_exceptions=True)
    assert found == [asked.refusal, asked.refusal]
    asked.refusal = None
    assert (await cache.resolve(User(), TARGETS)).targets == [("sim-1", 1)]


async def test_what_was_being_read_when_something_changed_is_not_kept(asked: Asked) -> None:
    cache = TargetCache(cast(Any, asked))
    under_way = asyncio.ensure_future(cache.resolve(User(), TARGETS))
    await asyncio.sleep(0)
    cache.forget()
    await under_way
    await cache.resolve(User(), TARGETS)
    assert len(asked.calls) == 2
