"""A real feed process for tests, and a relay through which TCP passes and UDP does not."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from executors.messages import TerminalConfig
from executors.ticker import Ticker
from tests.waiting import Watched
from tradedist import keys
from tradedist.ports import free_block

ROOT = Path(__file__).resolve().parent.parent
START_LIMIT_S = 60.0


def config_of(terminal_id: str = "demo-1", **changes: Any) -> TerminalConfig:
    fields: dict[str, Any] = {
        "version": 1,
        "label": terminal_id,
        "kind": "paper",
        "enabled": True,
        "host_id": "local",
        "epoch": 1,
        "login": 1,
        "server": "Paper",
        "sealed_password": "",
        "symbols": ["EURUSD"],
        "tick_priority": 1,
    }
    return TerminalConfig(terminal_id=terminal_id, **(fields | changes))


class FeedProcess:
    """`manage.py run_feed` on free ports against one tick Redis. `start` returns when it listens."""

    def __init__(self, ticks_url: str) -> None:
        self.port = free_block(2)
        self._environment = os.environ | {
            "REDIS_TICKS_URL": ticks_url,
            "FEED_PORT": str(self.port),
            "FEED_METRICS_PORT": str(self.port + 1),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.port + 1}/metrics"

    def start(self) -> "FeedProcess":
        self._process = subprocess.Popen(
            [sys.executable, "manage.py", "run_feed"], cwd=ROOT, env=self._environment
        )
        until = time.monotonic() + START_LIMIT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(self.address, timeout=1):
                return self
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the feed did not start")
            time.sleep(0.02)

    def second(self) -> "subprocess.CompletedProcess[str]":
        """Another feed on the same ports, to its end."""
        return subprocess.run(
            [sys.executable, "manage.py", "run_feed"],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(number)
        code = self._process.wait(60)
        self._process = None
        return code


class Polling(Watched):
    """Polls tickers in a thread, as an executor does between orders."""

    def __init__(self, *tickers: Ticker) -> None:
        super().__init__()
        self._tickers = tickers
        self._ended = threading.Event()
        self.slowest_ms = 0.0

    def __enter__(self) -> "Polling":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        try:
            self.join()
        finally:
            for ticker in self._tickers:
                ticker.close()

    def work(self) -> None:
        while not self._ended.wait(0.005):
            for ticker in self._tickers:
                started = time.monotonic()
                ticker.poll()
                self.slowest_ms = max(self.slowest_ms, (time.monotonic() - started) * 1000)


class TcpRelay:
    """Passes TCP connections on to the feed. Nothing listens for UDP on its port: every datagram is lost."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = ("127.0.0.1", self._server.getsockname()[1])
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in [self._server, *self._sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def cut(self) -> None:
        """Break the connections that are open now."""
        sockets, self._sockets = self._sockets, []
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                inside, _ = self._server.accept()
                try:
                    outside = socket.create_connection(self._target, timeout=5)
                except OSError:
                    inside.close()
                    continue
                for one in (inside, outside):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    one.settimeout(None)
                self._sockets += [inside, outside]
                for source, sink in ((inside, outside), (outside, inside)):
                    threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while passed := source.recv(65_536):
            sink.sendall(passed)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def heartbeat(client: Any) -> dict[str, Any]:
    import json

    return dict(json.loads(client.get(keys.FEED_HEARTBEAT) or "{}"))
