"""Waiting for what another process, thread or task makes true a moment later: asked again until it is so.

The limits are those of a machine that does much else; a wait that is over early costs nothing.
"""

import asyncio
import time
from typing import Any

LIMIT_S = 60.0


def wait_until(what: Any, limit_s: float = LIMIT_S, every_s: float = 0.02) -> Any:
    """The first true answer of `what()`."""
    until = time.monotonic() + limit_s
    while True:
        if answer := what():
            return answer
        assert time.monotonic() < until, f"not within {limit_s} s: {what}"
        time.sleep(every_s)


async def eventually(what: Any, limit_s: float = LIMIT_S, every_s: float = 0.005) -> Any:
    """The same for a test on an event loop, which goes on meanwhile."""
    until = time.monotonic() + limit_s
    while True:
        if answer := what():
            return answer
        assert time.monotonic() < until, f"not within {limit_s} s: {what}"
        await asyncio.sleep(every_s)
