"""The Prometheus ports under clients that say nothing, or leave: they cost no thread for good and no traceback."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from tradedist import metrics_port
from tradedist.metrics_port import serve_metrics

LIMIT_S = 10.0


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(metrics_port, "SILENCE_S", 0.2)
    registry = CollectorRegistry()
    Gauge("thing", "A thing.", registry=registry).set(7)
    server, thread = serve_metrics(0, registry)
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join(LIMIT_S)


def answer(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65_536), b""))


def test_it_serves(port: int) -> None:
    assert b"thing 7.0" in answer(port, b"GET /metrics HTTP/1.0\r\n\r\n")


def test_silent_clients_are_let_go(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    before = threading.active_count()
    assert answer(port, b"") == b""
    assert answer(port, b"GET /met") == b""
    until = time.monotonic() + LIMIT_S
    while threading.active_count() > before:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert capsys.readouterr().err == ""
    assert b"thing 7.0" in answer(port, b"GET / HTTP/1.0\r\n\r\n")
