"""Netting accounts in random order under everything that can go wrong: opens of both sides, closes of one open in whole and
in part, sent twice, closes of the symbol, other hands, stop-outs. An oracle of its own counts whose lots are left.

Extends test_execution_model; `ORDER_MODEL_EXAMPLES` and `ORDER_MODEL_STEPS` as there.
"""

import os
from collections import defaultdict
from decimal import Decimal

from django.conf import settings as django_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from executors.messages import AnySignal, CloseSignal, OpenSignal
from executors.orders import SETTLED, order_id, request_magic
from executors.terminals.base import TradeRequest
from tests.property.test_execution_model import (
    FAULTS,
    PATHS,
    PHASES,
    SETTLE_MS,
    STEPS,
    SYMBOLS,
    OrderProtocol,
)
from tests.simulated import (
    FILL,
    HALF,
    LOST_AFTER,
    LOST_BEFORE,
    NO_DEAL,
    REQUOTE,
    Fault,
    SimClock,
    make,
    make_open,
)
from tests.simulated_changes import working
from tests.simulated_netting import SimNetting
from tests.simulated_store import Machine

EXAMPLES = int(os.environ.get("ORDER_MODEL_EXAMPLES", "12"))
ZERO = Decimal(0)
FEW_FAULTS = st.lists(st.sampled_from(FAULTS), max_size=2)
MOST_REQUESTS = 60
UNCLEAR = [FILL, HALF, REQUOTE, NO_DEAL, LOST_AFTER, LOST_BEFORE, Fault(after_ms=2_000, reply=-10005)]


