"""What `make run`, `make status` and `make stop` promise: one screen, nothing left behind, nothing done halfway."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.stack import ROOT, Stack
from tests.waiting import wait_until
from tradedist import processes
from tradedist.ports import is_free
from tradedist.processes import ProcessId

NAMES = {
    "valkey-state",
    "valkey-ticks",
    "paper-broker",
    "web",
    "terminals",
    "feed",
    "housekeeping",
    "beat",
    "flower",
}


@pytest.fixture
def stack() -> Iterator[Stack]:
    """One that is not started yet, so that a test may start, kill and start it again."""
    with tempfile.TemporaryDirectory(prefix="tradedist-run-") as directory:
        stack = Stack(Path(directory) / "data")
        yield stack
        stack.stop(signal.SIGTERM)


def command(stack: Stack, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tradedist.running", *arguments],
        cwd=ROOT,
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def ports_are_free(stack: Stack) -> bool:
    return all(is_free(port) for port in range(stack.port, stack.port + 9))


def test_everything_is_up_and_shown(running_stack: Stack) -> None:
    assert set(running_stack.control().states()) == NAMES
    status = command(running_stack, "status")
    assert status.returncode == 0, status.stdout
    assert all(name in status.stdout for name in NAMES)
    screen = running_stack.output.read_text()
    for name, password in running_stack.users.items():
        assert name in screen
        assert password in screen
    for address in (
        running_stack.base_url,
        f":{running_stack.port + 4}",
        "/admin/",
        "/metrics",
        "/api/docs",
        "Ctrl-C",
    ):
        assert address in screen


def test_flower_shows_terminal_workers_to_those_who_sign_in(running_stack: Stack) -> None:
    flower = f"http://localhost:{running_stack.port + 4}"
    assert httpx.get(f"{flower}/workers", timeout=30).status_code == 401
    auth = ("admin", running_stack.secret("flower_password"))

    def workers() -> set[str]:
        rows = httpx.get(f"{flower}/workers?json=1", auth=auth, timeout=30).json()["data"]
        return {row["hostname"].partition("@")[0] for row in rows}

    wait_until(lambda: workers() >= {"london-1", "tokyo-2", "zurich-3", "housekeeping"}, 60)


def test_flower_shows_an_order_with_its_outcome_and_every_worker_answers_ping(running_stack: Stack) -> None:
    flower = f"http://localhost:{running_stack.port + 4}"
    auth = ("admin", running_stack.secret("flower_password"))
    body = {
        "signal_id": str(uuid.uuid4()),
        "action": "open",
        "symbol": "EURUSD",
        "side": "buy",
        "lots": 0.00001,  # denied, so that nothing stays open
        "targets": {"terminals": ["london-1"]},
    }
    headers = {"Authorization": f"Bearer {running_stack.token('trader')}"}
    answer = httpx.post(f"{running_stack.base_url}/api/signals", json=body, headers=headers, timeout=30)
    assert answer.status_code == 202

    def shown() -> dict[str, Any]:
        found = httpx.get(f"{flower}/api/task/info/{body['signal_id']}:london-1", auth=auth, timeout=30)
        row: dict[str, Any] = found.json() if found.status_code == 200 else {}
        return row if row.get("state") == "SUCCESS" else {}

    row = wait_until(shown, 60)
    assert row["worker"].startswith("london-1@")
    assert "DENIED" in row["result"]
    assert "LOTS_BELOW_MIN" in row["result"]
    command = [
        sys.executable,
        "-m",
        "celery",
        "--app",
        "tradedist",
        "inspect",
        "ping",
        "--timeout",
        "10",
        "--json",
    ]

    def answered() -> set[str]:
        said = subprocess.run(
            command, cwd=ROOT, env=running_stack.environment, capture_output=True, text=True, timeout=120
        )
        return {name.partition("@")[0] for name in json.loads(said.stdout)} if said.returncode == 0 else set()

    wait_until(lambda: answered() >= {"london-1", "tokyo-2", "zurich-3", "housekeeping"}, 120)


def test_logs_of_one_process_and_of_none(running_stack: Stack) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tradedist.running", "logs", "valkey-state"],
        cwd=ROOT,
        env=running_stack.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        lines = [following.stdout.readline() for _ in range(3)]
        following.terminate()
    assert any("Valkey" in line or "valkey" in line for line in lines)
    wrong = command(running_stack, "logs", "nonesuch")
    assert wrong.returncode == 1
    assert "There are: valkey-state" in wrong.stdout


def test_refuses_a_second_run_on_the_same_files(running_stack: Stack) -> None:
    second = command(running_stack, "run")
    assert second.returncode == 1
    assert "runs already" in second.stdout
    assert "DATA_DIR" in second.stdout
    assert command(running_stack, "status").returncode == 0


def test_says_which_port_is_busy_and_starts_nothing(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", stack.port + 4)):
        refused = command(stack, "run")
    assert refused.returncode == 1
    assert f"port {stack.port + 4} (FLOWER_PORT) is in use" in refused.stdout
    assert f"(pid {os.getpid()})" in refused.stdout
    assert not (stack.data_dir / "logs" / "web.log").exists()
    assert stack.processes() == []


def test_ctrl_c_leaves_nothing_and_a_second_start_keeps_everything(stack: Stack) -> None:
    began = time.monotonic()
    stack.start()
    print(f"first start {time.monotonic() - began:.1f} s")
    users = stack.users
    everything = stack.processes()
    assert len(everything) >= len(NAMES) + 3

    began = time.monotonic()
    stack.stop(signal.SIGINT)
    print(f"stop {time.monotonic() - began:.1f} s")
    assert stack.launcher is not None
    assert stack.launcher.returncode == 0
    assert [process for process in everything if process.is_running()] == []
    assert ports_are_free(stack)
    assert "Nothing is left running" in stack.output.read_text()
    assert command(stack, "status").returncode == 1

    began = time.monotonic()
    stack.start()
    print(f"second start {time.monotonic() - began:.1f} s")
    assert stack.users == users
    assert command(stack, "stop").returncode == 0
    assert stack.launcher.wait(60) == 0
    assert stack.processes() == []


def test_a_killed_process_manager_is_brought_back_and_a_closed_terminal_stops_everything(
    stack: Stack,
) -> None:
    master, slave = pty.openpty()
    stack.start(stdin=slave)
    os.close(slave)
    manager = psutil.Process(stack.launcher_pid).children()[0]
    before = stack.pids()
    manager.kill()
    wait_until(lambda: "All parts are well again" in stack.output.read_text(), 120)

    def all_new() -> bool:  # an executor tells its pid when it has begun
        now = stack.pids()
        return set(now) == set(before) and not set(now.values()) & set(before.values())

    wait_until(all_new)
    wait_until(lambda: httpx.get(f"{stack.base_url}/api/health", timeout=30).status_code == 200)

    # also without SIGHUP: make, told of the hang-up, keeps it to itself when no shell stands between
    os.close(master)
    assert stack.launcher is not None
    assert stack.launcher.wait(60) == 0
    assert stack.processes() == []


def test_a_killed_run_ends_by_itself(stack: Stack) -> None:
    stack.start()
    everything = stack.processes()
    commands = {process.pid: process.cmdline() for process in everything}
    manager = psutil.Process(stack.launcher_pid).children()[0]
    os.kill(stack.launcher_pid, signal.SIGKILL)
    manager.kill()
    # Each of the others is told by the kernel that its parent is gone.
    _, alive = psutil.wait_procs(everything, timeout=60)
    assert [commands[process.pid] for process in alive] == []
    assert ports_are_free(stack)


def test_the_next_run_ends_what_an_earlier_one_left(stack: Stack) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    environment = stack.environment | {processes.MARK: str(stack.data_dir)}
    stranger_environment = stack.environment | {processes.MARK: "/somewhere/else"}
    with (
        subprocess.Popen([sys.executable, "-c", deaf], env=environment, stdout=subprocess.PIPE) as leftover,
        subprocess.Popen(
            [sys.executable, "-c", deaf], env=stranger_environment, stdout=subprocess.PIPE
        ) as stranger,
    ):
        for process in (leftover, stranger):
            assert process.stdout is not None
            assert process.stdout.readline() == b"deaf\n"
        assert "Ended 1 processes that were left" in command(stack, "stop").stdout
        assert leftover.wait(60) == -signal.SIGKILL
        assert stranger.poll() is None
        stranger.kill()


def test_a_pid_that_was_given_to_another_process_is_not_ended(stack: Stack) -> None:
    """After a reboot the file may name any process: here this very test's."""
    run = stack.data_dir / "run"
    run.mkdir(parents=True)
    ProcessId(os.getpid(), psutil.Process().create_time() - 1000).write(run / "launcher.json")
    stopped = command(stack, "stop")
    assert stopped.returncode == 0
    assert "It was not running" in stopped.stdout
