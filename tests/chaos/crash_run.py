"""One run of the crash tests: a wish with a crash armed; over when all of it has healed."""

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from executors.messages import ExecutionReport
from executors.orders import SETTLED, OrderState, order_id
from executors.settlement import Settlement
from executors.terminals.paper.oracle import Oracle
from tests.chaos.crash_verbs import PUSHED, REST, SYMBOL, Scene, verb_of
from tests.stack import Stack
from tradedist import keys
from tradedist.clock import now_ms

HEAL_S = 40.0
TTL_MS = 30_000  # a busy machine takes its time to bring the web process back
UNREACHED_S = 1.5  # after everything has settled: the crash will not come any more

WEB = (
    "accept-before-store",
    "accept-after-store",
    "wake-before-datagrams",
    "wake-after-frames",
    "celery-before-publish",
    "celery-after-publish",
)
# Points of the supervisor: an executor that dies, or an order left in the outbox, brings it there.
SUPERVISOR = ("before-fork", "after-fork", "before-hand-over")
# An executor that misses a number asks the outbox; without need it does not, while the supervisor looks for it.
DRAINS = ("before-drain", "after-drain")
# Points that only a second look at an order passes: the first crash makes its outcome unknown.
AFTER_A_CRASH = ("before-recover", "after-recover", "before-look", "before-resolve", "after-resolve")


@dataclass
class Result:
    stack: Stack
    point: str
    seed: int
    verb: str
    reached: bool = False  # the process died there
    settled_s: float = 0.0  # from the first send until every order was settled; 0: not within HEAL_S
    accepted: dict[str, dict[str, Any]] = field(default_factory=dict)


class Run:
    """Call it once. Everything that it chooses follows from point and seed, and which of `terminals` it is given."""

    def __init__(self, stack: Stack, point: str, seed: int, terminals: tuple[str, ...]) -> None:
        self._random = random.Random(f"{point} {seed}")
        self._stack, self._point = stack, point
        self._terminal = self._random.choice(terminals)
        verb = verb_of(point, seed, self._terminal)
        lots = 0.001 if point == "after-denial" else None
        self._scene = Scene(verb, self._terminal, lots, self._random)
        self.result = Result(stack, point, seed, verb)
        self.http = httpx.Client(
            base_url=stack.base_url, headers={"Authorization": f"Bearer {stack.token('trader')}"}, timeout=3
        )

    def __call__(self) -> None:
        scene = self._scene
        for body in scene.before:
            self._send(body)
        self._until(self._at_rest)
        settled = self._settlement() if scene.verb == "settle" else None
        wish = scene.wish()
        if self._point in DRAINS:
            with self._stack.state() as client:
                client.incr(keys.leg_seq(self._terminal))
        armed = self._arm()
        began = time.monotonic()
        try:
            if wish is not None:
                self._send(wish)
            elif settled is not None:
                with self._stack.state() as client:
                    client.hset(keys.settlements(self._terminal), settled.order_id, settled.model_dump_json())
            else:
                self._push()
            self._heal(armed, began)
        finally:
            for path in armed:
                path.unlink(missing_ok=True)
        with Oracle(f"tcp://127.0.0.1:{self._stack.port + 3}") as broker:
            problem = scene.judge(wish, broker)
        self._end_what_waits()
        assert not problem, problem

    def _settlement(self) -> Settlement:
        (body,) = self._scene.before
        report = self._scene.reports[body["signal_id"]]
        return Settlement(
            settlement_id=str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            order_id=report.order_id,
            terminal_id=self._terminal,
            truth="given_up",
            evidence="the crash tests",
            reason="the crash tests",
            by="admin",
            report_seq=report.report_seq,
            asked_ms=now_ms(),
        )

    def _push(self) -> None:
        """The price goes to where pending orders wait, and back."""
        with Oracle(f"tcp://127.0.0.1:{self._stack.port + 3}") as broker:
            for bid, ask in (PUSHED, REST):
                broker.push(SYMBOL, bid, ask)

    def _arm(self) -> list[Path]:
        """The files that name the points, one for each process that is to die. They go away with it."""
        base = self._stack.data_dir / "crash-points"
        executor = base.with_name(f"{base.name}.{self._terminal}")
        if self._point in WEB:
            wanted = {base: [self._point]}
        elif self._point in SUPERVISOR:
            first = "leg-heard" if self._point == "before-hand-over" else "after-intent"
            wanted = {base.with_name(f"{base.name}.terminals"): [self._point], executor: [first]}
        elif self._point in AFTER_A_CRASH and self._scene.verb != "filled":
            wanted = {executor: [self._random.choice(["after-intent", "after-send"]), self._point]}
        else:
            wanted = {executor: [self._point]}
        time.sleep(self._random.random() * 0.02)
        for path, lines in wanted.items():
            fresh = path.with_name(f"{path.name}.new")
            fresh.write_text("\n".join(lines))
            fresh.replace(path)
        return list(wanted)

    def _send(self, body: dict[str, Any]) -> None:
        """As a client does: again with the same id until there is an answer, or it is too old."""
        born = time.monotonic()
        body |= {"ttl_ms": TTL_MS}
        while (age_ms := round((time.monotonic() - born) * 1000)) < TTL_MS * 0.9:
            try:
                answer = self.http.post("/api/signals", json=body | {"age_ms": age_ms})
            except httpx.HTTPError:
                time.sleep(0.05)
                continue
            if answer.status_code in (200, 202):
                self.result.accepted[body["signal_id"]] = answer.json()
                return
            assert answer.status_code == 503, answer.text
            time.sleep(0.05)
        raise AssertionError(f"not accepted within {TTL_MS} ms: {body}")

    def _heal(self, armed: list[Path], began: float) -> None:
        """Waits until every accepted order is at rest and the crash has happened, or will not."""

        def healed() -> bool:
            waits = any(path.exists() for path in armed)
            if not self._at_rest():
                return False
            self.result.settled_s = self.result.settled_s or time.monotonic() - began
            self.result.reached = not waits
            return not waits or time.monotonic() - began - self.result.settled_s > UNREACHED_S

        self._until(healed)

    def _end_what_waits(self) -> None:
        if any(report.state not in SETTLED for report in self._scene.reports.values()):
            if self._scene.verb in ("pending", "filled"):
                self._push()
            else:
                self._send(self._scene.leftover())
        self._until(lambda: self._at_rest(SETTLED))

    def _at_rest(self, states: frozenset[OrderState] = SETTLED | {OrderState.PLACED}) -> bool:
        """Whether every accepted order is in one of the states; and no settlement is unanswered."""
        with self._stack.state() as client:
            asked = client.hlen(
                keys.settlements(self._terminal)
            )  # first: an order is settled before its answer comes
            for signal_id in self.result.accepted:
                text = client.hget(keys.order(order_id(signal_id, self._terminal)), "report")
                if text is None:
                    return False
                self._scene.reports[signal_id] = ExecutionReport.model_validate_json(text)
        return not asked and all(report.state in states for report in self._scene.reports.values())

    def _until(self, met: Callable[[], bool]) -> None:
        until = time.monotonic() + HEAL_S
        while not met():
            if time.monotonic() > until:
                told = {report.order_id: report.state.value for report in self._scene.reports.values()}
                raise AssertionError(f"{self._scene.verb}: not at rest within {HEAL_S} s: {told}")
            time.sleep(0.05)