class NettingAccount(OrderProtocol):
    """One position a symbol, of all opens together."""

    def _machine(self) -> Machine:
        clock = SimClock()
        self.venue = SimNetting(clock)
        self.venue.on_send = self._check_sent
        self.opens: list[int] = []  # numbers of signals
        self.broken: list[str] = []
        self.wished: dict[int, tuple[str, AnySignal]] = {}  # magic → order_id and signal
        return Machine(self.directory, clock=clock, venue=self.venue)

    # --- the trader ---

    @rule(
        side=st.sampled_from(["buy", "sell"]),
        lots=st.sampled_from(["0.1", "0.2", "0.5"]),
        symbol=SYMBOLS,
        faults=FEW_FAULTS,
        by=PATHS,
    )
    def open_one(self, side: str, lots: str, symbol: str, faults: list[Fault], by: list[str]) -> None:
        self.number += 1
        self.opens.append(self.number)
        self._send(make_open(self.number, symbol, lots, side=side), 60_000, faults, by)

    @precondition(lambda self: self.opens)
    @rule(
        data=st.data(),
        fraction=st.sampled_from([None, None, "0.5"]),
        times=st.integers(1, 2),
        faults=FEW_FAULTS,
        by=PATHS,
    )
    def close_one(
        self, data: st.DataObject, fraction: str | None, times: int, faults: list[Fault], by: list[str]
    ) -> None:
        chosen = data.draw(st.sampled_from(self.opens[-6:]))
        for _ in range(times):
            self.number += 1
            part = {} if fraction is None else {"fraction": fraction}
            self._send(make(self.number, "close", opened_by=chosen, **part), 600_000, faults, by)
            faults = []

    @precondition(lambda self: self.machine.running)
    @rule(
        lots=st.lists(st.sampled_from(["0.1", "0.2", "0.5"]), min_size=2, max_size=3),
        chosen=st.integers(0, 2),
        fault=st.sampled_from(UNCLEAR),
        fraction=st.sampled_from([None, None, "0.5"]),
        hand=st.sampled_from([None, 0, 1]),
        lag_ms=st.sampled_from([0, 2_000]),
    )
    def close_one_of_several_twice(
        self, lots: list[str], chosen: int, fault: Fault, fraction: str | None, hand: int | None, lag_ms: int
    ) -> None:
        """The first close's answer does not come, or is not shown yet, when the second one begins."""
        self.venue.script.clear()
        for item in lots:
            self.open_one("buy", item, "EURUSD", [], ["udp"])
        self.run(3, 1_000)
        self.venue.lag_ms = lag_ms
        self.venue.quick_hands = [] if hand is None else [("EURUSD", "0.1", hand)]
        number = self.opens[-len(lots) :][min(chosen, len(lots) - 1)]
        part = {} if fraction is None else {"fraction": fraction}
        for faults in ([fault], []):
            self.number += 1
            self._send(make(self.number, "close", opened_by=number, **part), 600_000, faults, ["udp"])

    @rule(fraction=st.sampled_from(["0.5", "0.25"]), symbol=SYMBOLS, by=PATHS)
    def close_a_part_of_all(self, fraction: str, symbol: str, by: list[str]) -> None:
        self.number += 1
        self._send(make(self.number, "close", symbol=symbol, fraction=fraction), 600_000, [], by)

    @rule(symbol=SYMBOLS, side=st.integers(0, 1), lots=st.sampled_from(["0.1", "0.3", "1"]))
    def another_hand(self, symbol: str, side: int, lots: str) -> None:
        self.venue.trade_by_hand(symbol, lots, side)

    @rule(side=st.sampled_from(["buy", "sell"]), symbol=SYMBOLS, by=PATHS)
    def place(self, side: str, symbol: str, by: list[str]) -> None:
        self.number += 1
        self.opens.append(self.number)
        fields = {"order_type": "limit", "price": "1.09" if side == "buy" else "1.11"}
        self._send(make_open(self.number, symbol, "0.4", side=side, **fields), 600_000, [], by)

    @precondition(lambda self: bool(working(self.venue)))
    @rule(data=st.data(), days=st.sampled_from([0, 0, 3]))
    def a_price_comes(self, data: st.DataObject, days: int) -> None:
        machine = self.machine
        # what was given up is looked for for a day: none of that may be on its way when days pass at once
        quiet = (
            machine.running
            and machine.venue.up
            and not machine.venue.pending()
            and not machine.resolution._late._missing
        )
        machine.clock.advance(days * 86_400_000 if quiet else 0)
        self.venue.trigger(data.draw(st.sampled_from(working(self.venue))).ticket)

    # --- what must hold ---

    def _owner(self, magic: int) -> tuple[str, AnySignal] | None:
        """The order that a request is of, by the only number that the broker sees."""
        if magic and magic not in self.wished:
            for name, leg in self.legs.items():
                for n in range(1, MOST_REQUESTS):
                    found = request_magic(django_settings.INSTALLATION_ID, name, n)
                    self.wished[found] = (name, leg.signal)
        return self.wished.get(magic)

    def _left(self) -> dict[str, defaultdict[str, Decimal]]:
        """By what the server has executed: symbol → whose lots its position is made of, in order."""
        books: dict[str, list[tuple[str, Decimal]]] = {}
        sides: dict[str, int] = {}
        deals = [(deal.ticket, deal, entry.magic) for entry in self.venue.entries for deal in entry.deals]
        for _, deal, magic in sorted(deals, key=lambda item: item[0]):
            owner = self._owner(magic)
            parts = books.setdefault(deal.symbol, [])
            lots = deal.volume
            opens = owner is not None and isinstance(owner[1], OpenSignal)
            if parts and deal.type != sides[deal.symbol]:
                named = _named(owner)
                lots = _consume(parts, lots, named) if named else lots
                lots = _consume(parts, lots, None)
            if lots:
                sides[deal.symbol] = deal.type
                parts.append((owner[0] if opens and owner is not None else "", lots))
        return {symbol: _sums(parts) for symbol, parts in books.items()}

    def _check_sent(self, request: TradeRequest) -> None:
        """A close of one open asks for no more than that has left at this moment."""
        owner = self._owner(request.magic)
        named = _named(owner)
        if named is None or self.lost:
            return
        left = self._left().get(request.symbol, _sums([]))
        if request.volume > left[named]:  # an exception here would be taken for a terminal that broke down
            self.broken.append(f"{owner} asks for {request.volume} of {left}")

    @invariant()
    def no_close_asks_for_more_than_its_open_has_left(self) -> None:
        assert "\n".join(getattr(self, "broken", [])) == ""

    @invariant()
    def closes_of_an_open_add_up_to_no_more_than_it_filled(self) -> None:
        if self.lost or not hasattr(self, "venue"):
            return
        filled: defaultdict[str, Decimal] = defaultdict(Decimal)
        charged: defaultdict[str, Decimal] = defaultdict(Decimal)
        for entry in self.venue.entries:
            owner = self._owner(entry.magic)
            sent = self.venue.sent_at.get(entry.magic, 0)
            lots = sum((deal.volume for deal in entry.deals), ZERO)
            if owner is None:
                continue
            if (named := _named(owner)) is None:
                filled[owner[0]] += lots
            elif entry.order.setup_ms - sent < SETTLE_MS:  # later ones are given up, and closed again
                charged[named] += lots
        assert all(charged[name] <= filled[name] for name in charged), f"{charged} of {filled}"

    def _heal(self) -> None:
        """The market comes for whatever is still pending."""
        for _ in range(40):
            self.machine.heal(limit_ms=15_000)
            for order in working(self.venue):
                self.venue.trigger(order.ticket)
            idle = not self.machine.execution.open and not self.machine.execution.queue.ready
            if idle and not working(self.venue) and not self.venue.pending():
                return

    def _check_healed(self) -> None:
        """In the end each open gives back exactly what it has left."""
        super()._check_healed()
        self.no_close_asks_for_more_than_its_open_has_left()
        if self.lost:
            return
        for number in self.opens:
            name = order_id(make_open(number).signal_id, "sim-1")
            row = self.machine.journal.get(name)
            if row is None:
                continue
            left = self._left().get(row.leg.signal.symbol or "", _sums([]))[name]
            self.number += 1
            signal = make(self.number, "close", opened_by=number)
            self._accept(signal, 600_000)
            self.machine.heal(limit_ms=400_000)
            done = self.machine.row(order_id(signal.signal_id, "sim-1"))
            assert done.state in SETTLED
            assert done.filled_lots == left, f"{name} has {left} left: {done}"


def _named(owner: tuple[str, AnySignal] | None) -> str | None:
    if owner is None or not isinstance(owner[1], CloseSignal) or owner[1].opened_by is None:
        return None
    return order_id(owner[1].opened_by, "sim-1")


def _consume(parts: list[tuple[str, Decimal]], lots: Decimal, named: str | None) -> Decimal:
    for index, (name, part) in enumerate(parts):
        if named in (None, name):
            taken = min(part, lots)
            parts[index] = (name, part - taken)
            lots -= taken
    parts[:] = [item for item in parts if item[1]]
    return lots


def _sums(parts: list[tuple[str, Decimal]]) -> defaultdict[str, Decimal]:
    found: defaultdict[str, Decimal] = defaultdict(Decimal)
    for name, lots in parts:
        found[name] += lots
    return found


def test_a_close_of_one_open_never_takes_the_others_lots_whatever_happens() -> None:
    run_state_machine_as_test(
        NettingAccount,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="ORDER_MODEL_EXAMPLES" not in os.environ,  # the quick profile repeats itself
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            print_blob=True,
            phases=PHASES,
        ),
    )
