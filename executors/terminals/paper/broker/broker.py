"""The paper broker put together: state, engine, player, faults; and the calls of its operator (`admin.*`).

Precedes: sessions and the server. Follows: configuration and ledger. Operators make accounts (`ensure_account`), move
money, freeze and push prices, set faults, and read the ledger; each method here named `op_…` is such a call.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.broker import personalities
from executors.terminals.paper.broker.engine import Engine
from executors.terminals.paper.broker.faults import LAGS, Faults
from executors.terminals.paper.broker.ledger import Ledger
from executors.terminals.paper.broker.model import Account
from executors.terminals.paper.broker.passwords import matches, sealed
from executors.terminals.paper.broker.player import Player, open_feeds
from executors.terminals.paper.broker.state import COMPACTED, Book, State

CURRENCY_DIGITS = {"JPY": 0, "BTC": 8}
MOST = 1e12  # of a price or a sum of money
MAX_TEXT = 100
MAX_TERMINALS = 10_000  # whose login is remembered
YEAR_MS = 366 * 86_400_000


class OperatorError(ValueError):
    """An operator's call that cannot be done; says what to change."""


def _sum_of(amount: float) -> None:
    if not -MOST < amount < MOST:  # false for nan too
        raise OperatorError(f"a sum of money must be a number below {MOST:.0f}")


@dataclass(frozen=True, slots=True)
class Options:
    """How the broker runs; the command line and settings fill it."""

    directory: Path
    url: str
    speed: float = 1.0
    seed: int = 0
    latency_scale: float = 0.0  # times each personality's latency


