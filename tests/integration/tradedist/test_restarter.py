"""supervisord as `make run` uses it: the killed come back, the broken are tried again, orphans do not exist."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from django.conf import settings

from tests.waiting import wait_until
from tradedist import probes, processes, programs
from tradedist.child import die_with_parent
from tradedist.control import Control
from tradedist.embedded import EmbeddedValkey
from tradedist.ports import free_block

SLEEPER = [sys.executable, "-c", "import time; time.sleep(3600)"]


@pytest.fixture
def valkey(tmp_path: Path) -> EmbeddedValkey:
    server = EmbeddedValkey("valkey-state", tmp_path / "valkey", free_block(1), "secret", True, 64)
    server.prepare()
    return server


@pytest.fixture
def supervisord(valkey: EmbeddedValkey, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    configuration = programs.write_configuration(
        [
            programs.Program(
                "valkey-state", valkey.command(), probes.valkey(valkey.url), store=True, start_s=1
            ),
            programs.Program("sleeper", SLEEPER, probes.always, environment={"ODD": "50% of it"}),
            programs.Program(
                "broken", [sys.executable, "-c", "raise SystemExit(3)"], probes.always, start_s=1
            ),
        ]
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "tradedist.restarter", str(configuration)],
        cwd=settings.BASE_DIR,
        start_new_session=True,
        preexec_fn=die_with_parent(os.getpid()),
    )
    try:
        wait_until(Control().answers)
        Control().start_group("platform")
        wait_until(lambda: _pid("sleeper"))
        yield process
    finally:
        process.terminate()
        process.wait(60)
    wait_until(lambda: not processes.of_run(settings.DATA_DIR))


def _pid(name: str) -> int:
    states = Control().states()
    return states[name].pid if name in states else 0


def test_a_killed_process_is_replaced(supervisord: "subprocess.Popen[bytes]", valkey: EmbeddedValkey) -> None:
    for name in ("valkey-state", "sleeper"):
        wait_until(lambda name=name: Control().states()[name].uptime_s >= 4)
        killed = _pid(name)
        os.kill(killed, signal.SIGKILL)
        began = time.monotonic()
        wait_until(lambda name=name, killed=killed: _pid(name) not in (0, killed), 60, 0.005)
        if name == "valkey-state":
            wait_until(lambda: not probes.valkey(valkey.url)(), 60, 0.005)
        print(f"{name}: back after {1000 * (time.monotonic() - began):.0f} ms")


def test_a_broken_process_is_tried_again_and_again_with_pauses(
    supervisord: "subprocess.Popen[bytes]",
) -> None:
    log = programs.LOGS / "supervisord.log"
    wait_until(lambda: log.read_text().count("spawned: 'broken'") >= 3)
    assert Control().states()["broken"].name in ("BACKOFF", "STARTING")
    assert log.read_text().count("spawned: 'broken'") < 10


def test_nothing_survives_a_killed_process_manager(supervisord: "subprocess.Popen[bytes]") -> None:
    children = psutil.Process(supervisord.pid).children(recursive=True)
    assert len(children) >= 2
    supervisord.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


def test_environment_and_mark_reach_the_processes(supervisord: "subprocess.Popen[bytes]") -> None:
    sleeper = psutil.Process(_pid("sleeper"))
    wait_until(lambda: sleeper.cmdline() == SLEEPER)
    assert sleeper.environ()["ODD"] == "50% of it"
    assert sleeper.environ()[processes.MARK] == str(settings.DATA_DIR)
    assert sleeper.pid in [process.pid for process in processes.of_run(settings.DATA_DIR)]


def test_the_configuration_with_its_passwords_is_private(supervisord: "subprocess.Popen[bytes]") -> None:
    assert programs.CONFIGURATION.stat().st_mode & 0o077 == 0
    assert settings.SUPERVISOR_PASSWORD in programs.CONFIGURATION.read_text()
