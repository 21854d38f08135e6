"""Pure: an account's open lots in one symbol, added up as they change, and the margin they bind together.

Precedes: account sums and the money check. Follows: every change of a position. Nothing is summed anew for each request, so
that an account with a thousand positions answers as fast as one with none.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from executors.terminals.paper.broker.personalities import Instrument

MarginOf = Callable[[int, float, float], float]  # side, lots, price → margin in the account's currency


class Part(NamedTuple):
    """One position's share."""

    side: int
    lots: float
    cost: float  # lots times open price
    margin: float


@dataclass(slots=True)
class Exposure:
    lots: list[float] = field(default_factory=lambda: [0.0, 0.0])
    cost: list[float] = field(default_factory=lambda: [0.0, 0.0])
    margin: list[float] = field(default_factory=lambda: [0.0, 0.0])
    parts: dict[int, Part] = field(default_factory=dict)  # by position ticket

    def put(self, ticket: int, part: Part) -> None:
        self.drop(ticket)
        self.parts[ticket] = part
        self.add(part, 1)

    def drop(self, ticket: int) -> None:
        if (part := self.parts.pop(ticket, None)) is not None:
            self.add(part, -1)
        if not self.parts:
            self.lots, self.cost, self.margin = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]  # no dust is left

    def add(self, part: Part, sign: int) -> None:
        side = part.side
        self.lots[side] = round(self.lots[side] + sign * part.lots, 8)
        self.cost[side] += sign * part.cost
        self.margin[side] += sign * part.margin

    def sums(self) -> "Exposure":
        """A copy to try a change on."""
        return Exposure(list(self.lots), list(self.cost), list(self.margin))


def margin_of(exposure: Exposure, instrument: Instrument, of: MarginOf) -> float:
    """Both sides together: the covered volume is charged as a pair, or the larger side alone counts."""
    lots, cost, margin = exposure.lots, exposure.cost, exposure.margin
    if lots[0] <= 0 or lots[1] <= 0:
        return max(margin[0] if lots[0] > 0 else 0.0, 0.0) + max(margin[1] if lots[1] > 0 else 0.0, 0.0)
    if instrument.margin_use_leg:
        return max(margin)
    covered = min(lots)
    larger = 0 if lots[0] >= lots[1] else 1
    hedged = instrument.contract_size if instrument.margin_hedged < 0 else instrument.margin_hedged
    mean_of_both = (cost[0] + cost[1]) / (lots[0] + lots[1])
    pair = of(larger, covered, mean_of_both) * hedged / instrument.contract_size
    return of(larger, lots[larger] - covered, cost[larger] / lots[larger]) + pair
