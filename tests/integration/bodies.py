"""What a program sends."""

from typing import Any
from uuid import uuid4


def an_open(**changes: Any) -> dict[str, Any]:
    body = {
        "signal_id": str(uuid4()),
        "action": "open",
        "symbol": "EURUSD",
        "side": "buy",
        "order_type": "market",
        "lots": 0.1,
        "targets": {"groups": ["desk"]},
    }
    return {**body, **changes}
