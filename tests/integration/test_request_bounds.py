"""HTTP as strangers speak it, to a real web process: bodies without end, broken requests, many at once."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from tests.integration.test_sockets_server import Web, run_web
from tradedist.request_bounds import MAX_BODY_BYTES

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def web(tmp_path_factory: Any, state_server: Any, ticks_server: Any, django_db_setup: None) -> Iterator[Web]:
    with run_web(tmp_path_factory.mktemp("web")) as running:
        yield running


def exchange(web: Web, *parts: bytes) -> bytes:
    """What comes back until the server closes."""
    answer = b""
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as client, suppress(ConnectionError):
        for part in parts:
            client.sendall(part)
        while chunk := client.recv(65536):
            answer += chunk
    return answer


def head(web: Web, *lines: str) -> bytes:
    return "\r\n".join(
        (
            "POST /api/signals HTTP/1.1",
            f"Host: 127.0.0.1:{web.port}",
            "Content-Type: application/json",
            *lines,
            "",
            "",
        )
    ).encode()


def test_a_body_announced_too_large_is_refused_before_it_comes(web: Web, transactional_db: None) -> None:
    answer = exchange(web, head(web, f"Content-Length: {10**12}"))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"code": "TOO_LARGE"' in answer


def test_a_body_without_end_is_cut_off(web: Web, transactional_db: None) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    began, sent, cut = time.monotonic(), 0, False
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as client:
        client.sendall(head(web, "Transfer-Encoding: chunked"))
        while not cut and time.monotonic() - began < 60:
            try:
                client.sendall(chunk)
                sent += len(chunk)
            except ConnectionError:
                cut = True
    assert cut
    assert sent < MAX_BODY_BYTES + 32 * 1024 * 1024  # what lay in the kernel's buffers


def test_the_largest_body_for_django_still_gets_its_own_answer(web: Web, transactional_db: None) -> None:
    response = httpx.post(
        f"http://127.0.0.1:{web.port}/api/signals", content=b"x" * (MAX_BODY_BYTES - 1), timeout=60
    )
    assert response.status_code in (401, 413)
    assert set(response.json()) == {"code", "message"}


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /api/signals HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/signals HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /api/signals HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: x\r\n\r\n",
        b"GET /api/me\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/me HTTP/1.1\r\nHost: \x00\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS to a plain port
    ],
)
def test_broken_requests_end_and_the_server_goes_on(web: Web, transactional_db: None, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as client:
        answer = b""
        with suppress(OSError):  # it may close while we are still sending
            client.sendall(raw)
            client.shutdown(socket.SHUT_WR)
            while chunk := client.recv(65536):
                answer += chunk
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 302")), answer[:200]
    assert (
        httpx.get(f"http://127.0.0.1:{web.port}/api/health", timeout=60).json()["parts"]["database"] == "ok"
    )
