"""Connections whose login is being looked up, and those who are in."""

import asyncio
import threading
from typing import Any

import pytest

from tradedist.socket_auth import TokenLogin

pytestmark = pytest.mark.django_db(transaction=True)  # the threads look after their connections


class User:
    is_authenticated = True


async def test_who_is_in_does_not_wait_for_newcomers() -> None:
    """Anybody may try to come in, and each try asks the database."""
    database = threading.Event()

    def find(token: str) -> Any:
        if token == "new":
            assert database.wait(60)
            return None
        return User()

    trader = TokenLogin("trader", find)
    assert await trader.user()
    newcomers = [asyncio.ensure_future(TokenLogin("new", find).user()) for _ in range(20)]
    try:
        async with asyncio.timeout(30):
            assert await trader.user()
        assert not any(task.done() for task in newcomers)
    finally:
        database.set()
    assert await asyncio.gather(*newcomers) == [None] * 20
