"""The state Valkey is killed, frozen, full, cut off, rolled back and failed over while orders flow.

After each drill the broker's ledger is compared with what was answered and reported: nothing lost, nothing doubled, every
order's reports without a gap. Each prints how long it took until orders were executed again.
"""

import shutil
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
from tests.chaos.tcp_proxy import TcpProxy
from tests.chaos.test_kill_each_process import raise_limits
from tests.stack import Stack, wait_until
from tests.valkey import Valkey

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

TERMINALS = ("london-1", "tokyo-2", "zurich-3")
PASSWORD = "test-password"  # of tests.valkey
TTL_MS = 60_000
EVERY_S = 0.1


class Trouble:
    """A platform whose state Valkey is ours, behind a proxy, and a trader who sends all the while."""

    def __init__(self, directory: Path) -> None:
        secrets = directory / "data" / "secrets"
        secrets.mkdir(parents=True, mode=0o700)
        (secrets / "redis_password").write_text(PASSWORD)
        self.directory = directory
        self.proxy = TcpProxy(0)
        self.stack = Stack(
            directory / "data",
            REDIS_STATE_URL=f"redis://:{PASSWORD}@127.0.0.1:{self.proxy.port}/0",
            ORDERS_PER_SECOND="100000",
            BREAKER_UNKNOWN="0",
            BREAKER_REJECTIONS="0",
        )
        self.server = Valkey(directory / "state-0", durable=True, port=self.stack.port + 1).start()
        self.proxy.lead(self.server.server.port)
        self.stack.start()
        raise_limits(self.stack)
        headers = {"Authorization": f"Bearer {self.stack.token('trader')}"}
        self.http = httpx.Client(base_url=self.stack.base_url, headers=headers, timeout=4)
        self.accepted: dict[str, dict[str, Any]] = {}
        self.refused: list[str] = []
        self.codes: set[str] = set()
        self._stopping = threading.Event()
        self._sender: threading.Thread | None = None

    def close(self) -> None:
        self.stop_sending()
        self.http.close()
        self.stack.stop()
        self.proxy.close()
        self.server.kill()

    # --- the trader ---

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


@pytest.fixture(scope="module")
def trouble() -> Iterator[Trouble]:
    with tempfile.TemporaryDirectory(prefix="tradedist-redis-") as directory:
        made = Trouble(Path(directory))
        try:
            yield made
        finally:
            made.close()


def test_killed_and_restarted_from_its_file(trouble: Trouble) -> None:
    trouble.send_on()
    time.sleep(2)
    trouble.server.kill()
    began = time.monotonic()
    trouble.server.start()
    back = time.monotonic() - began
    flows = trouble.flows_after()
    print(f"\nthe server itself was back after {back * 1000:.0f} ms")
    time.sleep(1)
    trouble.agree("killed", flows)


def test_frozen_for_three_seconds(trouble: Trouble) -> None:
    trouble.send_on()
    time.sleep(1)
    trouble.server.freeze()
    time.sleep(3)
    trouble.server.cont()
    flows = trouble.flows_after()
    time.sleep(1)
    trouble.agree("frozen for 3 s", flows)


def test_full(trouble: Trouble) -> None:
    """Nothing is accepted, and says so; what was accepted goes on; all flows again when there is room."""
    trouble.send_on()
    time.sleep(1)
    trouble.codes.clear()
    with trouble.server.client() as client:
        client.config_set("maxmemory", "1")
        wait_until(lambda: "STORE_FULL" in trouble.codes, 20)
        time.sleep(2)
        before = len(trouble.accepted)
        close = {
            "signal_id": str(uuid.uuid4()),
            "action": "close",
            "all": True,
            "targets": {"groups": ["all"]},
        }
        answer = trouble.http.post("/api/signals", json=close)
        assert (answer.status_code, answer.json()["code"]) == (503, "STORE_FULL")
        assert len(trouble.accepted) == before
        client.config_set("maxmemory", "512mb")
    flows = trouble.flows_after()
    time.sleep(1)
    trouble.agree("full for 2 s", flows)


def test_cut_off(trouble: Trouble) -> None:
    trouble.send_on()
    time.sleep(1)
    trouble.proxy.cut()
    time.sleep(3)
    trouble.proxy.mend()
    flows = trouble.flows_after()
    time.sleep(1)
    trouble.agree("cut off for 3 s", flows)


def unheard(trouble: Trouble) -> tuple[list[str], list[str]]:
    """Signals that the store is to lose: some are executed, of others no executor has heard."""
    executed = [trouble.place() for _ in range(5)]
    wait_until(lambda: trouble.states(executed) == {"FILLED"}, 30)
    trouble.stack.kill("terminals", signal.SIGSTOP)  # it would replace what does not answer
    for terminal in TERMINALS:
        trouble.stack.kill(f"terminal.{terminal}", signal.SIGKILL)
    waiting = [trouble.place() for _ in range(5)]
    return executed, waiting


def test_rolled_back_by_an_older_file_while_the_web_process_is_killed(trouble: Trouble) -> None:
    trouble.place()
    time.sleep(1)
    older = trouble.directory / "older"
    shutil.copytree(trouble.server.server.directory, older)
    executed, waiting = unheard(trouble)
    trouble.stack.kill("web")  # its memory goes, too: the next one reads its spool
    trouble.server.kill()
    shutil.rmtree(trouble.server.server.directory)
    shutil.copytree(older, trouble.server.server.directory)
    trouble.server.start()
    with trouble.server.client() as client:
        assert not any(client.exists(f"td:rtss:signal:{name}") for name in executed)
        wait_until(lambda: all(client.exists(f"td:rtss:signal:{name}") for name in waiting), 60)
    trouble.stack.kill("terminals", signal.SIGCONT)
    began = time.monotonic()
    wait_until(lambda: trouble.states(executed + waiting) == {"FILLED"}, 50)
    print(
        f"\nall that was lost is back and executed {time.monotonic() - began:.1f} s after the executors may run"
    )
    flows = trouble.flows_after()
    trouble.agree("rolled back", flows)


def test_failed_over_to_a_replica_that_was_behind(trouble: Trouble) -> None:
    replica = Valkey(trouble.directory / "state-1", durable=True).start()
    primary = trouble.server
    with replica.client() as client:
        client.config_set("masterauth", PASSWORD)
        between = TcpProxy(primary.server.port)
        client.replicaof("127.0.0.1", between.port)
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", 20)
        life = client.info("replication")["master_replid"]
        trouble.place()
        time.sleep(1)
        between.close()  # it falls behind
        executed, waiting = unheard(trouble)
        primary.kill()
    with replica.client() as client:
        client.replicaof("NO", "ONE")
        behind = sum(not client.exists(f"td:rtss:signal:{name}") for name in executed + waiting)
        assert behind == len(executed) + len(waiting)
        assert client.info("replication")["master_replid"] != life
        trouble.proxy.lead(replica.server.port)
        trouble.stack.kill("terminals", signal.SIGCONT)
        began = time.monotonic()
        wait_until(lambda: trouble.states(executed + waiting) == {"FILLED"}, 50)
        print(
            f"\nthe replica lacked {behind} signals; all of them back and executed after {time.monotonic() - began:.1f} s"
        )
    flows = trouble.flows_after()
    # where the checker looks: the files are of one form, and the old primary's are gone for good
    replica.stop()
    shutil.rmtree(primary.server.directory)
    shutil.copytree(replica.server.directory, primary.server.directory)
    primary.start()
    trouble.proxy.lead(primary.server.port)
    trouble.agree("failed over", flows)
