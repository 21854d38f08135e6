"""Does the ledger hold together? `python -m executors.terminals.paper.check DIRECTORY` prints what does not, and fails then.

Precedes: chaos runs and tests, which call `check`. Follows: `oracle.py` and `replay.py`. Sums are exact: every figure was
booked rounded.
"""

import argparse
import sys
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.oracle import Deal, Order, Position, Records, from_directory
from executors.terminals.paper.replay import TRADES, Held, Key, exact, replay

BALANCE_TYPES = frozenset(range(2, 18))  # deposits, credits, corrections and the like: no trade
BUY_TYPES = (
    mt5.ORDER_TYPE_BUY,
    mt5.ORDER_TYPE_BUY_LIMIT,
    mt5.ORDER_TYPE_BUY_STOP,
    mt5.ORDER_TYPE_BUY_STOP_LIMIT,
)
DUST = Decimal("0.000001")
MEAN_DUST = Decimal("0.00000001")  # of a mean price, which the broker reckons in binary fractions


def check(records: Records, *, magics_unique: bool = True) -> list[str]:
    """Violations as sentences; none when all is well. `magics_unique`: a magic above 0 names one client order."""
    held, found = replay(records)
    found = [*records.repeats, *_balances(records), *_moneys(records), *_links(records), *found]
    found += [*_positions(records), *_openings(records, held)]
    return found + _magics(records) if magics_unique else found


def _balances(records: Records) -> list[str]:
    """Balance = deposits + profit + commission + swap + fee of all deals; credit deals count as credit."""
    sums: dict[int, Decimal] = defaultdict(Decimal)
    credits: dict[int, Decimal] = defaultdict(Decimal)
    for deal in records.deals.values():
        to = credits if deal.type == mt5.DEAL_TYPE_CREDIT else sums
        to[deal.login] += exact(deal.profit) + exact(deal.commission) + exact(deal.swap) + exact(deal.fee)
    found = [
        f"account {login}: balance {account.balance}, its deals sum up to {sums[login]}"
        for login, account in records.accounts.items()
        if abs(exact(account.balance) - sums[login]) > DUST
    ]
    return found + [
        f"account {login}: credit {account.credit}, its credit deals sum up to {credits[login]}"
        for login, account in records.accounts.items()
        if abs(exact(account.credit) - credits[login]) > DUST
    ]


def _moneys(records: Records) -> list[str]:
    """Deals that are no trades have neither symbol, lots, order nor position."""
    found = []
    for deal in records.deals.values():
        if deal.type in TRADES:
            continue
        if deal.type not in BALANCE_TYPES:
            found.append(f"deal {deal.ticket} has type {deal.type}, which there is not")
        if deal.login not in records.accounts:
            found.append(f"deal {deal.ticket} is of account {deal.login}, which does not exist")
        if deal.symbol or deal.volume or deal.order or deal.position_id:
            found.append(f"deal {deal.ticket} moves money, and names a trade")
    return found


def _links(records: Records) -> list[str]:
    found = []
    filled: dict[int, Decimal] = defaultdict(Decimal)
    for deal in records.deals.values():
        if deal.type not in TRADES:
            continue
        order = records.orders.get(deal.order)
        if order is None:
            found.append(f"deal {deal.ticket} names order {deal.order}, which does not exist")
            continue
        filled[order.ticket] += exact(deal.volume)
        if (order.login, order.symbol) != (deal.login, deal.symbol):
            found.append(f"deal {deal.ticket} and its order {order.ticket} differ in account or symbol")
        if (account := records.accounts.get(deal.login)) is not None:  # the replay says it else
            found += _deal_links(deal, order, hedging=account.hedging)
    for order in records.orders.values():
        found += _order_links(order, filled[order.ticket])
    return found


def _deal_links(deal: Deal, order: Order, *, hedging: bool) -> list[str]:
    """What a deal repeats of its order."""
    found = []
    where = f"deal {deal.ticket} and its order {order.ticket}"
    by = order.type == mt5.ORDER_TYPE_CLOSE_BY
    if not by and deal.type != (mt5.DEAL_TYPE_BUY if order.type in BUY_TYPES else mt5.DEAL_TYPE_SELL):
        found.append(f"{where} are on different sides")
    if (deal.magic, deal.reason) != (order.magic, order.reason):
        found.append(f"{where} differ in magic or reason")
    positions = (order.position_id, order.position_by_id) if by else (order.position_id,)
    # on netting accounts one order may end a position and begin the next
    if deal.position_id not in positions and (hedging or deal.position_id == 0):
        found.append(f"{where} name different positions, {deal.position_id} and {order.position_id}")
    return found


