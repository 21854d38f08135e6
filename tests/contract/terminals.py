"""The implementations that the terminal contract is run over, each against a real paper broker process.

paper: the module. metatrader: the same through `sys.modules["MetaTrader5"]`, as the official package would be. remote: our client
to mt5linux's own server, which has the paper module as its MetaTrader5. mt5linux: mt5linux's own client to that server.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from executors.terminals import base, metatrader, paper
from executors.terminals.adapter import ModuleTerminal
from executors.terminals.base import TradeRequest
from executors.terminals.paper.places import ROOT, STANDIN
from executors.terminals.remote import RemoteModule
from tests.paper import PASSWORD, PaperBroker, running_broker

DEAL, BUY, IOC, DONE = 1, 0, 1, 10009
LOT = Decimal("0.1")
NOISY = """
[personalities.noisy]
server = "PaperNoisy-Test"
company = "Paper Noise"
currency = "USD"
leverage = 100
margin_mode = 2
float_noise = true
symbols = ["EURUSD"]
"""
KINDS = ("paper", "metatrader", "remote", "mt5linux")
START_LIMIT_S = 60.0


class Rig:
    """Opens terminals of one kind at one broker."""

    _last_login = 1000

    def __init__(self, kind: str, broker: PaperBroker, port: int) -> None:
        self.kind = kind
        self.broker = broker
        self.port = port
        self._closers: list[Callable[[], Any]] = []

    def module(self) -> Any:
        match self.kind:
            case "paper":
                return paper
            case "metatrader":
                paper.install()
                return metatrader.module()
            case "remote":
                remote = RemoteModule("127.0.0.1", self.port, timeout_s=20)
                self._closers.append(remote.shutdown)
                return remote
            case _:
                from mt5linux import MetaTrader5

                client = MetaTrader5(host="127.0.0.1", port=self.port)
                self._closers.append(client._MetaTrader5__conn.close)  # it has no way of its own
                return client

    def close(self) -> None:
        for closer in self._closers:
            closer()

    def account(self, personality: str = "lab", balance: float = 10_000.0, **more: Any) -> dict[str, Any]:
        """A new account at the broker, as `ensure_account` describes it."""
        Rig._last_login += 1
        return self.broker.account(Rig._last_login, personality, balance, **more)

    def terminal(self, account: dict[str, Any], password: str = PASSWORD) -> ModuleTerminal:
        return ModuleTerminal(
            self.module(),
            login=account["login"],
            password=password,
            server=account["server"],
            path=self.broker.url,
            server_timezone=account["server_timezone"],
        )

    def open(self, personality: str = "lab", **more: Any) -> ModuleTerminal:
        """A connected terminal on a new account."""
        terminal = self.terminal(self.account(personality, **more))
        terminal.connect()
        return terminal


@contextlib.contextmanager
def mt5linux_server(broker: PaperBroker) -> Iterator[int]:
    """mt5linux's server on loopback, in a Python whose MetaTrader5 is the paper module; its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((STANDIN, ROOT)),
        "PAPER_BROKER_URL": broker.url,
        "PAPER_PICKLABLE": "1",
    }
    command = [sys.executable, "-m", "mt5linux", "--host", "127.0.0.1", "-p", str(port), "-q"]
    process = subprocess.Popen(command, env=environment, cwd=broker.directory, stdout=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + START_LIMIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > limit:
                    raise RuntimeError("mt5linux's server did not start") from None
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def broker() -> Iterator[PaperBroker]:
    with running_broker(NOISY) as running:
        yield running


@pytest.fixture(scope="module")
def far_port(broker: PaperBroker) -> Iterator[int]:
    with mt5linux_server(broker) as port:
        yield port


@pytest.fixture(params=KINDS)
def rig(request: pytest.FixtureRequest, broker: PaperBroker, far_port: int) -> Iterator[Rig]:
    broker.oracle.clear_faults()
    broker.push("EURUSD", 1.10000, 1.10010)
    made = Rig(request.param, broker, far_port)
    yield made
    made.close()
    broker.oracle.clear_faults()
    broker.check(magics_unique=False)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def sent(terminal: ModuleTerminal, **fields: object) -> base.SendResult:
    reply = terminal.send(TradeRequest(**fields))  # type: ignore[arg-type]
    assert reply.result is not None, reply.error
    return reply.result


def bought(terminal: ModuleTerminal, lots: Decimal = LOT, **more: object) -> base.Position:
    fields: dict[str, object] = {"action": DEAL, "symbol": "EURUSD", "volume": lots, "type": BUY}
    result = sent(terminal, **(fields | {"type_filling": IOC} | more))
    assert result.retcode == DONE
    (position,) = [item for item in terminal.positions() if item.ticket == result.order]
    return position
