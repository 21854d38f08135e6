"""Every process is killed in turn while orders flow; afterwards the broker's own ledger is compared with what we said.

At most one broker order a request, every accepted order with its truth, everything healed without a hand.
"""

import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.ledger import Claims, compare
from tests.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.chaos

SIGNALS = 120  # on three terminals each
EVERY_S = 0.35
VICTIMS = (
    "terminal.london-1",
    "web",
    "paper-broker",
    "valkey-state",
    "terminal.tokyo-2",
    "feed",
    "valkey-ticks",
    "terminals",
    "housekeeping",
    "beat",
    "flower",
    "terminal.zurich-3",
)


@pytest.fixture
def stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="tradedist-chaos-") as directory:
        running = Stack(
            Path(directory) / "data", ORDERS_PER_SECOND="1000", BREAKER_UNKNOWN="0", BREAKER_REJECTIONS="0"
        )
        running.start()
        try:
            yield running
        finally:
            running.stop()


class Sender(threading.Thread):
    """A client as the page is one: what was not answered is sent again with the same signal_id and its age."""

    def __init__(self, stack: Stack, terminals: list[str]) -> None:
        super().__init__(name="sender", daemon=True)
        self._stack = stack
        self._terminals = terminals
        self.accepted: dict[str, dict[str, Any]] = {}
        self.refused: list[str] = []
        self.unanswered: list[str] = []
        self.repeats = 0

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self._stack.token('trader')}"}
        with httpx.Client(base_url=self._stack.base_url, headers=headers, timeout=3) as client:
            for number in range(SIGNALS):
                began = time.monotonic()
                self._send(client, number)
                time.sleep(max(0.0, EVERY_S - (time.monotonic() - began)))

    def _send(self, client: httpx.Client, number: int) -> None:
        body: dict[str, Any] = {
            "signal_id": str(uuid.uuid4()),
            "action": "open",
            "symbol": ("EURUSD", "USDJPY")[number % 2],
            "side": ("buy", "sell")[number // 2 % 2],
            "order_type": "market",
            "lots": 0.1,
            "targets": {"terminals": self._terminals},
        }
        born = time.monotonic()
        while (age_ms := round((time.monotonic() - born) * 1000)) < 5000:
            try:
                answer = client.post("/api/signals", json=body | {"age_ms": age_ms})
            except httpx.HTTPError:
                self.repeats += 1
                time.sleep(0.1)
                continue
            if answer.status_code in (200, 202):
                self.accepted[body["signal_id"]] = answer.json()
                return
            if answer.status_code != 503:
                self.refused.append(f"{answer.status_code} {answer.text}")
                return
            self.repeats += 1
            time.sleep(0.1)
        self.unanswered.append(body["signal_id"])


def test_killing_every_process_loses_and_doubles_nothing(stack: Stack) -> None:
    terminals = ["london-1", "tokyo-2", "zurich-3"]
    raise_limits(stack)
    sender = Sender(stack, terminals)
    sender.start()
    healed: dict[str, float] = {}
    for victim in VICTIMS:
        time.sleep(1.5)
        healed[victim] = stack.wait_replaced(victim, stack.kill(victim, signal.SIGKILL))
    sender.join(SIGNALS * 6)
    assert not sender.is_alive()
    assert sender.refused == []
    assert len(sender.accepted) >= SIGNALS * 0.9, f"{len(sender.unanswered)} signals stayed unanswered"
    wait_until(lambda: httpx.get(f"{stack.base_url}/api/health").json()["status"] == "ok", limit_s=30)

    claims = Claims(stack)
    wait_until(lambda: not claims.read().unsettled, limit_s=60, every_s=0.5)
    found = compare(stack, claims, sender.accepted, sender.unanswered)
    print(
        f"\n{len(sender.accepted)} signals accepted, {len(sender.unanswered)} unanswered, {sender.repeats} sent again;"
        f" orders: {claims.counts()}; replaced after (s): "
        + ", ".join(f"{name} {seconds:.2f}" for name, seconds in healed.items())
    )
    assert found == []


def raise_limits(stack: Stack) -> None:
    """The demo's limits are a trader's; this run sends faster than one."""
    stack.manage(
        "shell",
        "-c",
        "from executors.models import Terminal\n"
        "for terminal in Terminal.objects.all():\n"
        "    terminal.orders_per_second = 1000; terminal.max_positions = 0; terminal.save()",
    )
    stack.manage("publish_config")
