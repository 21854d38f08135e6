"""Each fault of the paper broker from the executor's side: what becomes of the order, and what the ledger says.

The executor's own execution, resolution and journal over the real module and a real broker process; only the waits of the
reconciliation are short. Whatever happens, a request has at most one order at the broker, and the order's end is true.
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
from executors.messages import CloseSignal, ExecutionReport, Leg, OpenSignal, Targets, TerminalConfig
from executors.orders import SETTLED, OrderState
from executors.resolution import Resolution
from executors.terminals.factory import open_terminal
from tests.paper import PASSWORD, PaperBroker, running_broker
from tradedist.clock import monotonic_ms, now_ms

LIMIT_S = 15.0
LOTS = Decimal("0.1")


@pytest.fixture(scope="module")
def broker() -> Iterator[PaperBroker]:
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
        self.journal = Journal(
            directory / "j.sqlite3", installation="tests", terminal_id=self.config.terminal_id
        )
        self.execution = Execution(
            terminal=self.terminal, journal=self.journal, clock=RealClock(), config=self.config,
            on_report=lambda row, report: self.reports.append(report),
        )  # fmt: skip
        self.resolution = Resolution(self.execution, alarm=self.alarms.append)
        self.ready = False
        self.seq = 0

    def close(self) -> None:
        self.terminal.disconnect()
        self.journal.close()

    def arrive(self, signal: OpenSignal | CloseSignal, ttl_ms: int = 60_000) -> str:
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

    def turn(self) -> None:
        """As the executor's thread does: expire, connect, run, look."""
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
def rig_of(broker: PaperBroker, tmp_path: Path, settings: Any) -> Iterator[Callable[[str], Rig]]:
    settings.INSTALLATION_ID = "faults"
    settings.SWEEP_GAP_MS, settings.SWEEP_SETTLE_MS = 100, 250
    settings.BREAKER_UNKNOWN, settings.BREAKER_REJECTIONS = 3, 5
    broker.oracle.clear_faults()
    broker.push("EURUSD", 1.10000, 1.10010)
    made: list[Rig] = []

    def make(personality: str = "lab") -> Rig:
        made.append(Rig(broker, tmp_path, personality))
        made[-1].turn()
        return made[-1]

    yield make
    broker.oracle.clear_faults()
    for rig in made:
        rig.close()
    broker.check()  # with magics unique: never two orders of one request


S = OrderState
# fault: kind, settings, the order's states, the lots of its trades
OUTCOMES: dict[str, tuple[str, dict[str, Any], list[str], list[str]]] = {
    "e01 rejected": ("reject", {}, [S.INTENT, S.REJECTED], []),
    "e02 requoted, and tried again": ("requote", {}, [S.INTENT, S.INTENT, S.INTENT, S.FILLED], ["0.1"]),
    "e03 no price, and tried again": ("price_off", {}, [S.INTENT, S.INTENT, S.INTENT, S.FILLED], ["0.1"]),
    "e04 filled in part by IOC, and the rest": (
        "partial", {"value": 0.4}, [S.INTENT, S.INTENT, S.INTENT, S.FILLED], ["0.04", "0.06"],
    ),
    "e18 not all there for FOK": ("partial", {"value": 0.4}, [S.INTENT, S.REJECTED], []),
    "e05 slipped": ("slippage", {"value": 30}, [S.INTENT, S.FILLED], ["0.1"]),
    "e06 slow": ("delay", {"value": 200}, [S.INTENT, S.FILLED], ["0.1"]),
    "e07 done without a deal": ("blank", {}, [S.INTENT, S.PLACED, S.FILLED], ["0.1"]),
    "e08 placed, filled later": ("late_fill", {"value": 300}, [S.INTENT, S.PLACED, S.FILLED], ["0.1"]),
    "e09 placed only": ("placed", {}, [S.INTENT, S.PLACED, S.FILLED], ["0.1"]),
    "e10 timeout, yet executed": ("ambiguous", {}, [S.INTENT, S.UNKNOWN, S.FILLED], ["0.1"]),
    "e11 answer lost": ("lose_answer", {}, [S.INTENT, S.UNKNOWN, S.FILLED], ["0.1"]),
    "e12 question lost": ("lose_question", {}, [S.INTENT, S.UNKNOWN, S.NOT_EXECUTED], []),
    "e13 pipe timeout": ("timeout", {}, [S.INTENT, S.UNKNOWN, S.NOT_EXECUTED], []),
    "e14 hang, nothing done": ("hang", {"value": 0.2}, [S.INTENT, S.UNKNOWN, S.NOT_EXECUTED], []),
    "e15 hang after it was done": ("hang_after", {"value": 0.2}, [S.INTENT, S.UNKNOWN, S.FILLED], ["0.1"]),
    "e16 failed call": ("error", {}, [S.INTENT, S.UNKNOWN, S.NOT_EXECUTED], []),
    "e17 server fault, yet executed": ("ambiguous", {"value": 10011}, [S.INTENT, S.UNKNOWN, S.FILLED], ["0.1"]),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTCOMES)
def test_e01_to_e18_the_order_ends_with_the_truth(rig_of: Callable[[str], Rig], name: str) -> None:
    kind, more, states, trades = OUTCOMES[name]
    rig = rig_of("ecn" if "IOC" in name else "lab")  # its symbols take IOC alone; the others' take FOK first
    rig.broker.fault(kind, login=rig.login, at=1, **more)
    order_id = rig.open()
    report = rig.settle(order_id)
    assert rig.states(order_id) == states
    assert rig.truth() == [Decimal(lots) for lots in trades]
    assert report.filled_lots == sum(rig.truth(), Decimal(0))
    assert rig.alarms == []


