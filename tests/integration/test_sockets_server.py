"""The web process itself, `manage.py run_web` with real sockets: its bounds, and how it ends."""

import asyncio
import json
import os
import signal
import socket as sockets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Origin

from tests.integration.live import a_report, make_terminal, make_user, publish_report, session_cookie
from tests.waiting import eventually
from tradedist import hub
from tradedist.child import die_with_parent
from tradedist.ports import free_block

pytestmark = pytest.mark.django_db(transaction=True)

START_LIMIT_S = 60.0
ROOT = Path(__file__).resolve().parent.parent.parent


class Web:
    """A run_web process."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port = port
        self.process = process
        self.log = log

    def open(self, path: str = "/ws/orders/", cookie: str = "", **options: Any) -> connect:
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            origin=Origin(f"http://127.0.0.1:{self.port}"),
            additional_headers={"Cookie": cookie},
            **options,
        )

    def metric(self, line: str) -> float:
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=30).text
        return sum(float(found.rpartition(" ")[2]) for found in text.splitlines() if found.startswith(line))


@contextmanager
def run_web(directory: Path, **environment: str) -> Iterator[Web]:
    from django.conf import settings

    port = free_block(1)
    log = directory / f"web-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "run_web"],
            cwd=ROOT,
            env={
                **os.environ,
                "PORT": str(port),
                "DATABASE_URL": f"sqlite:///{settings.DATABASES['default']['NAME']}",
                **environment,
            },
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent(os.getpid()),
        )
    web = Web(port, process, log)
    try:
        until = time.monotonic() + START_LIMIT_S
        while True:
            try:
                sockets.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.02)
        yield web
    finally:
        process.kill()
        process.wait(60)


@pytest.fixture(scope="module")
def web(tmp_path_factory: Any, state_server: Any, ticks_server: Any, django_db_setup: None) -> Iterator[Web]:
    with run_web(tmp_path_factory.mktemp("web"), SOCKETS_PER_USER="100") as running:
        yield running


@pytest.fixture(autouse=True)
async def live(state_redis: Any, ticks_redis: Any) -> AsyncIterator[None]:
    yield
    await hub.close_current()


@pytest.fixture
def cookie(state_redis: Any) -> str:
    make_terminal("alpha")
    return session_cookie(make_user("trader", alpha="trade"))


async def read(client: ClientConnection, kind: str = "") -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            message: dict[str, Any] = json.loads(await client.recv())
            if not kind or message["type"] == kind:
                return message


async def closed(client: ClientConnection, limit_s: float = 60) -> int | None:
    async with asyncio.timeout(limit_s):
        try:
            while True:
                await client.recv()
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd else None


async def test_messages_are_compressed(web: Web, cookie: str) -> None:
    async with web.open(cookie=cookie) as client:
        assert client.response is not None
        assert client.response.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")
        assert (await read(client))["type"] == "snapshot"
    async with web.open(cookie=cookie, compression=None) as client:
        assert (await read(client))["type"] == "snapshot"


async def test_too_large_messages_end_the_socket(web: Web, cookie: str) -> None:
    async with web.open(cookie=cookie, compression=None) as client:
        await client.send("x" * 65_537)
        assert await closed(client) == 1009
    async with web.open(cookie=cookie, compression=None) as client:  # in fragments
        await client.send(["x" * 20_000] * 4)
        assert await closed(client) == 1009
    async with web.open(cookie=cookie) as client:  # small on the wire
        await client.send(" " * 10_000_000)
        assert await closed(client) == 1009


async def test_the_largest_message_is_taken(web: Web, cookie: str) -> None:
    async with web.open(cookie=cookie) as client:
        await read(client, "snapshot")
        await client.send('{"type":"ping","at":1' + " " * (65_536 - 22) + "}")
        assert (await read(client))["type"] == "pong"
        await client.send("")
        assert (await read(client))["code"] == "NOT_JSON"


async def test_a_large_snapshot_goes_out_whole(web: Web, cookie: str, state_redis: Any) -> None:
    """The bound is on what comes in; what goes out may be larger, also to a client that does not compress."""
    first = publish_report(state_redis, a_report("alpha", seq=0))
    for seq in range(1, 1_500):
        publish_report(state_redis, a_report("alpha", seq=seq, message=os.urandom(100).hex()))
    async with web.open(cookie=cookie) as client:
        epoch = (await read(client, "snapshot"))["cursor"].partition(":")[0]
    async with web.open(f"/ws/orders/?cursor={epoch}:{first}", cookie=cookie, compression=None) as client:
        seen = [(await read(client, "report"))["report"]["report_seq"] for _ in range(1_499)]
    assert seen == list(range(1, 1_500))


class Deaf:
    """A client that shakes hands and then takes nothing off its connection."""

    def __init__(self, web: Web, cookie: str, path: str = "/ws/orders/") -> None:
        self.socket = sockets.socket()
        self.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", web.port))
        origin = f"127.0.0.1:{web.port}"
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {origin}\r\nOrigin: http://{origin}\r\nCookie: {cookie}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        self.socket.settimeout(60)
        assert b"101" in self.socket.recv(64)

    def __enter__(self) -> "Deaf":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()


def resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


async def test_a_client_that_does_not_read_is_let_go(web: Web, cookie: str, state_redis: Any) -> None:
    before = web.metric('tradedist_socket_closes_total{code="1013"')
    async with AsyncExitStack() as open_ones:
        for _ in range(10):
            open_ones.enter_context(Deaf(web, cookie))
        client = await open_ones.enter_async_context(web.open(cookie=cookie))
        await read(client, "snapshot")
        memory = resident_kb(web.process.pid)
        filler = "x" * 4_000
        for seq in range(4_000):
            publish_report(state_redis, a_report("alpha", seq=seq, message=filler))
            if seq % 50 == 49:  # the one that reads gets all of it
                for number in range(seq - 49, seq + 1):
                    assert (await read(client, "report"))["report"]["report_seq"] == number
        await eventually(lambda: web.metric('tradedist_socket_closes_total{code="1013"') >= before + 10)
        assert web.metric('tradedist_socket_closes_total{code="1013"') == before + 10
        assert resident_kb(web.process.pid) - memory < 30_000


async def test_a_client_without_pongs_is_dropped(web: Web, cookie: str) -> None:
    started = time.monotonic()

    def wait_for_the_end(deaf: Deaf) -> None:
        deaf.socket.settimeout(60)
        with suppress(ConnectionResetError):
            while deaf.socket.recv(4096):
                pass

    with Deaf(web, cookie, "/ws/chart/") as deaf:
        await asyncio.to_thread(wait_for_the_end, deaf)
    assert time.monotonic() - started > 8


async def test_flooding_is_slowed_not_stored(web: Web, cookie: str) -> None:
    async with web.open(cookie=cookie, compression=None) as client:
        await read(client, "snapshot")
        memory = resident_kb(web.process.pid)
        room = asyncio.Semaphore(
            1_500
        )  # who leaves more answers unread than a mailbox holds is let go, as below

        async def flood() -> None:
            for number in range(20_000):
                await room.acquire()
                await client.send(f'{{"type":"ping","at":{number}}}')

        task = asyncio.create_task(flood())
        for number in range(20_000):
            assert (await read(client, "pong"))["at"] == number
            room.release()
        await task
        assert resident_kb(web.process.pid) - memory < 20_000


async def test_sigterm_sends_the_clients_elsewhere(tmp_path: Path, cookie: str) -> None:
    with run_web(tmp_path) as web:
        async with web.open(cookie=cookie) as orders, web.open("/ws/chart/", cookie=cookie) as chart:
            await read(orders, "snapshot")
            web.process.send_signal(signal.SIGTERM)
            assert await closed(orders) == 1012, web.log.read_text()
            assert await closed(chart) == 1012
        assert await asyncio.to_thread(web.process.wait, 60) == 0
        assert "Traceback" not in web.log.read_text()


async def test_sigterm_does_not_wait_for_a_deaf_client(tmp_path: Path, cookie: str) -> None:
    with run_web(tmp_path) as web, Deaf(web, cookie):
        web.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(web.process.wait, 60) == 0


async def another_fits(web: Web, cookie: str) -> None:
    """The server learns a moment later that one has gone."""
    async with asyncio.timeout(60):
        while True:
            with suppress(OSError, ConnectionClosed, EOFError, InvalidHandshake):
                async with web.open(cookie=cookie) as client:
                    await read(client, "snapshot")
                    return
            await asyncio.sleep(0.05)


async def test_connections_are_capped(tmp_path: Path, cookie: str) -> None:
    with run_web(tmp_path, MAX_CONNECTIONS="10", SOCKETS_PER_USER="100") as web:
        clients = [await web.open(cookie=cookie) for _ in range(10)]
        for client in clients:
            await read(client, "snapshot")
        with pytest.raises((OSError, ConnectionClosed, EOFError, Exception)) as refusal:
            await web.open(cookie=cookie, open_timeout=30)
        assert refusal.type is not TimeoutError
        await clients[0].close()
        await another_fits(web, cookie)
        for client in clients:
            await client.close()


def test_a_busy_port_is_said(tmp_path: Path, web: Web, state_redis: Any) -> None:
    answer = subprocess.run(
        [sys.executable, "manage.py", "run_web", "--port", str(web.port)],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert answer.returncode == 1
    assert f"127.0.0.1:{web.port} cannot be listened on" in answer.stderr.decode()
