"""Ports: free or not and why, and who holds one."""

import os
import socket

import pytest

from tradedist.ports import IN_USE, UDP, free_block, holder, is_free, trouble


def test_a_listener_makes_its_port_busy_and_is_named() -> None:
    port = free_block(1)
    assert is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert trouble(port) == IN_USE
        assert f"(pid {os.getpid()})" in holder(port)
    assert is_free(port)
    assert holder(port) == ""


def test_udp_is_looked_at_by_itself() -> None:
    port = free_block(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port))
        assert is_free(port)
        assert not is_free(port, kind=UDP)
        assert f"(pid {os.getpid()})" in holder(port)


def test_a_closed_connection_does_not_keep_its_port() -> None:
    port = free_block(1)
    with socket.create_server(("127.0.0.1", port)) as server:
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # the server's side closes first: TIME_WAIT is on its port
        client.close()
    assert is_free(port)


def test_an_address_that_is_not_ours_is_said() -> None:
    said = trouble(free_block(1), host="203.0.113.7")
    assert said.startswith("cannot be used on 203.0.113.7")


def test_blocks_are_free_in_full_and_below_the_outgoing_range() -> None:
    first = free_block(12)
    assert 15_000 <= first < 32_000
    assert all(is_free(port) and is_free(port, kind=UDP) for port in range(first, first + 12))


def test_says_so_when_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tradedist.ports.is_free", lambda *_, **__: False)
    with pytest.raises(OSError, match="no 3 free ports in a row"):
        free_block(3)
