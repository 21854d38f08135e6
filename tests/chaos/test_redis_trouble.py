"""The state Valkey is killed, frozen, full, cut off, rolled back and failed over while orders flow.

After each drill the broker's ledger is compared with what was answered and reported: nothing lost, nothing doubled, every
order's reports without a gap. Each prints how long it took until orders were executed again.
"""

import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.tcp_proxy import TcpProxy
from tests.chaos.trader import SETTINGS, TERMINALS, Trader
from tests.stack import Stack
from tests.valkey import Valkey
from tests.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

PASSWORD = "test-password"  # of tests.valkey


class Trouble(Trader):
    """A platform whose state Valkey is ours, behind a proxy."""

    def __init__(self, directory: Path) -> None:
        secrets = directory / "data" / "secrets"
        secrets.mkdir(parents=True, mode=0o700)
        (secrets / "redis_password").write_text(PASSWORD)
        self.directory = directory
        self.proxy = TcpProxy(0)
        address = f"redis://:{PASSWORD}@127.0.0.1:{self.proxy.port}/0"
        stack = Stack(directory / "data", REDIS_STATE_URL=address, **SETTINGS)
        self.server = Valkey(directory / "state-0", durable=True, port=stack.port + 1).start()
        self.proxy.lead(self.server.server.port)
        super().__init__(stack.start())

    def close(self) -> None:
        super().close()
        self.proxy.close()
        self.server.kill()


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
