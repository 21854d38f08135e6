"""What an executor does beside orders, with its real threads: state shown, configuration taken, symbols read, reconnecting.

The cases `x…`. Figures here are bounds that hold on a busy machine, not measurements.
"""

import time
from decimal import Decimal
from functools import partial
from itertools import pairwise
from statistics import mean
from typing import Any

import pytest

from executors.errors import Code
from executors.orders import OrderState
from tests.paper import PASSWORD
from tests.running_executor import Maker, RunningExecutor
from tests.valkey import Valkey
from tradedist import settings as shipped

S = OrderState
SOON_S = 60.0  # whatever else this machine does


def shown_positions(run: RunningExecutor) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run.shown("positions") or []
    return found


def shows(run: RunningExecutor, held: int) -> bool:
    return len(shown_positions(run)) == held


def test_x01_account_positions_and_orders_are_shown_and_kept_fresh(
    running_executor: Maker,
    settings: Any,
) -> None:
    run = running_executor()
    assert run.settle(run.open()).state is S.FILLED
    run.wait_for(lambda: len(shown_positions(run)) == 1, "the position", SOON_S)
    before = run.shown("account")
    run.broker.push("EURUSD", 1.10100, 1.10110)
    run.wait_for(lambda: run.shown("account")["equity"] != before["equity"], "the new equity", SOON_S)
    (position,) = shown_positions(run)
    assert Decimal(position["profit"]) == Decimal("9")
    looks: set[int] = set()

    def looked_three_times() -> bool:
        looks.add(run.shown("account")["time_ms"])
        return len(looks) >= 3

    run.wait_for(looked_three_times, "three looks", SOON_S)


def test_x12_what_is_shown_is_500_ms_old_at_most(running_executor: Maker, settings: Any) -> None:
    """By the times that the executor itself writes into what it publishes, at the shipped setting."""
    assert shipped.ACCOUNT_SYNC_MS == 500
    settings.ACCOUNT_SYNC_MS = 500
    run = running_executor()
    looks: list[int] = []

    def looked() -> bool:
        if (shown := run.shown("account")) and shown["time_ms"] not in looks:
            looks.append(shown["time_ms"])
        return len(looks) == 7

    run.wait_for(looked, "seven looks")
    intervals = [after - before for before, after in pairwise(looks[1:])]
    assert mean(intervals) > 400  # not more often than need be
    assert min(intervals) < 560  # any of them may be late: the machine does other things, too


def test_x13_own_changes_are_shown_within_500_ms(running_executor: Maker, settings: Any) -> None:
    """From the time that the report carries to the time of the account that shows it; no look is due by itself."""
    settings.ACCOUNT_SYNC_MS = 60_000
    run = running_executor()
    run.wait_for(lambda: run.shown("positions") == [], "the first look", SOON_S)
    waits = []
    for number in range(8):
        report = run.settle(run.close_all() if number % 2 else run.open())
        held = 0 if number % 2 else 1
        run.wait_for(partial(shows, run, held), "the change")
        waits.append(run.shown("account")["time_ms"] - report.time_ms)
    assert min(waits) < 500, waits  # any of them may be late on a busy machine


def test_x14_a_configuration_applies_within_500_ms(running_executor: Maker) -> None:
    run = running_executor()
    waits = []
    for number in range(5):
        run.configure(deviation_points=30 + number)
        began = time.monotonic()
        run.wait_for(lambda: run.executor.config.version == run.config.version, "the version")
        waits.append(time.monotonic() - began)
        assert run.executor.config.deviation_points == 30 + number
    assert min(waits) < 0.5, waits  # any of them may be late on a busy machine
    run.wait_for(
        lambda: run.instance().get("config_version") == str(run.config.version), "the version shown", SOON_S
    )


def test_x02_own_changes_are_shown_at_once(running_executor: Maker, settings: Any) -> None:
    """With a sync that would come only after a minute."""
    settings.ACCOUNT_SYNC_MS = 60_000
    run = running_executor()
    run.wait_for(lambda: run.shown("positions") == [], "the first look", SOON_S)
    assert run.settle(run.open()).state is S.FILLED
    run.wait_for(lambda: len(shown_positions(run)) == 1, "the position", SOON_S)
    assert run.settle(run.close_all()).state is S.FILLED
    run.wait_for(lambda: shown_positions(run) == [], "the close", SOON_S)


def test_x03_what_other_hands_do_is_shown(running_executor: Maker) -> None:
    """A stop-loss, the owner's telephone, an order placed in the terminal itself."""
    from executors.terminals import paper as mt5

    run = running_executor()
    report = run.settle(run.open(stop_loss=Decimal("1.09")))
    run.wait_for(lambda: len(shown_positions(run)) == 1, "the position", SOON_S)
    run.broker.push("EURUSD", 1.08990, 1.09000)
    run.wait_for(lambda: shown_positions(run) == [], "the stop-loss", SOON_S)
    assert report.position_tickets
    run.settle(run.open())
    run.wait_for(lambda: len(shown_positions(run)) == 1, "the other position", SOON_S)
    run.broker.oracle.call("close_position", run.login, shown_positions(run)[0]["position_ticket"])
    run.wait_for(lambda: shown_positions(run) == [], "the other hand", SOON_S)
    row = {"action": 5, "symbol": "EURUSD", "volume": 0.1, "type": 2, "price": 1.05, "type_filling": 2}
    assert mt5.order_send(row).retcode == 10009
    run.wait_for(lambda: len(run.shown("pending_orders") or []) == 1, "the waiting order", SOON_S)


