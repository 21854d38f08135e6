"""What other threads hand to the executor's, and the clocks that it decides by.

Precedes: the executor handles one item after the other. Follows: the listener, Celery tasks, the link.
"""

import time
from concurrent.futures import Future
from dataclasses import dataclass

from django.conf import settings

from executors.link import Link
from executors.link_events import Event
from executors.messages import Leg
from executors.progress import Progress
from executors.terminals.base import Rate
from tradedist.clock import monotonic_ms, now_ms


@dataclass(frozen=True, slots=True)
class Arrival:
    leg: Leg
    path: str


@dataclass(frozen=True, slots=True)
class RatesWish:
    symbol: str
    seconds: int
    to_ms: int
    count: int
    answer: "Future[tuple[Rate, ...]]"


Item = Arrival | RatesWish | Event | None  # None only wakes


class ExecutorClock:
    """This machine's clock, and Redis's by what the link measures: that one goes on when the machine's is set."""

    def __init__(self, progress: Progress) -> None:
        self.link: Link | None = None
        self._progress = progress

    now_ms = staticmethod(now_ms)
    monotonic_ms = staticmethod(monotonic_ms)

    def redis_ms(self) -> int:
        return self.link.clock.redis_ms() if self.link else now_ms()

    def offset_us(self) -> int:
        return self.link.clock.offset_us if self.link else 0

    def sleep(self, seconds: float) -> None:
        self._progress.moved(settings.FROZEN_LIMIT_S + seconds)
        time.sleep(seconds)
