"""The alternatives' workers beside `bench.executors`: start, memory, idle CPU, and how soon a killed one serves again.

`python -m bench.queue_workers [workers] [kills]`, which `bench.executors` runs after its own part. One alternative after
another, with a worker a terminal forked from a warm parent that replaces a killed one at once. An order that is sent at once
after the kill, as in `bench.executors`, most of them lose: the store hands it to the dying connection. The times are those
of an order sent `AFTER_S` after the kill.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.contenders import ALTERNATIVES, Contender, NotFilled, Reader, alternative
from bench.figures import percentile
from bench.lab import Lab
from bench.processes import cpu_s, pss_mb

IDLE_S = 10.0
QUIET_S = 1.2
AFTER_S = 0.05
LOST_AFTER_S = 5.0


async def idle_core(pids: list[int], seconds: float) -> float:
    before = sum(map(cpu_s, pids))
    await asyncio.sleep(seconds)
    return (sum(map(cpu_s, pids)) - before) / seconds


async def killed(contender: Contender, reader: Reader, index: int, number: int, after_s: float) -> float:
    """Milliseconds from the kill of the terminal's worker until an order was filled. Raises NotFilled."""
    assert contender.workers is not None
    await contender.place(reader, [index], number)
    await asyncio.sleep(QUIET_S)
    began = time.perf_counter()
    os.kill(contender.workers.pid(index), signal.SIGKILL)
    if after_s:
        await asyncio.sleep(after_s)
    await contender.place(reader, [index], number + 1, LOST_AFTER_S)
    return (time.perf_counter() - began) * 1000


async def kills(contender: Contender, reader: Reader, count: int, tries: int, after_s: float) -> list[float]:
    """The times of those that were filled."""
    samples = []
    for number in range(tries):
        with contextlib.suppress(NotFilled):
            samples.append(await killed(contender, reader, number % count, 2 * number, after_s))
    return samples


async def measure(lab: Lab, reader: Reader, name: str, count: int, tries: int, idle_s: float) -> None:
    contender = alternative(lab, name, count)
    assert contender.workers is not None
    with contender.workers as workers:
        workers.wait()
        await asyncio.sleep(idle_s / 3)
        pids = [workers.pid(index) for index in range(count)]
        idle = await idle_core(pids, idle_s)
        memory = percentile([pss_mb(pid) for pid in pids], 0.5)
        later = await kills(contender, reader, count, tries, AFTER_S)
        at_once = await kills(contender, reader, count, tries, 0.0)
    times = f"{percentile(later, 0.5):.0f} / {max(later):.0f}" if later else "–"
    print(
        f"{contender.name:<28}{workers.ready_s:>10.2f}{memory:>10.1f}{idle:>14.2f}{times:>18}"
        f"{f'{tries - len(later)} of {tries}':>12}{f'{tries - len(at_once)} of {tries}':>18}",
        flush=True,
    )


async def main(lab: Lab, names: Sequence[str], count: int, tries: int, idle_s: float) -> None:
    print(f"\n{count} workers of each alternative; load {os.getloadavg()[0]:.1f}")
    heads = (("ready s", 10), ("PSS MB", 10), ("idle, cores", 14), ("killed p50/max ms", 18), ("lost", 12))
    print(" " * 28 + "".join(f"{head:>{width}}" for head, width in (*heads, ("lost, at once", 18))))
    async with Reader() as reader:
        for name in names:
            await measure(lab, reader, name, count, tries, idle_s)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("workers", nargs="?", type=int, default=100)
    parser.add_argument("kills", nargs="?", type=int, default=10)
    parser.add_argument("--only", default=",".join(ALTERNATIVES), help="alternatives, separated by commas")
    parser.add_argument("--short", action="store_true", help="a look only: does it work at all")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="tradedist-bench-") as directory,
        Lab(Path(directory), 0, accounts=options.workers) as made,
    ):
        idle_s = 0.6 if options.short else IDLE_S
        asyncio.run(main(made, options.only.split(","), options.workers, options.kills, idle_s))
