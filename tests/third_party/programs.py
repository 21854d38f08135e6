"""Runs a program under the paper module, logged in to a fresh account, and gives its output."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from executors.terminals.paper.oracle import Deal
from tests.paper import PASSWORD, ROOT, PaperBroker

LIMIT_S = 60


class Desk:
    """One account and the programs that trade on it."""

    def __init__(self, broker: PaperBroker, login: int, personality: str = "classic", **more: Any) -> None:
        self.broker = broker
        self.login = login
        self.account = broker.account(login, personality, **more)

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PAPER_BROKER_URL": self.broker.url,
            "PAPER_LOGIN": str(self.login),
            "PAPER_PASSWORD": PASSWORD,
            "MT5_LOGIN": str(self.login),
            "MT5_PASSWORD": PASSWORD,
            "MT5_SERVER": self.account["server"],
        }

    def run(self, *program: str, directory: Path | None = None, fails: bool = False) -> str:
        """Its standard output. `fails`: it has to end with an error."""
        done = subprocess.run(
            [sys.executable, "-m", "executors.terminals.paper", *program],
            env=self.environment(),
            cwd=directory or self.broker.directory,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert (done.returncode != 0) == fails, f"{program}:\n{done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if fails else "")

    def trades(self) -> list[Deal]:
        return [deal for deal in self.broker.oracle.deals(self.login) if deal.type in (0, 1)]
