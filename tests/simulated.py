"""A trade server, a clock and a store that do what they are told, for tests of the order protocol without processes.

`SimVenue` is a `Terminal` with a ledger that no executor can touch: what it executed is the truth that tests compare
with. `SimStore` keeps the rules of the Lua scripts (tests/integration/test_state_model.py compares the two). `Machine`
puts one executor's execution, resolution and journal together as `executor` and `link` do, without their threads.
"""

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from executors.errors import TerminalError, TerminalUnavailable
from executors.terminals.base import (
    ZERO,
    Account,
    Deal,
    Identity,
    Order,
    Position,
    Rate,
    SendReply,
    SendResult,
    SymbolSpec,
    TerminalStatus,
    Tick,
    TradeRequest,
)
from tests import simulated_changes
from tests.simulated_changes import Changed
from tests.simulated_wishes import (
    LOGIN as LOGIN,
)
from tests.simulated_wishes import (
    SERVER as SERVER,
)
from tests.simulated_wishes import (
    START_MS as START_MS,
)
from tests.simulated_wishes import (
    make as make,
)
from tests.simulated_wishes import (
    make_close as make_close,
)
from tests.simulated_wishes import (
    make_config as make_config,
)
from tests.simulated_wishes import (
    make_leg as make_leg,
)
from tests.simulated_wishes import (
    make_open as make_open,
)
from tests.simulated_wishes import (
    make_spec as make_spec,
)

DONE, DONE_PARTIAL, PLACED = 10009, 10010, 10008
T = TypeVar("T", Position, Order)


