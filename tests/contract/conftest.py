"""Fixtures of the contract: one broker a module, with the restrictions of `desk.CONFIGURATION`; an account a test."""

from collections.abc import Iterator

import pytest

from executors.terminals import paper as mt5
from tests.contract import subject
from tests.contract.desk import CONFIGURATION, LOGIN, Desk
from tests.contract.terminals import broker, far_port, rig
from tests.paper import PASSWORD, PaperBroker, running_broker

__all__ = ["broker", "connected", "desk", "far_port", "module_broker", "rig", "rules_broker"]


@pytest.fixture(scope="module")
def rules_broker() -> Iterator[PaperBroker]:
    with running_broker(CONFIGURATION) as running:
        yield running


@pytest.fixture
def desk(rules_broker: PaperBroker) -> Iterator[Desk]:
    rules_broker.oracle.clear_faults()
    for feed, bid, ask in (
        ("EURUSD", 1.10000, 1.10010),
        ("USDJPY", 110.000, 110.010),
        ("GBPUSD", 1.31661, 1.31668),
    ):
        rules_broker.push(feed, bid, ask)
    made = Desk(rules_broker)
    made.open()
    yield made
    mt5.shutdown()
    rules_broker.check(magics_unique=False)


@pytest.fixture(scope="module")
def module_broker() -> Iterator[PaperBroker]:
    with running_broker() as running:
        running.account(LOGIN, "lab")
        running.account(LOGIN + 1, "net")
        running.push("EURUSD", 1.10000, 1.10010)
        yield running


@pytest.fixture
def connected(request: pytest.FixtureRequest) -> Iterator[None]:
    if subject.REAL:
        assert subject.log_in(), subject.mt5.last_error()
    else:
        broker: PaperBroker = request.getfixturevalue("module_broker")
        broker.oracle.clear_faults()
        assert mt5.initialize(broker.url, login=LOGIN, password=PASSWORD)
    yield
    if subject.REAL and subject.mt5.account_info() is not None:
        subject.tidy()
    subject.mt5.shutdown()