class Broker:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.clock_offset_ms = 0
        configuration = personalities.load(options.directory)
        self.ledger = Ledger(options.directory)
        self.state = State(configuration, self.ledger, options.seed)
        self.engine = Engine(self.state, self.now_ms)
        if self.ledger.needs_compaction(self.state.marks.get(COMPACTED, 0)):
            self.ledger.rewrite(self.state.compacted(self.now_ms()))
        self.faults = Faults(options.seed)
        feeds = open_feeds(configuration, speed=options.speed, seed=options.seed)
        self.player = Player(
            feeds, self.state.houses, self.now_ms(), self.engine.triggers.on_tick, self._widened
        )
        self.terminals: dict[str, tuple[int, str]] = {}  # path → what its terminal logged in last
        self.lagging: dict[str, dict[int, int]] = {
            kind: {} for kind in LAGS
        }  # order ticket → told of from then on
        for book in self.state.books.values():
            self.state.revalue(book)

    def tell_late(self, kind: str, order_ticket: int, ms: int) -> None:
        """What this order has made stays untold for so long; what is due is forgotten."""
        now_ms = self.now_ms()
        held = self.lagging[kind]
        for ticket in [ticket for ticket, at in held.items() if at <= now_ms]:
            del held[ticket]
        held[order_ticket] = now_ms + ms

    def _widened(self, symbol: str, at_ms: int) -> int:
        fault = self.faults.standing("wide_spread", 0, symbol, at_ms)
        return int(fault.value) if fault else 0

    def note_terminal(self, path: str, login: int, password: str) -> None:
        """What the terminal at this place is logged in to now; it keeps the password, as terminals do."""
        self.terminals.pop(path, None)
        while len(self.terminals) >= MAX_TERMINALS:
            del self.terminals[next(iter(self.terminals))]
        self.terminals[path] = (login, password)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.clock_offset_ms

    def close(self) -> None:
        self.ledger.close()

    def operation(self, name: str) -> Callable[..., Any] | None:
        operation = getattr(self, f"op_{name}", None)
        return operation if callable(operation) else None

    def _book(self, login: int) -> Book:
        try:
            return self.state.books[login]
        except KeyError:
            raise OperatorError(f"there is no account {login}; make it with ensure_account") from None

    # --- Accounts ----------------------------------------------------------------------------------------------------

    def op_ensure_account(
        self,
        login: int,
        password: str,
        personality: str,
        balance: float,
        currency: str = "",
        leverage: int = 0,
        margin_mode: int | None = None,
        name: str = "",
        investor: str = "",
    ) -> dict[str, Any]:
        """Makes the account once, with a deposit; later calls change its password and name, nothing else."""
        house = self.state.houses.get(personality)
        if house is None:
            raise OperatorError(
                f"personality must be one of {', '.join(self.state.houses)}, not {personality!r}"
            )
        if type(login) is not int or not 0 < login < 2**63 or not isinstance(password, str) or not password:
            raise OperatorError("an account needs a login above 0, a whole number, and a password")
        if margin_mode not in (None, 0, 1, 2) or type(leverage) is not int or not 0 <= leverage <= 10_000:
            raise OperatorError("margin_mode is 0, 1 or 2, and leverage lies within 10000")
        if not all(isinstance(text, str) and len(text) <= MAX_TEXT for text in (currency, name, investor)):
            raise OperatorError(f"currency, name and investor are texts of at most {MAX_TEXT} characters")
        _sum_of(balance)
        known = self.state.books.get(login)
        if known is not None:
            account = known.account
            if account.personality != personality:
                raise OperatorError(f"account {login} is of {account.personality}; take another login")
            if not matches(password, account.password) or (name and account.name != name):
                account.password, account.name = sealed(password), name or account.name
                self.state.put_account(account)
                self.state.commit(self.now_ms())
            return self.described(known)
        kind = house.personality
        currency = currency or kind.currency
        account = Account(
            login, sealed(password), sealed(investor) if investor else "", kind.server, personality, currency,
            CURRENCY_DIGITS.get(currency, 2), leverage or kind.leverage,
            kind.margin_mode if margin_mode is None else margin_mode, name or f"Paper {login}", self.now_ms(),
        )  # fmt: skip
        book = self.state.put_account(account)
        if balance:
            self.state.put_money(book, balance, mt5.DEAL_TYPE_BALANCE, "Initial deposit", self.now_ms())
        self.state.commit(self.now_ms())
        return self.described(book)

    def described(self, book: Book) -> dict[str, Any]:
        account = book.account
        return {
            "login": account.login, "server": account.server, "personality": account.personality,
            "currency": account.currency, "leverage": account.leverage, "margin_mode": account.margin_mode,
            "name": account.name, "balance": account.balance, "credit": account.credit,
            "server_timezone": book.house.personality.server_timezone,
            "symbol_suffix": book.house.personality.suffix, "symbol_prefix": book.house.personality.prefix,
        }  # fmt: skip

    def op_deposit(self, login: int, amount: float, comment: str = "Deposit") -> float:
        """Money in, or out when it is negative; the new balance."""
        book = self._book(login)
        _sum_of(amount)
        self.state.put_money(book, amount, mt5.DEAL_TYPE_BALANCE, comment, self.now_ms())
        self.state.commit(self.now_ms())
        return book.account.balance

    def op_credit(self, login: int, amount: float, comment: str = "Credit") -> float:
        """Credit counts as equity, not as balance; the new credit."""
        book = self._book(login)
        _sum_of(amount)
        self.state.put_money(book, amount, mt5.DEAL_TYPE_CREDIT, comment, self.now_ms())
        self.state.commit(self.now_ms())
        return book.account.credit

    def op_accounts(self) -> list[dict[str, Any]]:
        return [self.described(book) for book in self.state.books.values()]

    def op_personalities(self) -> dict[str, dict[str, Any]]:
        return {
            key: {
                "server": house.personality.server, "currency": house.personality.currency,
                "leverage": house.personality.leverage, "margin_mode": house.personality.margin_mode,
                "symbols": list(house.desks), "server_timezone": house.personality.server_timezone,
                "symbol_suffix": house.personality.suffix,
            }
            for key, house in self.state.houses.items()
        }  # fmt: skip

    def op_set_account(self, login: int, enabled: bool | None = None, expert: bool | None = None) -> None:
        book = self._book(login)
        if enabled is not None:
            book.account.enabled = bool(enabled)
        if expert is not None:
            book.account.expert = bool(expert)
        self.state.put_account(book.account)
        self.state.commit(self.now_ms())

    def op_close_position(self, login: int, position_ticket: int) -> None:
        """Another hand closes it: a mobile client, the broker's desk."""
        book = self._book(login)
        position = book.positions.get(position_ticket)
        if position is None:
            raise OperatorError(f"account {login} has no position {position_ticket}")
        desk = book.house.desks[position.symbol]
        price = desk.quote.bid if position.type == 0 else desk.quote.ask
        reason = mt5.DEAL_REASON_MOBILE
        self.engine.triggers.close_out(book, desk, position, price, self.now_ms(), reason, "")

    # --- Prices and time ---------------------------------------------------------------------------------------------

    def op_freeze(self, feed: str) -> None:
        self._known(feed)
        self.player.freeze(feed, self.now_ms())

    def op_resume(self, feed: str) -> None:
        self._known(feed)
        self.player.resume(feed, self.now_ms())

    def op_push(self, feed: str, bid: float, ask: float) -> None:
        """Freezes the feed and sets its price: one tick, and what it triggers, before this returns."""
        self._known(feed)
        if not 0 < bid <= ask < MOST:
            raise OperatorError(f"a price needs 0 < bid <= ask < {MOST:.0f}")
        self.player.push(feed, bid, ask, self.now_ms())

    def _known(self, feed: str) -> None:
        if feed not in self.player.tracks:
            raise OperatorError(f"there is no feed {feed!r}; choose one of {', '.join(self.player.tracks)}")

    def op_quotes(self, personality: str) -> dict[str, tuple[float, float, int]]:
        house = self.state.houses[personality]
        return {
            name: (desk.quote.bid, desk.quote.ask, desk.quote.time_ms) for name, desk in house.desks.items()
        }

    def op_advance_clock(self, ms: int) -> int:
        """The broker's clock jumps forward: expiries, rollovers and sessions follow."""
        if not 0 <= ms <= YEAR_MS:
            raise OperatorError("the clock only moves forward, a year at most at a time")
        self.clock_offset_ms += ms
        return self.now_ms()

    # --- Faults and the ledger ---------------------------------------------------------------------------------------

    def op_fault_add(self, spec: dict[str, Any]) -> int:
        return self.faults.add(self.now_ms(), spec)

    def op_fault_clear(self, fault_id: int = 0) -> None:
        self.faults.clear(fault_id)

    def op_fault_list(self) -> list[dict[str, Any]]:
        return self.faults.listed()

    def op_fault_seed(self, seed: int) -> None:
        self.faults.seed(seed)

    def op_health(self) -> dict[str, Any]:
        return {
            "now_ms": self.now_ms(),
            "accounts": len(self.state.books),
            "positions": sum(len(book.positions) for book in self.state.books.values()),
            "orders": sum(len(book.orders) for book in self.state.books.values()),
            "ticks": self.player.played,
            "speed": self.options.speed,
            "latency_scale": self.options.latency_scale,
        }

    def op_records(self, kind: str, login: int = 0, magic: int | None = None) -> list[Any]:
        """Rows of `orders`, `deals` or `positions`, of one account or all; see `oracle.py` for their types."""
        books = [self._book(login)] if login else list(self.state.books.values())
        out: list[Any] = []
        for book in books:
            rows: list[Any]
            match kind:
                case "orders":
                    rows = [*book.past_orders.values(), *book.orders.values()]
                case "deals":
                    rows = list(book.deals.values())
                case "positions":
                    rows = list(book.positions.values())
                case _:
                    raise OperatorError("records are orders, deals or positions")
            out.extend(row.row() for row in rows if magic is None or row.magic == magic)
        return out
