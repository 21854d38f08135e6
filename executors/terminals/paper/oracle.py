"""Reads the paper broker's ledger: what really happened, whatever the platform believes. For tests, chaos runs and people.

Two ways: `Oracle(url)` asks a running broker over its socket, `from_directory(path)` reads the ledger's file, broker or not.
Both give `Records`; `check.py` says whether they hold together.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from executors.terminals.paper.broker import ledger, personalities
from executors.terminals.paper.broker.model import Account, Deal, Order, Position
from executors.terminals.paper.broker.personalities import Instrument
from executors.terminals.paper.link import Link

__all__ = ["Account", "Deal", "Operator", "Oracle", "Order", "Position", "Records", "from_directory"]


@dataclass(slots=True)
class Records:
    """Everything the broker keeps. `orders` are active and past; `positions` are open ones."""

    accounts: dict[int, Account] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)
    deals: dict[int, Deal] = field(default_factory=dict)
    positions: dict[int, Position] = field(default_factory=dict)
    instruments: dict[tuple[str, str], Instrument] = field(default_factory=dict)  # by personality and symbol
    repeats: list[str] = field(default_factory=list)  # tickets that were given twice, as sentences

    def of_login(self, login: int) -> "Records":
        return Records(
            {login: self.accounts[login]} if login in self.accounts else {},
            _only(self.orders, login),
            _only(self.deals, login),
            _only(self.positions, login),
            self.instruments,
        )

    def orders_by_magic(self) -> dict[int, list[Order]]:
        """Orders that clients sent, by their magic; without the broker's own (SL, TP, stop-out)."""
        out: dict[int, list[Order]] = {}
        for order in self.orders.values():
            if order.request:
                out.setdefault(order.magic, []).append(order)
        return out

    def with_magic(self, magic: int) -> "Records":
        return Records(
            dict(self.accounts),
            {ticket: order for ticket, order in self.orders.items() if order.magic == magic},
            {ticket: deal for ticket, deal in self.deals.items() if deal.magic == magic},
            {ticket: position for ticket, position in self.positions.items() if position.magic == magic},
            self.instruments,
        )


def _only(rows: dict[int, Any], login: int) -> dict[int, Any]:
    return {ticket: row for ticket, row in rows.items() if row.login == login}


def from_directory(directory: Path | str) -> Records:
    """From the file alone. Safe while the broker runs: a half-written last line is left out."""
    directory = Path(directory)
    records = from_transactions(transaction for _, transaction in ledger.read(directory / ledger.FILE))
    for key, house in personalities.load(directory).personalities.items():
        records.instruments.update({(key, name): item for name, item in house.instruments.items()})
    return records


def from_transactions(transactions: Iterable[Any]) -> Records:
    records = Records()
    for _, entries in transactions:
        for kind, *row in entries:
            match kind:
                case "a":
                    account = Account.of(row)
                    records.accounts[account.login] = account
                case "b":
                    records.accounts[row[0]].balance, records.accounts[row[0]].credit = row[1], row[2]
                case "o":
                    order = Order.of(row)
                    _note_order(records, order)
                    records.orders[order.ticket] = order
                case "d":
                    deal = Deal.of(row)
                    if deal.ticket in records.deals:
                        records.repeats.append(f"deal {deal.ticket} was booked twice")
                    records.deals[deal.ticket] = deal
                case "p":
                    position = Position.of(row)
                    records.positions[position.ticket] = position
                case "x":
                    records.positions.pop(row[1], None)
    return records


def _note_order(records: Records, order: Order) -> None:
    """An order is written again whenever it changes; whose it is, of which symbol, and since when, never does."""
    known = records.orders.get(order.ticket)
    if known is not None and _lasting(known) != _lasting(order):
        records.repeats.append(f"order {order.ticket} was given twice")


def _lasting(order: Order) -> tuple[object, ...]:
    return (
        order.login,
        order.symbol,
        order.magic,
        order.reason,
        order.volume_initial,
        order.setup_ms,
        order.request,
    )


class Operator:
    """Calls of a running broker that no terminal has: accounts, prices, faults. Keywords are not known to the wire."""

    def __init__(self, url: str) -> None:
        self._link = Link(url)

    def close(self) -> None:
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, operation: str, *arguments: Any) -> Any:
        """Any `op_…` of broker/broker.py by its name. LinkError carries the broker's sentence."""
        return self._link.ask(f"admin.{operation}", *arguments)

    def ensure_account(
        self,
        login: int,
        password: str,
        personality: str,
        balance: float,
        *,
        currency: str = "",
        leverage: int = 0,
        margin_mode: int | None = None,
        name: str = "",
        investor: str = "",
    ) -> dict[str, Any]:
        """Makes a demo account once; the same call again is harmless (it may change password and name).

        Returns what a terminal's configuration needs: `server`, `server_timezone`, `symbol_suffix`, `currency`…
        For a demonstration of different brokers and sizes take the personalities `classic` (hedging, NY+7),
        `ecn` (commission, IOC) and `micro` (EUR, suffix `.m`, wide stops); `net` is a netting account.
        """
        made: dict[str, Any] = self.call(
            "ensure_account", login, password, personality, float(balance), currency, leverage, margin_mode, name,
            investor,
        )  # fmt: skip
        return made

    def deposit(self, login: int, amount: float, comment: str = "Deposit") -> float:
        return float(self.call("deposit", login, float(amount), comment))

    def push(self, feed: str, bid: float, ask: float) -> None:
        """One tick by hand; the feed stands still from then on. What it triggers has happened when this returns."""
        self.call("push", feed, bid, ask)

    def freeze(self, feed: str) -> None:
        self.call("freeze", feed)

    def resume(self, feed: str) -> None:
        self.call("resume", feed)

    def fault(self, kind: str, **spec: Any) -> int:
        """Sets a fault (broker/faults.py lists the kinds): value, login, symbol, method, at, rate, times, for_ms, lasts_ms."""
        return int(self.call("fault_add", {"kind": kind, **spec}))

    def clear_faults(self) -> None:
        self.call("fault_clear")


class Oracle(Operator):
    """The ledger of a running broker, over its socket."""

    def accounts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("accounts")
        return found

    def orders(self, login: int = 0, magic: int | None = None) -> list[Order]:
        return [Order.of(row) for row in self.call("records", "orders", login, magic)]

    def deals(self, login: int = 0, magic: int | None = None) -> list[Deal]:
        return [Deal.of(row) for row in self.call("records", "deals", login, magic)]

    def positions(self, login: int = 0, magic: int | None = None) -> list[Position]:
        return [Position.of(row) for row in self.call("records", "positions", login, magic)]
