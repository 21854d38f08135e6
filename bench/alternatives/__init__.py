"""Task queues that could have carried the orders, each with a worker a terminal that does the work of `bench.work`.

A module has `NAME`, `WARM` (what the library imports late), `Sender` (in the bench's process) and `serve(index, ready)`
(in a worker's process, after the fork; calls `ready` when it takes messages, and does not return). All with their
library's defaults, but for what would slow them down without need (results that nobody reads, schedulers, a fork a job).
"""

from collections.abc import Sequence
from typing import Any, Protocol


class Sender(Protocol):
    async def send(self, terminals: Sequence[int], signal: dict[str, Any]) -> None:
        """One message a terminal, each to its worker's own queue."""
