"""Alerts in the state Redis: told once, ended once, counted, shown with the terminal; and a clock that is wrong."""

import json
from typing import Any

import pytest
from django.test import Client
from redis import RedisError

from executors import alerts as alerts_module
from executors import store_clock
from executors.alerts import EVENT_MS, AlertCode, Alerts, counts, read_alerts, recent
from tests.integration.live import make_terminal, make_user
from tests.running_executor import Maker
from tests.valkey import Valkey
from tradedist import keys
from tradedist.clock import now_ms

CODE = AlertCode.TERMINAL_DISCONNECTED


def shown(redis: Any, terminal_id: str = "t1") -> list[tuple[str, str]]:
    return [(alert.code, alert.text) for alert in read_alerts(redis.hvals(keys.open_alerts(terminal_id)))]


def test_an_alert_is_told_once_and_ends_once(state_redis: Any) -> None:
    alerts = Alerts()
    listener = state_redis.pubsub()
    listener.subscribe(keys.RTS_CHANGES)
    for _ in range(3):
        alerts.raise_(CODE, "t1", "It is gone.")
        alerts.flush(state_redis)
    assert shown(state_redis) == [(CODE, "It is gone.")]
    assert state_redis.xlen(keys.ALERTS) == 1
    assert counts(state_redis) == {("t1", CODE): 1}
    for _ in range(2):
        alerts.end(CODE, "t1")
        alerts.flush(state_redis)
    assert shown(state_redis) == []
    assert [alert.text for alert in recent(state_redis)] == ["", "It is gone."]
    updates = []
    while (item := listener.get_message(timeout=0.5)) is not None:
        if item["type"] == "message":
            updates.append([alert["code"] for alert in json.loads(item["data"])["alerts"]])
    listener.close()
    assert updates == [[CODE], []]
    alerts.raise_(CODE, "t1", "It is gone.")
    alerts.flush(state_redis)
    assert counts(state_redis) == {("t1", CODE): 2}


def test_another_process_neither_repeats_it_nor_leaves_it_open(state_redis: Any) -> None:
    first, second = Alerts(), Alerts()
    first.raise_(CODE, "t1", "It is gone.")
    first.flush(state_redis)
    second.raise_(CODE, "t1", "It is gone.")
    second.flush(state_redis)
    assert state_redis.xlen(keys.ALERTS) == 1
    third = Alerts()
    third.end(CODE, "t1")
    third.end(AlertCode.BREAKER, "t1")  # was never raised: nothing to tell
    third.flush(state_redis)
    assert shown(state_redis) == []
    assert state_redis.xlen(keys.ALERTS) == 2


def test_an_event_is_over_after_a_day(state_redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alerts = Alerts()
    alerts.raise_(AlertCode.LATE_FILL, "t1", "It was executed late.")
    alerts.flush(state_redis)
    assert shown(state_redis)
    monkeypatch.setattr(alerts_module, "now_ms", lambda: now_ms() + EVENT_MS + 1)
    assert shown(state_redis) == []


def test_what_redis_does_not_take_waits_for_it(state_server: Valkey, state_redis: Any) -> None:
    alerts = Alerts()
    alerts.raise_(CODE, "t1", "It is gone.")
    state_server.kill()
    with pytest.raises(RedisError):
        alerts.flush(state_redis)
    state_server.start()
    alerts.flush(state_redis)
    assert shown(state_redis) == [(CODE, "It is gone.")]


def test_a_wrong_clock_opens_nothing_until_it_is_set(
    running_executor: Maker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = running_executor()
    assert run.settle(run.open()).state == "FILLED"
    monkeypatch.setattr(store_clock, "now_ms", lambda: now_ms() + 700)  # this machine's clock is fast
    run.wait_for(lambda: shown(run.redis, run.terminal_id), "the alert")
    ((code, text),) = shown(run.redis, run.terminal_id)
    assert code == "CLOCK_SKEW"
    assert "0.7 s" in text
    denied = run.settle(run.open())
    assert (denied.state, denied.code) == ("DENIED", "CLOCK_SKEW")
    assert run.settle(run.close_all()).state == "FILLED"
    monkeypatch.undo()
    run.wait_for(lambda: not shown(run.redis, run.terminal_id), "the end of the alert")
    assert run.settle(run.open()).state == "FILLED"


def test_a_user_sees_the_alerts_of_his_terminals_and_an_admin_all(state_redis: Any, db: None) -> None:
    """By REST beside the terminal, whose mode says what a wrong clock leaves; in the admin as a list."""
    london, tokyo = make_terminal("london"), make_terminal("tokyo")
    user = make_user("tina", london="trade")
    alerts = Alerts()
    for terminal in (london, tokyo):
        alerts.raise_(AlertCode.CLOCK_SKEW, terminal.pk, f"The clock of {terminal.pk} is wrong.")
    alerts.flush(state_redis)
    client = Client()
    client.force_login(user)
    (item,) = client.get("/api/terminals").json()["items"]
    assert [alert["text"] for alert in item["alerts"]] == ["The clock of london is wrong."]
    assert (item["mode"], item["effective_mode"]) == ("ACTIVE", "REDUCING")
    alerts.end(AlertCode.CLOCK_SKEW, "london")
    alerts.flush(state_redis)
    (item,) = client.get("/api/terminals").json()["items"]
    assert (item["alerts"], item["effective_mode"]) == ([], "ACTIVE")
    boss = make_user("boss", role="admin")
    boss.is_staff = boss.is_superuser = True
    boss.save()
    client.force_login(boss)
    page = client.get("/admin/executors/signalrecord/alerts/").content.decode()
    assert page.count("The clock of tokyo is wrong.") == 2  # open, and lately
    assert page.count("The clock of london is wrong.") == 1
    assert "It has ended." in page
