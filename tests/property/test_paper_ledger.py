"""Random requests, prices, nights and restarts on hedging, netting and exchange accounts: the ledger holds together.

The invariants, after every step: deals add up to the balance and net to the positions (`check`); margin and profit kept as they
change are what a fresh sum gives; netting accounts hold one position a symbol; a state read back from the ledger is the
state that wrote it. PAPER_SEQUENCES sets how many sequences each machine runs (60 by default, 2000 for the full run).
"""

import os
import tempfile
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from executors.terminals.paper.broker import personalities
from executors.terminals.paper.broker.broker import Broker, Options
from executors.terminals.paper.broker.housekeeping import Housekeeping
from executors.terminals.paper.broker.model import Request
from executors.terminals.paper.broker.session import Session
from executors.terminals.paper.check import check
from executors.terminals.paper.oracle import from_directory

SEQUENCES = int(os.environ.get("PAPER_SEQUENCES", "60"))
LOGIN, PASSWORD = 7, "machine"
DAY_MS = 86_400_000
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # thousands of ledgers: none needs the disk
CONFIGURATION: dict[str, Any] = {
    "feeds": {
        "EURUSD": {"walk": {"start": 1.1, "digits": 5, "step": 2.0, "spread": 10, "hours": 0.02}},
        "USDJPY": {"walk": {"start": 110.0, "digits": 3, "step": 2.0, "spread": 10, "hours": 0.02}},
    },
    "symbols": {
        "EURUSD": {"base": "EUR", "profit": "USD", "digits": 5, "swap_long": -6.8, "swap_short": 2.1, "commission": 3.5},
        "USDJPY": {"base": "USD", "profit": "JPY", "digits": 3, "swap_long": 9.4, "swap_short": -19.6},
    },
    "personalities": {
        key: {
            "server": f"{key}-Test", "company": key, "currency": "USD", "leverage": 100, "margin_mode": mode,
            **({"margin_at": "current", "limit_improves": False, "commission_on": "in"} if key == "other" else {}),
            "symbols": ["EURUSD", "USDJPY", "EURUSD.thin", "EURUSD.again"],
            "all": {"exemode": 2, "filling": 7},
            "only": {
                "EURUSD.thin": {"like": "EURUSD", "exemode": 3, "book_depth": 3, "book_lots": 1.0},
                "EURUSD.again": {"like": "EURUSD", "swap_mode": 7},
            },
        }
        for key, mode in (("netting", 0), ("exchange", 1), ("hedging", 2), ("other", 2))
    },
}  # fmt: skip
SYMBOLS = st.sampled_from(["EURUSD", "EURUSD", "USDJPY", "EURUSD.thin", "EURUSD.again", "NONE"])
LOTS = st.sampled_from([0.01, 0.1, 0.3, 1.0, 2.5, 4.0, 60.0, 0.005])
SIDES = st.sampled_from([0, 1])
FILLINGS = st.sampled_from([0, 1, 2, 1])
OFFSETS = st.integers(-300, 300)
PICK = st.integers(0, 10**6)


