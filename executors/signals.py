"""Pure: signals, what a sender asks: open, modify, close, cancel, close_by, protect. One schema for every way in.

Precedes: messages (a leg carries a signal), plans and execution. Follows: the sockets and REST. What is wrong with one
is said in a sentence that names the field. Unknown fields are refused.
"""

import hashlib
import re
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    StringConstraints,
    TypeAdapter,
    field_validator,
    model_serializer,
    model_validator,
)


def _number(value: Decimal, info: SerializationInfo) -> float | str:
    return float(value) if info.context and info.context.get("public") else format(value, "f")


Number = Annotated[Decimal, PlainSerializer(_number, return_type=Any, when_used="json")]
PositiveNumber = Annotated[
    Decimal,
    Field(gt=0, lt=Decimal("1e12"), max_digits=20, decimal_places=8, allow_inf_nan=False),
    PlainSerializer(_number, return_type=Any, when_used="json"),
]
Level = Annotated[  # a price or a distance; 0 removes what it sets
    Decimal,
    Field(ge=0, lt=Decimal("1e12"), max_digits=20, decimal_places=8, allow_inf_nan=False),
    PlainSerializer(_number, return_type=Any, when_used="json"),
]

SLUG = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?$")
Slug = Annotated[str, StringConstraints(pattern=SLUG.pattern)]
Symbol = Annotated[str, StringConstraints(min_length=1, max_length=29, pattern=r"^[A-Za-z0-9._#&+\-]+$")]


UUID_FORM = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _signal_id(value: str) -> str:
    if UUID_FORM.fullmatch(value) is None:
        raise ValueError("give a lower-case UUID with hyphens")
    return value


SignalId = Annotated[str, StringConstraints(min_length=36, max_length=36), AfterValidator(_signal_id)]
Side = Literal["buy", "sell"]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Targets(Message):
    """Groups and terminals to distribute to; the union, without doubles."""

    groups: list[Slug] = Field(default_factory=list, max_length=100)
    terminals: list[Slug] = Field(default_factory=list, max_length=1000)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.groups and not self.terminals:
            raise ValueError("name at least one group or terminal in targets")
        return self


class _Signal(Message):
    signal_id: SignalId
    targets: Targets
    ttl_ms: int | None = Field(default=None, ge=100, le=86_400_000)
    age_ms: int = Field(default=0, ge=0, le=86_400_000)

    def digest(self) -> str:
        """SHA-256 of what is wished: the same for a repeated send, whose `age_ms` has grown."""
        body = self.model_dump_json(exclude={"age_ms"}, exclude_none=True)
        return hashlib.sha256(body.encode()).hexdigest()


class Trailing(Message):
    """The stop loss follows the price at `distance`, in moves of at least `step`; price units. Distance 0: removed."""

    distance: Level
    step: Level = Decimal(0)


class BreakEven(Message):
    """Once the price is `trigger` in profit, the stop loss goes to the open price plus `offset`; trigger 0: removed."""

    trigger: Level
    offset: Level = Decimal(0)

    @model_validator(mode="after")
    def _behind(self) -> Self:
        if self.trigger and self.offset >= self.trigger:
            raise ValueError("offset must be less than trigger, or the stop loss would lie beyond the price")
        return self


OrderType = Literal["market", "limit", "stop", "stop_limit"]


