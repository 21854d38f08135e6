"""One executor's execution, resolution and journal over the real paper module and a real broker, driven by the test.

The fixtures are in tests/integration/conftest.py: `rig_of` makes rigs on accounts of their own, at a broker that the
tests of a module share.
"""

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from executors.errors import TerminalError
from executors.execution import Execution
from executors.journal import Journal
from executors.messages import (
    SIGNAL,
    AnySignal,
    CloseSignal,
    ExecutionReport,
    Leg,
    OpenSignal,
    Targets,
    TerminalConfig,
)
from executors.orders import SETTLED
from executors.resolution import Resolution
from executors.terminals.base import Order, Position
from executors.terminals.factory import open_terminal
from tests.paper import PASSWORD, PaperBroker, running_broker
from tradedist.clock import monotonic_ms, now_ms

LIMIT_S = 60.0
LOTS = Decimal("0.1")


@pytest.fixture(scope="module")
def rig_broker() -> Iterator[PaperBroker]:
    with running_broker() as running:
        yield running


class RealClock:
    def now_ms(self) -> int:
        return now_ms()

    def redis_ms(self) -> int:
        return now_ms()

    def monotonic_ms(self) -> float:
        return monotonic_ms()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Rig:
    """One executor's parts on an account of their own, driven by the test instead of a thread."""

    last_login = 9000

    def __init__(self, broker: PaperBroker, directory: Path, personality: str) -> None:
        Rig.last_login += 1
        self.personality = personality
        self.login = Rig.last_login
        self.broker = broker
        account = broker.account(self.login, personality, 100_000.0)
        self.config = TerminalConfig.model_validate(
            {
                "terminal_id": f"t{self.login}", "version": 1, "label": "", "kind": "paper", "enabled": True,
                "host_id": "here", "epoch": 1, "login": self.login, "server": account["server"], "path": broker.url,
                "sealed_password": "", "server_timezone": account["server_timezone"],
                "limits": {"orders_per_second": 0},
            }
        )  # fmt: skip
        self.terminal = open_terminal(self.config, PASSWORD)
        self.reports: list[ExecutionReport] = []
        self.alarms: list[str] = []
        self.path = directory / f"{self.login}.sqlite3"
        self.seq = 0
        self.start()

    def start(self) -> None:
        """As the executor's process does; after `kill` it is a restart."""
        self.journal = Journal(self.path, installation="tests", terminal_id=self.config.terminal_id)
        self.execution = Execution(
            terminal=self.terminal, journal=self.journal, clock=RealClock(), config=self.config,
            on_report=lambda row, report: self.reports.append(report),
        )  # fmt: skip
        self.resolution = Resolution(self.execution, alarm=lambda _code, text: self.alarms.append(text))
        self.resolution.recover()
        self.ready = False

    def kill(self) -> None:
        """Nothing of it runs any more until `start`."""
        self.terminal.disconnect()
        self.journal.close()

    def close(self) -> None:
        self.terminal.disconnect()
        self.journal.close()

    def arrive(self, signal: AnySignal, ttl_ms: int = 60_000) -> str:
        self.seq += 1
        leg = Leg(
            signal=signal, digest=signal.digest(), terminal_id=self.config.terminal_id, epoch=1, leg_seq=self.seq,
            accepted_ms=now_ms(), deadline_ms=now_ms() + ttl_ms, user_id=1,
        )  # fmt: skip
        self.execution.arrive(leg, "outbox")
        return leg.order_id

    def open(self, **more: Any) -> str:
        return self.arrive(
            OpenSignal(
                signal_id=str(uuid4()), targets=Targets(terminals=[self.config.terminal_id]), symbol="EURUSD",
                side="buy", lots=LOTS,
            ),
            **more,
        )  # fmt: skip

    def close_all(self) -> str:
        return self.arrive(
            CloseSignal(
                signal_id=str(uuid4()), targets=Targets(terminals=[self.config.terminal_id]), all=True
            )
        )

    def signal(self, action: str, **fields: Any) -> str:
        """Any signal to this terminal; an open is of 0.1 EURUSD to buy, unless told."""
        body: dict[str, Any] = {
            "signal_id": str(uuid4()), "action": action, "targets": {"terminals": [self.config.terminal_id]}
        }  # fmt: skip
        if action == "open":
            body |= {"symbol": "EURUSD", "side": "buy", "lots": LOTS}
        return self.arrive(SIGNAL.validate_python(body | fields))

    def positions(self) -> tuple[Position, ...]:
        return self.terminal.positions()

    def orders(self) -> tuple[Order, ...]:
        return self.terminal.orders()

    def sync(self) -> None:
        """As the executor's account sync does."""
        self.resolution.seen(self.positions(), self.orders())

    def turn(self) -> None:
        """As the executor's thread does: expire, connect, run, look, sync, move stop losses."""
        self.execution.expire()
        try:
            if not self.ready:
                self.terminal.connect()
                self.ready = True
                self.resolution.answering(round(monotonic_ms()))
                self.execution.resume()
            while self.execution.run_next():
                pass
            if self.resolution.due():
                self.resolution.look()
                self.execution.resume()
            self.sync()
            while self.execution.guard.step(halted=self.execution.mode == "HALTED"):
                pass
        except TerminalError:
            self.ready = False

    def states(self, order_id: str) -> list[str]:
        return [report.state for report in self.reports if report.order_id == order_id]

    def settle(self, order_id: str) -> ExecutionReport:
        return self.until(lambda report: report.state in SETTLED, order_id)

    def until(self, fits: Callable[[ExecutionReport], bool], order_id: str) -> ExecutionReport:
        limit = time.monotonic() + LIMIT_S
        while True:
            self.turn()
            mine = [report for report in self.reports if report.order_id == order_id]
            if mine and fits(mine[-1]):
                return mine[-1]
            assert time.monotonic() < limit, f"{order_id} stands at {[report.state for report in mine]}"
            time.sleep(0.01)

    def truth(self) -> list[Decimal]:
        """The lots of each of its trades, by the ledger."""
        return [
            Decimal(repr(deal.volume)) for deal in self.broker.oracle.deals(self.login) if deal.type in (0, 1)
        ]


@pytest.fixture
def rig_of(rig_broker: PaperBroker, tmp_path: Path, settings: Any) -> Iterator[Callable[[str], Rig]]:
    settings.INSTALLATION_ID = "faults"
    settings.SWEEP_GAP_MS, settings.SWEEP_SETTLE_MS = 100, 250
    settings.BREAKER_UNKNOWN, settings.BREAKER_REJECTIONS = 3, 5
    rig_broker.oracle.clear_faults()
    rig_broker.push("EURUSD", 1.10000, 1.10010)
    made: list[Rig] = []

    def make(personality: str = "lab") -> Rig:
        made.append(Rig(rig_broker, tmp_path, personality))
        made[-1].turn()
        return made[-1]

    yield make
    rig_broker.oracle.clear_faults()
    for rig in made:
        rig.close()
    rig_broker.check()  # with magics unique: never two orders of one request
