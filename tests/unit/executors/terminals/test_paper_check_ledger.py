"""Every check of the ledger's checker can fail: a ledger that a broker wrote, falsified in one place, line by line.

The ledger holds what brokers do: deposits, credit, partial closes, a close-by, a stop-loss, fills in several levels, a
netting account that grows and turns, profits in another currency.
"""

import copy
import shutil
from collections.abc import Callable
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import pytest

from executors.terminals.paper.broker.broker import Broker, Options
from executors.terminals.paper.broker.ledger import FILE, line_of, read
from executors.terminals.paper.broker.model import Account, Deal, Order, Position, Request
from executors.terminals.paper.broker.session import Session
from executors.terminals.paper.check import check, main
from executors.terminals.paper.oracle import from_directory

HEDGING, NETTING, EUROS = 1, 2, 3
KINDS: dict[str, Any] = {"a": Account, "o": Order, "d": Deal, "p": Position}
CONFIGURATION = """
[personalities.lab.only."EURUSD.deep"]
like = "EURUSD"
exemode = 3
book_depth = 5
book_lots = 1.0
[personalities.lab]
symbols = ["EURUSD", "USDJPY", "GBPUSD", "EURUSD.deep"]
[personalities.net]
symbols = ["EURUSD"]
"""


class Hand:
    """One account's terminal on a broker in this process."""

    def __init__(self, broker: Broker, login: int) -> None:
        self.session = Session(broker)
        self.session.do_login(login, "x", "", "here")

    def send(self, **fields: Any) -> int:
        """The order's ticket."""
        row = self.session.do_order_send(list(astuple(Request(**fields))))
        assert row[0] == 10009, row
        return int(row[2])

    def deal(self, side: int, lots: float, symbol: str = "EURUSD", **more: Any) -> int:
        return self.send(action=1, symbol=symbol, volume=lots, type=side, type_filling=1, **more)


def write(directory: Path) -> None:
    directory.joinpath("personalities.toml").write_text(CONFIGURATION)
    broker = Broker(Options(directory, "tcp://127.0.0.1:0"))
    for login, personality, currency in (
        (HEDGING, "lab", "USD"),
        (NETTING, "net", "USD"),
        (EUROS, "lab", "EUR"),
    ):
        broker.op_ensure_account(login, "x", personality, 50_000.0, currency)
    broker.op_push("EURUSD", 1.10000, 1.10010)
    broker.op_push("USDJPY", 110.000, 110.010)
    broker.op_push("GBPUSD", 1.30000, 1.30010)
    hedging, netting, euros = (Hand(broker, login) for login in (HEDGING, NETTING, EUROS))
    broker.op_credit(HEDGING, 500.0)
    kept = hedging.deal(0, 1.0, magic=11)
    stopped = hedging.deal(1, 0.3, magic=12, sl=1.10300)
    by = hedging.deal(1, 0.2, magic=13)
    yen = hedging.deal(0, 0.5, "USDJPY", magic=14)
    hedging.deal(0, 2.5, "EURUSD.deep", magic=15)
    pounds = euros.deal(0, 0.4, "GBPUSD", magic=16)
    netting.deal(0, 1.0, magic=21)
    broker.op_push("EURUSD", 1.10200, 1.10210)
    broker.op_push("USDJPY", 110.300, 110.310)
    broker.op_push("GBPUSD", 1.31000, 1.31010)
    netting.deal(0, 0.7, magic=22)
    hedging.deal(1, 0.4, position=kept, magic=17)
    hedging.send(action=10, position=kept, position_by=by)
    hedging.deal(1, 0.5, "USDJPY", position=yen, magic=18)
    euros.deal(1, 0.4, "GBPUSD", position=pounds, magic=19)
    broker.op_push("EURUSD", 1.10400, 1.10410)
    assert stopped not in broker.state.books[HEDGING].positions
    netting.deal(1, 2.0, magic=23)
    waiting = hedging.send(
        action=5, symbol="EURUSD", volume=0.1, type=2, price=1.05, type_filling=2, magic=20
    )
    hedging.send(action=8, order=waiting)
    broker.close()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ledger")
    write(directory)
    return directory


