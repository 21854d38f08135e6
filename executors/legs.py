"""Pure: an order and its requests as the executor thinks of them, and as the journal keeps them.

Precedes: plans and execution work on these. Follows: messages.Leg.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from executors.messages import ExecutionReport, Leg
from executors.orders import OrderState, Outcome, RequestView

ZERO = Decimal(0)


@dataclass(slots=True)
class RequestRow:
    n: int
    magic: int
    request: dict[str, Any]
    lots: Decimal
    intent_ms: int
    outcome: Outcome
    filled_lots: Decimal = ZERO
    price: Decimal = ZERO
    retcode: int | None = None
    result: dict[str, Any] = field(default_factory=dict)
    result_ms: int | None = None

    @property
    def view(self) -> RequestView:
        return RequestView(self.outcome, self.lots, self.filled_lots)


@dataclass(slots=True)
class LegRow:
    """An order as the journal knows it, with its requests in order of n."""

    leg: Leg
    state: OrderState
    wanted_lots: Decimal
    filled_lots: Decimal
    plan: dict[str, Any]
    report_seq: int
    received_ms: int
    requests: list[RequestRow] = field(default_factory=list)

    @property
    def order_id(self) -> str:
        return self.leg.order_id


@dataclass(frozen=True, slots=True)
class JournalReport:
    """A report as the journal holds it."""

    position: int
    report: ExecutionReport
    report_json: str
    leg_json: str
    deadline_ms: int