class SimClock:
    """Time that moves only when told. Redis is `skew_ms` ahead of this machine."""

    def __init__(self) -> None:
        self.utc = float(START_MS)
        self.mono = 1_000_000.0
        self.skew_ms = 0
        self.slept: list[float] = []
        self.before_sleep: Callable[[float], None] = lambda seconds: None

    def now_ms(self) -> int:
        return int(self.utc)

    def redis_ms(self) -> int:
        return int(self.utc) + self.skew_ms

    def monotonic_ms(self) -> float:
        return self.mono

    def sleep(self, seconds: float) -> None:
        self.before_sleep(seconds)
        self.slept.append(seconds)
        self.advance(seconds * 1000)

    def advance(self, milliseconds: float) -> None:
        self.utc += milliseconds
        self.mono += milliseconds


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one order_send.

    `executes`: part of the volume that the server executes; `after_ms` later. `reply`: what the caller is told:
    "truth", a return code, an IPC error (negative), "no deal" (10009 without one) or an exception.
    """

    executes: Decimal = Decimal(1)
    after_ms: float = 0
    reply: str | int | Exception = "truth"
    drops_magic: bool = False
    working: bool = False  # the part that is not executed stays at the broker as an order


FILL = Fault()
REQUOTE = Fault(ZERO, reply=10004)
REJECT = Fault(ZERO, reply=10006)
HALF = Fault(Decimal("0.5"))
NO_DEAL = Fault(reply="no deal")
LATE = Fault(after_ms=60_000, reply=-10005)  # the reply is lost and the fill comes long after
LOST_BEFORE = Fault(ZERO, reply=-10001)
LOST_AFTER = Fault(reply=-10005)
NOT_CONNECTED = Fault(ZERO, reply=-10004)


@dataclass(slots=True)
class Entry:
    """What the server keeps of one request that reached it."""

    magic: int
    order: Order
    deals: list[Deal]
    seen_ms: float  # queries show it from then on


class SimVenue:
    """One account at one broker, hedging. Faults are taken from `script`, one a send, then `default`."""

    def __init__(self, clock: SimClock) -> None:
        self.clock = clock
        self.script: deque[Fault] = deque()
        self.default = FILL
        self.sends: list[TradeRequest] = []  # every order_send, whatever came of it
        self.sent_at: dict[int, int] = {}  # magic → UTC ms of its order_send
        self.entries: list[Entry] = []  # what reached the server: the truth
        self.up = True  # the terminal process answers
        self.linked = True  # the terminal's connection to the trade server
        self.login = LOGIN
        self.lag_ms = 0.0  # how long an order is missing from every list
        self.deal_lag_ms = 0.0  # how long its deals and its position are missing after that
        self.hidden: set[int] = set()  # order tickets that queries do not show (a history still loading)
        self.failing: set[str] = set()  # queries that answer None
        self.before_send: Callable[[TradeRequest], None] = lambda request: None
        self.specs = {name: make_spec(name) for name in ("EURUSD", "USDJPY", "GBPUSD")}
        self.priced = set(self.specs)
        self._tickets = itertools.count(5001)
        self._deals = itertools.count(900_001)
        self._open: dict[int, Position] = {}
        self._due: list[tuple[float, Callable[[], object]]] = []
        self.bid = Decimal(
            "1.1000"
        )  # of every symbol; what is executed at the market still costs 1.1000 or 1.1002
        self.margin_mode = 2
        self.guarded: list[tuple[int, Decimal, Decimal]] = []  # (position type, stop loss before, after)
        self.changes: list[Changed] = []  # every change of levels that was applied: the truth
        self.level_lag_ms = 0.0  # how long positions and orders are shown with the levels that they had
        self.before_ask: Callable[[str], None] = lambda name: None
        self.applied: list[tuple[int, int, int]] = []  # magic, ticket of what was changed, UTC ms

    # --- the world outside ---

    def happen(self) -> None:
        """What was to happen by now happens (late fills)."""
        ready = [action for at, action in self._due if at <= self.clock.mono]
        self._due = [item for item in self._due if item[0] > self.clock.mono]
        for action in ready:
            action()

    def load_history(self, milliseconds: float) -> None:
        """The terminal is connected again and knows what happened meanwhile, or before, only so much later."""
        for entry in self.entries:
            entry.seen_ms = max(entry.seen_ms, self.clock.mono + milliseconds)

    def pending(self) -> int:
        return len(self._due)

    def stop_out(self, ticket: int) -> None:
        """The broker closes a position; the deal repeats its magic."""
        position = self._open.pop(ticket)
        order = self.new_order(position.magic, position.symbol, 1 - position.type, position.volume, "[so]")
        order = replace(order, state=4, volume_current=ZERO, position_id=ticket)
        deal = self.new_deal(order, position.volume, ticket, entry=1, reason=6, comment="[so]")
        self.entries.append(Entry(0, order, [deal], self.clock.mono))

    def trade_by_hand(self, symbol: str = "EURUSD", lots: str = "1") -> int:
        """Somebody else opens a position; its ticket."""
        request = TradeRequest(action=1, symbol=symbol, volume=Decimal(lots), type=0)
        entry = self._enter(request, 0, Decimal(lots), FILL)
        return entry.order.ticket

    def executed(self, magic: int, *, until_ms: float = float("inf")) -> Decimal:
        """The truth: lots that were executed for a request."""
        return sum(
            (
                deal.volume
                for entry in self.entries
                for deal in entry.deals
                if entry.magic == magic and deal.time_ms <= until_ms
            ),
            ZERO,
        )

    def broker_orders(self, magic: int) -> int:
        return sum(entry.magic == magic for entry in self.entries)

    def held(self, symbol: str | None = None) -> list[Position]:
        """The truth, without lag."""
        return [item for item in self._open.values() if symbol in (None, item.symbol)]

    # --- Terminal ---

    def connect(self) -> Identity:
        if not self.up:
            raise TerminalUnavailable("initialize", (-10003, "IPC initialize failed"))
        return self.identity()

    def disconnect(self) -> None:
        return

    def identity(self) -> Identity:
        self._ask("identity")
        return Identity(self.login, SERVER, "")

    def status(self) -> TerminalStatus:
        self._ask("status")
        return TerminalStatus(self.linked, True, 1000, 5000)

    def account(self) -> Account:
        self._ask("account")
        money = Decimal(10000)
        return Account(
            self.login,
            SERVER,
            "USD",
            2,
            money,
            money,
            ZERO,
            money,
            ZERO,
            ZERO,
            100,
            self.margin_mode,
            True,
            True,
        )

    def symbols(self) -> tuple[SymbolSpec, ...]:
        self._ask("symbols")
        return tuple(self.specs.values())

    def spec(self, symbol: str) -> SymbolSpec | None:
        self._ask("spec")
        return self.specs.get(symbol)

    def tick(self, symbol: str) -> Tick | None:
        self._ask("tick")
        if symbol not in self.priced:
            return None
        return Tick(symbol, self.bid, self.bid + Decimal("0.0002"), ZERO, 0, self.clock.redis_ms())

    def positions(self) -> tuple[Position, ...]:
        self._ask("positions")
        shown = {entry.order.ticket for entry in self._shown(self.deal_lag_ms)}
        known = {entry.order.ticket for entry in self.entries}
        held = (item for item in self._open.values() if item.ticket in shown or item.ticket not in known)
        return tuple(self._as_shown(item) for item in held)

    def orders(self) -> tuple[Order, ...]:
        self._ask("orders")
        return tuple(self._as_shown(entry.order) for entry in self._shown() if entry.order.state in (1, 3))

    def _as_shown(self, item: T) -> T:
        """With the levels that it had `level_lag_ms` ago."""
        seen_ms = self.clock.mono - self.level_lag_ms
        later = next(
            (done for done in self.changes if done.ticket == item.ticket and done.at > seen_ms), None
        )
        if later is None:
            return item
        return replace(item, **{name: later.before[name] for name in later.before if hasattr(item, name)})

    def history_orders(self, from_ms: int, to_ms: int) -> tuple[Order, ...]:
        self._ask("history_orders")
        return tuple(
            entry.order
            for entry in self._shown()
            if entry.order.state not in (1, 3) and from_ms <= entry.order.done_ms <= to_ms
        )

    def history_deals(self, from_ms: int, to_ms: int) -> tuple[Deal, ...]:
        self._ask("history_deals")
        return tuple(
            deal
            for entry in self._shown(self.deal_lag_ms)
            for deal in entry.deals
            if from_ms <= deal.time_ms <= to_ms
        )

    def rates(self, symbol: str, seconds: int, to_ms: int, count: int) -> tuple[Rate, ...]:
        return ()

    def check(self, request: TradeRequest) -> SendReply:
        return SendReply(None, (-2, "not simulated"))

    def send(self, request: TradeRequest) -> SendReply:
        self.before_send(request)
        self.sends.append(request)
        self.sent_at[request.magic] = self.clock.redis_ms()
        if not self.up:
            return SendReply(None, (-10004, "No IPC connection"))
        fault = self.script.popleft() if self.script else self.default
        if not self.linked:
            return _reply(10031)
        if request.action != 1:
            return self._answer(simulated_changes.send(self, request, fault), fault)
        if request.position and request.position not in self._open:
            return self._answer(_reply(10036), fault)
        if request.position and request.volume > self._open[request.position].volume:
            return self._answer(_reply(10038), fault)
        if not fault.executes:
            if fault.reply == 10010 or fault.working:
                return self._answer(self._work(request), fault)
            if isinstance(fault.reply, int) and fault.reply in (10006, 10007):
                self._refuse(request)
            return self._answer(_reply(10009), fault)
        lots = _round(request.volume * fault.executes)
        if fault.after_ms:
            self._due.append((self.clock.mono + fault.after_ms, lambda: self._late(request, lots, fault)))
            return self._answer(_reply(PLACED), fault)
        entry = self._enter(request, request.magic, lots, fault)
        full = lots >= request.volume
        reply = _reply(
            DONE if full else DONE_PARTIAL,
            entry.deals[0].ticket,
            entry.order.ticket,
            lots,
            entry.deals[0].price,
        )
        return self._answer(reply, fault)

    # --- for simulated_changes ---

    def due(self, after_ms: float, action: Callable[[], object]) -> None:
        self._due.append((self.clock.mono + after_ms, action))

    def position(self, ticket: int) -> Position | None:
        return self._open.get(ticket)

    def hold(self, position: Position) -> None:
        self._open[position.ticket] = position

    def release(self, ticket: int) -> None:
        del self._open[ticket]

    def add(self, magic: int, order: Order, deals: list[Deal]) -> None:
        self.entries.append(Entry(magic, order, deals, self.clock.mono + self.lag_ms))

    # --- inside ---

    def _ask(self, name: str) -> None:
        self.before_ask(name)
        if not self.up:
            raise TerminalUnavailable(name, (-10004, "No IPC connection"))
        if name in self.failing:
            raise TerminalError(name, (-1, "Terminal: Call failed"))
        self.happen()

    def _shown(self, more_ms: float = 0.0) -> list[Entry]:
        return [
            entry
            for entry in self.entries
            if entry.seen_ms + more_ms <= self.clock.mono and entry.order.ticket not in self.hidden
        ]

    def _answer(self, truth: SendReply, fault: Fault) -> SendReply:
        if isinstance(fault.reply, Exception):
            raise type(fault.reply)(*fault.reply.args)  # a fresh one: a traceback grows with each raise
        succeeded = truth.result is not None and truth.result.retcode in (PLACED, DONE, DONE_PARTIAL)
        if fault.reply == "truth" or (fault.reply in ("no deal", PLACED) and not succeeded):
            return truth  # a server may lose its answer, but it does not promise what it has refused
        if fault.reply == "no deal":
            order = truth.result.order if truth.result else 0
            return _reply(DONE, 0, order)
        code = int(fault.reply)
        return SendReply(None, (code, "simulated")) if code < 0 else _reply(code)

    def _late(self, request: TradeRequest, lots: Decimal, fault: Fault) -> None:
        held = self._open.get(request.position)
        if not request.position or (held is not None and request.volume <= held.volume):
            self._enter(request, request.magic, lots, fault)
        else:
            self._refuse(request)  # the position has gone or shrunk meanwhile: the server ends the order

    def _enter(self, request: TradeRequest, magic: int, lots: Decimal, fault: Fault) -> Entry:
        """Executes `lots` of the request."""
        rest = request.volume - lots
        order = self.new_order(magic, request.symbol, request.type, request.volume, request.comment)
        state = 4 if not rest else 3 if fault.working else 2
        order = replace(order, state=state, volume_current=rest)
        if fault.drops_magic:
            order = replace(order, magic=0)
        if request.position:
            held = self._open[request.position]
            if lots == held.volume:
                del self._open[request.position]
            else:
                self._open[request.position] = replace(held, volume=held.volume - lots)
            position_id, side = request.position, 1
        else:
            position_id, side = order.ticket, 0
            price = Decimal("1.1002") if request.type == 0 else Decimal("1.1000")
            now = self.clock.redis_ms()
            self._open[order.ticket] = Position(
                order.ticket, order.ticket, request.symbol, request.type, order.magic, lots,
                price, price, request.sl, request.tp, ZERO, ZERO, request.comment, now, now,
            )  # fmt: skip
        order = replace(order, position_id=position_id)
        deal = self.new_deal(order, lots, position_id, entry=side, reason=3, comment=request.comment)
        entry = Entry(magic, order, [deal], self.clock.mono + self.lag_ms)
        self.entries.append(entry)
        return entry

    def _work(self, request: TradeRequest) -> SendReply:
        """The order is at the broker and nothing of it is executed."""
        order = self.new_order(request.magic, request.symbol, request.type, request.volume, request.comment)
        self.entries.append(Entry(request.magic, replace(order, state=1), [], self.clock.mono + self.lag_ms))
        return _reply(PLACED, 0, order.ticket)

    def end_working(self, ticket: int, *, fill: bool) -> None:
        """A working order's rest is executed or cancelled."""
        entry = next(item for item in self.entries if item.order.ticket == ticket)
        rest = entry.order.volume_current
        if fill:
            entry.deals.append(
                self.new_deal(entry.order, rest, ticket, entry=0, reason=3, comment=entry.order.comment)
            )
            entry.order = replace(entry.order, state=4, volume_current=ZERO)
        else:
            entry.order = replace(entry.order, state=2)

    def _refuse(self, request: TradeRequest) -> None:
        """Some brokers keep a refused order in the history."""
        order = self.new_order(request.magic, request.symbol, request.type, request.volume, request.comment)
        self.entries.append(Entry(request.magic, replace(order, state=5), [], self.clock.mono + self.lag_ms))

    def new_order(self, magic: int, symbol: str, kind: int, lots: Decimal, comment: str) -> Order:
        now = self.clock.redis_ms()
        return Order(
            next(self._tickets), symbol, kind, 1, magic, 0, 0, lots, lots, Decimal("1.1"), ZERO, ZERO, ZERO,
            1, 0, 0, comment, now, now,
        )  # fmt: skip

    def new_deal(
        self, order: Order, lots: Decimal, position_id: int, *, entry: int, reason: int, comment: str
    ) -> Deal:
        price = Decimal("1.1002") if order.type == 0 else Decimal("1.1000")
        return Deal(
            next(self._deals), order.ticket, position_id, order.symbol, order.type, entry, reason, order.magic, lots,
            price, ZERO, ZERO, ZERO, ZERO, comment, self.clock.redis_ms(),
        )  # fmt: skip


def _round(lots: Decimal) -> Decimal:
    return max(Decimal("0.01"), lots.quantize(Decimal("0.01")))


def _reply(
    code: int, deal: int = 0, order: int = 0, lots: Decimal = ZERO, price: Decimal = ZERO
) -> SendReply:
    return SendReply(SendResult(code, deal, order, lots, price, ZERO, ZERO, f"simulated {code}", 1))
