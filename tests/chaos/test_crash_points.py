"""SIGKILL at every labelled point of an order's path, many times each, on whole running platforms.

`CRASH_SEEDS` runs per point (40 by default). After each crash everything heals by itself; at the end the broker's
ledger is compared with every answer that was given. Reconciliation waits are ten times shorter than in production.

Two platforms run at once, and in each as many lanes as can crash without waiting for each other: a lane has its own
terminals, so that what one kills is no other's. The runs of a lane follow from point and seed alone.
"""

import contextlib
import itertools
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis

from bench.figures import percentile
from executors.crashpoints import POINTS
from executors.orders import OrderState
from executors.terminals.paper.link import LinkError
from executors.terminals.paper.oracle import Operator
from tests.chaos import desk
from tests.chaos.crash_run import SUPERVISOR, WEB, Result, Run
from tests.chaos.crash_verbs import REST, SYMBOL
from tests.chaos.ledger import Claims, compare
from tests.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.chaos

SEEDS = int(os.environ.get("CRASH_SEEDS", "40"))
FIRST = int(os.environ.get("CRASH_FIRST", "0"))  # to go on where an earlier run ended
# supervisord holds a process back that ends within this time of its start: runs wait it out before they kill again
STEADY_S = 3.2
ANSWERS_S = 1.5  # the web process answers the other lanes at least for this long between two crashes

SETTINGS = {
    "ORDERS_PER_SECOND": "100000",
    "BREAKER_UNKNOWN": "0",
    "BREAKER_REJECTIONS": "0",
    "SWEEP_GAP_MS": "500",
    "SWEEP_SETTLE_MS": "1500",
    "MARKET_TTL_MS": "10000",
    "OWN_DRAIN_MS": "1000",
    "OUTBOX_DRAIN_MS": "25",  # before the killed executor is back
}


@dataclass
class Outcome:
    """What all the runs came to."""

    results: dict[str, list[Result]] = field(default_factory=dict)  # by point
    failures: dict[str, list[str]] = field(default_factory=dict)  # by point
    found: list[str] = field(default_factory=list)  # violations of every platform
    orders: dict[str, OrderState] = field(default_factory=dict)
    unknown_s: list[float] = field(default_factory=list)  # from UNKNOWN to what it turned out to be
    took_s: float = 0.0


class Lane(threading.Thread):
    """Runs its share one after the other, on terminals that are its own."""

    def __init__(self, stack: Stack, terminals: tuple[str, ...], runs: list[tuple[str, int]]) -> None:
        super().__init__(name=f"lane-{terminals[0]}", daemon=True)
        self.stack, self.terminals, self.runs = stack, terminals, runs
        self.results: list[Result] = []
        self.failures: list[tuple[str, str]] = []

    def run(self) -> None:
        for point, seed in self.runs:
            self._steady(point)
            one = Run(self.stack, point, seed, self.terminals)
            try:
                with contextlib.closing(one.http):
                    one()
            except (AssertionError, httpx.HTTPError, redis.RedisError, LinkError) as error:
                text = f"seed {seed}, {one.result.verb}: {type(error).__name__}: {error}"
                self.failures.append((point, text))
            self.results.append(one.result)

    def _steady(self, point: str) -> None:
        """Waits until the process to be killed has run for a while, and others have got their answers from it."""
        name = "web" if point in WEB else "terminals" if point in SUPERVISOR else ""
        until = time.monotonic() + 60
        while name and time.monotonic() < until:
            process = self.stack.control().states().get(name)
            if process is not None and process.pid and _age_s(process.pid) >= STEADY_S:
                break
            time.sleep(0.05)
        if name == "web":
            wait_until(self._web_answers, 60)
            time.sleep(ANSWERS_S)

    def _web_answers(self) -> bool:
        try:
            return httpx.get(f"{self.stack.base_url}/api/health", timeout=3).status_code in (200, 503)
        except httpx.HTTPError:
            return False


def _age_s(pid: int) -> float:
    try:
        return time.time() - psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


@contextlib.contextmanager
def platform() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="tradedist-crash-") as directory:
        data = Path(directory) / "data"
        data.mkdir()
        stack = Stack(data, CRASH_POINTS_FILE=str(data / "crash-points"), **SETTINGS)
        stack.start()
        try:
            desk.furnish(stack)
            with Operator(f"tcp://127.0.0.1:{stack.port + 3}") as broker:
                broker.push(SYMBOL, *REST)
            stack.token("trader")
            yield stack
        finally:
            stack.stop()


