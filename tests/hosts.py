"""Hosts for tests and benchmarks: a real supervisor with real executors on paper accounts, and a desk that sends orders.

No web process and no database: the desk publishes configurations and accepts signals as the web process does, by the same
Lua and the same datagrams. Two hosts have two HOST_IDs and two directories, as two machines would.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import redis
import redis.asyncio

from executors.credentials import seal
from executors.messages import CloseSignal, ExecutionReport, Leg, OpenSignal, Targets, TerminalConfig
from executors.orders import SETTLED, OrderState, order_id
from executors.state import SignalStore
from executors.wakeup import Wakeup
from tests.paper import PASSWORD, PaperBroker
from tests.waiting import wait_until
from tradedist import keys
from tradedist.child import die_with_parent
from tradedist.clock import now_ms
from tradedist.ports import free_block
from tradedist.wire import Keyring

ROOT = Path(__file__).resolve().parent.parent
SECRETS = {
    "WIRE_KEY": "hosts-wire-key",
    "CREDENTIALS_KEY": "hosts-credentials-key",
    "INSTALLATION_ID": "hosts",
    "SECRET_KEY": "hosts-secret-key",
    "REDIS_PASSWORD": "unused",
    "FLOWER_PASSWORD": "unused",
    "SUPERVISOR_PASSWORD": "unused",
}


class Host:
    """One machine's supervisor. Its executors are found by their locks' pids in RIS."""

    def __init__(self, host_id: str, data_dir: Path, state_url: str, ticks_url: str, **settings: str) -> None:
        self.host_id = host_id
        self.data_dir = data_dir
        self.port = free_block(12)
        self.environment = os.environ | SECRETS | {
            "DJANGO_SETTINGS_MODULE": "tradedist.settings",
            "DATA_DIR": str(data_dir),
            "PORT": str(self.port),
            "HOST_ID": host_id,
            "REDIS_STATE_URL": state_url,
            "REDIS_TICKS_URL": ticks_url,
            "PAPER_BROKER_URL": "tcp://127.0.0.1:9",
            **settings,
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Host":
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "run_terminals"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(os.getpid()),
            )
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log_file(self) -> Path:
        return self.data_dir / f"supervisor-{self.host_id}.log"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def kill(self) -> None:
        """The supervisor alone: its executors live on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)
        self._process = None

    def stop(self) -> None:
        """In order; executors that an earlier supervisor left are ended too."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(60)
            self._process = None
        for process in self.processes():
            process.kill()

    def processes(self) -> list[psutil.Process]:
        """Everything that runs with this host's directory."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("DATA_DIR") == str(self.data_dir):
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found

    def manage(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=90, check=check,
        )  # fmt: skip


