"""Waiting for what another process, thread or task makes true a moment later: asked again until it is so; and threads
whose failures a test sees.

The limits are those of a machine that does much else; a wait that is over early costs nothing.
"""

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
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


class Watched:
    """Work in a thread of its own. `join` raises what the work has raised."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._done: Future[None] | None = None

    def work(self) -> None:
        raise NotImplementedError

    def start(self) -> None:
        self._done = self._pool.submit(self.work)
        self._pool.shutdown(wait=False)

    @property
    def at_work(self) -> bool:
        return self._done is not None and not self._done.done()

    def join(self, limit_s: float = LIMIT_S) -> None:
        assert self._done is not None
        self._done.result(limit_s)