SWITCHES = {"e20": ("algo_off", "10027"), "e21": ("expert_off", "10026"), "e22": ("trade_disabled", "10017"),
            "e23": ("market_closed", "10018"), "e24": ("api_off", "-8")}  # fmt: skip


@pytest.mark.parametrize("name", SWITCHES)
def test_e20_to_e24_what_is_switched_off_refuses_with_its_code(
    rig_of: Callable[[str], Rig], name: str
) -> None:
    kind, code = SWITCHES[name]
    rig = rig_of("lab")
    rig.broker.fault(kind, login=rig.login)
    report = rig.settle(rig.open())
    assert report.state in (S.REJECTED, S.DENIED)
    assert code in report.message or report.state is S.DENIED
    assert rig.truth() == []


def test_e25_without_its_server_an_order_is_unknown_until_the_link_is_back(
    rig_of: Callable[[str], Rig],
) -> None:
    rig = rig_of("lab")
    rig.broker.fault("no_connection", login=rig.login)
    order_id = rig.open()
    rig.until(lambda report: report.state in (S.UNKNOWN, S.DENIED), order_id)
    for _ in range(50):
        rig.turn()
        time.sleep(0.02)
    assert rig.states(order_id)[-1] in (S.UNKNOWN, S.DENIED)  # absence proves nothing without a link
    rig.broker.oracle.clear_faults()
    assert rig.settle(order_id).state in (S.NOT_EXECUTED, S.DENIED)
    assert rig.truth() == []


def test_e26_histories_that_lag_delay_the_truth_and_do_not_change_it(rig_of: Callable[[str], Rig]) -> None:
    rig = rig_of("lab")
    rig.broker.fault("history_lag", login=rig.login, value=700)
    rig.broker.fault("position_lag", login=rig.login, value=700)
    rig.broker.fault("lose_answer", login=rig.login, at=1)
    assert rig.settle(rig.open()).state is S.NOT_EXECUTED or rig.truth() == [LOTS]
    assert rig.truth() == [LOTS]
    limit = time.monotonic() + LIMIT_S
    while rig.reports[-1].state is not S.FILLED and time.monotonic() < limit:
        rig.turn()
        rig.resolution.adopt_late(rig.terminal.positions())
        time.sleep(0.02)
    assert rig.reports[-1].state is S.FILLED
    assert rig.reports[-1].filled_lots == LOTS


def test_e27_a_terminal_that_crashes_between_orders_loses_none(rig_of: Callable[[str], Rig]) -> None:
    rig = rig_of("lab")
    assert rig.settle(rig.open()).state is S.FILLED
    rig.broker.oracle.call("drop_connections", rig.login)
    order_id = rig.open()
    assert rig.settle(order_id).state in (S.FILLED, S.NOT_EXECUTED)
    filled = [report for report in rig.reports if report.state is S.FILLED]
    assert len(rig.truth()) == len(filled)


def test_e28_an_outage_holds_orders_and_they_go_on_or_expire(rig_of: Callable[[str], Rig]) -> None:
    rig = rig_of("lab")
    rig.broker.fault("outage")
    rig.broker.oracle.call("drop_connections", rig.login)
    waiting, dying = rig.open(), rig.open(ttl_ms=300)
    limit = time.monotonic() + 1.0
    while time.monotonic() < limit:
        rig.turn()
        time.sleep(0.05)
    rig.broker.oracle.clear_faults()
    assert rig.settle(dying).state in (S.EXPIRED, S.NOT_EXECUTED)
    assert rig.settle(waiting).state in (S.FILLED, S.NOT_EXECUTED)
    assert len(rig.truth()) == sum(report.state is S.FILLED for report in rig.reports)


def test_e29_the_broker_killed_while_it_executes_loses_nothing_that_it_answered(
    rig_of: Callable[[str], Rig],
) -> None:
    rig = rig_of("lab")
    assert rig.settle(rig.open()).state is S.FILLED
    rig.broker.restart()
    order_id = rig.open()
    assert rig.settle(order_id).state in (S.FILLED, S.NOT_EXECUTED)
    assert len(rig.truth()) == sum(report.state is S.FILLED for report in rig.reports)


def test_e30_closing_what_the_broker_closed_meanwhile_is_done(rig_of: Callable[[str], Rig]) -> None:
    rig = rig_of("lab")
    opened = rig.settle(rig.open())
    rig.broker.fault("race_fill", login=rig.login, at=1)
    report = rig.settle(rig.close_all())
    assert report.state in (S.DONE, S.FILLED)
    assert rig.broker.oracle.positions(rig.login) == []
    assert rig.truth() == [LOTS, LOTS]
    assert opened.position_tickets


def test_e31_a_doubled_answer_is_not_taken_for_another_orders(rig_of: Callable[[str], Rig]) -> None:
    rig = rig_of("lab")
    rig.broker.fault("double_answer", login=rig.login, at=1)
    first, second = rig.open(), rig.open()
    assert rig.settle(first).state is S.FILLED
    assert rig.settle(second).state in (S.FILLED, S.NOT_EXECUTED)
    assert len(rig.truth()) == sum(report.state is S.FILLED for report in rig.reports)


def test_e32_brokers_that_rewrite_comments_do_not_hide_an_order(rig_of: Callable[[str], Rig]) -> None:
    """The magic finds it; this one empties comments, fills whole or not at all, and closes first in first out."""
    rig = rig_of("classic")
    rig.broker.fault("lose_answer", login=rig.login, at=1)
    assert rig.settle(rig.open()).state is S.FILLED
    assert rig.settle(rig.close_all()).state is S.FILLED
    assert rig.truth() == [LOTS, LOTS]
