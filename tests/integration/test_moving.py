"""A terminal moves between two hosts under orders: the old executor is proven dead, nothing is doubled or lost."""

import os
import signal
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from executors.models import AuditEntry, Terminal
from tests.hosts import SECRETS, Desk, Host
from tests.paper import running_broker
from tests.valkey import Valkey
from tests.waiting import wait_until
from tradedist import keys

NAME, LOGIN = "mover", 8201


@pytest.fixture
def two_hosts(
    state_server: Valkey, ticks_server: Valkey, tmp_path: Path, settings: Any, transactional_db: None
) -> Iterator[tuple[Desk, Host, Host]]:
    state_server.empty()
    settings.CREDENTIALS_KEY = SECRETS["CREDENTIALS_KEY"]
    with running_broker() as broker, state_server.client() as client:
        broker.push("EURUSD", 1.10000, 1.10010)
        desk = Desk(broker, client, state_server.url)
        config = desk.terminal(NAME, LOGIN, "old")
        Terminal.objects.create(
            terminal_id=NAME, label=NAME, kind="paper", login=LOGIN, server=config.server, path=config.path,
            host_id="old", sealed_password=config.sealed_password, server_timezone=config.server_timezone,
            orders_per_second=0,
        )  # fmt: skip
        hosts = [
            Host(
                name, tmp_path / name, state_server.url, ticks_server.url,
                SWEEP_GAP_MS="100", SWEEP_SETTLE_MS="300", BREAKER_UNKNOWN="0",
            ).start()
            for name in ("old", "new")
        ]  # fmt: skip
        try:
            wait_until(lambda: desk.ready(NAME))
            wait_until(lambda: client.hexists(keys.HEARTBEATS, "terminals:new"))
            yield desk, hosts[0], hosts[1]
        finally:
            for host in hosts:
                host.stop()
            desk.close()
    state_server.empty()


def moved(desk: Desk, *arguments: str) -> str:
    out = StringIO()
    call_command("move_terminal", NAME, *arguments, stdout=out)
    desk.configs[NAME] = desk.configs[NAME].model_copy(update={"epoch": Terminal.objects.get(pk=NAME).epoch})
    return out.getvalue()


def test_a_terminal_moves_under_orders_and_back(two_hosts: tuple[Desk, Host, Host]) -> None:
    desk, old, _new = two_hosts
    for _ in range(5):
        desk.settle(*desk.open(NAME))
    before = desk.instance(NAME)
    for _ in range(10):  # some of these are sent, some wait in the outbox, when the executor is stopped
        desk.open(NAME)
    said = moved(desk, "--to-host", "new")
    assert "its lock is free" in said
    assert "is connected on new" in said
    after = wait_until(lambda: desk.instance(NAME) if desk.instance(NAME).get("epoch") == "2" else None)
    assert after["host"] == "new"
    assert after["journal_id"] != before["journal_id"]
    assert int(after["pid"]) != int(before["pid"])
    for _ in range(5):
        desk.open(NAME)
    reports = desk.settle(*desk.sent)
    states = [report.state for report in reports]
    assert states[:5] == ["FILLED"] * 5
    assert set(states) <= {"FILLED", "NOT_EXECUTED", "DENIED"}  # opens are held while orders are looked up
    desk.check(LOGIN)
    entry = AuditEntry.objects.order_by("-position")[0]
    assert entry.action == "terminal moved"
    assert entry.detail["from"] == "old"
    assert entry.detail["epoch"] == 2
    assert (old.data_dir / "terminals" / NAME / "released").read_text() == "1"
    # the new host's journal knows nothing of what was settled before, and yet the trade is found
    assert desk.settle(*desk.close_what(desk.sent[0], NAME))[0].state == "FILLED"
    wait_until(lambda: not any(NAME in " ".join(item.cmdline()) for item in old.processes()))

    moved(desk, "--to-host", "old")
    assert desk.instance(NAME)["host"] == "old"
    wait_until(lambda: desk.settle(*desk.open(NAME))[0].state == "FILLED")
    desk.check(LOGIN)


def test_nothing_moves_while_the_old_executor_is_not_proven_dead(two_hosts: tuple[Desk, Host, Host]) -> None:
    desk, old, _new = two_hosts
    with pytest.raises(CommandError, match="No supervisor of host nowhere is running"):
        moved(desk, "--to-host", "nowhere")
    with pytest.raises(CommandError, match="is on host old already"):
        moved(desk, "--to-host", "old")
    with pytest.raises(CommandError, match="The supervisor of host old is alive"):
        moved(desk, "--to-host", "new", "--old-host-is-dead")
    pid = desk.running(NAME)
    old.kill()  # its executor lives on: nobody can speak for it
    wait_until(lambda: time.time() * 1000 - int(desk.client.hget(keys.HEARTBEATS, "terminals:old")) > 5_500)
    with pytest.raises(CommandError, match="No supervisor of host old answered"):
        moved(desk, "--to-host", "new")
    assert Terminal.objects.get(pk=NAME).host_id == "old"
    assert desk.settle(*desk.open(NAME))[0].state == "FILLED"

    os.kill(pid, signal.SIGSTOP)  # now that machine is off, or so it seems
    made = desk.open(NAME, wake=False)
    assert "epoch 2" in moved(desk, "--to-host", "new", "--old-host-is-dead")
    assert desk.settle(*made)[0].state == "NOT_EXECUTED"  # whether the old one had sent it was looked up
    wait_until(lambda: desk.settle(*desk.open(NAME))[0].state == "FILLED")
    desk.check(LOGIN)
    assert AuditEntry.objects.order_by("-position")[0].detail["old executor"] == "stated by the operator"

    journal_id = desk.instance(NAME)["journal_id"]
    os.kill(pid, signal.SIGCONT)  # it was alive after all
    wait_until(lambda: not any(process.pid == pid for process in old.processes()))
    assert "EXECUTOR_OUTLIVED" in desk.alerts(NAME)
    assert (old.data_dir / "terminals" / NAME / "released").read_text() == "1"
    assert desk.instance(NAME)["journal_id"] == journal_id
    assert desk.settle(*desk.open(NAME))[0].state == "FILLED"
    desk.check(LOGIN)
