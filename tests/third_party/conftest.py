"""Fixtures: one broker for a file's programs, prices by hand."""

from collections.abc import Iterator

import pytest

from tests.paper import PaperBroker, running_broker


@pytest.fixture(scope="module")
def broker() -> Iterator[PaperBroker]:
    with running_broker() as running:
        running.push("EURUSD", 1.10000, 1.10010)
        yield running
        running.check(magics_unique=False)