def test_x04_a_configuration_applies_without_a_restart(running_executor: Maker) -> None:
    run = running_executor()
    assert run.settle(run.open()).state is S.FILLED
    thread = run.executor
    run.configure(symbols=["USDJPY"])
    run.wait_for(
        lambda: run.instance().get("config_version") == str(run.config.version), "the version", SOON_S
    )
    report = run.settle(run.open())
    assert (report.state, report.code) == (S.DENIED, Code.SYMBOL_NOT_ALLOWED)
    run.configure(symbols=[], sizing={"method": "fixed", "value": "0.05"})
    run.wait_for(lambda: run.executor.config.version == run.config.version, "the next version", SOON_S)
    assert run.settle(run.open()).filled_lots == Decimal("0.05")
    assert run.executor is thread
    assert thread.is_alive()


def test_x05_filling_and_specs_are_each_symbols_own(running_executor: Maker) -> None:
    """FOK first, IOC where that alone is allowed, RETURN where the mask is empty; lots cut to the symbol's step."""
    run = running_executor("lab")
    for symbol, filling in (("EURUSD", 0), ("EURUSD.gtc", 2)):
        assert run.settle(run.open(symbol=symbol)).state is S.FILLED
        assert run.broker.oracle.orders(run.login)[-1].type_filling == filling
    assert run.settle(run.open(symbol="EURUSD.step", lots=Decimal("0.37"))).filled_lots == Decimal("0.3")
    run = running_executor("ecn")
    assert run.settle(run.open()).state is S.FILLED
    assert run.broker.oracle.orders(run.login)[-1].type_filling == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"server": "PaperClassic-Demo"}, "Authorization failed"),
        ({"login": 4_000_000}, "Authorization failed"),
    ],
)
def test_x06_a_wrong_account_never_trades(
    running_executor: Maker,
    change: dict[str, Any],
    says: str,
) -> None:
    run = running_executor()
    run.stop()
    run.config = run.config.model_copy(update=change)
    run.start()
    run.wait_for(lambda: says in run.instance().get("last_error", ""), "the reason", SOON_S)
    assert run.settle(run.open(ttl_ms=300)).state is S.EXPIRED
    assert run.trades() == []


def test_x07_a_terminal_that_runs_elsewhere_never_trades(running_executor: Maker) -> None:
    """The package attached to another terminal than the configured one. It says so, alarms, and tries again."""
    run = running_executor()
    run.broker.fault("cross_wired", login=run.login)
    run.broker.oracle.call("drop_connections", run.login)
    run.wait_for(lambda: run.instance().get("state") == "FAILED", "the refusal", SOON_S)
    text = run.wait_for(
        lambda: (text := run.instance()["last_error"]) and "not connected after 3 tries" in text and text,
        "the alarm", SOON_S,
    )  # fmt: skip
    assert "correct the path" in text
    assert run.settle(run.open(ttl_ms=300)).state is S.EXPIRED
    assert run.trades() == []
    run.broker.oracle.clear_faults()
    assert run.settle(run.open()).state is S.FILLED


def test_x08_the_terminal_is_reconnected_and_the_alarm_comes_in_between(running_executor: Maker) -> None:
    run = running_executor()
    run.broker.fault("outage")
    run.broker.oracle.call("drop_connections", run.login)
    says = "not connected after 3 tries"
    run.wait_for(lambda: says in run.instance().get("last_error", ""), "the alarm", SOON_S)
    run.broker.oracle.clear_faults()
    run.wait_for(lambda: run.instance().get("state") == "READY", "the connection", SOON_S)
    assert run.settle(run.open()).state is S.FILLED


def test_x09_redis_is_reconnected_and_nothing_is_missing(
    running_executor: Maker,
    state_server: Valkey,
    state_redis: Any,
) -> None:
    """What was executed meanwhile is in the journal, and published when Redis is back."""
    run = running_executor()
    assert run.settle(run.open()).state is S.FILLED
    order_id = run.open()
    state_server.kill()
    time.sleep(0.3)
    state_server.start()
    assert run.settle(order_id).state is S.FILLED
    assert len(run.trades()) == 2
    run.wait_for(lambda: run.instance().get("state") == "READY", "the state")


def test_x10_another_account_in_the_terminal_is_noticed_without_an_order(running_executor: Maker) -> None:
    from executors.terminals import paper as mt5

    run = running_executor()
    run.broker.account(run.login + 700, "lab", 5_000.0)
    assert mt5.login(run.login + 700, PASSWORD)
    run.wait_for(lambda: mt5.account_info() and mt5.account_info().login == run.login, "our account", SOON_S)
    run.wait_for(lambda: run.shown("account")["login"] == run.login, "the right account shown", SOON_S)


def test_x11_what_the_terminal_was_opened_with_takes_a_new_executor(running_executor: Maker) -> None:
    """Another path, password or clock: it ends between two orders, and the supervisor starts the next one."""
    run = running_executor()
    assert run.settle(run.open()).state is S.FILLED
    run.configure(server_timezone="Europe/Helsinki")
    run.wait_for(lambda: not run.executor.is_alive(), "the end", SOON_S)
    assert run.executor.failed is None
    run.start()
    run.wait_for(lambda: run.shown("account") is not None, "the next one", SOON_S)
    assert run.settle(run.close_all()).state is S.FILLED
