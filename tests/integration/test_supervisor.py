"""The supervisor with real executors: frozen, killed and failing ones; what is shown, raised and started again."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from executors import operators
from tests.hosts import ROOT, Desk, Host
from tests.paper import running_broker
from tests.valkey import Valkey
from tests.waiting import wait_until
from tradedist import keys

ONE, TWO = "super-1", "super-2"
LOGINS = (8101, 8102)


class Site:
    """One host with two terminals; tests leave it serving."""

    def __init__(self, host: Host, desk: Desk) -> None:
        self.host = host
        self.desk = desk

    def serving(self) -> None:
        wait_until(lambda: self.desk.ready(ONE, TWO))


@pytest.fixture(scope="module")
def site(
    state_server: Valkey, ticks_server: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    state_server.empty()
    with running_broker() as broker, state_server.client() as client:
        broker.push("EURUSD", 1.10000, 1.10010)
        desk = Desk(broker, client, state_server.url)
        for name, login in zip((ONE, TWO), LOGINS, strict=True):
            desk.terminal(name, login, "here")
        host = Host(
            "here", tmp_path_factory.mktemp("host") / "data", state_server.url, ticks_server.url,
            SEND_LIMIT_S="3", SWEEP_GAP_MS="100", SWEEP_SETTLE_MS="300",
        ).start()  # fmt: skip
        made = Site(host, desk)
        try:
            made.serving()
            yield made
        finally:
            host.stop()
            desk.close()
    state_server.empty()


@pytest.fixture(autouse=True)
def _serving(site: Site) -> None:
    site.desk.broker.oracle.clear_faults()
    site.serving()


def fill(site: Site, *names: str) -> None:
    reports = site.desk.settle(*site.desk.open(*names))
    assert [report.state for report in reports] == ["FILLED"] * len(names), reports


def test_an_order_is_executed_and_the_instance_is_shown_whole(site: Site) -> None:
    fill(site, ONE, TWO)
    row = wait_until(lambda: site.desk.instance(ONE) if "seen_ms" in site.desk.instance(ONE) else None)
    assert row["state"] == "READY"
    assert int(row["pid"]) > 0
    assert row["epoch"] == "1"
    assert row["host"] == "here"
    assert row["journal_id"]
    assert int(row["position"]) >= 2
    assert row["config_version"] == "1"
    assert row["restarts"] == "0"
    assert row["last_error"] == ""
    assert row["address"]
    assert abs(time.time() * 1000 - int(row["seen_ms"])) < 5_000
    with open(f"/proc/{row['pid']}/cmdline") as title:
        assert title.read().startswith(f"tradedist executor {ONE}")


def stuck(site: Site, name: str) -> str:
    """What is said of an executor that stands still; empty while it does not."""
    row = site.desk.instance(name)
    return row["last_error"] if row["state"] == "STUCK" else ""


def test_a_stopped_executor_is_shown_and_replaced(site: Site) -> None:
    pid = site.desk.running(ONE)
    began = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    why = wait_until(lambda: stuck(site, ONE), every_s=0.01)
    shown = time.monotonic() - began
    assert "stopped by a signal" in why
    made = site.desk.open(ONE)
    assert site.desk.settle(*made)[0].state == "FILLED"
    replaced = time.monotonic() - began
    wait_until(lambda: site.desk.pid(ONE) not in (0, pid))
    counted = wait_until(lambda: site.desk.client.hget(keys.ALERT_COUNTS, f"{ONE} EXECUTOR_STUCK"))
    told = [row for _, row in site.desk.client.xrange(keys.ALERTS) if "EXECUTOR_STUCK" in str(row)]
    assert 1 <= len(told) <= 2, "once it began, and perhaps that it is over"
    assert int(counted) == 1
    print(f"shown after {shown:.2f} s, an order filled by the next one after {replaced:.2f} s")


def test_a_call_that_hangs_is_named_and_ends_with_its_own_limit(site: Site) -> None:
    pid = site.desk.running(TWO)
    site.desk.broker.fault("hang_after", value=60, login=LOGINS[1], times=1)
    (made,) = site.desk.open(TWO)
    assert "order_send has not returned" in wait_until(lambda: stuck(site, TWO))
    assert site.desk.pid(TWO) == pid, "a call has its own limit"
    report = site.desk.settle(made)[0]
    assert report.state == "FILLED"
    assert site.desk.pid(TWO) != pid
    site.desk.check(*LOGINS)


def test_a_busy_executor_is_left_alone(site: Site) -> None:
    """Starved of the processor, not frozen: idle priority beside processes that take all there is."""
    pid = site.desk.running(ONE)
    os.setpriority(os.PRIO_PROCESS, pid, 19)
    made = [name for _ in range(30) for name in site.desk.open(ONE, TWO)]
    site.desk.settle(*made)
    assert site.desk.pid(ONE) == pid


def test_three_failed_starts_stop_a_terminal_until_an_operator_acts(site: Site) -> None:
    desk = site.desk
    config = desk.configs[TWO]
    desk.change(TWO, sealed_password="1.bm90IHNlYWxlZA==")
    wait_until(lambda: desk.instance(TWO)["config_version"] == str(desk.configs[TWO].version))
    time.sleep(0.5)  # the supervisor has read it as well
    if pid := desk.pid(TWO):  # another password ends it by itself, sooner or later
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "EXECUTOR_FAILED" in desk.alerts(TWO))
    row = wait_until(lambda: (row := desk.instance(TWO))["state"] == "FAILED" and row)
    assert "resumed" in row["last_error"]
    log = site.host.log
    time.sleep(1.0)
    assert site.host.log.count(f"started the executor of {TWO}") == log.count(
        f"started the executor of {TWO}"
    )
    desk.resume(TWO)  # one act of the operator: three more tries
    wait_until(
        lambda: (
            site.host.log.count(f"started the executor of {TWO}")
            == log.count(f"started the executor of {TWO}") + 3
        )
    )
    desk.change(TWO, sealed_password=config.sealed_password)
    site.serving()
    wait_until(lambda: "EXECUTOR_FAILED" not in desk.alerts(TWO))
    fill(site, TWO)


def has_room(site: Site) -> bool:
    """True once the limit is taken away, also from a successor that was forked a moment before."""
    for pid in (site.host.pid, site.desk.pid(TWO)):
        with contextlib.suppress(ProcessLookupError):
            if pid:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return True


def test_an_order_that_cannot_be_written_down_is_not_sent_until_there_is_room(site: Site) -> None:
    desk = site.desk
    deals = len(desk.broker.oracle.deals(LOGINS[1]))
    processes = (site.host.pid, desk.running(TWO))
    for pid in processes:  # the successors inherit the limit
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    (made,) = desk.open(TWO)
    try:
        wait_until(lambda: "JOURNAL_UNWRITABLE" in desk.alerts(TWO))
        row = wait_until(lambda: (row := desk.instance(TWO))["state"] == "FAILED" and row)
        assert "journal cannot be written" in row["last_error"]
        time.sleep(2.5)  # another try meanwhile
        assert "JOURNAL_UNWRITABLE" in desk.alerts(TWO)
        assert "EXECUTOR_FAILED" not in desk.alerts(TWO)
        assert desk.report(made).state == "QUEUED"
        assert len(desk.broker.oracle.deals(LOGINS[1])) == deals
    finally:
        has_room(site)
    wait_until(lambda: has_room(site) and desk.settled(made))
    assert desk.report(made).state == "FILLED"
    wait_until(lambda: "JOURNAL_UNWRITABLE" not in desk.alerts(TWO))
    desk.check(*LOGINS)


def test_an_executor_that_is_killed_is_back_and_its_supervisor_is_replaced_meanwhile(site: Site) -> None:
    pids = {name: site.desk.running(name) for name in (ONE, TWO)}
    site.host.kill()
    made = site.desk.open(ONE, TWO)
    site.desk.settle(*made)  # without a supervisor
    os.kill(pids[TWO], signal.SIGKILL)
    site.host.start()
    wait_until(lambda: site.desk.pid(TWO) not in (0, pids[TWO]))
    site.serving()
    assert site.desk.pid(ONE) == pids[ONE], "adopted"
    fill(site, ONE, TWO)
    os.kill(pids[ONE], signal.SIGKILL)
    fill(site, ONE)
    site.desk.check(*LOGINS)


def test_a_released_terminal_is_started_by_no_later_supervisor_until_it_is_kept(site: Site) -> None:
    client = site.desk.client
    command = operators.ask(client, "here", "release", [TWO])
    last = list(operators.answers(client, command, silence_s=60))[-1]
    assert (last.done, last.failed) == (True, False)
    assert "its lock is free" in last.text
    site.host.kill()
    site.host.start()
    wait_until(lambda: site.desk.instance(TWO)["state"] == "STOPPED" and site.desk.pid(TWO) == 0)
    (made,) = site.desk.open(TWO)
    fill(site, ONE)
    assert site.desk.report(made).state == "QUEUED"
    operators.ask(client, "here", "keep", [TWO])
    assert site.desk.settle(made)[0].state == "FILLED"
    site.desk.check(*LOGINS)


def test_a_program_that_loads_is_taken_over_without_a_lost_order(site: Site) -> None:
    """A rolling restart under a stream of orders."""
    desk = site.desk
    supervisor = site.host.pid
    pids = {name: desk.running(name) for name in (ONE, TWO)}
    before = len(desk.sent)
    with subprocess.Popen(
        [sys.executable, "manage.py", "restart_terminals"],
        cwd=ROOT,
        env=site.host.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as command:
        while command.poll() is None:
            desk.open(ONE, TWO, ttl_ms=30_000)  # of a machine that may do much else
            time.sleep(0.05)
        told = command.stdout.read() if command.stdout else ""
    assert command.returncode == 0, told + site.host.log[-4000:]
    assert "2 executors were replaced" in told
    site.serving()
    made = desk.sent[before:]
    reports = desk.settle(*made)
    assert {report.state for report in reports} == {"FILLED"}
    waits = sorted(report.trace["answered"] - report.trace["accepted"] for report in reports)
    print(
        f"{told}{len(made)} orders, the slowest {waits[-1]} ms, half of them below {waits[len(waits) // 2]} ms"
    )
    assert site.host.pid == supervisor
    assert not {desk.pid(name) for name in (ONE, TWO)} & set(pids.values())
    desk.check(*LOGINS)