class OpenSignal(_Signal):
    """Open a position on each target, at the market or by a pending order. Prices are in the symbol's quote currency.

    `trailing` and `break_even` arm when the position exists. `expires_ms`: of a pending order, UTC; absent: never.
    """

    action: Literal["open"] = "open"
    symbol: Symbol
    side: Side
    order_type: OrderType = "market"
    lots: PositiveNumber
    price: PositiveNumber | None = None
    limit_price: PositiveNumber | None = None
    expires_ms: int | None = Field(default=None, ge=1, lt=2**43)
    stop_loss: PositiveNumber | None = None
    take_profit: PositiveNumber | None = None
    trailing: Trailing | None = None
    break_even: BreakEven | None = None

    @property
    def pending(self) -> bool:
        return self.order_type != "market"

    @model_validator(mode="after")
    def _sides(self) -> Self:
        if self.stop_loss is not None and self.take_profit is not None:
            below = self.stop_loss < self.take_profit
            if below != (self.side == "buy"):
                raise ValueError(
                    "stop_loss must lie below take_profit for a buy and above it for a sell; exchange the two"
                )
        return self

    @model_validator(mode="after")
    def _prices(self) -> Self:
        if not self.pending:
            for name in ("price", "limit_price", "expires_ms"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} belongs to pending orders: leave it out of a market order")
            return self
        if self.price is None:
            raise ValueError(f"order_type {self.order_type} needs a price: give it")
        if (self.limit_price is not None) != (self.order_type == "stop_limit"):
            raise ValueError("limit_price belongs to stop_limit orders, and only to them")
        entry = self.price
        if self.limit_price is not None:
            entry = self.limit_price
            if (self.limit_price < self.price) != (self.side == "buy"):
                raise ValueError("limit_price must lie below price for a buy and above it for a sell")
        sign = 1 if self.side == "buy" else -1
        if self.stop_loss is not None and sign * (entry - self.stop_loss) <= 0:
            raise ValueError("stop_loss must lie below the entry price of a buy and above that of a sell")
        if self.take_profit is not None and sign * (self.take_profit - entry) <= 0:
            raise ValueError("take_profit must lie above the entry price of a buy and below that of a sell")
        return self

    @model_validator(mode="after")
    def _armed(self) -> Self:
        if self.trailing is not None and not self.trailing.distance:
            raise ValueError("trailing.distance must be above 0; leave trailing out to have none")
        if self.break_even is not None and not self.break_even.trigger:
            raise ValueError("break_even.trigger must be above 0; leave break_even out to have none")
        return self


class _Selecting(_Signal):
    """What a signal is about: exactly one of the selectors that its action knows.

    `opened_by` is the signal_id of an open: its positions or pending orders on each target terminal.
    """

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        known = [name for name in SELECTORS if name in type(self).model_fields]
        given = [name for name in known if getattr(self, name) is not None]
        if len(given) != 1:
            listed = ", ".join("all: true" if name == "all" else name for name in known[:-1])
            last = "all: true" if known[-1] == "all" else known[-1]
            raise ValueError(f"give exactly one of {listed} or {last}")
        if given[0] in ("position_ticket", "order_ticket") and (
            len(self.targets.terminals) != 1 or self.targets.groups
        ):
            raise ValueError(
                f"{given[0]} belongs to one terminal: name exactly that one in targets.terminals"
            )
        return self


SELECTORS = ("position_ticket", "order_ticket", "opened_by", "symbol", "all")
Ticket = Annotated[int, Field(ge=1, lt=2**64)]


class ModifySignal(_Selecting):
    """Change positions' stop loss and take profit, and pending orders' prices and expiration. 0 removes a level (or
    the expiration), what is absent stays. With a price, a limit_price or an expiration only pending orders are meant.
    """

    action: Literal["modify"]
    position_ticket: Ticket | None = None
    order_ticket: Ticket | None = None
    opened_by: SignalId | None = None
    symbol: Symbol | None = None
    all: Literal[True] | None = None
    price: PositiveNumber | None = None
    limit_price: PositiveNumber | None = None
    expires_ms: int | None = Field(default=None, ge=0, lt=2**43)
    stop_loss: Level | None = None
    take_profit: Level | None = None

    @property
    def pending_only(self) -> bool:
        return self.order_ticket is not None or any(
            item is not None for item in (self.price, self.limit_price, self.expires_ms)
        )

    @model_validator(mode="after")
    def _something(self) -> Self:
        changes = (self.price, self.limit_price, self.expires_ms, self.stop_loss, self.take_profit)
        if all(item is None for item in changes):
            raise ValueError("give at least one of price, limit_price, expires_ms, stop_loss, take_profit")
        if self.position_ticket is not None and self.pending_only:
            raise ValueError("price, limit_price and expires_ms belong to pending orders: name order_ticket")
        if self.all and (self.price or self.limit_price or self.stop_loss or self.take_profit):
            raise ValueError("one price does not fit all symbols: with all, levels can only be removed (0)")
        return self


