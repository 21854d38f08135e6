"""The bound of requests under way, and what those beyond it get."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradedist.overload import FEWEST, MOST, PAUSE_MS, QUICK_MS, Bound, ShedLoad


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10_000)), max_size=300))
def test_it_stays_within_its_limits_and_counts_who_is_there(steps: list[tuple[bool, float]]) -> None:
    bound, inside, now = Bound(), 0, 0.0
    for enters, took_ms in steps:
        now += took_ms
        if enters:
            room = inside < int(bound.limit)
            assert bound.begin() is room
            inside += room
        elif inside:
            bound.end(took_ms, now)
            inside -= 1
        assert bound.under_way == inside
        assert FEWEST <= bound.limit <= MOST


def test_slow_answers_shrink_it_once_a_pause_and_quick_ones_bring_it_back() -> None:
    bound = Bound()
    for _ in range(3):
        assert bound.begin()
    for _ in range(3):
        bound.end(QUICK_MS + 1, 1_000.0)
    assert bound.limit == pytest.approx(MOST * 0.9)
    for number in range(200):
        assert bound.begin()
        bound.end(QUICK_MS + 1, 2_000.0 + number * PAUSE_MS)
    assert bound.limit == FEWEST
    for _ in range(1_000):
        assert bound.begin()
        bound.end(1.0, 50_000.0)
    assert bound.limit == MOST


async def asked(application: Any, method: str, path: str) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await application({"type": "http", "method": method, "path": path}, None, send)
    return sent


async def test_beyond_the_bound_it_answers_at_once_and_never_a_refusal_for_a_signal() -> None:
    go_on, inside = asyncio.Event(), 0

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        nonlocal inside
        inside += 1
        await go_on.wait()

    application = ShedLoad(slow)
    waiting = [asyncio.ensure_future(asked(application, "GET", "/api/terminals")) for _ in range(MOST)]
    await asyncio.sleep(0)
    assert inside == MOST
    start, body = await asked(application, "POST", "/api/signals")
    assert start["status"] == 503
    assert json.loads(body["body"])["code"] == "ACCEPT_UNKNOWN"
    assert dict(start["headers"])[b"retry-after"] == b"1"
    _, body = await asked(application, "GET", "/api/signals")
    assert json.loads(body["body"])["code"] == "UNAVAILABLE"
    health = asyncio.ensure_future(asked(application, "GET", "/api/health"))
    await asyncio.sleep(0)
    assert inside == MOST + 1
    go_on.set()
    await asyncio.gather(health, *waiting)
    assert application.bound.under_way == 0


async def test_a_request_that_fails_makes_room() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("on purpose")

    application = ShedLoad(fails)
    with pytest.raises(RuntimeError):
        await asked(application, "GET", "/")
    assert application.bound.under_way == 0
