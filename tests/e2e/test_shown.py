"""What a running platform shows: its screen and status, its workers in Flower, its logs; and that a second one is refused."""

import json
import subprocess
import sys
import uuid
from typing import Any

import httpx

from tests.e2e.test_running import NAMES, command
from tests.stack import ROOT, Stack
from tests.waiting import wait_until


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
