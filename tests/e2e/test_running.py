"""What `make run`, `make status` and `make stop` promise: one screen, nothing left behind, nothing done halfway."""

import os
import pty
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

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
