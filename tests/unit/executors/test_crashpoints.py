"""A crash is armed for one process at a time, and takes its line away with it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from executors import crashpoints, worker
from executors.locks import TerminalLock
from executors.restarts import EXIT_LOCKED

PROGRAM = (
    "from executors import crashpoints as c; c.belongs_to('oslo-1'); c.reached('after-send'); print('alive')"
)


def _run(file: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"CRASH_POINTS_FILE": str(file)},
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_named_process_dies_by_its_own_file_and_only_by_that(tmp_path: Path) -> None:
    common, own = tmp_path / "points", tmp_path / "points.oslo-1"
    common.write_text("after-send")
    own.write_text("after-intent")
    assert _run(common).stdout == "alive\n"
    own.write_text("after-send\nbefore-look")
    assert _run(common).returncode == -signal.SIGKILL
    assert (common.read_text(), own.read_text()) == ("after-send", "before-look")


def test_each_executor_is_armed_by_its_terminals_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without it the crash tests would arm files that nobody looks into."""
    names: list[str] = []
    monkeypatch.setattr(crashpoints, "belongs_to", names.append)
    monkeypatch.setattr(worker, "directory_of", lambda terminal_id: tmp_path / terminal_id)
    monkeypatch.setattr("setproctitle.setproctitle", lambda title: None)
    held = TerminalLock(tmp_path / "oslo-1")
    assert held.take()
    nothing: Any = None
    config: Any = type("Config", (), {"terminal_id": "oslo-1"})
    assert worker.main(nothing, config, nothing) == EXIT_LOCKED
    assert names == ["oslo-1"]
