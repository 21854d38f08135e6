"""What an order means on its terminal, decided when its turn has come: admitted or denied, and frozen as its plan.

Precedes: execution sends request after request of the plan. Follows: the queue gives the leg. Reads the terminal, sends
nothing. What an order means of an open whose outcome is not known yet is planned once that is known.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from executors.admission import admit_open
from executors.completion import REDUCING_ONLY, Completion
from executors.errors import Code
from executors.holdings import MARGIN_MODE_HEDGING
from executors.legs import ZERO, LegRow, made_by
from executors.levels import freeze_modify, raises_risk
from executors.messages import (
    AnySignal,
    CancelSignal,
    CloseBySignal,
    CloseSignal,
    ModifySignal,
    OpenSignal,
    ProtectSignal,
)
from executors.opened import Opened
from executors.orders import order_id
from executors.plans import Step
from executors.queueing import Other
from executors.remainders import Remainders
from executors.sizing import Denial, RateBucket, check_mode
from executors.symbols import to_broker, to_canonical
from executors.terminals.base import Order, Position, SymbolSpec
from executors.waiting import Waiting
from executors.wishes import (
    Change,
    Meaning,
    belongs,
    expiration,
    filled_from,
    freeze_cancel,
    freeze_close,
    freeze_close_by,
    orders_meant,
    positions_meant,
)

if TYPE_CHECKING:
    from executors.execution import Execution

NOTHING_MEANT = "There is no position or pending order that it means. Look at what the terminal holds."
NOTHING_LEFT = "Nothing of what it means is left."


class Preparation:
    """Of one Execution, in the same thread."""

    def __init__(self, execution: "Execution") -> None:
        self._execution = execution
        self._bucket = RateBucket()
        self.completion = Completion(execution, hedging=self.is_hedging, reducing=lambda: self._reducing)
        self._hedging: bool | None = None
        self.remainders = Remainders(execution)
        self._opens = Opened(execution)
        self.waiting = Waiting(execution, self)
        self._symbols: dict[int, str] = {}  # ticket of a position or pending order → canonical symbol

    # --- for the queue ---

    def note_held(self, positions: Iterable[Position], orders: Iterable[Order]) -> None:
        """What the terminal holds now: tickets that signals may name."""
        config = self._execution.config
        self._symbols = {item.ticket: to_canonical(config, item.symbol) for item in positions}
        self._symbols |= {item.ticket: to_canonical(config, item.symbol) for item in orders}

    def symbol_of(self, signal: Other) -> str | None:
        """The canonical symbol that the signal is about; None when that is several, or not known."""
        if signal.symbol is not None:
            return signal.symbol
        if not isinstance(signal, CloseBySignal) and signal.opened_by is not None:
            opened = self._opens.row(signal)
            return opened.leg.signal.symbol if opened is not None else None
        for name in ("position_ticket", "order_ticket"):
            if (ticket := getattr(signal, name, None)) is not None:
                return self._symbols.get(ticket)
        return None

    # --- the plan ---

    def prepare(self, row: LegRow) -> Denial | None:
        """Modes, limits and sizing of a new leg; sets its plan and what is wanted. Raises TerminalError."""
        signal = row.leg.signal
        denial = self.forbidden(signal)
        if denial is not None:
            return denial
        if isinstance(signal, OpenSignal):
            return self._open(row, signal)
        # orders before positions: what is filled in between is seen as a position, and what is still seen as an order is
        # passed on when its turn comes
        orders = self._orders(signal)
        plan: dict[str, Any] = {"waiting": self.waiting.unread(signal)}
        denial = self.freeze(signal, plan, orders)
        if denial is not None:
            return denial
        row.plan = plan
        row.wanted_lots = sum((Decimal(item[3]) for item in plan.get("tickets", [])), ZERO)
        return None

    def forbidden(self, signal: AnySignal) -> Denial | None:
        """What the terminal's mode, its clock, and whatever holds opens say: to a new order, and between two requests."""
        execution = self._execution
        denial = check_mode(execution.mode, signal.action)
        if denial is not None or not isinstance(signal, OpenSignal):
            return denial
        if execution.skewed:
            return Denial(Code.CLOCK_SKEW, execution.skewed)
        held = execution.hold or execution.breaker.reason
        return Denial(Code.HALTED, held) if held else None

    @property
    def _reducing(self) -> bool:
        return self._execution.mode == "REDUCING" or bool(self._execution.skewed)

    def _open(self, row: LegRow, signal: OpenSignal) -> Denial | None:
        execution = self._execution
        now, utc = execution.clock.monotonic_ms(), execution.clock.redis_ms()
        lots = admit_open(
            signal,
            specs=execution.specs,
            config=execution.config,
            bucket=self._bucket,
            now_ms=now,
            utc_ms=utc,
            held=self._held,
        )
        if isinstance(lots, Denial):
            return lots
        spec = self.spec(to_broker(execution.config, signal.symbol)) if signal.pending else None
        if spec is not None:
            kept = expiration(signal.expires_ms, spec, utc)
            if isinstance(kept, Denial):
                return kept
            row.plan = {"expiration": list(kept)}
        row.wanted_lots = lots
        return None

    def _held(self, with_orders: bool) -> int:
        """Positions, and if wished pending orders, those among them that the terminal does not show yet. Raises
        TerminalError."""
        execution, orders = self._execution, 0
        if with_orders:  # first: what is filled in between counts rather twice than not at all
            active = execution.terminal.orders()
            orders = len(active) + execution.holdings.unseen_orders(active)
        positions = execution.terminal.positions()
        unseen = execution.holdings.unseen_fills(positions)
        if not unseen or self.is_hedging():
            return orders + len(positions) + len(unseen)
        symbols = {to_broker(execution.config, symbol) for symbol in unseen}
        return orders + len({item.symbol for item in positions} | symbols)

    def _orders(self, signal: Other) -> tuple[Order, ...]:
        """The active orders, where the signal may mean pending ones. One of ours that has gone needs a look."""
        if isinstance(signal, (CloseSignal, CloseBySignal)):
            return ()
        orders = self._execution.holdings.orders(signal)
        self._execution.watch(orders)
        return orders

    def freeze(self, signal: Other, plan: dict[str, Any], orders: tuple[Order, ...] = ()) -> Denial | None:
        """What the signal means of what is there now. With opens to wait for, nothing may be found yet."""
        execution, meaning = self._execution, self.meaning(signal)
        held = execution.holdings.read(execution.holdings.meant_by(signal))
        positions = positions_meant(signal, held, meaning) or filled_from(signal, held, orders)
        found: Any
        if isinstance(signal, (ModifySignal, ProtectSignal)):
            left = self._with_lots_left(positions, meaning)
            if isinstance(left, Denial) and not plan["waiting"]:
                return left
            positions = () if isinstance(left, Denial) else left
        if isinstance(signal, CloseSignal):
            found = self._opens.share_not_known(meaning, held)
            found = found or self._close(signal, positions, meaning, plan)
        elif isinstance(signal, ProtectSignal):
            # what was armed for a position that was turned over is not changed, but over
            execution.guard.see(held)
            found = self._protect(signal, positions, plan, orders)
        elif isinstance(signal, CloseBySignal):
            found = freeze_close_by(signal, positions, self.spec, hedging=meaning.hedging)
            if plan["waiting"] and not isinstance(found, Denial):
                return None  # opposite positions are matched once all are known
        else:
            found = self.changes(signal, positions, orders_meant(signal, orders, meaning))
        if isinstance(found, Denial):
            later = isinstance(signal, CloseSignal) or found.code is Code.NO_TARGET
            return None if plan["waiting"] and later else found
        if isinstance(signal, (ModifySignal, CancelSignal, CloseBySignal)):
            plan["changes"] = found
        if not found and not plan["waiting"] and not isinstance(signal, (CloseSignal, CancelSignal)):
            return Denial(Code.NO_TARGET, NOTHING_MEANT)
        return None

    def changes(
        self,
        signal: ModifySignal | CancelSignal,
        positions: tuple[Position, ...],
        orders: tuple[Order, ...],
    ) -> list[Change] | Denial:
        if isinstance(signal, CancelSignal):
            return freeze_cancel(orders)
        now = self._execution.clock.redis_ms()
        changes = freeze_modify(signal, positions, orders, self.spec, now)
        if not isinstance(changes, Denial) and self._reducing and raises_risk(changes, positions, orders):
            return Denial(Code.RAISES_RISK, REDUCING_ONLY)
        return changes

    def _close(
        self, signal: CloseSignal, positions: tuple[Position, ...], meaning: Meaning, plan: dict[str, Any]
    ) -> bool | Denial:
        most: dict[int, Decimal] = {item.ticket: item.volume for item in positions}
        if meaning.opened is not None and not meaning.hedging:
            for item in positions:
                left = self.remainders.of(meaning.opened, item)
                if isinstance(left, Denial):
                    plan["tickets"] = []
                    return left
                if not left.lots:
                    plan["nothing"] = NOTHING_LEFT
                most[item.ticket] = left.lots
                plan["waiting"] += self.waiting.unsure(left, signal, plan["waiting"])
        if signal.fraction is not None:  # of what an open makes: once that is known
            opens = self.rows(plan["waiting"])
            positions = tuple(item for item in positions if not self._undecided(item, opens, meaning))
        known = [item for item in positions if most[item.ticket] > ZERO]
        frozen = freeze_close(signal, known, self.spec, lambda item: most[item.ticket])
        if isinstance(frozen, Denial):
            plan["tickets"], plan["notes"] = [], [frozen.message]
            return frozen
        plan["tickets"], notes = frozen
        if notes:
            plan["notes"] = notes
        return True

    def _undecided(self, position: Position, waited: list[LegRow], meaning: Meaning) -> bool:
        """Whether something that is waited for may have changed the position's lots."""
        if meaning.hedging:
            return any(made_by(row, position) for row in waited)
        opens = [row.leg.signal for row in waited if isinstance(row.leg.signal, OpenSignal)]
        return len(opens) < len(waited) or any(
            position.symbol == to_broker(meaning.config, signal.symbol) for signal in opens
        )

    def _with_lots_left(
        self, positions: tuple[Position, ...], meaning: Meaning
    ) -> tuple[Position, ...] | Denial:
        """On a netting account an open that has no lots left means nothing: what is there is others'."""
        if meaning.hedging or meaning.opened is None:
            return positions
        kept = []
        for item in positions:
            left = self.remainders.of(meaning.opened, item)
            if isinstance(left, Denial):
                return left
            if left.lots or left.waits_for:
                kept.append(item)
        return tuple(kept)

    def still_left(self, row: LegRow, step: Step) -> Decimal | Denial:
        """Before a further request of a close: lots that the step may still ask for. Others may have closed some since
        the plan was frozen, and a netting account turns over what is closed beyond. Raises TerminalUnavailable."""
        signal = row.leg.signal
        if not isinstance(signal, CloseSignal) or self.is_hedging():
            return step.lots
        held = next(
            (item for item in self._execution.terminal.positions() if item.ticket == step.position), None
        )
        if held is None:
            return step.lots  # the broker says that it is gone
        if held.type == step.type:
            return Denial(Code.NO_TARGET, NOTHING_LEFT)
        most, opened = min(step.lots, held.volume), self._opens.row(signal)
        if opened is None:
            return most
        left = self.remainders.of(opened, held)
        if isinstance(left, Denial):
            return left
        return min(most, left.lots) or Denial(Code.NO_TARGET, NOTHING_LEFT)

    def _protect(
        self,
        signal: ProtectSignal,
        positions: tuple[Position, ...],
        plan: dict[str, Any],
        orders: tuple[Order, ...],
    ) -> bool:
        """Positions, and the open whose pending order still works: what it makes is armed when it exists."""
        journal = self._execution.journal
        origin = {item.ticket: self.origin(item) for item in positions}
        name: str | None = None
        if signal.opened_by is not None:
            name = order_id(signal.opened_by, self._execution.config.terminal_id)
        elif signal.order_ticket is not None:
            order = next((item for item in orders if item.ticket == signal.order_ticket), None)
            name = self._execution.open_of(signal.order_ticket)  # even if it was filled just now
            if name is None and order is not None:
                name = journal.order_of_magic(order.magic)
        opens = [name] if name is not None and name in self._execution.open else []
        plan["protect"] = {"positions": [[*item] for item in origin.items()], "opens": opens}
        return bool(origin or opens)

    # --- small parts ---

    def rows(self, names: Iterable[str]) -> list[LegRow]:
        known, journal = self._execution.open, self._execution.journal
        return [row for name in names if (row := known.get(name) or journal.get(name)) is not None]

    def spec(self, symbol: str) -> SymbolSpec | None:
        return self._execution.specs.get(symbol, self._execution.clock.monotonic_ms())

    def meaning(self, signal: Other) -> Meaning:
        return self._opens.meaning(signal, hedging=self.is_hedging())

    def is_hedging(self) -> bool:
        """Fixed for an account, and so asked for once."""
        if self._hedging is None:
            self._hedging = self._execution.terminal.account().margin_mode == MARGIN_MODE_HEDGING
        return self._hedging

    def origin(self, position: Position) -> str:
        """The open that made the position; empty when none of ours did, or it was turned over since."""
        name = self._execution.journal.order_of_magic(position.magic)
        found = self.rows([name] if name else [])
        return found[0].order_id if found and self.belongs(found[0], position) else ""

    def belongs(self, row: LegRow, position: Position) -> bool:
        """For the guard: whether a position is what an open made."""
        return belongs(row, position, Meaning(self._execution.config, self.is_hedging()))