def _order_links(order: Order, filled: Decimal) -> list[str]:
    if order.type == mt5.ORDER_TYPE_CLOSE_BY:
        wanted = exact(order.volume_initial) * 2
    else:
        wanted = exact(order.volume_initial) - exact(order.volume_current)
    found = []
    if filled != wanted:
        found.append(f"order {order.ticket}: its deals have {filled} lots, it says {wanted}")
    if order.state == mt5.ORDER_STATE_FILLED and order.volume_current:
        found.append(f"order {order.ticket} is filled, yet {order.volume_current} lots are open")
    if order.position_by_id and order.type != mt5.ORDER_TYPE_CLOSE_BY:
        found.append(
            f"order {order.ticket} names position {order.position_by_id} to close by, and is no close-by"
        )
    if filled and not order.position_id:
        found.append(f"order {order.ticket} was filled and names no position")
    if (order.state in (0, 1, 3)) != (order.done_ms == 0):
        found.append(f"order {order.ticket}: state {order.state} does not fit its end time {order.done_ms}")
    return found


def _positions(records: Records) -> list[str]:
    """Deals netted by position identifier are what is open."""
    net: dict[tuple[int, int], Decimal] = defaultdict(Decimal)
    for deal in records.deals.values():
        if deal.type in TRADES:
            net[deal.login, deal.position_id] += _signed(deal)
    held: dict[tuple[int, int], list[Position]] = defaultdict(list)
    for position in records.positions.values():
        held[position.login, position.identifier].append(position)
    found = []
    for key in net.keys() | held.keys():
        items = held.get(key, [])
        if len(items) > 1:
            found.append(f"account {key[0]} holds position {key[1]} {len(items)} times")
        lots = sum((exact(item.volume) * (1 if item.type == 0 else -1) for item in items), Decimal(0))
        if lots != net.get(key, Decimal(0)):
            found.append(
                f"account {key[0]}, position {key[1]}: {lots} lots are held, its deals net to {net[key]}"
            )
        for item in items:
            if item.ticket not in records.orders:
                found.append(f"position {item.ticket} was opened by no order")
    return found


def _openings(records: Records, held: dict[Key, Held]) -> list[str]:
    """What is open has the symbol and the opening price that its deals make, and the magic of the order that opened it."""
    found = []
    for item in records.positions.values():
        made = held.get((item.login, item.identifier))
        if made is None or not made.lots:
            continue  # said above: its deals net to nothing
        if item.symbol != made.symbol:
            found.append(f"position {item.ticket} is in {item.symbol}, its deals are in {made.symbol}")
        if made.exact and abs(exact(item.price_open) - made.price) > MEAN_DUST:
            found.append(f"position {item.ticket} opened at {item.price_open}, its deals make {made.price}")
        order = records.orders.get(item.ticket)
        hedging = records.accounts[item.login].hedging
        if order is not None and hedging and order.magic != item.magic:
            found.append(
                f"position {item.ticket} has magic {item.magic}, the order that opened it {order.magic}"
            )
    return found


def _signed(deal: Deal) -> Decimal:
    return exact(deal.volume) if deal.type == mt5.DEAL_TYPE_BUY else -exact(deal.volume)


def _magics(records: Records) -> list[str]:
    """At most one client order per magic and account. SL, TP and stop-out orders repeat their position's magic."""
    orders: dict[tuple[int, int], list[int]] = defaultdict(list)
    for order in records.orders.values():
        if order.magic and order.request:
            orders[order.login, order.magic].append(order.ticket)
    return [
        f"account {login}: magic {magic} has {len(tickets)} orders: {', '.join(map(str, sorted(tickets)))}"
        for (login, magic), tickets in orders.items()
        if len(tickets) > 1
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="paper-check", description="Check a paper broker's ledger")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--magics-may-repeat", action="store_true")
    options = parser.parse_args()
    records = from_directory(options.directory)
    found = check(records, magics_unique=not options.magics_may_repeat)
    out = sys.stdout
    for line in found:
        out.write(f"{line}\n")
    out.write(
        f"{len(records.accounts)} accounts, {len(records.orders)} orders, {len(records.deals)} deals, "
        f"{len(records.positions)} open positions: {len(found)} violations\n"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
