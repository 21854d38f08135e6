"""Pure: what the market gives an order: prices and lots, best first.

Precedes: the engine's fills. Follows: a desk's quote and, where the symbol has one, its market depth.
"""

from executors.terminals.paper.broker.personalities import Instrument

Levels = list[tuple[float, float]]


def levels(
    instrument: Instrument, buy: bool, price: float, lots: float, limit: float | None = None
) -> Levels:
    """Sweeps the depth from `price`; stops at `limit`, and when the depth ends. Without depth: all at the top."""
    if not instrument.book_depth:
        return [(price, lots)]
    found: Levels = []
    away = instrument.step if buy else -instrument.step
    for depth in range(instrument.book_depth):
        at = round(price + depth * away, instrument.digits)
        if limit is not None and (at > limit + 1e-9 if buy else at < limit - 1e-9):
            break
        part = round(min(lots, instrument.book_lots), 8)
        found.append((at, part))
        lots = round(lots - part, 8)
        if lots <= 0:
            break
    return found


def part_of(instrument: Instrument, lots: float, share: float) -> float:
    """A share of the lots, cut to whole steps."""
    steps = int(lots * share / instrument.volume_step + 1e-9)
    return round(steps * instrument.volume_step, 8)


def total(found: Levels) -> float:
    return round(sum(lots for _, lots in found), 8)


def mean(found: Levels, digits: int) -> float:
    return round(sum(at * lots for at, lots in found) / total(found), digits)
