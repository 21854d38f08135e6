"""SIGKILL at every labelled point of an order's path, many times each, on the whole running platform.

`CRASH_SEEDS` runs per point (40 by default). After each crash everything heals by itself; at the end the broker's
ledger is compared with every answer that was given. Reconciliation waits are ten times shorter than in production.
"""

import contextlib
import os
import random
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from executors.crashpoints import POINTS
from tests.chaos.ledger import Claims, compare
from tests.chaos.test_kill_each_process import raise_limits
from tests.stack import Stack, wait_until

pytestmark = pytest.mark.chaos

SEEDS = int(os.environ.get("CRASH_SEEDS", "40"))
TERMINALS = ("london-1", "tokyo-2", "zurich-3")
HEAL_S = 40.0

# Points that only a second look at an order passes: the first crash makes its outcome unknown.
AFTER_A_CRASH = ("before-recover", "after-recover", "before-look", "before-resolve", "after-resolve")
# Points that a fork or an order left in the outbox passes: the executor is killed first.
AFTER_A_KILL = ("before-fork", "after-fork", "before-hand-over")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="tradedist-crash-") as directory:
        data = Path(directory) / "data"
        data.mkdir()
        running = Stack(
            data,
            CRASH_POINTS_FILE=str(data / "crash-points"),
            ORDERS_PER_SECOND="100000",
            BREAKER_UNKNOWN="0",
            BREAKER_REJECTIONS="0",
            SWEEP_GAP_MS="500",
            SWEEP_SETTLE_MS="1500",
            MARKET_TTL_MS="10000",
            OWN_DRAIN_MS="1000",
        )
        running.start()
        try:
            raise_limits(running)
            time.sleep(1)
            yield running
        finally:
            running.stop()


class Run:
    """One order, or two, with a crash armed."""

    def __init__(self, stack: Stack, point: str, seed: int) -> None:
        self.random = random.Random(f"{point} {seed}")
        self.stack = stack
        self.point = point
        self.file = stack.data_dir / "crash-points"
        self.accepted: dict[str, dict[str, Any]] = {}
        self.http = httpx.Client(
            base_url=stack.base_url, headers={"Authorization": f"Bearer {stack.token('trader')}"}, timeout=3
        )

    def __call__(self) -> bool:
        """Whether the point was reached."""
        terminal = self.random.choice(TERMINALS)
        closes = self.point not in (*AFTER_A_CRASH, "after-denial") and self.random.random() < 0.3
        if closes:
            self._send(self._open(terminal))
        lines = [self.point]
        if self.point in AFTER_A_CRASH:
            lines = [self.random.choice(["after-intent", "after-send"]), self.point]
        elif self.point in AFTER_A_KILL:
            lines = (
                ["after-intent", self.point]
                if self.point != "before-hand-over"
                else ["leg-heard", self.point]
            )
        fresh = self.file.with_suffix(".new")
        fresh.write_text("\n".join(lines))
        time.sleep(self.random.random() * 0.02)
        fresh.replace(self.file)
        self._send(self._close(terminal) if closes else self._open(terminal))
        return self._healed()

    def _open(self, terminal: str) -> dict[str, Any]:
        return {
            "signal_id": str(uuid.UUID(int=self.random.getrandbits(128), version=4)),
            "action": "open",
            "symbol": self.random.choice(["EURUSD", "USDJPY"]),
            "side": self.random.choice(["buy", "sell"]),
            "order_type": "market",
            "lots": 0.001 if self.point == "after-denial" else self.random.choice([0.1, 0.2, 0.3]),
            "targets": {"terminals": [terminal]},
        }

    def _close(self, terminal: str) -> dict[str, Any]:
        wish: dict[str, Any] = {"all": True} if self.random.random() < 0.5 else {"symbol": "EURUSD"}
        return {
            "signal_id": str(uuid.UUID(int=self.random.getrandbits(128), version=4)),
            "action": "close",
            "targets": {"terminals": [terminal]},
        } | wish

    def _send(self, body: dict[str, Any]) -> None:
        """As a client does: again with the same id until there is an answer, or it is too old."""
        born = time.monotonic()
        while (age_ms := round((time.monotonic() - born) * 1000)) < 9000:
            try:
                answer = self.http.post("/api/signals", json=body | {"age_ms": age_ms})
            except httpx.HTTPError:
                time.sleep(0.05)
                continue
            if answer.status_code in (200, 202):
                self.accepted[body["signal_id"]] = answer.json()
                return
            assert answer.status_code == 503, answer.text
            time.sleep(0.05)

    def _healed(self) -> bool:
        """Waits until every accepted order is settled and the crash has happened, or will not."""
        until = time.monotonic() + HEAL_S
        settled_at = 0.0
        while time.monotonic() < until:
            if self._settled():
                settled_at = settled_at or time.monotonic()
                if not self.file.exists():
                    return True
                if time.monotonic() - settled_at > 1.5:
                    self.file.unlink(missing_ok=True)
                    return False
            time.sleep(0.03)
        raise AssertionError(f"{self.point}: not settled within {HEAL_S} s: {list(self.accepted)}")

    def _settled(self) -> bool:
        for signal_id in self.accepted:
            try:
                answer = self.http.get(f"/api/signals/{signal_id}")
            except httpx.HTTPError:
                return False
            if answer.status_code != 200:
                return False
            if any(order["state"] in OPEN_STATES for order in answer.json()["orders"]):
                return False
        return True


OPEN_STATES = ("QUEUED", "INTENT", "PLACED", "PARTIAL", "UNKNOWN")


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_there_neither_doubles_nor_loses(stack: Stack, point: str) -> None:
    accepted: dict[str, dict[str, Any]] = {}
    reached = 0
    slowest = 0.0
    for seed in range(SEEDS):
        run = Run(stack, point, seed)
        began = time.monotonic()
        with contextlib.closing(run.http):
            reached += run()
        slowest = max(slowest, time.monotonic() - began)
        accepted |= run.accepted
    claims = Claims(stack)
    wait_until(lambda: not claims.read().unsettled, limit_s=30, every_s=0.2)
    assert compare(stack, claims, accepted, []) == []
    states = Counter(
        claims.orders[order["order_id"]].state.value
        for answer in accepted.values()
        for order in answer["orders"]
    )
    print(f"\n{point}: reached {reached} of {SEEDS}, slowest to settle {slowest:.1f} s, {dict(states)}")
    assert reached, f"{point} was never reached: the test proves nothing there"
