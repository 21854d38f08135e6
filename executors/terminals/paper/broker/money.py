"""Pure: profit and margin by calculation mode, and conversion between currencies at a broker's own quotes.

Precedes: fills, account sums, `order_calc_*`. A profit is converted at the Bid side and a loss at the Ask side.
"""

from collections.abc import Mapping
from typing import Protocol

from executors.terminals.paper.broker.model import Quote
from executors.terminals.paper.broker.personalities import Instrument

FOREX, FUTURES, CFD, CFD_INDEX, CFD_LEVERAGE, FOREX_PLAIN = 0, 1, 2, 3, 4, 5
STOCKS, EXCHANGE_FUTURES, OPTIONS, OPTIONS_MARGIN, BONDS = 32, 33, 34, 36, 37
STOCKS_MOEX, BONDS_MOEX, COLLATERAL = 38, 39, 64
EXCHANGE_TRADED = frozenset({32, 33, 34, 36, 37, 38, 39})
PIVOT = "USD"


class NoRate(LookupError):
    """No symbol of this broker links the two currencies, or it has no quote yet."""


class Priced(Protocol):
    instrument: Instrument
    quote: Quote


Pairs = Mapping[tuple[str, str], Priced]  # (base, profit currency) → the symbol that quotes it


def convert(amount: float, source: str, target: str, pairs: Pairs, *, pivot: bool = True) -> float:
    if source == target or amount == 0:
        return amount
    gain = amount > 0
    if (direct := pairs.get((source, target))) is not None and direct.quote.bid:
        return amount * (direct.quote.bid if gain else direct.quote.ask)
    if (inverse := pairs.get((target, source))) is not None and inverse.quote.bid:
        return amount / (inverse.quote.ask if gain else inverse.quote.bid)
    if pivot and PIVOT not in (source, target):
        return convert(convert(amount, source, PIVOT, pairs, pivot=False), PIVOT, target, pairs, pivot=False)
    raise NoRate(f"no quote links {source} and {target}")


def profit(
    instrument: Instrument, side: int, lots: float, opened: float, closed: float, currency: str, pairs: Pairs
) -> float:
    """In the account's currency, not rounded. `side` 0 buy, 1 sell."""
    move = (closed - opened) if side == 0 else (opened - closed)
    mode = instrument.calc_mode
    if mode in (FUTURES, EXCHANGE_FUTURES) or (mode == CFD_INDEX and instrument.tick_value):
        raw = move * lots * instrument.tick_value / instrument.step
    elif mode in (OPTIONS, OPTIONS_MARGIN):
        raw = (
            move
            * lots
            * (instrument.tick_value / instrument.step if instrument.tick_value else instrument.contract_size)
        )
    elif mode in (BONDS, BONDS_MOEX):
        raw = move * lots * instrument.face_value * instrument.contract_size
    elif mode == COLLATERAL:
        return 0.0
    else:
        raw = move * lots * instrument.contract_size
    if instrument.profit == currency:
        return raw
    if instrument.base == currency and mode in (FOREX, FOREX_PLAIN) and closed:
        return raw / closed
    return convert(raw, instrument.profit, currency, pairs)


def margin(
    instrument: Instrument, side: int, lots: float, price: float, leverage: int, currency: str, pairs: Pairs
) -> float:
    """What a position of so many lots at that price binds, in the account's currency, not rounded."""
    mode = instrument.calc_mode
    size = instrument.margin_initial or instrument.contract_size
    if mode in (FOREX, FOREX_PLAIN):
        amount = lots * size / (leverage if mode == FOREX else 1)
        if instrument.margin == currency:
            return amount
        if instrument.profit == currency:
            return amount * price  # the symbol itself links the two: its price is the rate
        return _at_side(amount, instrument.margin, currency, side, pairs)
    premium = mode in (OPTIONS, OPTIONS_MARGIN) and instrument.option_margin == "premium"
    if mode in (FUTURES, EXCHANGE_FUTURES, OPTIONS, OPTIONS_MARGIN) and not premium:
        amount = lots * instrument.margin_initial
    elif mode == COLLATERAL:
        return 0.0
    elif mode in (BONDS, BONDS_MOEX):
        amount = lots * instrument.contract_size * instrument.face_value * price / 100
    else:
        amount = lots * instrument.contract_size * price
        if mode == CFD_LEVERAGE:
            amount /= leverage
        elif mode == CFD_INDEX and instrument.tick_value:
            amount *= instrument.tick_value / instrument.step
    return _at_side(amount, instrument.margin, currency, side, pairs)


def worth(instrument: Instrument, lots: float, price: float, currency: str, pairs: Pairs) -> float:
    """What collateral counts for in equity; nothing else does."""
    if instrument.calc_mode != COLLATERAL:
        return 0.0
    amount = lots * instrument.contract_size * price * instrument.liquidity_rate
    return convert(amount, instrument.profit, currency, pairs)


def _at_side(amount: float, source: str, target: str, side: int, pairs: Pairs) -> float:
    """Buys convert at the Ask, sells at the Bid."""
    return convert(amount, source, target, pairs) if side else -convert(-amount, source, target, pairs)