class CloseSignal(_Selecting):
    """Close positions: one by ticket on one terminal, those of an open, of a symbol, or all of them; whole, `lots` of
    one, or a `fraction` of each."""

    action: Literal["close"] = "close"
    position_ticket: Ticket | None = None
    opened_by: SignalId | None = None
    symbol: Symbol | None = None
    all: Literal[True] | None = None
    lots: PositiveNumber | None = None
    fraction: Annotated[PositiveNumber, Field(lt=1)] | None = None

    @model_validator(mode="after")
    def _part(self) -> Self:
        if self.lots is not None and self.fraction is not None:
            raise ValueError("give lots or fraction, not both")
        if self.lots is not None and self.position_ticket is None:
            raise ValueError("lots belong to one position: give position_ticket, or a fraction instead")
        return self


class CancelSignal(_Selecting):
    """Cancel pending orders: one by ticket on one terminal, those of an open, of a symbol, or all of them."""

    action: Literal["cancel"]
    order_ticket: Ticket | None = None
    opened_by: SignalId | None = None
    symbol: Symbol | None = None
    all: Literal[True] | None = None


class CloseBySignal(_Signal):
    """Close opposite positions of a hedging account against each other: two by ticket on one terminal, or all that a
    symbol has. It saves the spread."""

    action: Literal["close_by"]
    position_ticket: Ticket | None = None
    by_position_ticket: Ticket | None = None
    symbol: Symbol | None = None

    @model_validator(mode="after")
    def _two_or_symbol(self) -> Self:
        both = self.position_ticket is not None and self.by_position_ticket is not None
        either = self.position_ticket is not None or self.by_position_ticket is not None
        if either == (self.symbol is not None) or either != both:
            raise ValueError("give position_ticket and by_position_ticket, or symbol")
        if both and self.position_ticket == self.by_position_ticket:
            raise ValueError("position_ticket and by_position_ticket must be two positions")
        if both and (len(self.targets.terminals) != 1 or self.targets.groups):
            raise ValueError("tickets belong to one terminal: name exactly that one in targets.terminals")
        return self


class ProtectSignal(_Selecting):
    """Have the executor move stop losses as prices move. Absent leaves what is armed, null removes it."""

    action: Literal["protect"]
    position_ticket: Ticket | None = None
    order_ticket: Ticket | None = None
    opened_by: SignalId | None = None
    symbol: Symbol | None = None
    all: Literal[True] | None = None
    trailing: Trailing | None = None
    break_even: BreakEven | None = None

    @field_validator("trailing", mode="before")
    @classmethod
    def _no_trailing(cls, value: Any) -> Any:
        return {"distance": 0} if value is None else value

    @field_validator("break_even", mode="before")
    @classmethod
    def _no_break_even(cls, value: Any) -> Any:
        return {"trigger": 0} if value is None else value

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.trailing is None and self.break_even is None:
            raise ValueError("give trailing, break_even or both; null removes one")
        return self

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """null means something here: what is absent must stay absent through every store."""
        return {name: value for name, value in handler(self).items() if value is not None}


AnySignal = OpenSignal | ModifySignal | CloseSignal | CancelSignal | CloseBySignal | ProtectSignal
Signal = Annotated[AnySignal, Field(discriminator="action")]
SIGNAL: TypeAdapter[AnySignal] = TypeAdapter(Signal)
Action = Literal["open", "modify", "close", "cancel", "close_by", "protect"]
ACTIONS: tuple[str, ...] = get_args(Action)


def in_words(signal: AnySignal) -> str:
    """The wish in one line, for people."""
    if isinstance(signal, OpenSignal):
        kind = f" {signal.order_type} at {signal.price:f}" if signal.price is not None else ""
        return f"open {signal.side} {signal.lots.normalize():f} {signal.symbol}{kind}"
    if isinstance(signal, CloseBySignal):
        if signal.position_ticket is not None:
            return f"close position {signal.position_ticket} by {signal.by_position_ticket}"
        return f"close {signal.symbol} by opposite positions"
    for name in SELECTORS[:3]:
        if (chosen := getattr(signal, name, None)) is not None:
            return f"{signal.action} {name.replace('_ticket', '').replace('_', ' ')} {chosen}"
    return f"{signal.action} {signal.symbol or 'everything'}"
