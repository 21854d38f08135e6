"""N executors on this machine: start, memory, idle CPU, and how soon a killed one serves again.

`python -m bench.executors [executors] [kills]`, part of `make bench`; ends with the same of the other task queues' workers.
Targets for 100: up in 8 s, 22 MB (PSS) each, idle 0.12 of
a core together without account sync and 0.6 with it. Kernel figures: PSS by smaps_rollup, CPU by /proc/PID/stat.
"""

import os
import signal
import subprocess
import sys
import time

from bench.figures import line, machine, percentile
from bench.processes import cpu_s, pss_mb
from bench.site import Site, site
from tests.waiting import wait_until

IDLE_S = 20.0
QUIET_S = 1.2


def idle_cores(running: Site, pids: list[int]) -> tuple[float, float]:
    """Of a core: all executors together, and their supervisor."""
    before, own = sum(map(cpu_s, pids)), cpu_s(running.host.pid)
    time.sleep(IDLE_S)
    return (sum(map(cpu_s, pids)) - before) / IDLE_S, (cpu_s(running.host.pid) - own) / IDLE_S


def measure(count: int, kills: int, sync: str, **settings: str) -> None:
    with site(count, start=False, **settings) as running:
        desk, names = running.desk, running.names
        began = time.perf_counter()
        running.host.start()
        wait_until(lambda: "supervising" in running.host.log, 120)
        warm = time.perf_counter()
        wait_until(lambda: desk.ready(*names), 300, 0.05)
        up = time.perf_counter()
        print(f"{sync}: supervisor loaded in {warm - began:.1f} s, all {count} READY {up - warm:.1f} s later")
        time.sleep(5)
        pids = [desk.running(name) for name in names]
        executors, supervisor = idle_cores(running, pids)
        sizes = [pss_mb(pid) for pid in pids]
        print(
            f"{sync}: PSS p50 {percentile(sizes, 0.5):.1f} MB, max {max(sizes):.1f}; idle {executors:.2f} of a core together,"
            f" supervisor {supervisor:.2f}; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        if not kills:
            return
        samples = []
        for number in range(kills):
            time.sleep(QUIET_S)
            name = names[number % count]
            began = time.perf_counter()
            os.kill(desk.running(name), signal.SIGKILL)
            desk.settle(*desk.open(name), limit_s=60)
            samples.append((time.perf_counter() - began) * 1000)
        print(line(f"one of {count} killed → its next order is filled", samples))


def main(count: int, kills: int) -> None:
    print(machine())
    measure(count, kills, "account sync every 0.5 s")
    measure(count, 0, "without account sync", ACCOUNT_SYNC_MS="3600000")
    # a process of its own: settings are read once in each
    subprocess.run([sys.executable, "-m", "bench.queue_workers", str(count), str(min(kills, 10))], check=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, int(sys.argv[2]) if len(sys.argv) > 2 else 30)
