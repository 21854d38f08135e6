"""The ways to a terminal over which the cases of the server's rules (r, d, f, o) are run.

paper: the module itself, and so what `sys.modules["MetaTrader5"]` holds, which is the same functions. remote: our client to
mt5linux's own server on loopback, which has the paper module as its MetaTrader5. mt5linux: its own client to that server.
A case that cannot be told over another way is marked `only_over`, with the reason.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from executors.terminals import paper
from executors.terminals.remote import RemoteModule
from tests.contract import desk as desk_module
from tests.contract.terminals import mt5linux_server
from tests.paper import PaperBroker

WAYS = ("paper", "remote", "mt5linux")
TIMEOUT_S = 30.0
Through = Callable[[PaperBroker], None]


def only_over(*ways: str, why: str) -> pytest.MarkDecorator:
    assert why
    assert set(ways) < set(WAYS)
    return pytest.mark.only_over(ways, why)


class Remote:
    """Our client as programs see a module: constants, and initialize with its place first."""

    def __init__(self, port: int) -> None:
        self.remote = RemoteModule("127.0.0.1", port, TIMEOUT_S)

    def __getattr__(self, name: str) -> Any:
        return getattr(paper if name.isupper() else self.remote, name)

    def initialize(self, path: str, **keywords: Any) -> bool:
        return self.remote.initialize(path=path, **keywords)


@contextlib.contextmanager
def taken(way: str, port: int) -> Iterator[Any]:
    if way == "remote":
        yield Remote(port)
        return
    from mt5linux import MetaTrader5

    client = MetaTrader5(host="127.0.0.1", port=port)
    # it writes arguments as source text, in which these are no words
    client._MetaTrader5__conn.execute("nan, inf = float('nan'), float('inf')")
    yield client
    client._MetaTrader5__conn.close()  # it has no way of its own


@pytest.fixture(scope="module")
def bridges() -> Iterator[Callable[[PaperBroker], int]]:
    """The port of a broker's mt5linux server, which is started when first asked for."""
    ports: dict[int, int] = {}
    with contextlib.ExitStack() as stack:

        def port_of(broker: PaperBroker) -> int:
            if id(broker) not in ports:
                ports[id(broker)] = stack.enter_context(mt5linux_server(broker))
            return ports[id(broker)]

        yield port_of


@pytest.fixture
def through(
    request: pytest.FixtureRequest,
    way: str,
    bridges: Callable[[PaperBroker], int],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Through]:
    """Lets `mt5` of the case's file, and of its desk, be that way's from now on."""
    with contextlib.ExitStack() as stack:

        def through(broker: PaperBroker) -> None:
            if way != "paper":
                module = stack.enter_context(taken(way, bridges(broker)))
                monkeypatch.setattr(request.module, "mt5", module)
                monkeypatch.setattr(desk_module, "mt5", module)

        yield through


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "way" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("only_over")
        metafunc.parametrize("way", mark.args[0] if mark else WAYS, scope="module")
