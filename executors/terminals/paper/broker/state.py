"""All that the paper broker knows, and the one way to change it: every change is also an entry of the ledger.

Precedes: fills, engine, sessions. Follows: the ledger (replayed at start). Entries: a account, b balance, o order,
d deal, p position, x position gone, m number that must not go back.
"""

import contextlib
import random
from dataclasses import dataclass, field
from typing import Any

from executors.terminals.paper.broker import money
from executors.terminals.paper.broker.exposure import Exposure, Part, margin_of
from executors.terminals.paper.broker.ledger import Ledger
from executors.terminals.paper.broker.model import EXCHANGE, Account, Deal, Order, Position, Quote
from executors.terminals.paper.broker.personalities import Configuration, Instrument, Personality
from executors.terminals.servertime import ServerClock, server_clock

COMPACTED = "compacted"  # the mark of how long the ledger was after it was rewritten
FIRST_TICKET = 50_000_000
BUY_TYPES = frozenset({0, 2, 4, 6})  # ORDER_TYPE_* on the buy side
DEAL_TYPE_CREDIT = 3
ACTIVE = (0, 1, 3)  # ORDER_STATE_STARTED, _PLACED, _PARTIAL


class UnknownEntry(ValueError):
    """The ledger names what this version or configuration does not have; says what."""


class Desk:
    """One symbol at one broker: its prices, and what waits for them."""

    def __init__(self, instrument: Instrument, house: "House") -> None:
        self.instrument = instrument
        self.house = house
        self.quote = Quote()
        self.positions: dict[int, tuple[Book, Position]] = {}
        self.orders: dict[int, tuple[Book, Order]] = {}


class House:
    """One broker: a personality with its prices."""

    def __init__(self, personality: Personality) -> None:
        self.personality = personality
        self.clock: ServerClock = server_clock(personality.server_timezone)
        self.desks = {name: Desk(item, self) for name, item in personality.instruments.items()}
        self.has_collateral = any(
            desk.instrument.calc_mode == money.COLLATERAL for desk in self.desks.values()
        )
        self.pairs: dict[tuple[str, str], money.Priced] = {}
        for desk in self.desks.values():
            if desk.instrument.calc_mode in (money.FOREX, money.FOREX_PLAIN):
                self.pairs.setdefault((desk.instrument.base, desk.instrument.profit), desk)


@dataclass(slots=True)
class Book:
    """One account and all it ever did."""

    account: Account
    house: House
    positions: dict[int, Position] = field(default_factory=dict)  # by ticket
    orders: dict[int, Order] = field(default_factory=dict)  # active
    past_orders: dict[int, Order] = field(default_factory=dict)
    deals: dict[int, Deal] = field(default_factory=dict)
    by_symbol: dict[str, dict[int, Position]] = field(default_factory=dict)
    profits: dict[int, float] = field(default_factory=dict)  # floating, by position ticket, at the last tick
    exposures: dict[str, Exposure] = field(default_factory=dict)  # by symbol
    margins: dict[str, float] = field(default_factory=dict)  # by symbol, at its last change
    margin: float = 0.0  # their sum
    sent_ms: list[int] = field(default_factory=list)  # recent requests, for the rate limit
    watch: dict[str, int] = field(default_factory=dict)  # Market Watch: symbol → when it was selected

    def sees(self, symbol: str, now_ms: int) -> bool:
        """Is the symbol in Market Watch, and has its first tick come?"""
        since = self.watch.get(symbol)
        return since is not None and now_ms - since >= self.house.personality.first_tick_ms

    def money(self, amount: float) -> float:
        return float(round(amount, self.account.digits))  # the sum of nothing is no float