class Book:
    """The ledger's entries, found by kind and field, to be falsified in place."""

    def __init__(self, transactions: list[Any]) -> None:
        self.transactions = transactions

    def entries(self, kind: str, **wanted: Any) -> list[list[Any]]:
        names = [item.name for item in fields(KINDS[kind])]
        found = []
        for _, entries in self.transactions:
            for entry in entries:
                if entry[0] != kind:
                    continue
                row = dict(zip(names, entry[1:], strict=True))
                if all(row[name] == value for name, value in wanted.items()):
                    found.append(entry)
        assert found, (kind, wanted)
        return found

    def set(self, kind: str, wanted: dict[str, Any], **values: Any) -> None:
        """The last version of such a row gets other values."""
        names = [item.name for item in fields(KINDS[kind])]
        entry = self.entries(kind, **wanted)[-1]
        for name, value in values.items():
            entry[1 + names.index(name)] = value

    def shift(self, kind: str, wanted: dict[str, Any], name: str, by: float) -> None:
        place = 1 + [item.name for item in fields(KINDS[kind])].index(name)
        entry = self.entries(kind, **wanted)[-1]
        entry[place] = round(entry[place] + by, 8)

    def add_to_balance(self, login: int, amount: float) -> None:
        for _, entries in self.transactions:
            for entry in entries:
                if entry[0] == "b" and entry[1] == login:
                    entry[2] = round(entry[2] + amount, 2)

    def last_balance(self, login: int) -> list[Any]:
        balances: list[list[Any]] = [
            entry for _, entries in self.transactions for entry in entries if entry[:2] == ["b", login]
        ]
        return balances[-1]


def profit(login: int, by: float, **wanted: Any) -> Callable[[Book], None]:
    """A wrong profit with a balance that fits it: sums alone would not tell."""

    def harm(book: Book) -> None:
        book.shift("d", {"login": login, **wanted}, "profit", by)
        book.add_to_balance(login, by)

    return harm


def again(book: Book) -> None:
    """A deal booked twice, with its money."""
    deal = book.entries("d", login=HEDGING, magic=18)[0]
    book.transactions.append([1, [copy.deepcopy(deal)]])


def second_deal(book: Book) -> None:
    """The same under another ticket."""
    deal = copy.deepcopy(book.entries("d", login=HEDGING, magic=18)[0])
    deal[2] += 1
    book.transactions.append([1, [deal]])
    book.last_balance(HEDGING)[2] += deal[12]


def lost_deal(book: Book) -> None:
    """One that opened, which moved no money."""
    for _, entries in book.transactions:
        entries[:] = [entry for entry in entries if not (entry[0] == "d" and entry[9] == 22)]


def order_twice(book: Book) -> None:
    order = copy.deepcopy(book.entries("o", magic=12)[0])
    order[6] += 1  # another magic under its ticket
    book.transactions.append([1, [order]])


def credit(book: Book) -> None:
    book.last_balance(HEDGING)[3] += 1


def balance(book: Book) -> None:
    book.last_balance(NETTING)[2] += 0.01


def change(kind: str, values: dict[str, Any], **wanted: Any) -> Callable[[Book], None]:
    return lambda book: book.set(kind, wanted, **values)


