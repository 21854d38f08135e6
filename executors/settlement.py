"""Pure: settling an order by hand: what an operator says of it, whether its journal may take that, what it changes.

Precedes: `settling` journals it in the executor. Follows: `settlement_desk` asks it in an admin's name.
"""

from decimal import Decimal
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from executors.legs import ZERO, LegRow, RequestRow
from executors.messages import Message, Number
from executors.orders import SETTLED, OrderState, Outcome

S = OrderState
# What a living executor may be asked to end: it has looked, or looks, and cannot tell. It decides the rest itself.
SETTLABLE = frozenset({S.UNKNOWN, S.PLACED, S.PARTIAL})
OPEN = frozenset({Outcome.PENDING, Outcome.UNKNOWN, Outcome.PLACED})
MAX_WORDS = 300

Truth = Literal["executed", "not_executed", "done", "given_up"]
TRUTHS: dict[str, str] = {
    "executed": "it was executed: lots were filled",
    "not_executed": "it was not executed",
    "done": "it took effect, and no lots belong to it (stop loss, take profit, a removed order)",
    "given_up": "it cannot be known any more",
}


class Settlement(Message):
    """One operator's statement about one order. `settlement_id` makes repeating it harmless."""

    settlement_id: str = Field(min_length=8, max_length=64)
    order_id: str = Field(max_length=120)
    terminal_id: str
    truth: Truth
    filled_lots: Number = Field(default=ZERO, ge=0, lt=Decimal("1e12"))  # of the whole order
    price: Number = Field(default=ZERO, ge=0, lt=Decimal("1e12"))  # volume-weighted; 0 = not known
    evidence: str = Field(min_length=1, max_length=MAX_WORDS)  # where the truth was seen
    reason: str = Field(min_length=1, max_length=MAX_WORDS)  # why by hand
    by: str = Field(min_length=1, max_length=150)
    report_seq: int = Field(ge=0)  # of the report that the operator has seen
    asked_ms: int
    forced: bool = False  # the terminal's executor was stated to be dead
    leg: str = ""  # forced: messages.Leg as JSON, for a journal that does not know the order

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.truth == "executed" and not self.filled_lots:
            raise ValueError("say how many lots were filled, or choose another outcome")
        if self.truth in ("not_executed", "done") and self.filled_lots:
            raise ValueError(
                "an order that was not executed, or has no lots, has no filled lots: leave them empty"
            )
        if self.price and not self.filled_lots:
            raise ValueError("a price belongs to filled lots: give them too, or leave it empty")
        return self

    @property
    def sentence(self) -> str:
        """For the report: what was said, by whom, and why."""
        said = TRUTHS[self.truth].partition(":")[0].partition(",")[0]
        lots = f" {self.filled_lots.normalize():f} lots" if self.filled_lots else ""
        price = f" at {self.price.normalize():f}" if self.price else ""
        how = " The executor was stated to be dead." if self.forced else ""
        what = f"{said};{lots}{price}" if lots else said
        return f"Settled by hand by {self.by}: {what}. Seen: {self.evidence} Why: {self.reason}{how}"


class Answer(Message):
    """What the executor made of a settlement."""

    settlement_id: str
    done: bool
    message: str
    time_ms: int


def read_settlement(text: str) -> Settlement | None:
    """None when it is none of this version's."""
    try:
        return Settlement.model_validate_json(text)
    except ValidationError:
        return None


def taken(row: LegRow, wish: Settlement) -> bool:
    """Whether the journal has this very settlement already."""
    return row.state is S.MANUAL and row.plan.get("settlement") == wish.settlement_id


def objection(row: LegRow, wish: Settlement) -> str:
    """Why the journal does not take it, as a sentence; empty when it does."""
    if row.state in SETTLED:
        return f"Its executor knows what became of it: it is {row.state}."
    if not wish.forced:
        if row.state not in SETTLABLE:
            return f"It is {row.state}: its executor is at work on it. Wait for what it finds."
        if row.report_seq != wish.report_seq:
            return f"It has moved on since you looked: it is {row.state} now. Look at it again."
    if wish.filled_lots < row.filled_lots:
        return f"Deals of {row.filled_lots.normalize():f} lots are known already; it cannot have had fewer."
    sized = row.wanted_lots and not row.plan.get("foreign")  # a lost journal took the sizing with it
    if sized and wish.filled_lots > row.wanted_lots:
        return f"Only {row.wanted_lots.normalize():f} lots were asked of the broker; it cannot have had more."
    return ""


def apply(row: LegRow, wish: Settlement) -> list[RequestRow]:
    """Puts the statement into the order; returns the requests that it ends."""
    ended = [item for item in row.requests if item.outcome in OPEN]
    for item in ended:
        item.outcome = Outcome.MANUAL
        item.result = item.result | {"message": wish.sentence, "retriable": False}
    rest = wish.filled_lots - row.filled_lots
    if ended and rest:
        last = ended[-1]
        last.filled_lots += rest
        last.price = wish.price or last.price
    row.filled_lots = wish.filled_lots
    row.plan = row.plan | {"settlement": wish.settlement_id, "waiting": []}
    row.plan_kept = False
    return ended
