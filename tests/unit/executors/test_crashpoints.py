"""A crash is armed for one process at a time, and takes its line away with it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

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
