"""Who trades on the order socket in these tests, and an end to what each test began."""

from collections.abc import AsyncIterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
async def live(state_redis: Any, ticks_redis: Any, settings: Any) -> AsyncIterator[None]:
    from executors.dispatch import close_process  # Django is not set up when this file is read
    from tradedist import hub

    settings.ALLOWED_HOSTS = ["testserver"]
    settings.ORDERS_PER_SECOND = 1_000
    yield
    await close_process()
    await hub.close_current()


@pytest.fixture
def trader(state_redis: Any) -> Any:
    """Trades alpha, views beta, knows nothing of hidden."""
    from tests.integration.live import make_terminal, make_user

    for terminal_id in ("alpha", "beta", "hidden"):
        make_terminal(terminal_id)
    return make_user("trader", alpha="trade", beta="view")


@pytest.fixture
def cookie(trader: Any) -> str:
    from tests.integration.live import session_cookie

    return session_cookie(trader)