def lanes(stacks: tuple[Stack, Stack], points: list[str]) -> list[Lane]:
    """The web process is killed on both platforms, the supervisor on the first, executors on the second."""
    first, second = stacks

    def runs(wanted: Callable[[str], bool]) -> list[tuple[str, int]]:
        return [(point, seed) for point in points if wanted(point) for seed in range(FIRST, FIRST + SEEDS)]

    web = runs(WEB.__contains__)
    executors = runs(lambda point: point not in (*WEB, *SUPERVISOR))
    own = desk.TERMINALS[:8]
    return [
        Lane(first, desk.TERMINALS[:5], web[::2]),
        Lane(first, desk.TERMINALS[5:], runs(SUPERVISOR.__contains__)),
        Lane(second, desk.TERMINALS[8:], web[1::2]),
        *(Lane(second, (name,), executors[place :: len(own)]) for place, name in enumerate(own)),
    ]


@pytest.fixture(scope="module")
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """All points that were chosen, at once; the tests below look at one each."""
    calls = [item.callspec for item in request.session.items if hasattr(item, "callspec")]
    chosen = {call.params.get("point") for call in calls}
    made = Outcome()
    with platform() as first, platform() as second:
        began = time.monotonic()
        running = lanes((first, second), [point for point in POINTS if point in chosen])
        for lane in running:
            lane.start()
        while any(lane.is_alive() for lane in running):
            time.sleep(15)
            done = sum(len(lane.results) for lane in running)
            print(
                f"{time.monotonic() - began:5.0f} s: {done} of {sum(len(lane.runs) for lane in running)} runs",
                flush=True,
            )
        made.took_s = time.monotonic() - began
        for lane in running:
            for result in lane.results:
                made.results.setdefault(result.point, []).append(result)
            for point, text in lane.failures:
                made.failures.setdefault(point, []).append(text)
        for stack in (first, second):
            _judge(stack, made)
    return made


def _judge(stack: Stack, made: Outcome) -> None:
    accepted: dict[str, dict[str, Any]] = {}
    for results in made.results.values():
        for result in results:
            if result.stack is stack:
                accepted |= result.accepted
    claims = Claims(stack)
    with contextlib.suppress(AssertionError):  # what never settles is found below, by name
        wait_until(lambda: not claims.read().unsettled, limit_s=30, every_s=0.5)
    made.found += compare(stack, claims, accepted, [])
    made.orders |= {order_id: report.state for order_id, report in claims.orders.items()}
    for reports in claims.reports.values():
        for before, after in itertools.pairwise(reports):
            if before.state is OrderState.UNKNOWN:
                made.unknown_s.append((after.time_ms - before.time_ms) / 1000)


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_there_neither_doubles_nor_loses(outcome: Outcome, point: str) -> None:
    results = outcome.results[point]
    reached = sum(result.reached for result in results)
    ours = [result for result in results if result.settled_s]
    states = Counter(
        outcome.orders[order["order_id"]].value
        for result in results
        for answer in result.accepted.values()
        for order in answer["orders"]
        if order["order_id"] in outcome.orders
    )
    missed = Counter(result.verb for result in results if not result.reached)
    times = [result.settled_s for result in ours] or [0.0]
    print(
        f"\n{point}: reached {reached} of {len(results)}, settled after p50 {percentile(times, 0.5):.1f} s,"
        f" max {max(times):.1f} s, {dict(states)}, unreached {dict(missed)}"
    )
    assert outcome.failures.get(point, []) == []
    signals = {signal_id for result in results for signal_id in result.accepted}
    assert [text for text in outcome.found if any(signal_id in text for signal_id in signals)] == []
    assert reached >= len(results) / 2, f"{point} was hardly ever reached: the test proves little there"


def test_nothing_is_wrong_that_belongs_to_no_point(outcome: Outcome) -> None:
    unknown = outcome.unknown_s or [0.0]
    verbs = Counter(result.verb for results in outcome.results.values() for result in results)
    print(
        f"\n{sum(map(len, outcome.results.values()))} runs in {outcome.took_s:.0f} s,"
        f" {sum(result.reached for results in outcome.results.values() for result in results)} crashes;"
        f" {len(outcome.orders)} orders, {dict(Counter(state.value for state in outcome.orders.values()))};"
        f" wishes {dict(verbs)};"
        f" {len(outcome.unknown_s)} UNKNOWN resolved after p50 {percentile(unknown, 0.5):.1f} s, max {max(unknown):.1f} s;"
        f" doubled {_count(outcome, 'doubled', 'magic')}, lost {_count(outcome, 'lost')}, violations {len(outcome.found)};"
        f" load {os.getloadavg()[0]:.1f}"
    )
    assert outcome.found == []


def _count(outcome: Outcome, *words: str) -> int:
    return sum(any(word in text for word in words) for text in outcome.found)
