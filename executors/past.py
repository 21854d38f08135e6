"""What the terminal's history shows of a span, with room for a broker's clock that is not ours.

Precedes: what has become of a pending order, and what is left of an open, are decided by it. Follows: the terminal. A
history that cannot be read must not hold up other orders.
"""

import logging
from collections.abc import Callable
from typing import TypeVar

from executors.errors import TerminalError, TerminalUnavailable
from executors.terminals.base import Deal, Order

logger = logging.getLogger(__name__)
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS  # our clock and the broker's may differ by so much
T = TypeVar("T", Order, Deal)


def shown(
    read: Callable[[int, int], tuple[T, ...]], since_ms: int, now_ms: int, *, action: str
) -> tuple[T, ...] | None:
    """None: the terminal is there, and does not show it. Raises TerminalUnavailable."""
    try:
        return read(since_ms - DAY_MS, now_ms + DAY_MS)
    except TerminalUnavailable:
        raise
    except TerminalError as error:
        logger.warning("the history cannot be read: %s", error, extra={"action": action})
        return None
