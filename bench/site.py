"""A site for benchmarks of the executors alone: two Valkeys, a paper broker, one host with N terminals, a desk.

Precedes: `executors` and `recovery`. Follows: tests.hosts, with settings of an operation instead of a test's.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradedist.settings")
os.environ.setdefault("DATA_DIR", tempfile.mkdtemp(prefix="tradedist-bench-"))

from tests.hosts import Desk, Host
from tests.paper import running_broker
from tests.valkey import Valkey

FIRST_LOGIN = 20_000


@dataclass
class Site:
    host: Host
    desk: Desk
    names: list[str]


@contextlib.contextmanager
def site(terminals: int, *, start: bool = True, **settings: str) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="tradedist-bench-") as name, running_broker() as broker:
        directory = Path(name)
        state = Valkey(directory / "state", durable=True, maxmemory_mb=512).start()
        ticks = Valkey(directory / "ticks", durable=False).start()
        broker.push("EURUSD", 1.10000, 1.10010)
        client = state.client()
        desk = Desk(broker, client, state.url)
        names = [f"bench-{number:03d}" for number in range(terminals)]
        for number, terminal_id in enumerate(names):
            desk.terminal(terminal_id, FIRST_LOGIN + number, "bench")
        host = Host("bench", directory / "data", state.url, ticks.url, **settings)
        try:
            if start:
                host.start()
            yield Site(host, desk, names)
        finally:
            host.stop()
            desk.close()
            client.close()
            state.kill()
            ticks.kill()
