"""What a fill does to an account: the deal, the position it makes, grows, shrinks, ends or turns, and the balance.

Precedes: the ledger (through `State`). Follows: the engine's decision to fill an order at a price.
"""

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.broker import money
from executors.terminals.paper.broker.model import Deal, Order, Position
from executors.terminals.paper.broker.personalities import Personality
from executors.terminals.paper.broker.state import BUY_TYPES, Book, Desk, State


def kept_comment(personality: Personality, comment: str) -> str:
    """What this broker makes of a comment."""
    match personality.comment_mode:
        case "empty":
            comment = ""
        case "replace":
            comment = personality.company
        case "append":
            comment = f"{comment}/{personality.key}" if comment else personality.key
    return comment[: personality.comment_length]


def fill(
    state: State,
    book: Book,
    desk: Desk,
    order: Order,
    volume: float,
    price: float,
    at_ms: int,
    *,
    target: Position | None = None,
    comment: str | None = None,
    entry: int | None = None,
    profitless: bool = False,
    identifier: int = 0,
) -> Deal:
    """Books `volume` of the order at `price`. `target`: the position to reduce (hedging accounts).

    `profitless`: the second deal of a close-by, whose profit is all in the first. `identifier`: a position that was
    closed for rollover lives on under its own.
    """
    side = 0 if order.type in BUY_TYPES else 1
    text = order.comment if comment is None else comment
    if target is None:
        target = _held(book, desk, order)
    if target is None:
        identifier = identifier or order.ticket
        deal = _deal(book, desk, order, identifier, side, mt5.DEAL_ENTRY_IN, volume, price, at_ms, text)
        _open(state, order, order.ticket, identifier, side, volume, price, at_ms, text)
    elif target.type == side:
        deal = _deal(
            book, desk, order, target.identifier, side, mt5.DEAL_ENTRY_IN, volume, price, at_ms, text
        )
        _grow(state, book, desk, target, order, volume, price, at_ms)
    else:
        deal = _reduce(state, book, desk, order, target, side, volume, price, at_ms, text)
    if entry is not None:
        deal.entry = entry
    if profitless:
        deal.profit = 0.0
    deal.ticket = state.next_deal()
    order.position_id = deal.position_id
    account = book.account
    account.balance = book.money(account.balance + deal.profit + deal.commission + deal.swap + deal.fee)
    state.put_deal(deal)
    state.put_balance(book)
    state.settle(book, desk.instrument.name)
    return deal


def _held(book: Book, desk: Desk, order: Order) -> Position | None:
    """Hedging: the position that this same order has begun. Netting: the symbol's."""
    if book.account.hedging:
        return book.positions.get(order.ticket)
    return next(iter(book.by_symbol.get(desk.instrument.name, {}).values()), None)


def _deal(
    book: Book, desk: Desk, order: Order, position_id: int, side: int, entry: int,
    volume: float, price: float, at_ms: int, comment: str,
) -> Deal:  # fmt: skip
    charged = book.house.personality.commission_on == "both" or entry == mt5.DEAL_ENTRY_IN
    both_at_once = 2 if book.house.personality.commission_on == "in" else 1
    commission = -book.money(desk.instrument.commission * volume * both_at_once) if charged else 0.0
    return Deal(
        order.login, 0, order.ticket, position_id, desk.instrument.name, side, entry, order.reason, order.magic,
        volume, price, 0.0, commission or 0.0, 0.0, 0.0, comment, at_ms,
    )  # fmt: skip


def _open(
    state: State, order: Order, ticket: int, identifier: int, side: int,
    volume: float, price: float, at_ms: int, comment: str,
) -> None:  # fmt: skip
    state.put_position(
        Position(
            order.login,
            ticket,
            identifier,
            order.symbol,
            side,
            order.magic,
            order.reason,
            volume,
            price,
            order.sl,
            order.tp,
            0.0,
            comment,
            at_ms,
            at_ms,
        )
    )


def _grow(
    state: State,
    book: Book,
    desk: Desk,
    position: Position,
    order: Order,
    volume: float,
    price: float,
    at_ms: int,
) -> None:
    total = round(position.volume + volume, 8)
    mean = (position.price_open * position.volume + price * volume) / total
    # netting servers keep the mean unrounded; a position of one order is rounded to the symbol's digits
    position.price_open = round(mean, desk.instrument.digits if book.account.hedging else 10)
    position.volume = total
    position.update_ms = at_ms
    position.sl = order.sl or position.sl
    position.tp = order.tp or position.tp
    if not book.account.hedging:
        position.magic = order.magic
    state.put_position(position)


def _reduce(
    state: State, book: Book, desk: Desk, order: Order, position: Position, side: int,
    volume: float, price: float, at_ms: int, comment: str,
) -> Deal:  # fmt: skip
    closed = min(volume, position.volume)
    part = closed / position.volume
    left = round(position.volume - closed, 8)
    turned = round(volume - closed, 8)
    deal = _deal(
        book, desk, order, position.identifier, side,
        mt5.DEAL_ENTRY_INOUT if turned else mt5.DEAL_ENTRY_OUT, volume, price, at_ms, comment,
    )  # fmt: skip
    deal.profit = book.money(
        money.profit(
            desk.instrument,
            position.type,
            closed,
            position.price_open,
            price,
            book.account.currency,
            book.house.pairs,
        )
    )
    deal.swap = book.money(position.swap * part)
    if left:
        position.volume = left
        position.swap = book.money(position.swap - deal.swap)
        position.update_ms = at_ms
        state.put_position(position)
        return deal
    state.drop_position(position)
    if turned:  # netting only: the identifier stays, the ticket is the reversing order's
        _open(state, order, order.ticket, position.identifier, side, turned, price, at_ms, comment)
    return deal
