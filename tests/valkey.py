"""A real Valkey server for tests, with the platform's own configuration, that can be killed, frozen and restarted.

Each test process has two private ones (tests/conftest.py); fault tests take further ones from `make_valkey`.
"""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.waiting import wait_until
from tradedist.child import die_with_parent
from tradedist.embedded import EmbeddedValkey
from tradedist.ports import free_block

START_LIMIT_S = 60.0


class Valkey:
    """`start`, then `kill` (SIGKILL), `freeze` and `cont` (SIGSTOP, SIGCONT), `stop` (SIGTERM), `restart`.

    The port and, when durable, the files stay the same over all of these.
    """

    def __init__(self, directory: Path, *, durable: bool, port: int = 0, maxmemory_mb: int = 64) -> None:
        self.server = EmbeddedValkey(
            name="state" if durable else "ticks",
            directory=directory,
            port=port or free_block(1),
            password="test-password",
            durable=durable,
            maxmemory_mb=maxmemory_mb,
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def client(self) -> "redis.Redis":
        client: redis.Redis = redis.Redis.from_url(
            self.url,
            decode_responses=True,
            socket_timeout=5,
            socket_connect_timeout=1,
            retry=Retry(NoBackoff(), 0),  # a test sees each failure, and at once
        )
        return client

    def start(self) -> "Valkey":
        """Returns when the server answers, its files loaded."""
        self.server.prepare()
        with (self.server.directory / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.server.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(os.getpid()),
            )
        until = time.monotonic() + START_LIMIT_S
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return self
                except redis.RedisError:
                    if self._process.poll() is not None or time.monotonic() > until:
                        log_text = (self.server.directory / "valkey.log").read_text()
                        raise RuntimeError(f"valkey-server does not answer:\n{log_text[-2000:]}") from None
                    time.sleep(0.005)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def cont(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, *, down_s: float = 0.0) -> None:
        """As after a crash: killed, gone for `down_s`, back."""
        self.kill()
        time.sleep(down_s)
        self.start()

    def follow(self, primary: "Valkey") -> None:
        """Becomes its replica; returns when it has everything."""
        with self.client() as client, primary.client() as source:
            source.config_set("repl-diskless-sync-delay", 0)  # it waits for no further replicas
            client.config_set("masterauth", "test-password")
            client.replicaof("127.0.0.1", cast(Any, primary.server.port))
            wait_until(lambda: client.info("replication")["master_link_status"] == "up")

    def empty(self) -> None:
        """Delete every key, one by one: this server belongs to one test process alone."""
        with self.client() as client:
            if names := list(client.scan_iter(count=1000)):
                client.unlink(*names)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(number)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:  # a frozen server hears nothing but SIGKILL
            self._process.kill()
            self._process.wait(60)
