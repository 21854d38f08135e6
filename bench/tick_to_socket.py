"""Age of the newest tick when it reaches a browser's socket: source → feed → Redis → web process → many sockets.

`.venv/bin/python -m bench.tick_to_socket [--rates 20 1000] [--sockets 50] [--seconds 10]`. Starts two Valkeys, the feed
and the web process on free ports. The sockets are read by a process that only notes when bytes arrive; it unpacks
them afterwards, as browsers would each on a machine of their own.
"""

import argparse
import base64
import json
import multiprocessing
import os
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from bench.figures import line, machine

ROOT = Path(__file__).resolve().parent.parent
SYMBOL = "EURUSD"
SOURCE = "bench"
FIRST_BID = 1.0
WARM_UP_S = 2.0
BID = re.compile(rb'"type":"update".*?"bid":([0-9.]+)')
PING = b'\x81\x8f\0\0\0\0{"type":"ping"}'  # a message now and then keeps the server's pings from ending the socket


# --- The browsers ---


def handshake(port: int, token: str) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16)).decode()
    one.sendall(
        f"GET /ws/chart/?symbol={SYMBOL}&seconds=60 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += one.recv(1)
    if b" 101 " not in head:
        raise RuntimeError(f"the handshake was refused: {head!r}")
    return one


def listen(port: int, token: str, sockets: int, seconds: float, pipe: Connection) -> None:
    """Child process: notes (socket, arrival in ns, bytes); sends back (bid, arrival in ns) of every update."""
    selector = selectors.DefaultSelector()
    opened = [handshake(port, token) for _ in range(sockets)]
    for number, one in enumerate(opened):
        one.setblocking(False)
        selector.register(one, selectors.EVENT_READ, number)
    pipe.send("ready")
    noted: list[tuple[int, int, bytes]] = []
    ends, ping = time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < ends:
        for key, _ in selector.select(0.2):
            data = opened[key.data].recv(65536)
            noted.append((key.data, time.time_ns(), data))
        if time.monotonic() - ping > 2:
            ping = time.monotonic()
            for one in opened:
                one.sendall(PING)
    pipe.send([found for number in range(sockets) for found in arrivals(number, noted)])
    pipe.recv()  # the sockets stay open until the server's own figures are taken


def arrivals(number: int, noted: list[tuple[int, int, bytes]]) -> list[tuple[float, int]]:
    inflate = zlib.decompressobj(-15)
    buffer, found = b"", []
    for owner, at_ns, data in noted:
        if owner != number:
            continue
        buffer += data
        while (frame := unpack(buffer)) is not None:
            head, payload, buffer = frame
            if head & 0x0F == 8:
                raise RuntimeError(f"the server closed a socket: {payload!r}")
            if head & 0x40:
                payload = inflate.decompress(payload + b"\0\0\xff\xff")
            if match := BID.search(payload):
                found.append((float(match[1]), at_ns))
    return found


def unpack(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    """The first frame of a server: (first byte, payload, rest)."""
    if len(buffer) < 2:
        return None
    length, place = buffer[1] & 0x7F, 2
    if length == 126:
        length, place = int.from_bytes(buffer[2:4], "big"), 4
    elif length == 127:
        length, place = int.from_bytes(buffer[2:10], "big"), 10
    if len(buffer) < place + length:
        return None
    return buffer[0], buffer[place : place + length], buffer[place + length :]


# --- The source ---


def send_ticks(port: int, rate: float, seconds: float, first: int) -> dict[float, int]:
    """Datagrams to the feed, one tick each, as an executor's ticker sends them. Returns bid → time of sending."""
    from django.conf import settings

    from tradedist.clock import now_ms
    from tradedist.wire import Frame, Keyring, Kind, seal

    keyring = Keyring({0: settings.WIRE_KEY})
    sent: dict[float, int] = {}
    boot = now_ms()
    started = time.perf_counter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for number in range(int(rate * seconds)):
            wait = started + number / rate - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            bid = round(FIRST_BID + (first + number) * 1e-5, 5)
            at_ns = time.time_ns()
            moment = at_ns // 1_000_000
            payload = json.dumps({"p": 1, "t": [[SYMBOL, moment, bid, round(bid + 1e-4, 5)]]}).encode()
            frame = Frame(Kind.TICKS, SOURCE, boot, 0, number + 1, moment, payload)
            one.sendto(seal(frame, keyring), ("127.0.0.1", port))
            sent[bid] = at_ns
    return sent


# --- The run ---


def cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def start(stack: ExitStack, command: str, log: Path, port: int) -> int:
    output = stack.enter_context(log.open("wb"))
    process = subprocess.Popen([sys.executable, "manage.py", command], cwd=ROOT, stdout=output, stderr=output)
    stack.callback(process.wait, 10)
    stack.callback(process.terminate)
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process.pid
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command} did not start:\n{log.read_text()[-3000:]}") from None
            time.sleep(0.05)


def make_token() -> str:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth import get_user_model

    from executors import tokens

    user = get_user_model().objects.create_user("bench")
    return tokens.create(user, "bench", actor=user)[0]


def run(arguments: argparse.Namespace, directory: Path, stack: ExitStack) -> None:
    from tests.valkey import Valkey
    from tradedist.ports import free_block

    port = free_block(12)
    servers = [
        Valkey(directory / "state", durable=True, port=port + 1),
        Valkey(directory / "ticks", durable=False, port=port + 2),
    ]
    for server in servers:
        stack.callback(server.start().stop)
    os.environ.update(
        DJANGO_SETTINGS_MODULE="tradedist.settings",
        DATA_DIR=str(directory / "data"),
        PORT=str(port),
        REDIS_STATE_URL=servers[0].url,
        REDIS_TICKS_URL=servers[1].url,
        SOCKETS_PER_USER=str(arguments.sockets),
        LOG_LEVEL="WARNING",
    )
    from django.conf import settings

    from charts.messages import SymbolInfo
    from tradedist import keys

    token = make_token()
    with servers[1].client() as client:
        info = SymbolInfo(
            symbol=SYMBOL,
            digits=5,
            point=1e-5,
            volume_min=0.01,
            volume_max=100,
            volume_step=0.01,
            contract_size=1e5,
        )
        client.hset(keys.SYMBOLS, SYMBOL, info.model_dump_json())
    start(stack, "run_feed", directory / "feed.log", settings.FEED_PORT)
    web = start(stack, "run_web", directory / "web.log", port)
    print(f"{machine()}\n{arguments.sockets} chart sockets, {arguments.seconds:g} s each, permessage-deflate")
    first = 0
    for rate in arguments.rates:
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        seconds = WARM_UP_S + arguments.seconds
        child = multiprocessing.get_context("spawn").Process(
            target=listen, args=(port, token, arguments.sockets, seconds + 1, theirs)
        )
        child.start()
        theirs.close()
        assert ours.recv() == "ready"
        before = cpu_s(web)
        sent = send_ticks(settings.FEED_PORT, rate, seconds, first)
        busy = (cpu_s(web) - before) / seconds
        first += len(sent)
        if not ours.poll(seconds + 30):
            raise RuntimeError(f"the sockets ended:\n{(directory / 'web.log').read_text()[-3000:]}")
        arrived: list[tuple[float, int]] = ours.recv()
        ours.send("done")
        child.join(10)
        warm = min(sent.values()) + int(WARM_UP_S * 1e9)
        ages = [(at_ns - sent[bid]) / 1e6 for bid, at_ns in arrived if bid in sent and sent[bid] > warm]
        print(line(f"{rate:g} ticks/s, source to socket", ages), f"  web process {busy:.0%} of a core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rates", type=float, nargs="+", default=[20.0, 1000.0])
    parser.add_argument("--sockets", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0)
    with tempfile.TemporaryDirectory(prefix="tradedist-bench-") as directory, ExitStack() as stack:
        run(parser.parse_args(), Path(directory), stack)


if __name__ == "__main__":
    main()