HARM: dict[str, tuple[Callable[[Book], None], str]] = {
    "a balance": (balance, "its deals sum up to"),
    "a credit": (credit, "its credit deals sum up to"),
    "a deal with its money, twice": (again, "was booked twice"),
    "a deal under two tickets": (second_deal, "its deals have 1.0 lots, it says 0.5"),
    "a deal lost": (lost_deal, "its deals have 0 lots"),
    "an order's ticket given twice": (order_twice, "was given twice"),
    "a profit too high": (profit(HEDGING, 1.0, magic=17), "its prices and lots make"),
    "a cent": (profit(HEDGING, 0.01, magic=17), "its prices and lots make"),
    "a profit at a stop": (profit(HEDGING, -2.0, reason=4), "its prices and lots make"),
    "a profit in yen": (profit(HEDGING, 0.5, magic=18), "its prices and lots make"),
    "a loss that was a gain": (profit(EUROS, -1000.0, magic=19), "yet it made"),
    "a reversal's profit": (profit(NETTING, 3.0, magic=23), "its prices and lots make"),
    "a profit of an opening": (profit(NETTING, 3.0, magic=22), "yet it realises nothing"),
    "a profit of the second deal of a close-by": (
        lambda book: profit(HEDGING, 3.0, ticket=max(e[2] for e in book.entries("d", entry=3)))(book),
        "yet it realises nothing",
    ),
    "a commission that pays": (change("d", {"commission": 5.0}, magic=22), "is no cost"),
    "a price": (change("d", {"price": 1.2}, magic=17), "its prices and lots make"),
    "a deal for nothing": (change("d", {"price": 0.0}, magic=17), "lots at 0.0"),
    "an entry": (change("d", {"entry": 0}, magic=17), "says entry 0"),
    "a deal's symbol": (change("d", {"symbol": "GBPUSD"}, magic=17), "its position in EURUSD"),
    "a deal's magic": (change("d", {"magic": 99}, magic=17), "differ in magic or reason"),
    "a deal's reason": (change("d", {"reason": 5}, reason=4), "differ in magic or reason"),
    "a deal's position": (change("d", {"position_id": 4711}, magic=17), "name different positions"),
    "a deal's order": (change("d", {"order": 4711}, magic=17), "which does not exist"),
    "a deal's side": (change("d", {"type": 0}, magic=17), "are on different sides"),
    "a deal's type": (change("d", {"type": 77}, magic=17), "which there is not"),
    "a deposit with a symbol": (
        change("d", {"symbol": "EURUSD"}, type=2, login=NETTING),
        "and names a trade",
    ),
    "a deposit of nobody": (change("d", {"login": 99}, type=2, login=NETTING), "which does not exist"),
    "a close-by of a market order": (change("o", {"position_by_id": 7}, magic=17), "and is no close-by"),
    "an order's volume": (change("o", {"volume_current": 0.1}, magic=17), "is filled, yet"),
    "an order's position": (change("o", {"position_id": 0}, magic=17), "names no position"),
    "an order's end": (change("o", {"done_ms": 0}, magic=17), "does not fit its end time"),
    "an order's magic": (change("o", {"magic": 11}, magic=14), "has 2 orders"),
    "a position's symbol": (change("p", {"symbol": "GBPUSD"}, magic=11), "its deals are in EURUSD"),
    "a position's price": (change("p", {"price_open": 1.10011}, magic=11), "its deals make 1.1001"),
    "a mean price": (change("p", {"price_open": 1.10030}, magic=15), "its deals make 1.10011"),
    "a reversed position's price": (change("p", {"price_open": 1.10100}, magic=23), "its deals make 1.104"),
    "a position's lots": (change("p", {"volume": 0.5}, magic=11), "its deals net to 0.4"),
    "a position's side": (change("p", {"type": 1}, magic=11), "its deals net to 0.4"),
    "a position's magic": (change("p", {"magic": 99}, magic=11), "the order that opened it"),
    "a position's ticket": (change("p", {"ticket": 4711}, magic=15), "was opened by no order"),
    "a position that is nobody's": (change("p", {"identifier": 4711}, magic=15), "its deals net to 0"),
}


def test_the_ledger_as_it_was_written_holds_together(original: Path) -> None:
    records = from_directory(original)
    assert check(records) == []
    assert len(records.deals) > 20
    assert {deal.entry for deal in records.deals.values()} == {0, 1, 2, 3}
    assert {deal.type for deal in records.deals.values()} == {0, 1, 2, 3}


@pytest.mark.parametrize("name", HARM)
def test_what_is_falsified_is_found_and_said(original: Path, tmp_path: Path, name: str) -> None:
    harm, says = HARM[name]
    book = Book([copy.deepcopy(transaction) for _, transaction in read(original / FILE)])
    harm(book)
    shutil.copy(original / "personalities.toml", tmp_path)
    (tmp_path / FILE).write_bytes(b"".join(map(line_of, book.transactions)))
    found = check(from_directory(tmp_path))
    assert any(says in line for line in found), found


def test_the_command_fails_where_the_ledger_does(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    book = Book([transaction for _, transaction in read(original / FILE)])
    balance(book)
    (tmp_path / FILE).write_bytes(b"".join(map(line_of, book.transactions)))
    shutil.copy(original / "personalities.toml", tmp_path)
    for directory, code in ((original, 0), (tmp_path, 1)):
        monkeypatch.setattr("sys.argv", ["paper-check", str(directory)])
        assert main() == code
    assert "1 violations" in capsys.readouterr().out
