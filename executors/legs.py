"""Pure: an order and its requests as the executor thinks of them, and as the journal keeps them.

Precedes: plans and execution work on these. Follows: messages.Leg.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from executors.messages import ExecutionReport, Leg
from executors.orders import OrderState, Outcome, RequestView
from executors.terminals.base import Position

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
    # the journal has the question: only its answer is written from now on
    kept: bool = field(default=False, compare=False)

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
    # the journal has the plan as it is: it need not be written with each request
    plan_kept: bool = field(default=False, compare=False)
    leg_json: str = field(default="", compare=False)  # the leg as the journal has it, once it has
    order_id: str = field(init=False)

    def __post_init__(self) -> None:
        self.order_id = self.leg.order_id


def position_tickets(row: LegRow) -> set[int]:
    return {ticket for item in row.requests for ticket in item.result.get("positions", [])}


def order_tickets(row: LegRow) -> set[int]:
    return {ticket for item in row.requests for ticket in item.result.get("orders", [])}


def made_by(row: LegRow, position: Position) -> bool:
    """Whether the position is an open order's: by ticket, or by magic where the ticket is an older order's (netting)."""
    return bool({position.ticket, position.identifier} & position_tickets(row)) or any(
        position.magic == item.magic for item in row.requests
    )


def unanswered(row: LegRow) -> bool:
    return any(item.outcome in (Outcome.PENDING, Outcome.UNKNOWN) for item in row.requests)


@dataclass(frozen=True, slots=True)
class JournalReport:
    """A report as the journal holds it."""

    position: int
    report: ExecutionReport
    report_json: str
    leg_json: str
    deadline_ms: int
