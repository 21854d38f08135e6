"""The paper broker under kill -9 while orders come in: what it answered is in its ledger, once, and the ledger is sound."""

import random
import time
from dataclasses import astuple
from pathlib import Path

import pytest

from executors.terminals.paper.broker import ledger as ledger_file
from executors.terminals.paper.broker.broker import Broker, Options
from executors.terminals.paper.broker.model import Request
from executors.terminals.paper.broker.session import Session
from executors.terminals.paper.check import check
from executors.terminals.paper.link import Link, LinkError
from executors.terminals.paper.oracle import from_directory
from tests.paper import PASSWORD, PaperBroker
from tests.waiting import Watched

CLIENTS = 6
KILLS = 5
PATIENCE_S = 60.0


class Client(Watched):
    """Opens and closes positions with a magic of each request's own; notes what was answered."""

    def __init__(self, broker: PaperBroker, login: int) -> None:
        super().__init__()
        self.broker = broker
        self.login = login
        self.answered: dict[int, tuple[int, int]] = {}  # magic → order, deal
        self.asked: set[int] = set()
        self.stopping = False

    def _connect(self) -> Link:
        limit = time.monotonic() + PATIENCE_S
        while True:
            try:
                link = Link(self.broker.url)
                link.ask("login", self.login, PASSWORD, "", f"client-{self.login}")
                return link
            except (OSError, LinkError):
                if time.monotonic() > limit:
                    raise
                time.sleep(0.02)

    def work(self) -> None:
        link, count, ticket = self._connect(), 0, 0
        while not self.stopping:
            count += 1
            magic = self.login * 1_000_000 + count
            self.asked.add(magic)
            row = [
                1,
                magic,
                0,
                "EURUSD",
                0.1,
                0.0,
                0.0,
                0.0,
                0.0,
                0,
                1 if ticket else 0,
                1,
                0,
                0,
                "",
                ticket,
                0,
            ]
            try:
                code, deal, order, *_ = link.ask("order_send", row)
            except LinkError:
                link.close()
                link, ticket = self._connect(), 0
                continue
            assert code == 10009, code
            self.answered[magic] = (order, deal)
            ticket = 0 if ticket else order
        link.close()


def test_what_was_answered_survives_kills_and_nothing_is_there_twice(paper_broker: PaperBroker) -> None:
    clients = [Client(paper_broker, 10 + number) for number in range(CLIENTS)]
    for client in clients:
        paper_broker.account(client.login, "lab", 1_000_000.0)
    for client in clients:
        client.start()
    chance = random.Random(5)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.05, 0.4))
        paper_broker.restart()
    time.sleep(0.3)
    for client in clients:
        client.stopping = True
    for client in clients:
        client.join(PATIENCE_S)
    records = paper_broker.records()
    by_magic = records.orders_by_magic()
    answered = 0
    for client in clients:
        for magic, (order, deal) in client.answered.items():
            answered += 1
            assert [item.ticket for item in by_magic[magic]] == [order]
            assert records.deals[deal].order == order
    assert answered > 100
    assert set(by_magic) <= {magic for client in clients for magic in client.asked}
    paper_broker.check()


def test_a_torn_last_line_is_cut_off_and_a_damaged_one_refused(paper_broker: PaperBroker) -> None:
    paper_broker.account(1, "lab")
    paper_broker.stop()
    path = Path(paper_broker.directory) / ledger_file.FILE
    whole = path.read_bytes()
    path.write_bytes(whole + b'0badc0de [1,[["d",')
    assert 1 in from_directory(paper_broker.directory).accounts
    paper_broker.start()
    assert path.read_bytes().startswith(whole)
    assert b"0badc0de" not in path.read_bytes()
    paper_broker.account(2, "lab")
    paper_broker.stop()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].replace(b"day", b"dax")
    path.write_bytes(b"".join(lines))
    with pytest.raises(ledger_file.LedgerError, match="damaged at byte 0"):
        from_directory(paper_broker.directory)
    with pytest.raises(RuntimeError, match="damaged"):
        paper_broker.start()


def test_the_zeros_ahead_of_a_killed_brokers_last_line_are_no_lines(paper_broker: PaperBroker) -> None:
    paper_broker.account(1, "lab")
    path = Path(paper_broker.directory) / ledger_file.FILE
    running = path.read_bytes()
    assert running.endswith(b"\0" * 1000)
    assert set(from_directory(paper_broker.directory).accounts) == {1}
    paper_broker.kill()
    assert path.read_bytes() == running
    assert set(from_directory(paper_broker.directory).accounts) == {1}
    paper_broker.start()
    paper_broker.account(2, "lab")
    paper_broker.stop()
    whole = path.read_bytes()
    assert whole.startswith(running.rstrip(b"\0"))
    assert b"\0" not in whole  # one that ends well leaves none
    assert set(from_directory(paper_broker.directory).accounts) == {1, 2}


