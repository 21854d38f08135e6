"""The order socket through the real ASGI application and a real Valkey."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.live import (
    Socket,
    a_report,
    make_terminal,
    make_user,
    publish_report,
    session_cookie,
)
from tradedist import hub

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
async def live(state_redis: Any, ticks_redis: Any, settings: Any) -> AsyncIterator[None]:
    settings.ALLOWED_HOSTS = ["testserver"]
    yield
    await hub.close_current()


@pytest.fixture
def cookie(state_redis: Any) -> str:
    make_terminal("alpha")
    make_terminal("beta")
    make_terminal("hidden")
    return session_cookie(make_user("trader", alpha="trade", beta="view"))


async def test_a_snapshot_comes_on_connect(cookie: str) -> None:
    async with Socket("/ws/orders/", cookie=cookie) as socket:
        snapshot = await socket.read()
    assert snapshot["type"] == "snapshot"
    assert snapshot["user"]["name"] == "trader"
    assert snapshot["user"]["role"] == "trader"
    assert [(item["terminal_id"], item["can_trade"]) for item in snapshot["terminals"]] == [
        ("alpha", True),
        ("beta", False),
    ]


async def test_reports_of_visible_terminals_follow(cookie: str, state_redis: Any) -> None:
    async with Socket("/ws/orders/", cookie=cookie) as socket:
        await socket.read_until("snapshot")
        publish_report(state_redis, a_report("hidden"))
        entry_id = publish_report(state_redis, a_report("alpha", lots="0.25"))
        message = await socket.read()
    assert message["type"] == "report"
    assert message["report"]["terminal_id"] == "alpha"
    assert message["report"]["lots"] == 0.25
    assert message["cursor"].endswith(entry_id)
