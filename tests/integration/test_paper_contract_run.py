"""The run that docs/metatrader.md asks of somebody with Windows and a demo account, with the paper module as the package.

In a Python that has numpy and pytest and nothing of the platform's requirements, nor what Windows lacks.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.paper import PASSWORD, ROOT, running_broker

LACKING = (
    "fcntl", "termios", "pwd", "grp", "resource", "pty", "tty", "django", "redis", "celery", "psutil", "pydantic", "rpyc",
    "mt5linux", "hypothesis",
)  # fmt: skip
BARE = f"""
import sys
sys.modules.update(dict.fromkeys({LACKING!r}))
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_the_documented_contract_run_works_without_the_platform() -> None:
    text = (Path(ROOT) / "docs" / "metatrader.md").read_text()
    (command,) = re.findall(r"^python -m pytest (.*test_terminal_module\.py)$", text, re.MULTILINE)
    with running_broker() as broker:
        account = broker.account(77, "classic")  # instant execution, its own list of symbols, FOK alone
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(("executors/terminals/paper/standin", ".")),
            "PAPER_BROKER_URL": broker.url,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "CONTRACT_MODULE": "MetaTrader5",
            "CONTRACT_LOGIN": "77",
            "CONTRACT_SERVER": account["server"],
            "MT5_PASSWORD": PASSWORD,
        }
        done = subprocess.run(
            [sys.executable, "-c", BARE, "-p", "no:cacheprovider", *command.split()],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 150
        assert broker.oracle.positions(77) == []
        assert [order for order in broker.oracle.orders(77) if not order.done_ms] == []
