"""What an operator sees of a tripped breaker, over restarts of its executor and losses of its connection."""

from typing import Any

from executors.orders import OrderState
from tests.running_executor import Maker
from tradedist import keys


def test_the_alert_stands_until_an_operator_resumes(
    running_executor: Maker,
    settings: Any,
) -> None:
    settings.BREAKER_REJECTIONS = 2
    one = running_executor()
    one.broker.oracle.fault("reject", login=one.login, value=10006)
    for _ in range(2):
        assert one.settle(one.open()).state is OrderState.REJECTED
    one.broker.oracle.clear_faults()

    def told() -> bool:
        return bool(one.redis.hexists(keys.open_alerts(one.terminal_id), "BREAKER"))

    one.wait_for(told, "the alert")
    one.broker.oracle.fault("outage", login=one.login)
    one.wait_for(lambda: one.instance()["state"] != "READY", "the lost connection")
    one.broker.oracle.clear_faults()
    one.wait_for(lambda: one.instance()["state"] == "READY", "the terminal, connected again")
    assert told()
    one.stop()
    one.start()
    assert one.settle(one.open()).code == "HALTED"
    assert told()
    one.redis.hincrby(keys.MODES, f"resumed:{one.terminal_id}", 1)
    one.wait_for(lambda: not told(), "the alert's end")
    assert one.settle(one.open()).state is OrderState.FILLED
