"""A trader of a running platform who sends all the while, and asks again until there is an answer; afterwards everything
that was said is compared with the broker's ledger. For drills that break one thing at a time."""

import threading
import time
import uuid
from typing import Any

import httpx

from tests.chaos.ledger import Claims, compare
from tests.chaos.test_kill_each_process import raise_limits
from tests.stack import Stack
from tests.waiting import wait_until

TERMINALS = ("london-1", "tokyo-2", "zurich-3")
TTL_MS = 60_000
EVERY_S = 0.1
# of a platform for such drills
SETTINGS = {"ORDERS_PER_SECOND": "100000", "BREAKER_UNKNOWN": "0", "BREAKER_REJECTIONS": "0"}


class Trader:
    """`stack` runs already."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        raise_limits(stack)
        headers = {"Authorization": f"Bearer {stack.token('trader')}"}
        self.http = httpx.Client(base_url=stack.base_url, headers=headers, timeout=4)
        self.accepted: dict[str, dict[str, Any]] = {}
        self.refused: list[str] = []
        self.codes: set[str] = set()
        self._stopping = threading.Event()
        self._sender: threading.Thread | None = None

    def close(self) -> None:
        self.stop_sending()
        self.http.close()
        self.stack.stop()

    def send_on(self) -> None:
        self._stopping.clear()
        self._sender = threading.Thread(target=self._send, daemon=True)
        self._sender.start()

    def stop_sending(self) -> None:
        self._stopping.set()
        if self._sender is not None:
            self._sender.join(TTL_MS / 1000)

    def _send(self) -> None:
        number = 0
        while not self._stopping.wait(EVERY_S):
            number += 1
            self.place(TERMINALS, side=("buy", "sell")[number % 2])

    def place(self, terminals: tuple[str, ...] = TERMINALS, side: str = "buy") -> str:
        """As the page: the same id again until it is answered."""
        body = {
            "signal_id": str(uuid.uuid4()),
            "action": "open",
            "symbol": "EURUSD",
            "side": side,
            "lots": 0.1,
            "ttl_ms": TTL_MS,
            "targets": {"terminals": terminals},
        }
        born = time.monotonic()
        while (age_ms := round((time.monotonic() - born) * 1000)) < TTL_MS:
            try:
                answer = self.http.post("/api/signals", json=body | {"age_ms": age_ms})
            except httpx.HTTPError:
                time.sleep(0.05)
                continue
            if answer.status_code in (200, 202):
                self.accepted[str(body["signal_id"])] = answer.json()
                break
            self.codes.add(answer.json().get("code", ""))
            if answer.status_code != 503:
                self.refused.append(answer.text)
                break
            time.sleep(0.05)
        return str(body["signal_id"])

    def flows_after(self) -> float:
        """Seconds until a new order on every terminal is filled."""
        began = time.monotonic()
        signal_id = self.place()

        def filled() -> bool:
            try:
                answer = self.http.get(f"/api/signals/{signal_id}")
            except httpx.HTTPError:
                return False
            return answer.status_code == 200 and all(
                order["state"] == "FILLED" for order in answer.json()["orders"]
            )

        wait_until(filled, 60, 0.01)
        return time.monotonic() - began

    def states(self, signal_ids: list[str]) -> set[str]:
        found = [self.http.get(f"/api/signals/{signal_id}") for signal_id in signal_ids]
        return {
            order["state"] for answer in found for order in answer.json().get("orders", [{"state": "LOST"}])
        }

    def agree(self, name: str, flows_s: float) -> None:
        """Everything is settled and true."""
        self.stop_sending()
        claims = Claims(self.stack)
        wait_until(lambda: not claims.read().unsettled, 60, 0.3)
        found = compare(self.stack, claims, self.accepted, [])
        print(
            f"\n{name}: orders flow again after {flows_s:.2f} s; {len(self.accepted)} signals so far,"
            f" orders {claims.counts()}, codes met {sorted(self.codes)}"
        )
        assert found == []
        assert self.refused == []
