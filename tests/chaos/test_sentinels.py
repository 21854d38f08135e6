"""The host of the primary state server is lost while orders flow: Sentinels promote a replica, and every process follows.

A real primary, two replicas, three Sentinels. The platform is told the three servers and asks them for their roles; it
knows nothing of the Sentinels.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from tests.chaos.trader import SETTINGS, Trader
from tests.stack import Stack
from tests.valkey import Valkey
from tests.waiting import wait_until
from tradedist import redis as clients
from tradedist.child import die_with_parent
from tradedist.embedded import binary
from tradedist.ports import free_block

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

PASSWORD = "test-password"  # of tests.valkey
SENTINELS = 3


class Replicated(Stack):
    """Looks at whichever state server is the primary."""

    def state(self) -> "redis.Redis":
        return clients._client(self.environment["REDIS_STATE_URL"])


class Sentinels(Trader):
    def __init__(self, directory: Path) -> None:
        secrets = directory / "data" / "secrets"
        secrets.mkdir(parents=True, mode=0o700)
        (secrets / "redis_password").write_text(PASSWORD)
        first_port = free_block(3)
        self.servers = [
            Valkey(directory / f"state-{n}", durable=True, port=first_port + n).start() for n in range(3)
        ]
        for server in self.servers:
            with server.client() as client:
                client.config_set("masterauth", PASSWORD)
                client.config_set("min-replicas-to-write", 1)
                client.config_set("min-replicas-max-lag", 2)
                client.config_set("repl-diskless-sync-delay", 0)
        for replica in self.servers[1:]:
            with replica.client() as client:
                client.replicaof("127.0.0.1", cast(Any, first_port))
                wait_until(lambda: client.info("replication")["master_link_status"] == "up", 60)
        self._watchers = [self._watch(directory / f"sentinel-{n}", first_port) for n in range(SENTINELS)]
        places = ",".join(f"127.0.0.1:{server.server.port}" for server in self.servers)
        stack = Replicated(
            directory / "data",
            REDIS_STATE_URL=f"redis://:{PASSWORD}@{places}/0",
            REPLICAS_CONFIRM="1",
            **SETTINGS,
        )
        super().__init__(stack.start())

    def _watch(self, directory: Path, port: int) -> "subprocess.Popen[bytes]":
        directory.mkdir()
        config = directory / "sentinel.conf"
        config.write_text(
            f"port {free_block(1)}\nbind 127.0.0.1\ndir {directory}\nset-proc-title no\n"
            f"sentinel monitor state 127.0.0.1 {port} 2\nsentinel auth-pass state {PASSWORD}\n"
            "sentinel down-after-milliseconds state 500\nsentinel failover-timeout state 3000\n"
        )
        with (directory / "log").open("ab") as log:
            return subprocess.Popen(
                [str(binary()), str(config), "--sentinel"],
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(os.getpid()),
            )

    def promoted(self) -> Valkey | None:
        """The server that became primary in the first one's place."""
        return next((server for server in self.servers[1:] if role(server) == "master"), None)

    def close(self) -> None:
        super().close()
        for watcher in self._watchers:
            watcher.kill()
            watcher.wait(10)
        for server in self.servers:
            server.kill()


def role(server: Valkey) -> str:
    """ "" while it says nothing, and when it ends its connections for it changes its role."""
    try:
        with server.client() as client:
            return str(client.info("replication")["role"])
    except redis.ConnectionError:
        return ""


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    with tempfile.TemporaryDirectory(prefix="tradedist-sentinels-") as directory:
        made = Sentinels(Path(directory))
        try:
            yield made
        finally:
            made.close()


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_orders_go_on_at_the_promoted_replica(sentinels: Sentinels, how: str) -> None:
    sentinels.send_on()
    time.sleep(5)  # the Sentinels have found one another
    primary = sentinels.servers[0]
    began = time.monotonic()
    if how == "killed":
        primary.kill()
    else:
        primary.freeze()  # as a host that is gone without a word: nothing is answered, nothing is refused
    wait_until(sentinels.promoted, 60, 0.005)
    promoted_s = time.monotonic() - began
    sentinels.flows_after()
    flows_s = time.monotonic() - began
    if how == "frozen":
        primary.cont()  # it still takes itself for the primary, for a moment
        wait_until(lambda: role(primary) == "slave", 60)
    time.sleep(1)
    print(
        f"\n{how}: promoted after {promoted_s:.2f} s, a new order filled after {flows_s:.2f} s;"
        f" load {os.getloadavg()[0]:.1f}"
    )
    sentinels.agree(how, flows_s)