def test_a_block_that_came_to_the_disk_in_part_is_cut_off(paper_broker: PaperBroker) -> None:
    """The machine lost power while it was written: its later page is there, the earlier one is not. Nobody was answered."""
    paper_broker.account(1, "lab")
    paper_broker.stop()
    path = Path(paper_broker.directory) / ledger_file.FILE
    whole = path.read_bytes()
    lines = ledger_file.line_of([1, [["m", "one", 1]]]) + ledger_file.line_of([1, [["m", "two", 2]]])
    path.write_bytes(whole + b"\0" * 20 + lines[20:] + b"\0" * 500)
    assert set(from_directory(paper_broker.directory).accounts) == {1}
    paper_broker.start()
    paper_broker.account(2, "lab")
    paper_broker.stop()
    assert path.read_bytes().startswith(whole)
    assert b"two" not in path.read_bytes()
    assert set(from_directory(paper_broker.directory).accounts) == {1, 2}


def test_two_brokers_do_not_share_a_ledger(paper_broker: PaperBroker) -> None:
    second = PaperBroker(paper_broker.directory)
    with pytest.raises(RuntimeError, match="another paper broker uses"):
        second.start()


def test_accounts_prices_and_history_are_the_same_after_a_restart(paper_broker: PaperBroker) -> None:
    from executors.terminals import paper as mt5

    paper_broker.account(1, "classic", 500.0)
    assert mt5.initialize(paper_broker.url, login=1, password=PASSWORD)
    until = mt5.symbol_info_tick("GBPUSD").time - 60
    before = mt5.copy_rates_from("GBPUSD", mt5.TIMEFRAME_M1, until, 200)
    ticks = mt5.copy_ticks_range("EURUSD", until - 600, until, mt5.COPY_TICKS_ALL)
    paper_broker.restart()
    assert mt5.initialize(paper_broker.url, login=1, password=PASSWORD)
    assert mt5.account_info().balance == 500.0
    assert (mt5.copy_rates_from("GBPUSD", mt5.TIMEFRAME_M1, until, 200) == before).all()
    assert (mt5.copy_ticks_range("EURUSD", until - 600, until, mt5.COPY_TICKS_ALL) == ticks).all()
    mt5.shutdown()


def test_a_long_ledger_is_rewritten_at_the_start_and_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_file, "COMPACT_ABOVE", 20_000)

    def opened() -> Broker:
        return Broker(Options(tmp_path, "tcp://127.0.0.1:0"))

    def known(broker: Broker) -> object:
        book = broker.state.books[1]
        kinds = (book.positions, book.orders, book.past_orders, book.deals)
        return book.account.row(), [{ticket: row.row() for ticket, row in rows.items()} for rows in kinds]

    broker = opened()
    broker.op_ensure_account(1, PASSWORD, "lab", 10_000.0)
    session = Session(broker)
    assert session.do_login(1, PASSWORD, "", "here")
    broker.op_push("EURUSD", 1.1, 1.1001)
    for number in range(40):
        opening = Request(action=1, symbol="EURUSD", volume=0.1, type_filling=1, magic=number + 1)
        ticket = session.do_order_send(list(astuple(opening)))[2]
        for level in range(5):  # each change of a level is a line that nobody needs later
            change = Request(action=6, symbol="EURUSD", position=ticket, sl=round(1.05 + level / 1000, 5))
            assert session.do_order_send(list(astuple(change)))[0] == 10009
        if number % 2:
            closing = Request(action=1, symbol="EURUSD", volume=0.1, type=1, type_filling=1, position=ticket)
            session.do_order_send(list(astuple(closing)))
    waiting = Request(action=5, symbol="EURUSD", volume=0.1, type=2, price=1.0, type_filling=2)
    session.do_order_send(list(astuple(waiting)))
    before = known(broker)
    broker.close()
    long = (tmp_path / ledger_file.FILE).stat().st_size
    broker = opened()
    short = (tmp_path / ledger_file.FILE).stat().st_size
    assert short < long / 2
    assert known(broker) == before
    broker.op_deposit(1, 5.0)  # and it goes on
    after = known(broker)
    broker.close()
    broker = opened()
    assert known(broker) == after
    broker.close()
    assert (tmp_path / ledger_file.FILE).stat().st_size < short + 1_000  # not rewritten for nothing
    assert check(from_directory(tmp_path)) == []
