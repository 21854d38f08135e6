"""Pure: where a trailing stop or break-even wants a position's stop loss, and what is armed after a protect signal.

Precedes: guard sends what comes out. Follows: prices and the position as the terminal shows it. A stop loss only ever
moves in the position's favour.
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Self

from executors.messages import BreakEven, Message, OpenSignal, ProtectSignal, Trailing
from executors.terminals.base import ZERO, Position, SymbolSpec, Tick

BUY = 0


class Protection(Message):
    """What is armed for a position, and what came of it."""

    trailing: Trailing | None = None
    break_even: BreakEven | None = None
    moves: int = 0
    error: str = ""
    side: int | None = (
        None  # POSITION_TYPE_* of the position when it was first seen; of a wish not yet bound: none
    )

    @classmethod
    def of(cls, signal: OpenSignal) -> Self:
        return cls(trailing=signal.trailing, break_even=signal.break_even)

    def merged(self, signal: ProtectSignal) -> Self:
        """What the signal leaves, sets and removes."""
        trailing = self.trailing if signal.trailing is None else signal.trailing
        break_even = self.break_even if signal.break_even is None else signal.break_even
        return self.model_copy(
            update={
                "trailing": trailing if trailing and trailing.distance else None,
                "break_even": break_even if break_even and break_even.trigger else None,
                "error": "",
            }
        )

    @property
    def armed(self) -> bool:
        return self.trailing is not None or self.break_even is not None


def turned(protection: Protection, position: Position) -> bool:
    """Whether a netting account's position is on the other side now: what was wished of it is over."""
    return protection.side not in (None, position.type)


def next_stop(protection: Protection, position: Position, tick: Tick, spec: SymbolSpec) -> Decimal | None:
    """The stop loss to set now; None when it stays. Prices are compared on the side that closes the position."""
    buying = position.type == BUY
    sign = 1 if buying else -1
    price = tick.bid if buying else tick.ask
    if frozen(position, price, spec):
        return None
    nearest = _grid(price - sign * max(spec.stops_level, 1) * spec.point, spec, buying=buying)
    best: Decimal | None = None
    even = protection.break_even
    if even is not None and sign * (price - position.price_open) >= even.trigger:
        wanted = _grid(position.price_open + sign * even.offset, spec, buying=buying)
        if sign * (nearest - wanted) >= 0 and _gain(wanted, position, sign) >= spec.point:
            best = wanted
    trailing = protection.trailing
    if trailing is not None:
        wanted = _grid(price - sign * trailing.distance, spec, buying=buying)
        wanted = min(wanted, nearest) if buying else max(wanted, nearest)
        enough = _gain(wanted, position, sign) >= max(trailing.step, spec.point)
        if wanted > ZERO and enough and (best is None or sign * (wanted - best) > 0):
            best = wanted
    return best


def even_reached(protection: Protection, position: Position) -> bool:
    """Whether break-even has done its work: the stop loss is where it would put it, or better."""
    even = protection.break_even
    if even is None or not position.sl:
        return False
    sign = 1 if position.type == BUY else -1
    return sign * (position.sl - position.price_open) >= even.offset


def frozen(position: Position, price: Decimal, spec: SymbolSpec) -> bool:
    """Whether the broker refuses changes since a level is too near to the price."""
    within = spec.freeze_level * spec.point
    levels = [level for level in (position.sl, position.tp) if level]
    return bool(within) and any(abs(price - level) < within for level in levels)


def _gain(wanted: Decimal, position: Position, sign: int) -> Decimal:
    """How much better than the present stop loss."""
    if not position.sl:
        return Decimal("Infinity")
    return sign * (wanted - position.sl)


def _grid(price: Decimal, spec: SymbolSpec, *, buying: bool) -> Decimal:
    """On the symbol's prices, away from the market."""
    size = spec.tick_size or spec.point
    steps = (price / size).to_integral_value(ROUND_FLOOR if buying else ROUND_CEILING)
    return (steps * size).quantize(Decimal(1).scaleb(-spec.digits))
