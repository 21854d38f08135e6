"""One simulated executor a test, with the reconciliation's real waits and the breaker's real limits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulated_store import Machine


@pytest.fixture
def protocol_settings(settings: Any) -> Any:
    settings.INSTALLATION_ID = "tests"
    settings.SWEEP_GAP_MS, settings.SWEEP_SETTLE_MS = 5_000, 15_000
    settings.BREAKER_UNKNOWN, settings.BREAKER_REJECTIONS = 3, 5
    return settings


@pytest.fixture
def machine(tmp_path: Path, protocol_settings: Any) -> Iterator[Machine]:
    made = Machine(tmp_path)
    made.link()
    made.turn()
    yield made
    made.crash()
