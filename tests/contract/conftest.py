"""Fixtures of the contract: one broker a module, with the restrictions of `desk.CONFIGURATION`; an account a test."""

from collections.abc import Iterator

import pytest

from executors.terminals import paper as mt5
from tests.contract import subject
from tests.contract.desk import CONFIGURATION, LOGIN, Desk
from tests.paper import PASSWORD, PaperBroker, running_broker

if not subject.REAL:  # else there may be nothing of the platform's requirements here
    from tests.contract.terminals import broker, far_port, rig
    from tests.contract.ways import Through, bridges, pytest_generate_tests, through

    __all__ = ["bridges", "broker", "far_port", "pytest_generate_tests", "rig", "through"]


@pytest.fixture(scope="module")
def rules_broker() -> Iterator[PaperBroker]:
    with running_broker(CONFIGURATION) as running:
        yield running


@pytest.fixture
def desk(rules_broker: PaperBroker, through: "Through") -> Iterator[Desk]:
    through(rules_broker)
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
    made.leave()
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
