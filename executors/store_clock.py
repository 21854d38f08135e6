"""Redis's time, by this machine's monotonic clock: setting the machine's clock does not move it.

Precedes: deadlines, the judgement of this machine's clock, times in traces. Follows: the link, which measures.
"""

from executors.state import ExecutorStore
from tradedist.clock import monotonic_ms, now_ms, now_us

TRIES, QUICK_US = 3, 20_000


class StoreClock:
    def __init__(self, store: ExecutorStore) -> None:
        self._store = store
        self._redis_minus_mono = now_ms() - monotonic_ms()
        self._took_us = 0  # of the measurement

    def redis_ms(self) -> int:
        """Redis's time now."""
        return round(monotonic_ms() + self._redis_minus_mono)

    @property
    def offset_ms(self) -> int:
        """Redis's time minus this machine's."""
        return self.redis_ms() - now_ms()

    @property
    def offset_us(self) -> int:
        """The same for spans that are shown. What may be the way alone is none: processes of a machine have one clock."""
        offset = round((monotonic_ms() + self._redis_minus_mono) * 1000) - now_us()
        return offset if abs(offset) > self._took_us // 2 else 0

    def skew_ms(self) -> int:
        """How far this machine's clock is from Redis's for sure; 0 when the measurement cannot tell."""
        skew = self.redis_ms() - now_ms()
        certain = max(0, abs(skew) - self._took_us // 1000)
        return certain if skew > 0 else -certain

    def agrees(self, redis_minus_mono_ms: float, doubt_ms: float) -> bool:
        """Whether somebody else's measurement says the same, as far as both can tell."""
        return abs(redis_minus_mono_ms - self._redis_minus_mono) <= doubt_ms + self._took_us / 1000 + 1

    def measure(self) -> None:
        """The quickest of a few questions counts: a slow answer is an uncertain one. Raises redis.RedisError."""
        took = 0
        for attempt in range(TRIES):
            mono_us = round(monotonic_ms() * 1000)
            theirs = self._store.time_us()
            now_took = round(monotonic_ms() * 1000) - mono_us
            if attempt == 0 or now_took < took:
                took = now_took
                self._redis_minus_mono = (theirs - mono_us - now_took // 2) / 1000
            if took < QUICK_US:
                break
        self._took_us = took
