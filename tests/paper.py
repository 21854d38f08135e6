"""A real paper broker for tests: its own process, a free port, a directory of its own. A directory's conftest names the fixture:

def test_it(paper_broker: PaperBroker) -> None:
    paper_broker.account(7, "classic", 10_000)
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executors.terminals.paper.check import check
from executors.terminals.paper.oracle import Oracle, Records, from_directory

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "paper-password"
START_LIMIT_S = 60.0


class PaperBroker:
    """Starts, stops, kills and restarts the broker's process; `url` stays the same over restarts."""

    def __init__(
        self, directory: Path, *, speed: float = 1.0, seed: int = 0, latency_scale: float = 0.0
    ) -> None:
        self.directory = directory
        self.url = "tcp://127.0.0.1:0"
        self._speed, self._seed, self._latency_scale = speed, seed, latency_scale
        self._process: subprocess.Popen[bytes] | None = None
        self._oracle: Oracle | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> "PaperBroker":
        port_file = self.directory / "port"
        port_file.unlink(missing_ok=True)
        command = [
            sys.executable, "-m", "executors.terminals.paper.broker", "--directory", str(self.directory),
            "--url", self.url, "--port-file", str(port_file), "--speed", str(self._speed),
            "--seed", str(self._seed), "--latency-scale", str(self._latency_scale),
        ]  # fmt: skip
        with (self.directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        limit = time.monotonic() + START_LIMIT_S
        while not port_file.exists():
            if self._process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(
                    f"the paper broker did not start:\n{(self.directory / 'broker.log').read_text()}"
                )
            time.sleep(0.01)
        self.url = f"tcp://127.0.0.1:{port_file.read_text()}"
        return self

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.kill()
        self.start()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume_process(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._oracle is not None:
            self._oracle.close()
            self._oracle = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    @property
    def oracle(self) -> Oracle:
        """The ledger and the operator's calls (accounts, prices, faults) of the running broker."""
        if self._oracle is None:
            self._oracle = Oracle(self.url)
        return self._oracle

    def account(
        self, login: int, personality: str = "lab", balance: float = 10_000.0, **more: Any
    ) -> dict[str, Any]:
        """An account with the password `PASSWORD`."""
        return self.oracle.ensure_account(login, PASSWORD, personality, balance, **more)

    def push(self, feed: str, bid: float, ask: float) -> None:
        """Sets the price; the feed stands still from then on. Triggers have fired when this returns."""
        self.oracle.push(feed, bid, ask)

    def freeze(self, *feeds: str) -> None:
        for feed in feeds:
            self.oracle.freeze(feed)

    def fault(self, kind: str, **spec: Any) -> int:
        return self.oracle.fault(kind, **spec)

    def records(self) -> Records:
        """From the ledger's file, running or not."""
        return from_directory(self.directory)

    def check(self, *, magics_unique: bool = True) -> None:
        violations = check(self.records(), magics_unique=magics_unique)
        assert not violations, "\n".join(violations)


@contextlib.contextmanager
def running_broker(configuration: str = "", **options: Any) -> Iterator[PaperBroker]:
    """`configuration`: a personalities.toml on top of the shipped one."""
    with tempfile.TemporaryDirectory(prefix="paper-") as directory:
        (Path(directory) / "personalities.toml").write_text(configuration)
        broker = PaperBroker(Path(directory), **options)
        try:
            yield broker.start()
        finally:
            broker.stop()


@pytest.fixture
def paper_broker() -> Iterator[PaperBroker]:
    """A fresh broker for one test."""
    with running_broker() as broker:
        yield broker


@pytest.fixture(scope="module")
def shared_broker() -> Iterator[PaperBroker]:
    """One broker for a module's tests: take logins of your own, and clear the faults you set."""
    with running_broker() as broker:
        yield broker
