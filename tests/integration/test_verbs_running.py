"""Every action in a running executor, as a trader sees it: reports and what the terminal holds, read from the state Redis."""

import json
from decimal import Decimal
from typing import Any
from uuid import uuid4

from executors.messages import SIGNAL
from executors.orders import OrderState
from tests.running_executor import Maker, RunningExecutor

S = OrderState


def act(running: RunningExecutor, action: str, **fields: Any) -> str:
    body = {"signal_id": str(uuid4()), "action": action, "targets": {"terminals": [running.terminal_id]}}
    return running.send(SIGNAL.validate_python(body | fields))


def signal_of(order_id: str) -> str:
    return order_id.partition(":")[0]


def shown(running: RunningExecutor, name: str) -> list[dict[str, Any]]:
    found = running.shown(name)
    return found if isinstance(found, list) else json.loads(found or "[]")


def test_a_pending_order_its_change_its_trigger_and_its_trailing_stop(running_executor: Maker) -> None:
    running = running_executor("lab")
    name = running.open(
        order_type="limit", price=Decimal("1.09"), trailing={"distance": "0.002"}, ttl_ms=30_000
    )
    running.until(lambda report: report.state is S.PLACED, name)
    (order,) = running.wait_for(lambda: shown(running, "pending_orders"), "the pending order")
    assert (order["order_type"], Decimal(order["price"]), order["order_id"]) == (
        "buy_limit",
        Decimal("1.09"),
        name,
    )
    changed = act(running, "modify", opened_by=signal_of(name), price=1.095, stop_loss=1.05)
    assert running.settle(changed).state is S.DONE
    running.wait_for(
        lambda: [Decimal(item["price"]) for item in shown(running, "pending_orders")] == [Decimal("1.095")],
        "the new price",
    )
    running.stop()
    running.broker.push("EURUSD", 1.0948, 1.0949)
    running.start()
    report = running.settle(name)
    assert (report.state, report.filled_lots) == (S.FILLED, Decimal("0.1"))
    running.broker.push("EURUSD", 1.1000, 1.1001)
    moved = running.wait_for(
        lambda: [
            item
            for item in shown(running, "positions")
            if Decimal(item["stop_loss"] or 0) == Decimal("1.098")
        ],
        "the stop loss",
    )
    assert moved[0]["trailing"] == {"distance": "0.002", "step": "0"}
    assert moved[0]["order_id"] == name
    assert moved[0]["protect_moves"] >= 1
    running.broker.push("EURUSD", 1.0970, 1.0971)
    running.wait_for(lambda: not shown(running, "positions"), "the end of the position")


def test_part_cancel_and_close_by(running_executor: Maker) -> None:
    running = running_executor("lab")
    names = [
        running.open(lots=Decimal("0.4")),
        running.open(side="sell"),
        running.open(order_type="stop", price=Decimal("1.2")),
    ]
    assert [running.settle(name).state for name in names[:2]] == [S.FILLED, S.FILLED]
    running.until(lambda report: report.state is S.PLACED, names[2])
    part = running.settle(act(running, "close", opened_by=signal_of(names[0]), fraction=0.5))
    assert (part.state, part.filled_lots) == (S.FILLED, Decimal("0.2"))
    assert running.settle(act(running, "close_by", symbol="EURUSD")).state is S.DONE
    assert running.settle(act(running, "cancel", all=True)).state is S.DONE
    assert running.settle(names[2]).state is S.CANCELLED
    assert [Decimal(repr(item.volume)) for item in running.broker.oracle.positions(running.login)] == [
        Decimal("0.1")
    ]
    assert running.settle(running.close_all()).state is S.FILLED
