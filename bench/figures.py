"""What every benchmark prints: percentiles of samples, and the machine they were taken on."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path


def percentile(samples: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; `share` from 0 to 1."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def line(name: str, samples_ms: Sequence[float]) -> str:
    p50, p99 = percentile(samples_ms, 0.5), percentile(samples_ms, 0.99)
    return f"{name:<46} p50 {p50:8.2f} ms   p99 {p99:8.2f} ms   max {max(samples_ms):8.2f} ms   n {len(samples_ms)}"


def machine() -> str:
    model = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            row.partition(":")[2].strip() for row in cpuinfo.read_text().splitlines() if "model name" in row
        ]
        model = names[0] if names else platform.machine()
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, load {load:.1f}"
