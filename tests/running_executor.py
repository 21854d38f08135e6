"""A real executor for tests: its threads, journal and terminal, a real Valkey and a real paper broker; only the waits are short.

`running_executor` is a fixture that makes them: `make("lab")` on an account of its own. Orders enter as accept leaves them,
and what a trader would see is read from the state Redis.
"""

import json
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from executors import executor as executor_module
from executors import session as session_module
from executors.executor import Executor
from executors.messages import CloseSignal, ExecutionReport, Leg, OpenSignal, Signal, Targets, TerminalConfig
from executors.orders import SETTLED
from executors.terminals.factory import open_terminal
from executors.terminals.paper.broker.model import Deal
from tests.paper import PASSWORD, PaperBroker, running_broker
from tradedist import keys
from tradedist.clock import now_ms

LIMIT_S = 60.0
LOTS = Decimal("0.1")
CONFIGURATION = """
[personalities.usa.all]
closed_weekends = false
[personalities.liar]
server = "PaperLiar-Test"
company = "Paper Liar"
currency = "USD"
leverage = 100
margin_mode = 2
symbols = ["EURUSD"]
[personalities.liar.all]
exemode = 2
filling = 2
filling_lies = true
"""  # tests run on Saturdays too


class RunningExecutor:
    """One executor of one terminal. `settle` waits for an order's end, as Redis shows it."""

    last_login = 9500

    def __init__(
        self, broker: PaperBroker, directory: Path, redis: Any, personality: str, **more: Any
    ) -> None:
        RunningExecutor.last_login += 1
        self.login = RunningExecutor.last_login
        self.broker = broker
        self.redis = redis
        self.terminal_id = f"t{self.login}"
        self._directory = directory / self.terminal_id
        self._directory.mkdir()
        account = broker.account(self.login, personality, 100_000.0)
        values: dict[str, Any] = {
            "terminal_id": self.terminal_id, "version": 1, "label": "", "kind": "paper", "enabled": True,
            "host_id": "here", "epoch": 1, "login": self.login, "server": account["server"], "path": broker.url,
            "sealed_password": "", "server_timezone": account["server_timezone"],
            "limits": {"orders_per_second": 0}, "symbol_suffix": account["symbol_suffix"],
        }  # fmt: skip
        self.config = TerminalConfig.model_validate(values | more)
        self._seq = 0
        self.start()

    def start(self) -> None:
        self.executor = Executor(self.config, self._directory, open_terminal(self.config, PASSWORD))
        self.executor.start()

    def stop(self) -> None:
        self.executor.stop(LIMIT_S)
        assert not self.executor.is_alive()

    def configure(self, **changes: Any) -> None:
        """As the admin publishes a new version."""
        values = self.config.model_dump() | changes | {"version": self.config.version + 1}
        self.config = TerminalConfig.model_validate(values)
        self.redis.hset(keys.CONFIGS, self.terminal_id, self.config.model_dump_json())
        self.redis.hset(keys.CONFIG_VERSIONS, self.terminal_id, self.config.version)

    # --- orders ---

    def send(self, signal: Signal, ttl_ms: int = 60_000) -> str:
        self._seq += 1
        leg = Leg(
            signal=signal, digest=signal.digest(), terminal_id=self.terminal_id, epoch=1, leg_seq=self._seq,
            accepted_ms=now_ms(), deadline_ms=now_ms() + ttl_ms, user_id=1,
        )  # fmt: skip
        record = {"leg": leg.model_dump_json(), "state": "QUEUED", "report_seq": "0"}
        self.redis.hset(keys.order(leg.order_id), mapping=record)
        self.redis.zadd(keys.outbox(self.terminal_id), {leg.order_id: self._seq})
        self.redis.zadd(keys.UNSETTLED, {leg.order_id: leg.deadline_ms})
        self.redis.set(keys.leg_seq(self.terminal_id), self._seq)
        assert self.executor.submit(leg, "udp")
        return leg.order_id

    def open(self, ttl_ms: int = 60_000, **more: Any) -> str:
        values: dict[str, Any] = {"symbol": "EURUSD", "side": "buy", "lots": LOTS} | more
        return self.send(OpenSignal(signal_id=str(uuid4()), targets=self._targets(), **values), ttl_ms)

    def close_all(self) -> str:
        return self.send(CloseSignal(signal_id=str(uuid4()), targets=self._targets(), all=True))

    def _targets(self) -> Targets:
        return Targets(terminals=[self.terminal_id])

    # --- what a trader sees ---

    def reports(self, order_id: str) -> list[ExecutionReport]:
        """Without the one that accept writes."""
        texts = [entry[1]["report"] for entry in self.redis.xrange(keys.REPORTS)]
        found = [ExecutionReport.model_validate_json(text) for text in texts]
        return [report for report in found if report.order_id == order_id]

    def until(self, fits: Callable[[ExecutionReport], bool], order_id: str) -> ExecutionReport:
        limit = time.monotonic() + LIMIT_S
        while True:
            mine = self.reports(order_id)
            if mine and fits(mine[-1]):
                return mine[-1]
            assert self.executor.failed is None
            assert time.monotonic() < limit, f"{order_id} stands at {[report.state for report in mine]}"
            time.sleep(0.01)

    def settle(self, order_id: str) -> ExecutionReport:
        report = self.until(lambda report: report.state in SETTLED, order_id)
        assert self.redis.hget(keys.order(order_id), "state") == report.state
        return report

    def instance(self) -> dict[str, str]:
        found: dict[str, str] = self.redis.hgetall(keys.instance(self.terminal_id))
        return found

    def shown(self, name: str) -> Any:
        """`account`, `positions` or `pending_orders` as RTS has them."""
        text = self.redis.get(getattr(keys, name)(self.terminal_id))
        return None if text is None else json.loads(text)

    # --- what the broker knows ---

    def trades(self) -> list[Deal]:
        return [deal for deal in self.broker.oracle.deals(self.login) if deal.type in (0, 1)]

    def wait_for(self, happened: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
        limit = time.monotonic() + limit_s
        while not (found := happened()):
            assert time.monotonic() < limit, f"{what} did not come within {limit_s} s"
            time.sleep(0.005)
        return found


Maker = Callable[..., RunningExecutor]


@pytest.fixture(scope="module")
def executor_broker() -> Iterator[PaperBroker]:
    with running_broker(CONFIGURATION) as running:
        yield running


@pytest.fixture
def running_executor(
    executor_broker: PaperBroker,
    tmp_path: Path,
    state_redis: Any,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Maker]:
    """Makes executors, one after the other: the module that they trade through keeps one connection a process."""
    settings.INSTALLATION_ID = "every-fault"
    settings.SWEEP_GAP_MS, settings.SWEEP_SETTLE_MS = 100, 250
    settings.INITIALIZE_LIMIT_S = 1
    settings.ACCOUNT_SYNC_MS = 50
    settings.OWN_DRAIN_MS = 200
    monkeypatch.setattr(session_module, "QUICK_S", (0.1, 0.1, 0.1))
    monkeypatch.setattr(session_module, "RECONNECT_S", 0.1)
    monkeypatch.setattr(executor_module, "LOOK_MS", 50)
    executor_broker.oracle.clear_faults()
    executor_broker.push("EURUSD", 1.10000, 1.10010)
    made: list[RunningExecutor] = []

    def make(personality: str = "lab", **more: Any) -> RunningExecutor:
        for earlier in made:
            earlier.stop()
        made.append(RunningExecutor(executor_broker, tmp_path, state_redis, personality, **more))
        made[-1].wait_for(lambda: made[-1].instance().get("state") == "READY", "the terminal")
        return made[-1]

    yield make
    executor_broker.oracle.clear_faults()
    for one in made:
        one.stop()
    executor_broker.check()  # with magics unique: never two orders of one request