class Machine(RuleBasedStateMachine):
    personality = "hedging"

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="machine-", dir=MEMORY)
        self.offset_ms = 0
        self.open()
        self.broker.op_ensure_account(LOGIN, PASSWORD, self.personality, 20_000.0)
        self.login()
        self.points = {"EURUSD": 110_000, "USDJPY": 110_000}
        for feed in self.points:
            self.push(feed, 0)

    def open(self) -> None:
        self.broker = Broker(Options(Path(self.directory.name), "tcp://127.0.0.1:0"))
        self.broker.clock_offset_ms = self.offset_ms
        self.housekeeping = Housekeeping(self.broker)

    def login(self) -> None:
        self.session = Session(self.broker)
        self.session.do_login(LOGIN, PASSWORD, "", "here")
        self.book = self.broker.state.books[LOGIN]

    def send(self, **fields: Any) -> list[Any]:
        return self.session.do_order_send(list(astuple(Request(**fields))))

    def quote(self, symbol: str) -> Any:
        desk = self.book.house.desks.get(symbol)
        return desk.quote if desk is not None else self.book.house.desks["EURUSD"].quote

    def push(self, feed: str, points: int) -> None:
        self.points[feed] = max(self.points[feed] + points, 1000)
        scale = 100_000 if feed == "EURUSD" else 1000
        bid = self.points[feed] / scale
        self.broker.op_push(feed, bid, round(bid + 10 / scale, 5))

    # --- What may happen ---------------------------------------------------------------------------------------------

    @rule(symbol=SYMBOLS, lots=LOTS, side=SIDES, filling=FILLINGS, stop=st.sampled_from([0, 50, 400]))
    def deal(self, symbol: str, lots: float, side: int, filling: int, stop: int) -> None:
        quote = self.quote(symbol)
        point = 0.001 if symbol == "USDJPY" else 0.00001
        digits = 3 if symbol == "USDJPY" else 5
        away = stop * point if side == 0 else -stop * point
        base = quote.bid if side == 0 else quote.ask
        levels = {"sl": round(base - away, digits), "tp": round(base + away, digits)} if stop else {}
        self.send(action=1, symbol=symbol, volume=lots, type=side, type_filling=filling, magic=1, **levels)

    @precondition(lambda self: self.book.positions)
    @rule(pick=PICK, share=st.sampled_from([1.0, 0.5, 0.1, 2.0]), filling=FILLINGS)
    def close(self, pick: int, share: float, filling: int) -> None:
        tickets = sorted(self.book.positions)
        position = self.book.positions[tickets[pick % len(tickets)]]
        lots = max(round(position.volume * share, 2), 0.01)
        self.send(
            action=1, symbol=position.symbol, volume=lots, type=1 - position.type, type_filling=filling,
            position=position.ticket,
        )  # fmt: skip

    @precondition(lambda self: len(self.book.positions) > 1)
    @rule(first=PICK, second=PICK)
    def close_by(self, first: int, second: int) -> None:
        tickets = sorted(self.book.positions)
        one = self.book.positions[tickets[first % len(tickets)]]
        opposite = [
            ticket
            for ticket, item in sorted(self.book.positions.items())
            if item.symbol == one.symbol and item.type != one.type
        ]
        others = opposite or tickets
        self.send(action=10, position=one.ticket, position_by=others[second % len(others)])

    @precondition(lambda self: self.book.positions)
    @rule(pick=PICK, below=st.integers(1, 400), above=st.integers(1, 400))
    def stops(self, pick: int, below: int, above: int) -> None:
        tickets = sorted(self.book.positions)
        position = self.book.positions[tickets[pick % len(tickets)]]
        digits = 3 if position.symbol == "USDJPY" else 5
        sign = 1 if position.type == 0 else -1
        bid, point = self.quote(position.symbol).bid, 10.0**-digits
        self.send(
            action=6, symbol=position.symbol, position=position.ticket, sl=round(bid - sign * below * point, digits),
            tp=round(bid + sign * above * point, digits),
        )  # fmt: skip

    def server_s(self) -> int:
        return self.book.house.clock.to_server(self.broker.now_ms()) // 1000

    @rule(
        symbol=SYMBOLS, kind=st.integers(2, 7), lots=LOTS, offset=OFFSETS, filling=FILLINGS,
        stop=st.sampled_from([0, 60, 400]), lives=st.sampled_from([0, 0, 1, 2, 3]),
    )  # fmt: skip
    def pending(
        self, symbol: str, kind: int, lots: float, offset: int, filling: int, stop: int, lives: int
    ) -> None:
        digits = 3 if symbol == "USDJPY" else 5
        price = round(self.quote(symbol).bid + offset * 10.0**-digits, digits)
        limit = round(price + (-20 if kind == 6 else 20) * 10.0**-digits, digits) if kind > 5 else 0.0
        away = stop * 10.0**-digits * (1 if kind % 2 == 0 else -1)
        base = limit or price
        levels = {"sl": round(base - away, digits), "tp": round(base + away, digits)} if stop else {}
        self.send(
            action=5,
            symbol=symbol,
            volume=lots,
            type=kind,
            price=price,
            stoplimit=limit,
            type_filling=filling,
            type_time=lives,
            expiration=self.server_s() + DAY_MS // 2000 if lives > 1 else 0,
            magic=2,
            **levels,
        )

    @precondition(lambda self: self.book.orders)
    @rule(pick=PICK, offset=OFFSETS, remove=st.booleans(), lives=st.sampled_from([0, 1, 2]))
    def change_order(self, pick: int, offset: int, remove: bool, lives: int) -> None:
        tickets = sorted(self.book.orders)
        order = self.book.orders[tickets[pick % len(tickets)]]
        if remove:
            self.send(action=8, order=order.ticket)
            return
        digits = 3 if order.symbol == "USDJPY" else 5
        price = round(self.quote(order.symbol).bid + offset * 10.0**-digits, digits)
        self.send(
            action=7, order=order.ticket, price=price, stoplimit=order.price_stoplimit, type_time=lives,
            expiration=self.server_s() + 3600 if lives == 2 else 0,
        )  # fmt: skip

    @rule(feed=st.sampled_from(["EURUSD", "EURUSD", "USDJPY"]), points=st.integers(-400, 400))
    def tick(self, feed: str, points: int) -> None:
        self.push(feed, points)

    @rule(
        kind=st.sampled_from(["partial", "late_fill", "slippage", "race_fill"]),
        value=st.sampled_from([0.3, 1.0, 50.0]),
    )
    def fault(self, kind: str, value: float) -> None:
        self.broker.op_fault_clear()
        spec = {"kind": kind, "value": min(value, 0.9) if kind == "partial" else value, "at": 1}
        self.broker.op_fault_add(spec)
        self.session.struck = self.broker.faults.strike("order_send", LOGIN, "", self.broker.now_ms())
        row = list(astuple(Request(action=1, symbol="EURUSD", volume=0.2, type=0, type_filling=1, magic=3)))
        self.session.do_order_send(row)
        self.session.struck = []

    @rule()
    def night(self) -> None:
        self.offset_ms += DAY_MS
        self.broker.clock_offset_ms = self.offset_ms
        self.broker.engine.triggers.run_late(self.broker.now_ms())
        self.housekeeping.run(self.broker.now_ms())

    @rule(minutes=st.sampled_from([1, 90]))
    def while_passes(self, minutes: int) -> None:
        """Orders with an hour to live end between days."""
        self.offset_ms += minutes * 60_000
        self.broker.clock_offset_ms = self.offset_ms
        self.housekeeping.run(self.broker.now_ms())

    @precondition(lambda self: self.book.positions)
    @rule(pick=PICK)
    def another_hand(self, pick: int) -> None:
        """The broker's desk, or the owner's telephone, closes a position."""
        tickets = sorted(self.book.positions)
        self.broker.op_close_position(LOGIN, tickets[pick % len(tickets)])

    @rule(amount=st.sampled_from([500.0, -500.0, 12.34]), credit=st.booleans())
    def deposit(self, amount: float, credit: bool) -> None:
        (self.broker.op_credit if credit else self.broker.op_deposit)(LOGIN, amount)

    @rule()
    def restart(self) -> None:
        """Killed and started again on its ledger."""
        before = self.snapshot()
        self.broker.close()
        self.open()
        self.login()
        assert self.snapshot() == before
        for feed in self.points:
            self.push(feed, 0)

    def snapshot(self) -> Any:
        book = self.book
        return (
            book.account.row(),
            {ticket: item.row() for ticket, item in book.positions.items()},
            {ticket: item.row() for ticket, item in book.orders.items()},
            {ticket: item.row() for ticket, item in book.past_orders.items()},
            {ticket: item.row() for ticket, item in book.deals.items()},
        )

    # --- What must hold ------------------------------------------------------------------------------------------------

    @invariant()
    def sums_are_what_a_fresh_sum_gives(self) -> None:
        if not hasattr(self, "book"):
            return
        state, book = self.broker.state, self.book
        kept = dict(book.profits), book.margin
        state.revalue(book)
        assert book.margin == pytest.approx(kept[1], abs=0.011)
        assert set(kept[0]) == set(book.positions) == set(book.profits)
        assert kept[0] == book.profits  # none of these symbols needs another one's rate
        assert state.equity(book) == pytest.approx(
            book.account.balance
            + book.account.credit
            + sum(book.profits.values())
            + sum(item.swap for item in book.positions.values()),
            abs=0.005,
        )

    @invariant()
    def positions_and_orders_are_sound(self) -> None:
        if not hasattr(self, "book"):
            return
        book = self.book
        for position in book.positions.values():
            assert position.volume > 0
            assert round(position.volume / 0.01, 6) % 1 == 0
            assert book.by_symbol[position.symbol][position.ticket] is position
            assert book.house.desks[position.symbol].positions[position.ticket] == (book, position)
        if not book.account.hedging:
            symbols = [item.symbol for item in book.positions.values()]
            assert len(symbols) == len(set(symbols))
        for order in book.orders.values():
            assert order.volume_current > 0
            assert order.done_ms == 0

    def teardown(self) -> None:
        if not hasattr(self, "broker"):
            return
        self.broker.close()
        violations = check(from_directory(Path(self.directory.name)), magics_unique=False)
        self.directory.cleanup()
        assert not violations, "\n".join(violations)


@pytest.mark.timeout(max(120, SEQUENCES))
@pytest.mark.parametrize("personality", ["hedging", "netting", "exchange", "other"])
def test_random_sequences_keep_the_ledger_sound(personality: str, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = personalities.parse(CONFIGURATION)
    monkeypatch.setattr(personalities, "load", lambda directory: configuration)
    machine = type("Machine", (Machine,), {"personality": personality})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=SEQUENCES < 1000,
        ),
    )
