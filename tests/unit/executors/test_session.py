"""When a lost terminal is tried again, and the alarm after three tries: the schedule as literal numbers."""

from typing import Any

import pytest

from executors import link
from executors import session as session_module
from executors.alerts import AlertCode
from executors.errors import TerminalUnavailable
from executors.link_events import InstanceFacts
from executors.session import Session
from executors.terminals.base import Identity

LOST = TerminalUnavailable("account_info", (-10001, "IPC send failed"))


class Away:
    """A terminal that answers when it is told to."""

    answers = True
    server = "Here"

    def connect(self) -> Identity:
        if not self.answers:
            raise LOST
        return Identity(7, self.server, "")

    def disconnect(self) -> None:
        pass


class Told:
    """What alarms were raised and ended."""

    def __init__(self) -> None:
        self.said: list[tuple[str, AlertCode, str]] = []

    def raise_(self, code: AlertCode, terminal_id: str, text: str) -> None:
        self.said.append(("raise", code, text))

    def end(self, code: AlertCode, terminal_id: str) -> None:
        self.said.append(("end", code, ""))

    @property
    def raised(self) -> list[AlertCode]:
        return [code for what, code, _ in self.said if what == "raise"]


class Config:
    terminal_id, login, server = "t1", 7, "Here"


class Shown:
    status = ""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000_000.0]
    monkeypatch.setattr(session_module, "monotonic_ms", lambda: now[0])
    return now


def made(terminal: Away, told: Told) -> Session:
    anything: Any = None
    config: Any = Config
    progress: Any = Shown()
    alerts: Any = told
    module: Any = terminal
    return Session(
        module, config, facts=InstanceFacts(), progress=progress, alerts=alerts, show=lambda update: None,
        account_sync=anything,
    )  # fmt: skip


def tries(session: Session, clock: list[float], count: int) -> list[float]:
    """Seconds since the loss at which a connection was tried."""
    began, found = clock[0], []
    for _ in range(count):
        clock[0] = max(clock[0], session.due_connect_ms)
        found.append((clock[0] - began) / 1000)
        session.connect()
    return found


def test_a_lost_terminal_is_tried_at_once_then_every_five_seconds_at_most(clock: list[float]) -> None:
    terminal, told = Away(), Told()
    session = made(terminal, told)
    assert session.connect()
    terminal.answers = False
    session.lost(LOST)
    assert tries(session, clock, 7) == [0.0, 1.0, 3.0, 5.0, 10.0, 15.0, 20.0]


def test_the_alarm_comes_with_the_third_try_and_once(clock: list[float]) -> None:
    terminal, told = Away(), Told()
    session = made(terminal, told)
    session.connect()
    terminal.answers = False
    session.lost(LOST)
    tries(session, clock, 2)
    assert told.raised == []
    tries(session, clock, 1)
    assert told.raised == [AlertCode.TERMINAL_DISCONNECTED]
    assert "not connected after 3 tries" in told.said[-1][2]
    tries(session, clock, 5)
    assert told.raised == [AlertCode.TERMINAL_DISCONNECTED]
    terminal.answers = True
    assert session.connect()
    assert ("end", AlertCode.TERMINAL_DISCONNECTED, "") in told.said[1:]
    terminal.answers = False
    session.lost(LOST)
    tries(session, clock, 3)
    assert told.raised == [AlertCode.TERMINAL_DISCONNECTED] * 2  # counted anew


def test_a_terminal_that_never_answered_counts_its_first_try(clock: list[float]) -> None:
    terminal, told = Away(), Told()
    terminal.answers = False
    session = made(terminal, told)
    assert tries(session, clock, 3) == [0.0, 1.0, 3.0]
    assert told.raised == [AlertCode.TERMINAL_DISCONNECTED]


def test_a_wrong_account_is_looked_at_every_five_seconds(clock: list[float]) -> None:
    terminal, told = Away(), Told()
    terminal.server = "Elsewhere"
    session = made(terminal, told)
    assert tries(session, clock, 4) == [0.0, 5.0, 10.0, 15.0]
    assert told.raised == [AlertCode.WRONG_ACCOUNT]


def test_redis_is_tried_at_least_every_two_seconds() -> None:
    assert link.BACKOFF_S[1] <= 2.0
