"""The only clock. `now_ms` is this machine's UTC time; `monotonic_ms` measures spans."""

import time


def now_ms() -> int:
    """UTC epoch milliseconds."""
    return time.time_ns() // 1_000_000


def now_us() -> int:
    """UTC epoch microseconds."""
    return time.time_ns() // 1_000


def monotonic_ms() -> float:
    """Milliseconds since some fixed point, never stepping back."""
    return time.monotonic_ns() / 1e6
