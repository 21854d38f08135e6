"""Order round trip: WebSocket client → fill report, beside the same work as a plain Celery task, in the same run.

`make bench`, or `python -m bench.order_roundtrip [orders]`. Starts the whole platform on free ports, with a paper
broker at zero configured latency. Blocks of both alternate, so that whatever else the machine does meets both.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import redis
from websockets.sync.client import ClientConnection, connect

from bench.figures import line, machine, percentile
from tests.chaos.test_kill_each_process import raise_limits
from tests.stack import Stack, wait_until

TERMINAL = "london-1"
BLOCK = 50


class Ours:
    """A client of the order socket."""

    def __init__(self, stack: Stack) -> None:
        self._open = connect(
            f"{stack.ws_url}/ws/orders/",
            additional_headers={"Authorization": f"Bearer {stack.token('trader')}"},
            max_size=None,
        )
        self._socket: ClientConnection = self._open.__enter__()
        self._socket.send(json.dumps({"type": "resume", "cursor": None}))
        self._until(lambda message: message["type"] == "snapshot")
        self.own_us: list[float] = []

    def place(self, side: str) -> float:
        """Milliseconds from the send to the fill report."""
        signal_id = str(uuid.uuid4())
        signal = signal_of(signal_id, side) | {"targets": {"terminals": [TERMINAL]}}
        began = time.perf_counter()
        self._socket.send(json.dumps({"type": "signal", "request_id": signal_id, "signal": signal}))

        def filled(message: dict[str, Any]) -> bool:
            if message["type"] == "refused":
                raise RuntimeError(f"refused: {message}")
            report = message.get("report") or {}
            if report.get("signal_id") != signal_id or report["state"] in ("QUEUED", "INTENT"):
                return False
            if report["state"] != "FILLED":
                raise RuntimeError(f"not filled: {report}")
            self.own_us.append(report["trace"]["own_us"])
            return True

        self._until(filled)
        return (time.perf_counter() - began) * 1000

    def flat(self) -> None:
        """Close what the block opened, outside the measurement: each is measured on an account without positions."""
        signal_id = str(uuid.uuid4())
        signal = {
            "signal_id": signal_id,
            "action": "close",
            "all": True,
            "targets": {"terminals": [TERMINAL]},
        }
        self._socket.send(json.dumps({"type": "signal", "request_id": signal_id, "signal": signal}))
        self._until(
            lambda message: (
                (message.get("report") or {}).get("signal_id") == signal_id
                and message["report"]["state"] in ("FILLED", "DONE")
            )
        )
        time.sleep(0.5)

    def close(self) -> None:
        self._open.__exit__(None, None, None)

    def _until(self, wanted: Any) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if wanted(json.loads(self._socket.recv(timeout=10))):
                return
        raise TimeoutError("the message did not come")


class Plain:
    """A client of a plain Celery worker."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        os.environ["BENCH_BROKER"] = f"redis://:{stack.secret('redis_password')}@127.0.0.1:{stack.port + 1}/1"
        environment = stack.environment | {
            "BENCH_BROKER": os.environ["BENCH_BROKER"],
            "BENCH_JOURNAL": str(directory / "plain.sqlite3"),
            "BENCH_ACCOUNT": account_of(stack),
        }
        self._log = (directory / "plain.log").open("wb")
        self._worker = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "celery",
                "-A",
                "bench.plain_celery",
                "worker",
                "-P",
                "solo",
                "-c",
                "1",
                "-l",
                "INFO",
            ],
            env=environment,
            stdout=self._log,
            stderr=self._log,
        )
        from bench import plain_celery

        plain_celery.app.conf.update(broker_url=os.environ["BENCH_BROKER"])
        self._task = plain_celery.place
        self._results = plain_celery.RESULTS
        self._redis = redis.Redis.from_url(os.environ["BENCH_BROKER"], decode_responses=True)
        self._last = "0-0"
        wait_until(lambda: b"ready." in (directory / "plain.log").read_bytes(), limit_s=30)

    def place(self, side: str) -> float:
        signal_id = str(uuid.uuid4())
        began = time.perf_counter()
        self._task.delay(signal_of(signal_id, side))
        while True:
            answer: Any = self._redis.xread({self._results: self._last}, block=5000)
            if not answer:
                raise TimeoutError("the plain task gave no result")
            for entry_id, fields in answer[0][1]:
                self._last = entry_id
                if json.loads(fields["report"])["signal_id"] == signal_id:
                    return (time.perf_counter() - began) * 1000

    def close(self) -> None:
        self._worker.terminate()
        self._worker.wait(10)
        self._log.close()


def signal_of(signal_id: str, side: str) -> dict[str, Any]:
    return {
        "signal_id": signal_id,
        "action": "open",
        "symbol": "EURUSD",
        "side": side,
        "order_type": "market",
        "lots": 0.1,
    }


def account_of(stack: Stack) -> str:
    """A second account at the broker of the terminal, so that both work on the same conditions."""
    from executors.terminals.paper.oracle import Operator

    url = f"tcp://127.0.0.1:{stack.port + 3}"
    with Operator(url) as operator:
        made = operator.ensure_account(990001, "bench-password", "ecn", 1_000_000)
    return f"990001|bench-password|{made['server']}|{url}"


def main(orders: int = 400) -> None:
    with tempfile.TemporaryDirectory(prefix="tradedist-bench-") as name:
        directory = Path(name)
        stack = Stack(
            directory / "data",
            ORDERS_PER_SECOND="100000",
            BREAKER_REJECTIONS="0",
            PAPER_LATENCY_PERCENT="0",
            LOG_LEVEL="WARNING" if "--quiet" in sys.argv else "INFO",
        ).start()
        try:
            raise_limits(stack)
            time.sleep(1.0)
            ours, plain = Ours(stack), Plain(stack, directory)
            samples: dict[str, list[float]] = {"ours": [], "plain": []}
            for index in range(20):
                ours.place("buy" if index % 2 else "sell")
                plain.place("buy" if index % 2 else "sell")
            ours.own_us.clear()
            for _ in range(orders // BLOCK):
                for label, client in (("ours", ours), ("plain", plain)):
                    for index in range(BLOCK):
                        samples[label].append(client.place("buy" if index % 2 else "sell"))
                ours.flat()
            plain.close()
            ours.close()
        finally:
            stack.stop()
    print(machine())
    print(line("Tradedist, WebSocket client → fill report", samples["ours"]))
    print(line("plain Celery task, send_task → result stream", samples["plain"]))
    print(line("of it the executor's own time", [value / 1000 for value in ours.own_us]))
    ratio = percentile(samples["ours"], 0.5) / percentile(samples["plain"], 0.5)
    print(f"ratio of the medians: {ratio:.2f}")


if __name__ == "__main__":
    main(*[int(item) for item in sys.argv[1:] if item.isdigit()])
