"""Orders beside the same work in other task queues, in one run on one Valkey: round trip, fan-out, orders per second.

`make bench`, or `python -m bench.orders [--short] [--only CONTENDER,…] [--parts trip,fan10,fan100,rate]`. From accept in
this process (others: their enqueueing call) until the fill was read from the result stream; the way through browser and
web process is `bench.browser`'s. All take turns in one run, the others' processes stopped meanwhile, so that whatever else
the machine does meets all alike.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contenders import ALTERNATIVES, Contender, Ours, Reader, alternative
from bench.figures import machine, percentile
from bench.lab import Lab
from bench.processes import pss_mb

OURS = "Tradedist"
BASE = "celery_queue"
PAUSE_S = (
    0.06  # a trader's next order does not meet what the last one leaves behind (its task, the account's read)
)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long each part takes."""

    rounds: int  # turns of each contender
    orders: int  # one after the other, in a turn, on one terminal
    fans: int  # fan-outs in a turn
    rate_s: float
    few: int  # terminals of the small fan-out and of the rates
    terminals: int  # of the large fan-out
    passes: int  # of the large fan-out, for which each alternative's workers are started anew


FULL = Effort(rounds=4, orders=30, fans=8, rate_s=2.5, few=10, terminals=100, passes=1)
SHORT = Effort(rounds=1, orders=5, fans=2, rate_s=0.3, few=2, terminals=5, passes=1)

LARGE_PAUSE_S = 1.0  # the same, after a hundred orders

Samples = dict[str, list[float]]


class Table:
    """Rows of contenders, with ratios to the base."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.samples: Samples = {}

    def show(self, base: str) -> None:
        print(f"\n{self.title}; load {os.getloadavg()[0]:.1f}")
        print(f"{'':<28}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}{'n':>7}{'p50 / plain Celery':>20}")
        middle = percentile(self.samples[base], 0.5) if self.samples.get(base) else 0.0
        for name, values in self.samples.items():
            p50 = percentile(values, 0.5)
            ratio = f"{p50 / middle:>20.2f}" if middle else ""
            print(
                f"{name:<28}{p50:>10.2f}{percentile(values, 0.99):>10.2f}{max(values):>10.2f}{len(values):>7}{ratio}",
                flush=True,
            )


@contextlib.contextmanager
def started(lab: Lab, names: Sequence[str], terminals: int) -> Iterator[list[Contender]]:
    """Alternatives with their workers, all stopped until their turn."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in names:
            contender = alternative(lab, name, terminals)
            assert contender.workers is not None
            stack.enter_context(contender.workers)
            found.append(contender)
        for contender in found:
            assert contender.workers is not None
            contender.workers.wait()
            contender.workers.pause()
        yield found


async def turns(lab: Lab, ours: Contender, others: Sequence[Contender], rounds: int, *parts: "Part") -> None:
    """A B C … A B C …"""
    for _ in range(rounds):
        for part in parts:
            await part(ours)
        with lab.frozen():
            for contender in others:
                with contender.turn():
                    for part in parts:
                        await part(contender)


class Part:
    """One measurement of one contender's turn; keeps the samples."""

    def __init__(
        self, reader: Reader, terminals: Sequence[int], title: str, orders: int, warm: int, pause_s: float
    ) -> None:
        self.table = Table(title)
        self._pause_s = pause_s
        self._reader = reader
        self._terminals = terminals
        self._orders, self._warm = orders, warm

    async def __call__(self, contender: Contender) -> None:
        for number in range(self._warm):
            await contender.place(self._reader, self._terminals, number)
        kept = self.table.samples.setdefault(contender.name, [])
        for number in range(self._orders):
            kept.append(await contender.place(self._reader, self._terminals, number))
            await asyncio.sleep(self._pause_s)