class State:
    def __init__(self, configuration: Configuration, ledger: Ledger, seed: int) -> None:
        self.ledger = ledger
        self.houses = {key: House(item) for key, item in configuration.personalities.items()}
        self.books: dict[int, Book] = {}
        self._order_ticket = FIRST_TICKET
        self._deal_ticket = FIRST_TICKET // 2
        self.marks: dict[str, int] = {}  # e.g. the last rollover day of each house
        self._entries: list[Any] = []
        self._replaying = True  # there are no prices yet; `revalue` follows when there are
        for transaction in ledger.replay():
            for entry in transaction[1]:
                self._apply(entry)
        self._replaying = False
        self.random = random.Random(seed ^ self._order_ticket)

    # --- Changes -----------------------------------------------------------------------------------------------------

    def commit(self, at_ms: int) -> None:
        """What changed since the last commit becomes one transaction."""
        if self._entries:
            self.ledger.append([at_ms, self._entries])
            self._entries = []

    def put_account(self, account: Account) -> Book:
        self._record(["a", *account.row()])
        return self.books[account.login]

    def put_balance(self, book: Book) -> None:
        account = book.account
        self._entries.append(["b", account.login, account.balance, account.credit])

    def put_order(self, order: Order) -> None:
        self._record(["o", *order.row()], order)
        book = self.books[order.login]
        if book.account.margin_mode == EXCHANGE:  # waiting orders bind margin there
            self.settle(book, order.symbol)

    def put_deal(self, deal: Deal) -> None:
        self._record(["d", *deal.row()], deal)

    def put_position(self, position: Position) -> None:
        self._record(["p", *position.row()], position)

    def drop_position(self, position: Position) -> None:
        self._record(["x", position.login, position.ticket])

    def put_money(self, book: Book, amount: float, kind: int, comment: str, at_ms: int) -> Deal:
        """A deal that is no trade: deposit, credit, correction…"""
        amount = book.money(amount)
        deal = Deal(
            book.account.login, self.next_deal(), 0, 0, "", kind, 0, 0, 0, 0.0, 0.0, amount, 0.0, 0.0, 0.0, comment, at_ms
        )  # fmt: skip
        account = book.account
        if kind == DEAL_TYPE_CREDIT:
            account.credit = book.money(account.credit + amount)
        else:
            account.balance = book.money(account.balance + amount)
        self.put_deal(deal)
        self.put_balance(book)
        return deal

    def put_mark(self, name: str, value: int) -> None:
        self._record(["m", name, value])

    def compacted(self, at_ms: int) -> list[Any]:
        """Transactions that make this state from nothing: each account, deal and order once, as it is now. What they
        were in between is left out."""
        out: list[Any] = [[at_ms, [["m", name, value]]] for name, value in self.marks.items()]
        for book in self.books.values():
            out.append([at_ms, [["a", *book.account.row()]]])
            for kind, rows in (
                ("o", [*book.past_orders.values(), *book.orders.values()]),
                ("d", list(book.deals.values())),
                ("p", list(book.positions.values())),
            ):
                out.extend([at_ms, [[kind, *row.row()]]] for row in rows)
        return out

    def next_order(self) -> int:
        self._order_ticket += self.random.randint(1, 500)
        return self._order_ticket

    def next_deal(self) -> int:
        self._deal_ticket += self.random.randint(1, 500)
        return self._deal_ticket

    def _record(self, entry: list[Any], item: Any = None) -> None:
        self._entries.append(entry)
        self._apply(entry, item)

    def _apply(self, entry: list[Any], item: Any = None) -> None:
        kind, row = entry[0], entry[1:]
        match kind:
            case "o":
                self._apply_order(item or Order.of(row))
            case "d":
                deal = item or Deal.of(row)
                self.books[deal.login].deals[deal.ticket] = deal
                self._deal_ticket = max(self._deal_ticket, deal.ticket)
            case "p":
                position = item or Position.of(row)
                book = self.books[position.login]
                book.positions[position.ticket] = position
                book.by_symbol.setdefault(position.symbol, {})[position.ticket] = position
                desk = book.house.desks.get(position.symbol)
                if desk is not None:
                    desk.positions[position.ticket] = (book, position)
                if not self._replaying:
                    self._expose(book, position)
            case "x":
                book = self.books[row[0]]
                position = book.positions.pop(row[1])
                book.by_symbol[position.symbol].pop(row[1])
                book.profits.pop(row[1], None)
                if position.symbol in book.exposures:
                    book.exposures[position.symbol].drop(row[1])
                if (desk := book.house.desks.get(position.symbol)) is not None:
                    desk.positions.pop(row[1], None)
            case "b":
                account = self.books[row[0]].account
                account.balance, account.credit = row[1], row[2]
            case "a":
                self._apply_account(Account.of(row))
            case "m":
                self.marks[row[0]] = row[1]
            case _:
                raise UnknownEntry(
                    f"the ledger holds an unknown entry {kind!r}; it was written by a newer version"
                )

    def _apply_order(self, order: Order) -> None:
        book = self.books[order.login]
        desk = book.house.desks.get(order.symbol)
        self._order_ticket = max(self._order_ticket, order.ticket)
        if order.state in ACTIVE:
            book.orders[order.ticket] = order
            if desk is not None:
                desk.orders[order.ticket] = (book, order)
            return
        book.orders.pop(order.ticket, None)
        if desk is not None:
            desk.orders.pop(order.ticket, None)
        book.past_orders[order.ticket] = order

    def _apply_account(self, account: Account) -> None:
        known = self.books.get(account.login)
        if known is not None:
            known.account = account
            return
        house = self.houses.get(account.personality)
        if house is None:
            raise UnknownEntry(
                f"account {account.login}: there is no personality {account.personality!r} any more"
            )
        self.books[account.login] = Book(
            account,
            house,
            watch={} if house.personality.market_watch_strict else dict.fromkeys(house.desks, 0),
        )

    # --- Money -------------------------------------------------------------------------------------------------------

    def floating(self, book: Book, position: Position) -> float:
        """The position's profit at current prices, rounded, without swap."""
        desk = book.house.desks.get(position.symbol)
        if desk is None or not desk.quote.bid:
            return 0.0
        price = desk.quote.bid if position.type == 0 else desk.quote.ask
        account = book.account
        try:
            amount = money.profit(
                desk.instrument, position.type, position.volume, position.price_open, price,
                account.currency, book.house.pairs,
            )  # fmt: skip
        except money.NoRate:
            return 0.0
        return round(amount, account.digits)

    def freshen(self, book: Book) -> None:
        """What is kept is exact, since every tick of a held symbol updates it, but where other symbols' rates enter."""
        if any(
            positions
            and (desk := book.house.desks.get(symbol))
            and not desk.instrument.alone(book.account.currency)
            for symbol, positions in book.by_symbol.items()
        ):
            self.revalue(book)

    def revalue(self, book: Book) -> None:
        """Profits and margin of all positions, at current prices."""
        book.exposures.clear()
        book.margins.clear()
        for position in book.positions.values():
            self._expose(book, position)
        for symbol in {*book.by_symbol, *(order.symbol for order in book.orders.values())}:
            self.settle(book, symbol)

    def reprice(self, desk: Desk) -> None:
        """Margins of a symbol's positions at their current prices, for brokers who count so."""
        for book, position in desk.positions.values():
            self._expose(book, position)
        for book in {id(book): book for book, _ in desk.positions.values()}.values():
            self.settle(book, desk.instrument.name)

    def _expose(self, book: Book, position: Position) -> None:
        price = position.price_open
        desk = book.house.desks.get(position.symbol)
        if book.house.personality.margin_at == "current" and desk is not None and desk.quote.bid:
            price = desk.quote.bid if position.type == 0 else desk.quote.ask
        part = self.part_of(book, position.symbol, position.type, position.volume, price)
        book.exposures.setdefault(position.symbol, Exposure()).put(position.ticket, part)
        book.profits[position.ticket] = self.floating(book, position)

    def part_of(self, book: Book, symbol: str, side: int, lots: float, price: float) -> Part:
        desk = book.house.desks.get(symbol)
        margin = self.margin(book, desk, side, lots, price) if desk is not None else 0.0
        return Part(side, lots, lots * price, margin)

    def margin(self, book: Book, desk: Desk, side: int, lots: float, price: float) -> float:
        """0 when no quote links the currencies."""
        account = book.account
        try:
            return money.margin(
                desk.instrument, side, lots, price, account.leverage, account.currency, book.house.pairs
            )
        except money.NoRate:
            return 0.0

    def settle(self, book: Book, symbol: str) -> None:
        """The margin of one symbol, after its exposure or its orders have changed."""
        margin = self.symbol_margin(book, symbol, book.exposures.get(symbol))
        if margin:
            book.margins[symbol] = margin
        else:
            book.margins.pop(symbol, None)
        book.margin = book.money(sum(book.margins.values()))

    def symbol_margin(self, book: Book, symbol: str, exposure: Exposure | None) -> float:
        """Of positions together; on exchange accounts pending orders bind margin too."""
        desk = book.house.desks.get(symbol)
        if desk is None:
            return 0.0
        total = 0.0
        if exposure is not None:
            total = margin_of(
                exposure,
                desk.instrument,
                lambda side, lots, price: self.margin(book, desk, side, lots, price),
            )
        if book.account.margin_mode == EXCHANGE:
            total += sum(
                self.order_margin(book, desk, item) for item in book.orders.values() if item.symbol == symbol
            )
        return total

    def order_margin(self, book: Book, desk: Desk, order: Order) -> float:
        """What a waiting order binds on an exchange account."""
        side = 0 if order.type in BUY_TYPES else 1
        return self.margin(book, desk, side, order.volume_current, order.price_open)

    def equity(self, book: Book) -> float:
        profit = sum(book.profits.values()) + sum(position.swap for position in book.positions.values())
        return book.money(book.account.balance + book.account.credit + profit + self.assets(book))

    def assets(self, book: Book) -> float:
        """Collateral at current prices."""
        if not book.house.has_collateral:
            return 0.0
        total = 0.0
        for position in book.positions.values():
            desk = book.house.desks.get(position.symbol)
            if desk is not None and position.type == 0:
                with contextlib.suppress(money.NoRate):
                    total += money.worth(
                        desk.instrument,
                        position.volume,
                        desk.quote.bid,
                        book.account.currency,
                        book.house.pairs,
                    )
        return book.money(total)
