"""What every test stands on: a private DATA_DIR, free ports and two private Valkey servers per test process.

Settings read the environment when they are first imported, so all of it is set here, before pytest-django looks.
With pytest-xdist each worker runs this file for itself and so has servers of its own.
"""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.valkey import Valkey
from tradedist.ports import free_block

PORTS = 12
HOME = Path(tempfile.mkdtemp(prefix="tradedist-test-"))
FIRST_PORT = free_block(PORTS)
STATE = Valkey(HOME / "valkey-state", durable=True, port=FIRST_PORT + 1)
TICKS = Valkey(HOME / "valkey-ticks", durable=False, port=FIRST_PORT + 2)

# What the person running the tests has set for a platform of his own must not reach them.
for name in (
    "DATABASE_URL",
    "PAPER_BROKER_URL",
    "METRICS_TOKEN",
    "SECURE",
    "DEBUG",
    "ALLOWED_HOSTS",
    "HOST",
    "HOST_ID",
):
    os.environ.pop(name, None)
os.environ.update(
    DJANGO_SETTINGS_MODULE="tradedist.settings",
    DATA_DIR=str(HOME / "data"),
    PORT=str(FIRST_PORT),
    REDIS_STATE_URL=STATE.url,
    REDIS_TICKS_URL=TICKS.url,
)

from tests.stack import running_stack  # noqa: E402, F401  (a fixture; its module reads the settings)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Workers inherit this environment, and pytest-django would read the settings before this file corrects it."""
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """pytest-xdist's own, which keeps tests of one scope on one worker; the scopes are `shares_processes`."""
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = shares_processes
    return scheduler


def shares_processes(nodeid: str) -> str:
    """What is started once for all of them: the running platform, the processes of a file's fixtures, or nothing."""
    file = nodeid.partition("::")[0]
    tier = file.split("/")[1]
    if tier == "browser" or file == "tests/e2e/test_shown.py":
        return "the running platform"
    return file if tier in ("contract", "integration", "third_party", "e2e") else nodeid


def pytest_configure(config: pytest.Config) -> None:
    """pytest-django sets Django up only if the settings have been read by then: here, now that they may be."""
    from django.conf import settings

    assert settings.DATA_DIR == HOME / "data"


def pytest_unconfigure(config: pytest.Config) -> None:
    for server in (STATE, TICKS):
        server.kill()
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """A file, as in operation: the in-memory database has other locks, which threads trip over."""
    from django.conf import settings

    database: Any = settings.DATABASES["default"]
    if database["ENGINE"] == "django.db.backends.sqlite3":
        (HOME / "data").mkdir(exist_ok=True)
        database["TEST"] = {**database.get("TEST", {}), "NAME": HOME / "data" / "test.sqlite3"}


@pytest.fixture(scope="session")
def state_server() -> Valkey:
    """The state Valkey of this test process, behind REDIS_STATE_URL."""
    return STATE if STATE.running else STATE.start()


@pytest.fixture(scope="session")
def ticks_server() -> Valkey:
    """The tick Valkey of this test process, behind REDIS_TICKS_URL."""
    return TICKS if TICKS.running else TICKS.start()


@pytest.fixture
def state_redis(state_server: Valkey) -> Iterator[Any]:
    """A client of the state Valkey, running and empty; emptied again after the test."""
    _empty_spool()
    yield from _client(state_server)


@pytest.fixture
def ticks_redis(ticks_server: Valkey) -> Iterator[Any]:
    """A client of the tick Valkey, running and empty; emptied again after the test."""
    yield from _client(ticks_server)


@pytest.fixture
def make_valkey(tmp_path: Path) -> Iterator[Callable[..., Valkey]]:
    """Starts further servers for a fault test: `make_valkey(durable=True)`. All end with the test."""
    servers: list[Valkey] = []

    def make(*, durable: bool = True) -> Valkey:
        server = Valkey(tmp_path / f"valkey-{len(servers)}", durable=durable)
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        server.kill()


def _empty_spool() -> None:
    """What an earlier test's web process accepted must not be given to the emptied store."""
    for path in (HOME / "data" / "spool").glob("*.sqlite3"):
        with contextlib.closing(sqlite3.connect(path, timeout=5)) as spool:
            # a web process may be about to make the table
            if spool.execute("SELECT 1 FROM sqlite_master WHERE name = 'signals'").fetchone():
                spool.execute("DELETE FROM signals")
                spool.commit()


def _client(server: Valkey) -> Iterator[Any]:
    if not server.running:  # a fault test before this one left it down
        server.start()
    server.empty()
    client = server.client()
    yield client
    client.close()
    if server.running:
        server.empty()