async def rate(
    contender: Contender, reader: Reader, pick: Callable[[int], Sequence[int]], under_way: int, seconds: float
) -> float:
    """Orders per second with so many signals under way at once."""
    done = number = 0
    began = time.perf_counter()
    until = began + seconds

    async def one() -> None:
        nonlocal done, number
        while time.perf_counter() < until:
            number += 1
            terminals = pick(number)
            await contender.place(reader, terminals, number // 10)
            done += len(terminals)

    await asyncio.gather(*(one() for _ in range(under_way)))
    return done / (time.perf_counter() - began)


async def small(lab: Lab, effort: Effort, names: Sequence[str], parts: set[str]) -> None:
    """Everything on one and on a few terminals."""
    ours = Contender(OURS, Ours(lab))
    async with Reader() as reader:
        with started(lab, names, effort.few) as others:
            base = next((item.name for item, name in zip(others, names, strict=True) if name == BASE), "")
            if "trip" in parts:
                apart, at_once = (
                    Part(reader, [0], f"Round trip, one terminal, {title}", effort.orders, 5, pause_s)
                    for title, pause_s in (
                        (f"an order {PAUSE_S * 1000:.0f} ms after the last", PAUSE_S),
                        ("an order at once after the last", 0.0),
                    )
                )
                await turns(lab, ours, others, effort.rounds, apart, at_once)
                apart.table.show(base)
                at_once.table.show(base)
                show_trace(reader.reports)
                reader.reports.clear()
            if "fan10" in parts:
                fan = Part(
                    reader,
                    range(effort.few),
                    f"Fan-out to {effort.few}, until the last was read",
                    effort.fans,
                    2,
                    PAUSE_S,
                )
                await turns(lab, ours, others, effort.rounds, fan)
                fan.table.show(base)
            if "rate" in parts:
                await rates(lab, effort, reader, ours, others)


def show_trace(reports: Sequence[dict[str, Any]]) -> None:
    """Of our fills: the executor's own part, the broker's, and which wake-up won."""
    for name in ("own_us", "broker_us"):
        values = [report["trace"][name] / 1000 for report in reports]
        print(f"  of ours, {name}: p50 {percentile(values, 0.5):.2f}, p99 {percentile(values, 0.99):.2f} ms")
    paths = [report["woken_by"] for report in reports]
    print("  woken by " + ", ".join(f"{path} {paths.count(path)}" for path in sorted(set(paths))))


async def rates(
    lab: Lab, effort: Effort, reader: Reader, ours: Contender, others: Sequence[Contender]
) -> None:
    def single(number: int) -> Sequence[int]:
        return (number % effort.few,)

    def fanned(_: int) -> Sequence[int]:
        return range(effort.few)

    print(f"\nOrders per second over {effort.few} terminals; load {os.getloadavg()[0]:.1f}")
    print(f"{'':<50}{'single':>10}{'fanned out':>12}")

    async def row(contender: Contender, label: str) -> None:
        one = await rate(contender, reader, single, 40, effort.rate_s)
        ten = await rate(contender, reader, fanned, 8, effort.rate_s)
        print(f"{label:<50}{one:>10.0f}{ten:>12.0f}", flush=True)

    with dispatch("backup"):
        await row(ours, f"{OURS}, CELERY_DISPATCH=backup")
    await row(ours, f"{OURS}, every order's Celery task and events")
    await asyncio.sleep(effort.rate_s)  # the tasks still on their way
    with lab.frozen():
        for contender in others:
            with contender.turn():
                await row(contender, contender.name)


@contextlib.contextmanager
def dispatch(kind: str) -> Iterator[None]:
    """CELERY_DISPATCH for this process, which is the one that accepts."""
    from django.conf import settings

    before = settings.CELERY_DISPATCH
    settings.CELERY_DISPATCH = kind
    try:
        yield
    finally:
        settings.CELERY_DISPATCH = before


async def large(lab: Lab, effort: Effort, names: Sequence[str]) -> None:
    """The large fan-out: one alternative's workers at a time, since all of them at once fit no machine."""
    count = effort.terminals
    ours = Contender(OURS, Ours(lab))
    starts: dict[str, tuple[float, float]] = {}
    base = ""
    async with Reader() as reader:
        title = f"Fan-out to {count}, until the last was read"
        part = Part(reader, range(count), title, effort.fans, 2, LARGE_PAUSE_S)
        for _ in range(effort.passes):
            await part(ours)
            with lab.frozen():
                for name in names:
                    with started(lab, [name], count) as (other,):
                        if name == BASE:
                            base = other.name
                        with other.turn():
                            await part(other)
                        assert other.workers is not None
                        starts[other.name] = (other.workers.ready_s, other.workers.memory_mb)
        await part(ours)  # before and after the others
        part.table.show(base)
    print(f"\n{count} workers forked from a warm parent")
    print(f"{'':<28}{'all ready after s':>20}{'memory MB each (PSS)':>24}")
    print(f"{OURS:<28}{lab.start_s:>20.1f}{own_memory(lab):>24.1f}   with the supervisor's own start")
    for name, (ready_s, memory) in starts.items():
        print(f"{name:<28}{ready_s:>20.1f}{memory:>24.1f}")


def own_memory(lab: Lab) -> float:
    pids = list(lab.executors().values())
    return sum(map(pss_mb, pids)) / len(pids)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="a few orders of each: does it work at all")
    parser.add_argument("--only", default=",".join(ALTERNATIVES), help="alternatives, separated by commas")
    parser.add_argument("--parts", default="trip,fan10,rate,fan100")
    options = parser.parse_args()
    effort = SHORT if options.short else FULL
    names = [name for name in options.only.split(",") if name]
    parts = set(options.parts.split(","))
    print(machine())
    if parts & {"trip", "fan10", "rate"}:
        with in_a_lab(effort.few) as lab:
            asyncio.run(small(lab, effort, names, parts))
    if "fan100" in parts:
        if parts != {
            "fan100"
        }:  # the settings of a process are read once: a lab of its own needs a process of its own
            sys.stdout.flush()
            arguments = [item for item in sys.argv[1:] if item.startswith(("--short", "--only"))]
            os.execv(sys.executable, [sys.executable, "-m", "bench.orders", *arguments, "--parts=fan100"])
        with in_a_lab(effort.terminals) as lab:
            asyncio.run(large(lab, effort, [name for name in names if "quiet" not in name]))


@contextlib.contextmanager
def in_a_lab(terminals: int) -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="tradedist-bench-") as name, Lab(Path(name), terminals) as lab:
        yield lab


if __name__ == "__main__":
    main()
