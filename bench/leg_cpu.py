"""Processor time of one leg, by process and thread, in fan-outs to 1, 10 and all terminals: comparable on a busy machine.

`python -m bench.leg_cpu [--terminals 100] [--rounds 6] [--idle 6] [--sync] [--celery]`. From the kernel's own account of
each thread (/proc/PID/task/TID/schedstat), less what the same processes use when nothing is ordered. What runs until the
last fill was read delays other legs; what follows within the pause only warms the machine.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.contenders import Contender, Ours, Reader
from bench.figures import machine, percentile
from bench.lab import Lab

IDLE_S = 6.0
PAUSE_S = 1.5
SIZES = (1, 10)
HERE = "accept and the bench's reader"

Spent = Counter[str]  # group → µs


def threads(pid: int, group: str) -> Spent:
    """µs that each thread of a process has run; threads of the same name count as one."""
    found: Spent = Counter()
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            found[f"{group} {name}"] += int((task / "schedstat").read_text().split()[0]) // 1000
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has ended
    return found


class Meter:
    """All processes that an order passes, and this one, which accepts."""

    def __init__(self, lab: Lab) -> None:
        self._own_us = 0  # what reading costs is nobody's
        self._groups = {os.getpid(): HERE}
        self._groups |= dict.fromkeys(lab.executors().values(), "executor")
        for name, process in lab.processes().items():
            self._groups[process.pid] = name

    def read(self) -> Spent:
        began = time.thread_time_ns()
        total: Spent = Counter({HERE: -self._own_us})
        for pid, group in self._groups.items():
            for name, spent in threads(pid, group).items():
                total[name if group == "executor" else group] += spent
        self._own_us += (time.thread_time_ns() - began) // 1000
        return total


def less(after: Spent, before: Spent, idle: Spent, seconds: float) -> Spent:
    """What was spent between two readings, without the idle cost per second."""
    return Counter({name: after[name] - before[name] - round(idle[name] * seconds) for name in after})


async def measure(meter: Meter, ours: Contender, reader: Reader, size: int, rounds: int, idle: Spent) -> None:
    until: Spent = Counter()
    after: Spent = Counter()
    times = []
    for number in range(rounds):
        first, at_first = meter.read(), time.perf_counter()
        times.append(await ours.place(reader, range(size), number))
        middle, at_middle = meter.read(), time.perf_counter()
        await asyncio.sleep(PAUSE_S)
        until.update(less(middle, first, idle, at_middle - at_first))
        after.update(less(meter.read(), middle, idle, time.perf_counter() - at_middle))
    show(size, rounds * size, until, after)
    print(
        f"until the last fill: p50 {percentile(times, 0.5):.1f} ms, load {os.getloadavg()[0]:.1f}", flush=True
    )


def show(size: int, legs: int, until: Spent, after: Spent) -> None:
    print(f"\nfan-out to {size}: µs of processor time a leg")
    print(f"{'':<34}{'until the fill':>16}{'after it':>12}{'together':>12}")
    rows = sorted({*until, *after}, key=lambda name: -(until[name] + after[name]))
    sums = {"executor, all threads": [name for name in rows if name.startswith("executor ")], "all": rows}
    for name in rows:
        line(name, until[name] / legs, after[name] / legs)
    for name, parts in sums.items():
        line(name, sum(until[part] for part in parts) / legs, sum(after[part] for part in parts) / legs)


def line(name: str, until: float, after: float) -> None:
    if abs(until) + abs(after) >= 1:
        print(f"{name:<34}{until:>16.0f}{after:>12.0f}{until + after:>12.0f}")


async def run(lab: Lab, terminals: int, rounds: int, idle_s: float) -> None:
    ours = Contender("Tradedist", Ours(lab))
    async with Reader() as reader:
        for number in range(4):
            await ours.place(reader, range(terminals), number)
        await asyncio.sleep(3)
        meter = Meter(lab)
        before, began = meter.read(), time.perf_counter()
        await asyncio.sleep(idle_s)
        seconds = time.perf_counter() - began
        idle: Spent = Counter(
            {name: round((spent - before[name]) / seconds) for name, spent in meter.read().items()}
        )
        print(f"\nidle, {terminals} executors: thousandths of a core")
        for name, spent in idle.most_common():
            print(f"{name:<34}{spent / 1000:>16.1f}")
        for size in sorted({*SIZES, terminals}):
            if size <= terminals and rounds:
                await measure(meter, ours, reader, size, rounds * (4 if size == 1 else 1), idle)
    from executors.dispatch import close_process

    await close_process()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench.leg_cpu")
    parser.add_argument("--terminals", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=6, help="0: only what idling costs")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds")
    parser.add_argument("--sync", action="store_true", help="accounts are read twice a second")
    parser.add_argument("--celery", action="store_true", help="each order a Celery task too")
    known = parser.parse_args(arguments)
    print(machine())
    # without the periodic reads of accounts, which would be put off by a fan-out and not be spared by it
    with (
        tempfile.TemporaryDirectory() as directory,
        Lab(
            Path(directory),
            known.terminals,
            ACCOUNT_SYNC_MS="500" if known.sync else "3600000",
            CELERY_DISPATCH="all" if known.celery else "backup",
        ) as lab,
    ):
        asyncio.run(run(lab, known.terminals, known.rounds, known.idle))


if __name__ == "__main__":
    main(sys.argv[1:])
