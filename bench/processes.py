"""What the kernel says of a process: proportional memory, and processor time."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def pss_mb(pid: int) -> float:
    """What is shared with others counts by its share; /proc/PID/smaps_rollup."""
    for row in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if row.startswith("Pss:"):
            return int(row.split()[1]) / 1024
    raise ValueError(f"no Pss of {pid}")


def cpu_s(pid: int) -> float:
    """User and system time since its start; /proc/PID/stat."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS
