"""How often: token buckets per key, and counters of failures with a lockout. In this process, bounded in number.

Precedes: the API's limits per user and the sign-in lockout. Pure but for the time, which callers pass in.
"""

from collections import OrderedDict
from collections.abc import Hashable


class Buckets:
    """`rate` tokens a second and a burst for each key; the least recently used keys are forgotten beyond `size`."""

    def __init__(self, rate: float, burst: float, size: int = 10_000) -> None:
        self._rate, self._burst, self._size = rate, burst, size
        self._held: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable, now_ms: float) -> float:
        """0 when a token was there, else the seconds until there is one."""
        tokens, at = self._held.pop(key, (self._burst, now_ms))
        tokens = min(self._burst, tokens + max(0.0, now_ms - at) / 1000 * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._held[key] = (tokens if wait else tokens - 1, now_ms)
        if len(self._held) > self._size:
            self._held.popitem(last=False)
        return wait


class Lockout:
    """`limit` failures within `window_ms` lock a key until the window is over."""

    def __init__(self, limit: int, window_ms: float, size: int = 10_000) -> None:
        self._limit, self._window_ms, self._size = limit, window_ms, size
        self._failures: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def locked_ms(self, key: Hashable, now_ms: float) -> float:
        """How long the key stays locked; 0 when it is not."""
        count, since = self._failures.get(key, (0, now_ms))
        left = since + self._window_ms - now_ms
        return left if count >= self._limit and left > 0 else 0.0

    def failed(self, key: Hashable, now_ms: float) -> None:
        count, since = self._failures.pop(key, (0, now_ms))
        if now_ms - since > self._window_ms:
            count, since = 0, now_ms
        # the last failure that is allowed starts the wait anew: it lasts a whole window
        self._failures[key] = (count + 1, now_ms if count + 1 == self._limit else since)
        if len(self._failures) > self._size:
            self._failures.popitem(last=False)

    def clear(self, key: Hashable) -> None:
        self._failures.pop(key, None)
