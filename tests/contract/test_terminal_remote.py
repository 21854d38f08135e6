"""A terminal of kind remote as its configuration opens it: host, port and program, over mt5linux's own server."""

import socket
import threading
from typing import Any

import pytest

from executors.errors import TerminalUnavailable
from executors.messages import TerminalConfig
from executors.terminals.factory import open_terminal
from executors.terminals.remote import place_of
from tests.paper import PASSWORD, PaperBroker

PROGRAM = r"C:\MT5\one\terminal64.exe"


def config_of(broker: PaperBroker, login: int, path: str) -> TerminalConfig:
    account = broker.account(login, "classic")
    values: dict[str, Any] = {
        "terminal_id": "far", "version": 1, "label": "", "kind": "remote", "enabled": True, "host_id": "here", "epoch": 1,
        "login": login, "server": account["server"], "path": path, "sealed_password": "",
        "server_timezone": account["server_timezone"],
    }  # fmt: skip
    return TerminalConfig.model_validate(values)


def test_n01_it_is_opened_by_host_and_port(broker: PaperBroker, far_port: int) -> None:
    config = config_of(broker, 801, f"127.0.0.1:{far_port}")
    terminal = open_terminal(config, PASSWORD)
    assert terminal.connect().stranger(config.login, config.server) == ""
    assert terminal.positions() == ()
    terminal.disconnect()


def test_n02_the_program_behind_the_address_has_to_be_the_one_that_answers(
    broker: PaperBroker,
    far_port: int,
) -> None:
    config = config_of(broker, 802, f"127.0.0.1:{far_port}/{PROGRAM}")
    terminal = open_terminal(config, PASSWORD)
    identity = terminal.connect()
    assert identity.path == r"C:\MT5\one"
    assert identity.stranger(config.login, config.server) == ""
    broker.fault("cross_wired", login=802)
    assert "not at " + PROGRAM in terminal.connect().stranger(config.login, config.server)
    broker.oracle.clear_faults()
    terminal.disconnect()


def test_n03_nobody_there_is_unavailable(broker: PaperBroker) -> None:
    terminal = open_terminal(config_of(broker, 803, "127.0.0.1:1"), PASSWORD)
    with pytest.raises(TerminalUnavailable, match="-10003"):
        terminal.connect()


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("windows-one:18813", ("windows-one", 18813, "")),
        ("", ("127.0.0.1", 18812, "")),
        ("10.0.0.7", ("10.0.0.7", 18812, "")),
        ("[::1]:18812", ("::1", 18812, "")),
        (rf"10.0.0.7:18814/{PROGRAM}", ("10.0.0.7", 18814, PROGRAM)),
    ],
)
def test_n04_places(path: str, place: tuple[str, int, str]) -> None:
    assert place_of(path) == place


@pytest.mark.parametrize("path", ["host:port", "a b:1", "host:99999", PROGRAM, "http://host:18812"])
def test_n05_what_is_no_place_is_refused_with_one_that_is(path: str) -> None:
    with pytest.raises(ValueError, match="must look like 127"):
        place_of(path)


def test_n06_what_is_no_bridge_is_unavailable(broker: PaperBroker) -> None:
    """Something else listens on that port, and says so in its own way."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            for reply in (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 40, b"\x00" * 4000, b""):
                connection, _ = other.accept()
                with connection:
                    connection.sendall(reply)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        terminal = open_terminal(config_of(broker, 804, f"127.0.0.1:{other.getsockname()[1]}"), PASSWORD)
        for _ in range(3):
            with pytest.raises(TerminalUnavailable, match="-10003"):
                terminal.connect()
        thread.join(60)
