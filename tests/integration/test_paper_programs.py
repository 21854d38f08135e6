"""Programs under the paper module: scripts, modules, children, several at once; and what holds the interpreter's lock."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executors.terminals.paper.oracle import Oracle
from tests.paper import PASSWORD, ROOT, PaperBroker, running_broker

LIMIT_S = 60


@pytest.fixture(scope="module")
def broker() -> Iterator[PaperBroker]:
    with running_broker() as running:
        for login in range(1, 7):
            running.account(login, "lab", 1000.0 * login)
        yield running


def start(
    broker: PaperBroker, *arguments: str, login: int = 1, **environment: str
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "executors.terminals.paper", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PAPER_BROKER_URL": broker.url,
            "PAPER_LOGIN": str(login),
            "PAPER_PASSWORD": PASSWORD,
            **environment,
        },
        cwd=broker.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(broker: PaperBroker, *arguments: str, **more: Any) -> str:
    process = start(broker, *arguments, **more)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    return out


def script(tmp_path: Path, text: str, name: str = "program.py") -> str:
    path = tmp_path / name
    path.write_text(textwrap.dedent(text))
    return str(path)


def test_a_script_imports_metatrader5_and_so_do_its_children(broker: PaperBroker, tmp_path: Path) -> None:
    program = script(
        tmp_path,
        """
        import importlib.metadata, json, subprocess, sys
        import MetaTrader5 as mt5
        from MetaTrader5 import Tick, order_send
        from MetaTrader5 import *
        assert mt5.initialize()
        child = "import MetaTrader5 as m; assert m.initialize(); print(m.account_info().balance)"
        out = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout
        print(json.dumps([mt5.__version__, importlib.metadata.version("MetaTrader5"), sys.argv[1:], __name__,
                          TIMEFRAME_H1, mt5.account_info().login, out.strip()]))
        """,
    )
    assert json.loads(run(broker, program, "--one", "two", login=3)) == [
        "5.0.6231", "5.0.6231", ["--one", "two"], "__main__", 16385, 3, "3000.0",
    ]  # fmt: skip


def test_modules_run_too_and_a_missing_program_is_said(broker: PaperBroker) -> None:
    assert "usage" in run(broker, "-m", "json.tool", "--help")
    process = start(broker, "no_such_program_anywhere")
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode != 0
    assert "no_such_program_anywhere" in err


def test_several_processes_have_a_terminal_each(broker: PaperBroker, tmp_path: Path) -> None:
    program = script(
        tmp_path,
        """
        import sys
        import MetaTrader5 as mt5
        assert mt5.initialize()
        login = mt5.account_info().login
        for number in range(20):
            result = mt5.order_send({"action": 1, "symbol": "EURUSD", "volume": 0.01, "type": number % 2,
                                     "type_filling": 1, "magic": login * 100 + number})
            assert result.retcode == 10009, result
            assert mt5.account_info().login == login
        assert {position.magic // 100 for position in mt5.positions_get()} == {login}
        print(login)
        """,
    )
    processes = [start(broker, program, login=login) for login in range(1, 5)]
    answers = [process.communicate(timeout=LIMIT_S) for process in processes]
    assert [out.strip() for out, _ in answers] == ["1", "2", "3", "4"], answers
    broker.check()


def test_a_stuck_call_stops_the_whole_process_when_asked_to_be_as_the_real_one(
    broker: PaperBroker, tmp_path: Path
) -> None:
    """The real package never releases the interpreter's lock: a watchdog thread stands still too."""
    program = script(
        tmp_path,
        """
        import threading, time
        import MetaTrader5 as mt5
        assert mt5.initialize()
        beats = []
        threading.Thread(target=lambda: [(beats.append(1), time.sleep(0.01)) for _ in range(1000)], daemon=True).start()
        before = len(beats)
        assert mt5.symbols_total() is None and mt5.last_error()[0] == -10005
        print(len(beats) - before)
        """,
    )
    beats = []
    for hold in ("1", "0"):
        broker.fault("hang", method="symbols_total", value=0.8, login=5, at=1)
        beats.append(int(run(broker, program, login=5, PAPER_HOLD_GIL=hold)))
    assert beats[0] <= 3
    assert beats[1] > 10


def test_the_checker_runs_as_a_command(broker: PaperBroker, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "executors.terminals.paper.check", str(broker.directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 violations" in done.stdout


def test_manage_runs_the_broker_from_the_settings(tmp_path: Path) -> None:
    """With the accounts of an earlier run."""
    first = PaperBroker(tmp_path / "paper-broker")
    first.directory.mkdir()
    first.start().account(8, "net", 77.0)
    url = first.url
    first.stop()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "run_paper_broker"],
        env={**os.environ, "DATA_DIR": str(tmp_path), "PAPER_BROKER_URL": url, "PAPER_SEED": "5"},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "listens on" in line:
                break
        with Oracle(url) as oracle:
            assert [item["balance"] for item in oracle.accounts()] == [77.0]
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0
