"""The order protocol with every action, in random order under everything that can go wrong: pending orders that trigger,
expire or are cancelled, changes, cancels, closes in part, close by, and stop losses that follow the price.

Extends test_execution_model with the world around pending orders. `ORDER_MODEL_EXAMPLES` and `ORDER_MODEL_STEPS` as there.
"""

import os
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from executors.legs import RequestRow
from executors.orders import OrderState, Outcome
from tests.property.searching import search
from tests.property.test_execution_model import FAULTS, PATHS, PHASES, STEPS, SYMBOLS, OrderProtocol
from tests.simulated import Fault, make, make_open
from tests.simulated_changes import end, trigger, working
from tests.simulated_watch import LevelsWatch
from tests.unit.executors.test_settling import settle, wish

EXAMPLES = int(os.environ.get("ORDER_MODEL_EXAMPLES", "15"))
S = OrderState
IN_TIME_MS = 12_000  # a change that comes about later than that may be called NOT_EXECUTED by then
TRAILING = {"distance": "0.0020", "step": "0.0005"}

PENDINGS = st.builds(
    lambda kind, side, more: (
        {"order_type": kind, "side": side, "price": "1.09" if side == "buy" else "1.11"} | more
    ),
    kind=st.sampled_from(["limit", "stop"]),
    side=st.sampled_from(["buy", "sell"]),
    more=st.sampled_from([{}, {}, {"trailing": TRAILING}, {"expires_ms": 2**42}]),
)
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("modify", {"stop_loss": "1.05"}),
    ("modify", {"stop_loss": "1.06", "take_profit": "1.5"}),
    ("modify", {"take_profit": "1.5"}),
    ("modify", {"take_profit": 0}),
    ("modify", {"price": "1.08"}),
    ("modify", {"expires_ms": 0}),
    ("close", {"fraction": "0.5"}),
    ("close", {}),
    ("cancel", {}),
    ("cancel", {}),
    ("protect", {"trailing": TRAILING}),
    ("protect", {"trailing": None, "break_even": {"trigger": "0.001"}}),
    ("close_by", {}),
]
FEW_FAULTS = st.lists(st.sampled_from(FAULTS), max_size=2)


