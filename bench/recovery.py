"""Recovery: how long after a SIGKILL each process of a run is there again, and does its work again.

`make bench`, or `python -m bench.recovery [rounds]`. Starts the platform on free ports with the demo playing. What
"works" means is asked from outside, in the way its users would: see `works`.
"""

import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import redis

from bench.figures import machine
from tests.stack import Stack
from tests.waiting import wait_until
from tradedist import keys

QUIET_S = 5.0  # between two kills: what ends sooner after its start is restarted with a pause, by design


def _answers(url: str, *statuses: int) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code in statuses
    except httpx.HTTPError:
        return False


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def _pings(client: "redis.Redis") -> bool:
    try:
        with client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _instance(stack: Stack, terminal_id: str, *fields: str) -> list[str]:
    try:
        with stack.state() as client:
            return [value or "" for value in client.hmget(keys.instance(terminal_id), list(fields))]
    except redis.RedisError:
        return [""] * len(fields)


def _beat(stack: Stack, name: str, since_ms: float) -> bool:
    with stack.state() as client:
        return int(client.hget(keys.HEARTBEATS, name) or 0) > since_ms


def works(stack: Stack, name: str, killed_ms: float) -> Callable[[], bool]:
    """The question that only a working process of that name answers with yes."""
    port = stack.port
    if name.startswith("terminal."):
        terminal_id = name.removeprefix("terminal.")

        def ready() -> bool:
            state, seen = _instance(stack, terminal_id, "state", "seen_ms")
            return state == "READY" and int(seen or 0) > killed_ms

        return ready
    return {
        "valkey-state": lambda: _pings(stack.state()),
        "valkey-ticks": lambda: _pings(stack.ticks()),
        "paper-broker": lambda: _listens(port + 3),
        "web": lambda: _answers(f"http://localhost:{port}/api/health", 200),
        "terminals": lambda: _beat(stack, "terminals:local", killed_ms),
        "feed": lambda: _beat(stack, "feed:local", killed_ms),
        "flower": lambda: _answers(f"http://localhost:{port + 4}/", 401),
    }[name]


def well(stack: Stack) -> bool:
    try:
        return bool(httpx.get(f"{stack.base_url}/api/health", timeout=2).json()["status"] == "ok")
    except (httpx.HTTPError, ValueError, LookupError):
        return False


def idle_share(stack: Stack, seconds: float = 10.0) -> float:
    """Of one core, what the process manager itself takes."""
    manager = psutil.Process(stack.launcher_pid).children()[0]
    before = sum(manager.cpu_times()[:2])
    time.sleep(seconds)
    return (sum(manager.cpu_times()[:2]) - before) / seconds


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="tradedist-bench-") as directory:
        stack = Stack(Path(directory) / "data")
        began = time.monotonic()
        stack.start()
        print(f"{machine()}\nfirst start of an installed platform {time.monotonic() - began:.1f} s")
        try:
            print(f"the process manager, idle: {100 * idle_share(stack):.1f} % of a core")
            print(
                f"{'killed':<18} {'another runs after':>20} {'works again after':>20}   (ms, median of {rounds})"
            )
            names = [
                "valkey-state",
                "valkey-ticks",
                "web",
                "terminals",
                "terminal.london-1",
                "feed",
                "paper-broker",
            ]
            for name in [*names, "flower"]:
                there, working = [], []
                for _ in range(rounds):
                    wait_until(lambda: well(stack), 60)
                    time.sleep(QUIET_S)
                    began, killed_ms = time.monotonic(), time.time() * 1000
                    old = stack.kill(name)
                    stack.wait_replaced(name, old)
                    there.append(1000 * (time.monotonic() - began))
                    wait_until(works(stack, name, killed_ms), 60, 0.01)
                    working.append(1000 * (time.monotonic() - began))
                middle = rounds // 2
                print(
                    f"{name:<18} {sorted(there)[middle]:>20.0f} {sorted(working)[middle]:>20.0f}", flush=True
                )
        finally:
            began = time.monotonic()
            stack.stop()
            print(f"stop {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
