"""One run of the crash tests: an order, or two, with a crash armed; over when all of it has healed."""

import random
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from executors.orders import SETTLED
from tests.stack import Stack
from tradedist import keys

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
# Points that only a second look at an order passes: the first crash makes its outcome unknown.
AFTER_A_CRASH = ("before-recover", "after-recover", "before-look", "before-resolve", "after-resolve")


@dataclass
class Result:
    stack: Stack
    point: str
    seed: int
    reached: bool = False  # the process died there
    settled_s: float = 0.0  # from the first send until every order was settled; 0: not within HEAL_S
    accepted: dict[str, dict[str, Any]] = field(default_factory=dict)


class Run:
    """Call it once. Everything that it chooses follows from point and seed, and which of `terminals` it is given."""

    def __init__(self, stack: Stack, point: str, seed: int, terminals: tuple[str, ...]) -> None:
        self.result = Result(stack, point, seed)
        self._random = random.Random(f"{point} {seed}")
        self._stack, self._point = stack, point
        self._terminal = self._random.choice(terminals)
        self.http = httpx.Client(
            base_url=stack.base_url, headers={"Authorization": f"Bearer {stack.token('trader')}"}, timeout=3
        )

    def __call__(self) -> None:
        closes = self._point not in (*AFTER_A_CRASH, "after-denial") and self._random.random() < 0.3
        if closes:
            self._send(self._open())
        armed = self._arm()
        began = time.monotonic()
        try:
            self._send(self._close() if closes else self._open())
            self._heal(armed, began)
        finally:
            for path in armed:
                path.unlink(missing_ok=True)

    def _arm(self) -> list[Path]:
        """The files that name the points, one for each process that is to die. They go away with it."""
        base = self._stack.data_dir / "crash-points"
        executor = base.with_name(f"{base.name}.{self._terminal}")
        if self._point in WEB:
            wanted = {base: [self._point]}
        elif self._point in SUPERVISOR:
            first = "leg-heard" if self._point == "before-hand-over" else "after-intent"
            wanted = {base.with_name(f"{base.name}.terminals"): [self._point], executor: [first]}
        elif self._point in AFTER_A_CRASH:
            wanted = {executor: [self._random.choice(["after-intent", "after-send"]), self._point]}
        else:
            wanted = {executor: [self._point]}
        time.sleep(self._random.random() * 0.02)
        for path, lines in wanted.items():
            fresh = path.with_name(f"{path.name}.new")
            fresh.write_text("\n".join(lines))
            fresh.replace(path)
        return list(wanted)

    def _open(self) -> dict[str, Any]:
        return {
            "signal_id": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            "action": "open",
            "symbol": self._random.choice(["EURUSD", "USDJPY"]),
            "side": self._random.choice(["buy", "sell"]),
            "order_type": "market",
            "lots": 0.001 if self._point == "after-denial" else self._random.choice([0.1, 0.2, 0.3]),
            "targets": {"terminals": [self._terminal]},
        }

    def _close(self) -> dict[str, Any]:
        wish: dict[str, Any] = {"all": True} if self._random.random() < 0.5 else {"symbol": "EURUSD"}
        return {
            "signal_id": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            "action": "close",
            "targets": {"terminals": [self._terminal]},
        } | wish

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
        """Waits until every accepted order is settled and the crash has happened, or will not."""
        order_ids = [
            order["order_id"] for answer in self.result.accepted.values() for order in answer["orders"]
        ]
        until = time.monotonic() + HEAL_S
        with self._stack.state() as client:
            while time.monotonic() < until:
                pipe = client.pipeline(transaction=False)
                for order_id in order_ids:
                    pipe.hget(keys.order(order_id), "state")
                states = pipe.execute()
                waits = any(path.exists() for path in armed)
                if all(state in SETTLED for state in states):
                    self.result.settled_s = self.result.settled_s or time.monotonic() - began
                    self.result.reached = not waits
                    if not waits or time.monotonic() - began - self.result.settled_s > UNREACHED_S:
                        return
                time.sleep(0.05)
        raise AssertionError(f"not settled within {HEAL_S} s: {dict(zip(order_ids, states, strict=True))}")