class EveryAction(OrderProtocol):
    """What the trader does beside, and what becomes of pending orders at the broker."""

    @rule(
        fields=PENDINGS, symbol=SYMBOLS, faults=FEW_FAULTS, by=PATHS, ttl_ms=st.sampled_from([3_000, 600_000])
    )
    def place(
        self, fields: dict[str, Any], symbol: str, faults: list[Fault], by: list[str], ttl_ms: int
    ) -> None:
        self.number += 1
        self._send(make_open(self.number, symbol, "0.4", **fields), ttl_ms, faults, by)

    @rule(side=st.sampled_from(["buy", "sell"]), trailing=st.booleans())
    def open_a_side(self, side: str, *, trailing: bool) -> None:
        self.number += 1
        more = {"trailing": TRAILING} if trailing else {}
        self._send(make_open(self.number, "EURUSD", "0.3", side=side, **more), 60_000, [], ["udp"])

    @precondition(lambda self: self.number > 0)
    @rule(
        change=st.sampled_from(CHANGES),
        by=st.sampled_from(["opened_by", "opened_by", "symbol", "all"]),
        data=st.data(),
        faults=FEW_FAULTS,
        paths=PATHS,
    )
    def change(
        self,
        change: tuple[str, dict[str, Any]],
        by: str,
        data: st.DataObject,
        faults: list[Fault],
        paths: list[str],
    ) -> None:
        action, fields = change
        priced = any(fields.get(name) for name in ("price", "stop_loss", "take_profit"))
        if action == "close_by" or (by == "all" and action == "modify" and priced):
            by = "symbol"
        selector: Any = True
        if by == "opened_by":
            selector = data.draw(st.integers(max(1, self.number - 6), self.number))
        elif by == "symbol":
            selector = data.draw(SYMBOLS)
        self.number += 1
        self._send(make(self.number, action, **{by: selector}, **fields), 60_000, faults, paths)

    def _next_signal(self, *, close: bool) -> Any:
        number = self.number
        if close:
            kinds: list[tuple[str, dict[str, Any]]] = [
                ("close", {"all": True}), ("cancel", {"all": True}), ("close_by", {"symbol": "EURUSD"}),
                ("modify", {"symbol": "EURUSD", "stop_loss": "1.04"}), ("protect", {"all": True, "trailing": TRAILING}),
            ]  # fmt: skip
            action, fields = kinds[number % len(kinds)]
            return make(number, action, **fields)
        more: dict[str, Any] = (
            {"order_type": "limit", "price": "1.09"} if number % 2 else {"trailing": TRAILING}
        )
        return make_open(number, **more)

    @initialize()
    def begin(self) -> None:
        super().begin()
        self.watch = LevelsWatch(self.machine)

    @rule(lag_ms=st.sampled_from([0, 50, 300]))
    def levels_are_shown_late(self, lag_ms: int) -> None:
        self.machine.venue.level_lag_ms = lag_ms

    # --- the market ---

    @precondition(lambda self: bool(working(self.machine.venue)))
    @rule(data=st.data(), part=st.booleans())
    def a_price_comes(self, data: st.DataObject, *, part: bool) -> None:
        order = data.draw(st.sampled_from(working(self.machine.venue)))
        trigger(self.machine.venue, order.ticket, Decimal("0.1") if part else None)

    @precondition(lambda self: bool(working(self.machine.venue)))
    @rule(data=st.data(), state=st.sampled_from([2, 5, 6]))
    def the_broker_ends_one(self, data: st.DataObject, state: int) -> None:
        order = data.draw(st.sampled_from(working(self.machine.venue)))
        end(self.machine.venue, order.ticket, state)

    @rule(bid=st.sampled_from(["1.0950", "1.1000", "1.1010", "1.1040"]))
    def prices_move(self, bid: str) -> None:
        self.machine.venue.bid = Decimal(bid)

    # --- what must hold ---

    @invariant()
    def stop_losses_move_in_favour(self) -> None:
        for kind, before, after in self.machine.venue.guarded:
            assert after > 0
            assert not before or (after > before if kind == 0 else after < before)

    @invariant()
    def what_is_not_named_stays(self) -> None:
        if self.machine.running:
            self.watch.check()

    def _heal(self) -> None:
        """The market comes for, or the broker ends, whatever is still pending; what nobody can tell is settled by hand."""
        machine = self.machine
        machine.venue.level_lag_ms = 0
        for turn in range(40):
            machine.heal(limit_ms=15_000)
            self._settle_what_cannot_be_told()
            for number, order in enumerate(working(machine.venue)):
                if (turn + number) % 2:
                    trigger(machine.venue, order.ticket)
                else:
                    end(machine.venue, order.ticket, 6)
            idle = not machine.execution.open and not machine.execution.queue.ready
            if idle and not working(machine.venue) and not machine.venue.pending():
                return

    def _settle_what_cannot_be_told(self) -> None:
        """Changes that a lost journal may have sent, and whose traces contradict each other: with an alarm each."""
        machine = self.machine
        for row in machine.execution.unknown():
            unknown = [item for item in row.requests if item.outcome is Outcome.UNKNOWN]
            if not all(item.result.get("absent") for item in unknown):
                continue
            assert self.lost
            assert row.leg.signal.action in ("modify", "cancel", "close_by")
            assert any(row.order_id in text for text in machine.alarms)
            statement = wish(
                machine, row.order_id, truth="given_up", settlement_id=f"hand-{row.order_id[:36]}"
            )
            assert settle(machine, statement)[0].done

    def _check_healed(self) -> None:
        super()._check_healed()
        for name in self.legs:
            row = self.machine.journal.get(name)
            if row is None:
                continue
            for request in row.requests:
                self._check_truth(name, request)
            if row.leg.signal.action == "open" and row.state is S.NOT_EXECUTED:
                magics = {item.magic for item in row.requests}
                placed = [item for item in self.machine.venue.entries if item.magic in magics and item.deals]
                assert not placed, f"{name} is NOT_EXECUTED and the broker filled it"

    def _check_truth(self, name: str, request: RequestRow) -> None:
        """What is told of a change came about, and what came about in time is not called NOT_EXECUTED."""
        venue = self.machine.venue
        action = request.request.get("action")
        applied = {magic: at for magic, _, at in venue.applied}
        sent = venue.sent_at.get(request.magic, 0)
        in_time = request.magic in applied and applied[request.magic] - sent < IN_TIME_MS
        if action in (8, 10) and request.outcome is Outcome.NOT_EXECUTED:
            assert not in_time, f"{name}: {request} was done"
        if action == 10 and request.outcome is Outcome.DONE:
            assert request.magic in applied, f"{name}: {request} was not done"
        if action == 8 and request.outcome is Outcome.DONE:
            assert all(order.ticket != request.request["order"] for order in working(venue))
        if action == 6 and request.outcome is Outcome.NOT_EXECUTED and in_time:
            last = [magic for magic, ticket, _ in venue.applied if ticket == request.request["position"]][-1]
            held = venue.position(request.request["position"])
            assert held is None or last != request.magic, f"{name}: {request} is in force"


def test_every_action_holds_whatever_happens() -> None:
    search(EveryAction, examples=EXAMPLES, steps=STEPS, phases=PHASES)
