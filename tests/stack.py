"""The whole platform for a test, started by the code behind `make run`, on free ports and with its own DATA_DIR.

`running_stack` is one for the session (browser, e2e and chaos tests share it); `Stack` starts further ones.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from executors.terminals.paper.oracle import Oracle
from tests.waiting import wait_until
from tradedist import keys, processes
from tradedist.child import die_with_parent
from tradedist.control import Control
from tradedist.ports import free_block

ROOT = Path(__file__).resolve().parent.parent
START_LIMIT_S = 200.0
MARKET_TTL_MS = 50_000
# What conftest sets for the tests' own process, and what would make a stack differ from a newcomer's.
NOT_INHERITED = (
    "DJANGO_SETTINGS_MODULE",
    "REDIS_STATE_URL",
    "REDIS_TICKS_URL",
    "PORT",
    "DATA_DIR",
    processes.MARK,
)


class Stack:
    """A running platform: where it is, who may sign in, which processes it has."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir.resolve()
        self.port = free_block(12)
        self.base_url = f"http://localhost:{self.port}"
        self.ws_url = f"ws://localhost:{self.port}"
        self.environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        self.environment |= {"PORT": str(self.port), "DATA_DIR": str(self.data_dir), **settings}
        self.launcher: subprocess.Popen[bytes] | None = None
        self._tokens: dict[str, str] = {}

    # --- starting and ending ---
    def start(self, stdin: int = subprocess.DEVNULL) -> "Stack":
        """Returns when `make run` would show its screen."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        bind_to_parent = die_with_parent(os.getpid())

        def as_from_a_terminal() -> None:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
            bind_to_parent()

        with self.output.open("ab") as output:
            self.launcher = subprocess.Popen(
                [sys.executable, "-m", "tradedist.running", "run"],
                cwd=ROOT,
                env=self.environment,
                stdin=stdin,
                stdout=output,
                stderr=output,
                preexec_fn=as_from_a_terminal,
            )
        until = time.monotonic() + START_LIMIT_S
        while not self.ready:
            if self.launcher.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"the platform did not start:\n{self.output.read_text()[-6000:]}")
            time.sleep(0.05)
        return self

    @property
    def launcher_pid(self) -> int:
        assert self.launcher is not None
        return self.launcher.pid

    @property
    def output(self) -> Path:
        """What the launcher printed."""
        return self.data_dir / "screen.txt"

    @property
    def ready(self) -> bool:
        return (self.data_dir / "run" / "ready.json").exists()

    def stop(self, number: signal.Signals = signal.SIGTERM, limit_s: float = 60.0) -> None:
        if self.launcher is None:
            return
        if self.launcher.poll() is None:
            self.launcher.send_signal(number)
        try:
            self.launcher.wait(limit_s)
        finally:
            processes.end(self.processes(), grace_s=0)

    # --- looking ---
    @property
    def users(self) -> dict[str, str]:
        """Names and passwords of the demo's users."""
        found: dict[str, str] = json.loads((self.data_dir / "secrets" / "demo-users.json").read_text())
        return found

    def token(self, user: str) -> str:
        """A program's token of that user, made once by the command that the documentation names."""
        if user not in self._tokens:
            self._tokens[user] = self.manage("create_token", user).split()[-1]
        return self._tokens[user]

    def manage(self, *arguments: str) -> str:
        """A management command against this platform; returns what it printed."""
        answer = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return answer.stdout

    def pids(self) -> dict[str, int]:
        """Of each process under supervisord by its name, and of each executor as `terminal.<terminal_id>`."""
        with self.state() as client:
            terminals = client.hkeys(keys.CONFIGS)
        names = [*self.control().states(), *(f"terminal.{terminal_id}" for terminal_id in terminals)]
        return {name: pid for name in names if (pid := self.pid(name))}

    def pid(self, name: str) -> int:
        """0 when there is none now. Only an executor's needs the state Redis."""
        if not name.startswith("terminal."):
            states = self.control().states()
            return states[name].pid if name in states else 0
        with self.state() as client:
            return int(client.hget(keys.instance(name.removeprefix("terminal.")), "pid") or 0)

    def processes(self) -> list[psutil.Process]:
        """Every process of this run that is alive, known by its mark."""
        return processes.of_run(self.data_dir)

    def control(self) -> Control:
        return Control(self.port + 8, self.secret("supervisor_password"))

    def secret(self, name: str) -> str:
        return (self.data_dir / "secrets" / name).read_text().strip()

    def broker(self) -> Oracle:
        """The paper broker's ledger and operator; a context manager."""
        return Oracle(self.environment.get("PAPER_BROKER_URL") or f"tcp://127.0.0.1:{self.port + 3}")

    def state(self) -> "redis.Redis":
        return self._redis(self.port + 1)

    def ticks(self) -> "redis.Redis":
        return self._redis(self.port + 2)

    def log(self, name: str) -> str:
        return (self.data_dir / "logs" / f"{name}.log").read_text(errors="replace")

    # --- faults ---
    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Signal one process by its name in `pids`; returns the pid that it had."""
        pid = self.pid(name)
        assert pid, f"{name} does not run"
        os.kill(pid, number)
        return pid

    def wait_replaced(self, name: str, old_pid: int, limit_s: float = 30.0) -> float:
        """Seconds until another process of that name runs; a Valkey until it answers."""
        began = time.monotonic()

        def replaced() -> bool:
            try:
                pid = self.pid(name)
                if name.startswith("valkey-"):
                    with self.state() if name == "valkey-state" else self.ticks() as client:
                        client.ping()
            except redis.RedisError:  # a server that is on its way back
                return False
            return pid not in (0, old_pid) and psutil.pid_exists(pid)

        wait_until(replaced, limit_s, 0.01)
        return time.monotonic() - began

    def _redis(self, port: int) -> "redis.Redis":
        client: redis.Redis = redis.Redis(
            port=port,
            password=self.secret("redis_password"),
            decode_responses=True,
            socket_timeout=5,
            socket_connect_timeout=1,
            retry=Retry(NoBackoff(), 0),
        )
        return client


@pytest.fixture(scope="session")
def running_stack() -> Iterator[Stack]:
    """The platform as `make run` starts it, for all tests of this session. Leave it as you found it.

    An order lives longer than the demo's five seconds: whether a machine is quick enough for those is not tested here.
    """
    with tempfile.TemporaryDirectory(prefix="tradedist-stack-") as directory:
        stack = Stack(Path(directory) / "data", MARKET_TTL_MS=str(MARKET_TTL_MS))
        stack.start()
        try:
            yield stack
        finally:
            stack.stop()
