"""Order round trip as a browser has it: order socket → fill report on that socket, ours and plain Celery behind the same web.

`make bench`, or `python -m bench.browser [--short]`. Plain Celery's web process (`plain_web.py`) is ours with `send_task` in
place of accept; its worker does the work of `bench.work`. Blocks take turns, the other's processes stopped meanwhile.
"""

import argparse
import contextlib
import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import connect

from bench.alternatives import celery_queue
from bench.contenders import signal_of
from bench.figures import machine
from bench.lab import Lab, python, terminal_name
from bench.orders import OURS, PAUSE_S, Table, show_trace
from bench.workers import Workers

LIMIT_S = 30.0
WATCHED_S = 2.0  # between orders, as a trader has it who looks at the chart first


class Client:
    """One browser's order socket."""

    def __init__(self, url: str, token: str) -> None:
        self._open = connect(url, additional_headers={"Authorization": f"Bearer {token}"}, max_size=None)
        self.accepted_ms: list[float] = []
        self.reports: list[dict[str, Any]] = []

    def __enter__(self) -> "Client":
        self._socket = self._open.__enter__()
        self._until(lambda message: message["type"] == "snapshot")
        return self

    def __exit__(self, *_: object) -> None:
        self._open.__exit__(None, None, None)

    def place(self, number: int) -> float:
        """Milliseconds from the send to the fill report; those to the answer are noted."""
        wanted = signal_of(number) | {"targets": {"terminals": [terminal_name(0)]}}
        signal_id = wanted["signal_id"]
        text = json.dumps({"type": "signal", "request_id": signal_id, "signal": wanted})
        began = time.perf_counter()
        filled_ms = 0.0
        answered = False

        def done(message: dict[str, Any]) -> bool:
            nonlocal filled_ms, answered
            if message["type"] == "refused":
                raise RuntimeError(f"refused: {message}")
            if message["type"] == "accepted":
                self.accepted_ms.append((time.perf_counter() - began) * 1000)
                answered = True
            report = message.get("report") or {}
            if report.get("signal_id") == signal_id and report["state"] not in ("QUEUED", "INTENT"):
                if report["state"] != "FILLED":
                    raise RuntimeError(f"not filled: {report}")
                filled_ms = (time.perf_counter() - began) * 1000
                self.reports.append(report)
            return bool(filled_ms) and answered

        self._socket.send(text)
        self._until(done)
        return filled_ms

    def _until(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            if wanted(json.loads(self._socket.recv(timeout=LIMIT_S))):
                return
        raise TimeoutError("the message did not come")


@contextlib.contextmanager
def stopped(*processes: "subprocess.Popen[bytes]") -> Iterator[None]:
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def measure(lab: Lab, rounds: int, orders: int, watched: int) -> None:
    from executors import tokens

    token, _ = tokens.create(lab.user, "bench", actor="bench")
    plain_port = lab.port + 10
    web = lab.run("web")
    with Workers(lab, "celery_queue", 1) as workers:
        plain_web = lab.spawn(python("-m", "bench.plain_web", str(plain_port)), "plain-web")
        workers.wait()
        for port in (lab.port, plain_port):
            wait_for(f"http://127.0.0.1:{port}/api/health")
        table, answers = Table("Round trip through browser socket and web"), Table("… until accepted")
        rested = Table(f"The same, {WATCHED_S:.0f} s after the last order")
        reports: list[dict[str, Any]] = []

        def block(name: str, port: int) -> None:
            with Client(f"ws://127.0.0.1:{port}/ws/orders/", token) as client:
                for number in range(4):
                    client.place(number)
                client.accepted_ms.clear()
                client.reports.clear()
                for number in range(orders):
                    table.samples.setdefault(name, []).append(client.place(number))
                    time.sleep(PAUSE_S)
                answers.samples.setdefault(name, []).extend(client.accepted_ms)
                for number in range(watched):
                    time.sleep(WATCHED_S)
                    rested.samples.setdefault(name, []).append(client.place(number))
                if name == OURS:
                    reports.extend(client.reports)

        for _ in range(rounds):
            workers.pause()
            with stopped(plain_web):
                time.sleep(0.2)
                block(OURS, lab.port)
            workers.resume()
            with lab.frozen(), stopped(web):
                time.sleep(0.2)
                block(celery_queue.NAME, plain_port)
    table.show(celery_queue.NAME)
    answers.show(celery_queue.NAME)
    rested.show(celery_queue.NAME)
    show_trace(reports)


def wait_for(url: str) -> None:
    until = time.monotonic() + LIMIT_S
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2).status_code < 600:
                return
        if time.monotonic() > until:
            raise TimeoutError(f"{url} does not answer")
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few orders of each: does it work at all")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="tradedist-bench-") as name, Lab(Path(name), 1) as lab:
        measure(lab, *((1, 4, 2) if options.short else (6, 40, 6)))


if __name__ == "__main__":
    main()
