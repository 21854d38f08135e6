"""Talks to the supervisord of a run over its password-protected loopback port.

Precedes: `running` (start, states) and `screen` (status).
"""

import xmlrpc.client
from dataclasses import dataclass
from typing import Any

from tradedist import settings


@dataclass(frozen=True, slots=True)
class State:
    """`name` as in supervisord: RUNNING, STARTING, BACKOFF, STOPPED …; pid 0 when there is no process."""

    name: str
    pid: int
    uptime_s: int

    @property
    def alive(self) -> bool:
        return self.name in ("RUNNING", "STARTING") and self.pid > 0


class Control:
    def __init__(
        self, port: int = settings.SUPERVISOR_PORT, password: str = settings.SUPERVISOR_PASSWORD
    ) -> None:
        self._url = f"http://tradedist:{password}@127.0.0.1:{port}/RPC2"

    def _call(self, method: str, *arguments: Any) -> Any:
        # A connection per call: supervisord closes idle ones, and may have been restarted.
        with xmlrpc.client.ServerProxy(self._url) as server:
            return getattr(server.supervisor, method)(*arguments)

    def answers(self) -> bool:
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def states(self) -> dict[str, State]:
        """By process name; empty when supervisord is gone."""
        try:
            items = self._call("getAllProcessInfo")
        except (OSError, xmlrpc.client.Error):
            return {}
        return {
            item["name"]: State(item["statename"], item["pid"], max(0, item["now"] - item["start"]))
            for item in items
        }

    def start_group(self, group: str) -> None:
        """Returns at once; the processes come up together."""
        self._call("startProcessGroup", group, False)
