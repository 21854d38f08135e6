"""Pure: what each position's deals come to, reckoned anew: lots, side, opening price, and the profit of every deal.

Precedes: `check.py`, which compares. Follows: the records and what a lot of each symbol is. Nothing is taken from the
broker's own arithmetic. Profits in an account's currency are exact where the deal's own prices convert them; where
another symbol's rate entered, which no ledger keeps, gain and loss must be on the right side.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.broker.personalities import Instrument
from executors.terminals.paper.oracle import Account, Deal, Order, Records

TRADES = (mt5.DEAL_TYPE_BUY, mt5.DEAL_TYPE_SELL)
FOREX = (mt5.SYMBOL_CALC_MODE_FOREX, mt5.SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE)
BY_TICK = (mt5.SYMBOL_CALC_MODE_FUTURES, mt5.SYMBOL_CALC_MODE_EXCH_FUTURES)
BY_TICK_IF_SET = (
    mt5.SYMBOL_CALC_MODE_CFDINDEX,
    mt5.SYMBOL_CALC_MODE_EXCH_OPTIONS,
    mt5.SYMBOL_CALC_MODE_EXCH_OPTIONS_MARGIN,
)
BONDS = (mt5.SYMBOL_CALC_MODE_EXCH_BONDS, mt5.SYMBOL_CALC_MODE_EXCH_BONDS_MOEX)
NETTING_DIGITS = 10  # of a mean price, which netting accounts do not round to the symbol's
Key = tuple[int, int]  # login, position identifier


@dataclass(slots=True)
class Held:
    """A position as its deals make it."""

    symbol: str
    side: int = 0
    lots: Decimal = Decimal(0)
    price: Decimal = Decimal(0)  # at which it was opened, a mean where it grew
    exact: bool = True  # False: the mean could not be rounded as the broker does


def exact(value: float) -> Decimal:
    return Decimal(repr(value))


def replay(records: Records) -> tuple[dict[Key, Held], list[str]]:
    """Every position that ever was, and what is wrong with the deals."""
    by_position: dict[Key, list[Deal]] = defaultdict(list)
    for deal in records.deals.values():
        if deal.type in TRADES:
            by_position[deal.login, deal.position_id].append(deal)
    held, found = {}, []
    for key, deals in by_position.items():
        account = records.accounts.get(key[0])
        if account is None:
            found.append(f"deal {deals[0].ticket} is of account {key[0]}, which does not exist")
            continue
        deals.sort(key=lambda deal: deal.ticket)
        held[key], wrong = _of_position(records, account, deals)
        found += wrong
    return held, found


def _of_position(records: Records, account: Account, deals: Iterable[Deal]) -> tuple[Held, list[str]]:
    found: list[str] = []
    held: Held | None = None
    for deal in deals:
        instrument = records.instruments.get((account.personality, deal.symbol))
        held = held or Held(deal.symbol)
        if deal.symbol != held.symbol:
            found.append(f"deal {deal.ticket} is in {deal.symbol}, its position in {held.symbol}")
        found += _one(account, held, deal, records.orders.get(deal.order), instrument)
    assert held is not None
    return held, found


def _one(
    account: Account, held: Held, deal: Deal, order: Order | None, instrument: Instrument | None
) -> list[str]:
    """Books one deal on the position, and compares."""
    lots, price = exact(deal.volume), exact(deal.price)
    if not lots > 0 or not price > 0:
        return [f"deal {deal.ticket} has {deal.volume} lots at {deal.price}"]
    found = []
    closing = held.lots > 0 and deal.type != held.side
    turns = closing and lots > held.lots
    entry = mt5.DEAL_ENTRY_INOUT if turns else mt5.DEAL_ENTRY_OUT if closing else mt5.DEAL_ENTRY_IN
    by = deal.entry == mt5.DEAL_ENTRY_OUT_BY and closing
    if deal.entry != entry and not by:
        found.append(f"deal {deal.ticket} says entry {deal.entry}, the deals before it make it {entry}")
    if by and (order is None or order.type != mt5.ORDER_TYPE_CLOSE_BY):
        found.append(f"deal {deal.ticket} closes by another position, its order does not")
    if turns and account.hedging:
        found.append(f"deal {deal.ticket} turns a position of a hedging account")
    second = (
        by and order is not None and deal.position_id == order.position_by_id
    )  # the first has the whole profit
    if deal.commission > 0:
        found.append(f"deal {deal.ticket}: a commission of {deal.commission} is no cost")
    if not closing or second:
        if deal.profit or (deal.swap and not closing):
            found.append(
                f"deal {deal.ticket}: profit {deal.profit} and swap {deal.swap}, yet it realises nothing"
            )
    elif instrument is not None:
        found += _profit(account, held, deal, min(lots, held.lots), instrument)
    _book(account, held, deal.type, lots, price, instrument, closing=closing)
    return found


def _book(
    account: Account,
    held: Held,
    side: int,
    lots: Decimal,
    price: Decimal,
    instrument: Instrument | None,
    *,
    closing: bool,
) -> None:
    if not closing:
        held.exact = held.exact and (not held.lots or not account.hedging or instrument is not None)
        if held.lots:
            # in binary fractions: half a point is rounded to the side that the broker's own sum falls on
            total = round(float(held.lots + lots), 8)
            mean = (float(held.price) * float(held.lots) + float(price) * float(lots)) / total
            digits = instrument.digits if instrument is not None and account.hedging else NETTING_DIGITS
            price = exact(round(mean, digits))
        held.side, held.lots, held.price = side, held.lots + lots, price
        return
    held.lots -= lots
    if held.lots < 0:
        held.side, held.lots, held.price, held.exact = side, -held.lots, price, True


def _profit(account: Account, held: Held, deal: Deal, lots: Decimal, instrument: Instrument) -> list[str]:
    price = exact(deal.price)
    move = price - held.price if held.side == mt5.DEAL_TYPE_BUY else held.price - price
    worth = move * lots * _per_lot(instrument)
    said, half = exact(deal.profit), Decimal(1).scaleb(-account.digits)
    if instrument.profit == account.currency:
        should = worth
    elif instrument.base == account.currency and instrument.calc_mode in FOREX:
        should = worth / price
    else:
        if said * worth < 0:
            return [
                f"deal {deal.ticket}: profit {said} in {account.currency}, yet it made {worth} {instrument.profit}"
            ]
        return []
    if held.exact and abs(said - should) > half * Decimal("0.5001"):
        return [
            f"deal {deal.ticket}: profit {said}, its prices and lots make {should:.{account.digits + 2}f}"
        ]
    return []


def _per_lot(instrument: Instrument) -> Decimal:
    """Money that a lot makes when the price moves by one."""
    mode, step = instrument.calc_mode, exact(instrument.step)
    if mode == mt5.SYMBOL_CALC_MODE_SERV_COLLATERAL:
        return Decimal(0)
    if mode in BY_TICK or (mode in BY_TICK_IF_SET and instrument.tick_value):
        return exact(instrument.tick_value) / step
    if mode in BONDS:
        return exact(instrument.face_value) * exact(instrument.contract_size)
    return exact(instrument.contract_size)