@dataclass
class Desk:
    """Sends orders as a web process does, and reads what became of them."""

    broker: PaperBroker
    client: Any  # of the state Redis, answers as text
    state_url: str
    configs: dict[str, TerminalConfig] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)  # order ids

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._async: Any = redis.asyncio.Redis.from_url(self.state_url, decode_responses=True)
        self._store = SignalStore(self._async)
        self._wakeup = Wakeup(Keyring({0: SECRETS["WIRE_KEY"]}), boot_id=now_ms())

    def close(self) -> None:
        self._loop.run_until_complete(self._async.aclose())
        self._loop.close()
        self._wakeup.close()

    # --- terminals ---

    def terminal(self, terminal_id: str, login: int, host_id: str, **more: Any) -> TerminalConfig:
        account = self.broker.account(login, "lab", 1_000_000.0)
        config = TerminalConfig.model_validate(
            {
                "terminal_id": terminal_id, "version": 1, "label": terminal_id, "kind": "paper", "enabled": True,
                "host_id": host_id, "epoch": 1, "login": login, "server": account["server"],
                "path": self.broker.url, "server_timezone": account["server_timezone"],
                "sealed_password": seal(SECRETS["CREDENTIALS_KEY"], terminal_id, PASSWORD),
                "limits": {"orders_per_second": 0}, **more,
            }
        )  # fmt: skip
        self.publish(config)
        return config

    def change(self, terminal_id: str, **fields: Any) -> None:
        old = self.configs[terminal_id]
        self.publish(old.model_copy(update={"version": old.version + 1, **fields}))

    def publish(self, config: TerminalConfig) -> None:
        self.configs[config.terminal_id] = config
        pipe = self.client.pipeline(transaction=True)
        pipe.hset(keys.CONFIGS, config.terminal_id, config.model_dump_json())
        pipe.hset(keys.CONFIG_VERSIONS, config.terminal_id, config.version)
        pipe.execute()

    def resume(self, terminal_id: str) -> None:
        self.client.hincrby(keys.MODES, f"resumed:{terminal_id}", 1)

    def instance(self, terminal_id: str) -> dict[str, str]:
        found: dict[str, str] = self.client.hgetall(keys.instance(terminal_id))
        return found

    def pid(self, terminal_id: str) -> int:
        """0: there is none."""
        return int(self.instance(terminal_id).get("pid") or 0)

    def running(self, terminal_id: str) -> int:
        """The pid of one that must be there: kill(2) and prlimit(2) take 0 for the caller's own processes."""
        pid = self.pid(terminal_id)
        assert pid > 0, f"{terminal_id} has no executor just now: {self.instance(terminal_id)}"
        return pid

    def ready(self, *terminal_ids: str) -> bool:
        return all(self.instance(name).get("state") == "READY" for name in terminal_ids)

    def alerts(self, terminal_id: str) -> set[str]:
        return set(self.client.hkeys(keys.open_alerts(terminal_id)))

    # --- orders ---

    def open(self, *terminal_ids: str, wake: bool = True, ttl_ms: int = 60_000) -> list[str]:
        return self._accept(
            OpenSignal(
                signal_id=str(uuid4()), targets=Targets(terminals=list(terminal_ids)), symbol="EURUSD",
                side="buy", lots="0.01",
            ),
            terminal_ids, wake, ttl_ms,
        )  # fmt: skip

    def close_all(self, *terminal_ids: str) -> list[str]:
        signal_ = CloseSignal(signal_id=str(uuid4()), targets=Targets(terminals=list(terminal_ids)), all=True)
        return self._accept(signal_, terminal_ids, True, 60_000)

    def close_what(self, opened: str, terminal_id: str) -> list[str]:
        """Of what an earlier order has opened."""
        return self._accept(
            CloseSignal(
                signal_id=str(uuid4()), targets=Targets(terminals=[terminal_id]), opened_by=opened.partition(":")[0]
            ),
            [terminal_id], True, 60_000,
        )  # fmt: skip

    def _accept(self, wish: Any, terminal_ids: Collection[str], wake: bool, ttl_ms: int) -> list[str]:
        recorded = self._loop.run_until_complete(
            self._store.record(
                wish, targets=[(name, self.configs[name].epoch) for name in terminal_ids], user_id=1,
                username="desk", source="test", ttl_ms=ttl_ms, received_ms=now_ms(),
            )
        )  # fmt: skip
        if wake:
            addresses = {name: self.client.hget(keys.instance(name), "address") for name in terminal_ids}
            legs = [(Leg.model_validate_json(text), text) for text in recorded.legs]
            self._wakeup.send(legs, {name: address for name, address in addresses.items() if address})
        made = [order_id(wish.signal_id, name) for name in terminal_ids]
        self.sent += made
        return made

    def report(self, order: str) -> ExecutionReport:
        return ExecutionReport.model_validate_json(self.client.hget(keys.order(order), "report"))

    def settled(self, *orders: str) -> bool:
        return all(self.report(name).state in SETTLED for name in orders)

    def settle(self, *orders: str, limit_s: float = 60.0) -> list[ExecutionReport]:
        wait_until(lambda: self.settled(*orders), limit_s, 0.005)
        return [self.report(name) for name in orders]

    def check(self, *logins: int) -> None:
        """Each filled open has one deal at the broker, and the broker has no deal besides; nothing is left unsettled."""
        reports = [self.report(name) for name in self.sent]
        unsettled = [report.order_id for report in reports if report.state not in SETTLED]
        assert not unsettled, unsettled
        filled = [item for item in reports if item.state is OrderState.FILLED and item.action == "open"]
        deals = [
            deal
            for login in logins
            for deal in self.broker.oracle.deals(login)
            if deal.type in (0, 1) and deal.entry == 0
        ]
        assert len(deals) == len(filled), (len(deals), len(filled))
        assert len({deal.magic for deal in deals}) == len(deals)
        self.broker.check()
