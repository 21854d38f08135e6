"""Opens that an order means whose outcome is not known yet: which they are, and what the order means once it is.

Precedes: execution goes on with the plan. Follows: preparing freezes what is there already. Works on an Execution, in the same
thread; reads the terminal, sends nothing.
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from executors.legs import ZERO, LegRow, order_tickets, position_tickets
from executors.messages import (
    CancelSignal,
    CloseBySignal,
    CloseSignal,
    ModifySignal,
    OpenSignal,
    ProtectSignal,
)
from executors.netting import UNDECIDED, Left
from executors.orders import OrderState
from executors.queueing import Other, means
from executors.sizing import Denial
from executors.terminals.base import Position
from executors.wishes import Meaning, belongs, freeze_close, names_entry, placed_by

if TYPE_CHECKING:
    from executors.execution import Execution
    from executors.preparing import Preparation


class Waiting:
    """Of one Execution."""

    def __init__(self, execution: "Execution", preparation: "Preparation") -> None:
        self._execution = execution
        self._preparation = preparation

    def unread(self, signal: Other) -> list[str]:
        return [
            other.order_id
            for other in self._execution.open.values()
            if _is_about(signal, other) and self._is_unread(other, signal)
        ]

    def _is_unread(self, row: LegRow, signal: Other) -> bool:
        """Whether the open may have a position nobody has seen, or for a cancel a pending order; or, when the signal does
        not mean it, whether it may have taken lots of the open that is meant."""
        if not _is_about(signal, row):
            return any(item.outcome in UNDECIDED for item in row.requests)
        if row.state is OrderState.PLACED and not isinstance(signal, CancelSignal):
            return row.order_id not in self._execution.resting
        return row.state is OrderState.UNKNOWN

    def waits(self, row: LegRow) -> bool:
        """Whether an open that the order means still has an unknown outcome, or a fill that was not read yet."""
        signal = row.leg.signal
        if isinstance(signal, OpenSignal):
            return False
        known = self._execution.open
        return any(
            name in known and self._is_unread(known[name], signal) for name in row.plan.get("waiting", [])
        )

    def plan_anew(self, row: LegRow) -> None:
        """What the opens left that were waited for. Only theirs: what was opened by later signals is not meant.

        Raises TerminalError: nothing is changed until all is read.
        """
        execution, signal = self._execution, row.leg.signal
        if isinstance(signal, OpenSignal) or not row.plan.get("waiting"):
            return
        meaning = self._preparation.meaning(signal)
        opens = [
            item
            for item in self._preparation.rows(row.plan["waiting"])
            if isinstance(item.leg.signal, OpenSignal)
        ]
        if not meaning.hedging and not isinstance(signal, CloseBySignal) and meaning.opened is not None:
            opens = [meaning.opened]  # also where only closes of it were waited for
        seen = {item[0] for item in row.plan.get("tickets", [])}
        missing = [item for item in opens if item.filled_lots and not position_tickets(item) & seen]
        held = execution.holdings.read(execution.holdings.soon(missing))
        made = tuple(item for item in held if any(belongs(opened, item, meaning) for opened in opens))
        plan: dict[str, Any] = dict(row.plan) | {"waiting": []}
        fresh: list[list[object]] = []
        if isinstance(signal, CloseSignal):
            fresh = self._fresh_tickets(row, signal, made, opens, plan, meaning)
            plan["tickets"] = [*plan.get("tickets", []), *fresh]
        elif isinstance(signal, CloseBySignal):
            if (denial := self._preparation.freeze(signal, plan)) is not None:
                _deny(plan, denial)
        elif isinstance(signal, ProtectSignal):
            wish = plan.setdefault("protect", {"positions": [], "opens": []})
            wish["positions"] = wish["positions"] + [
                [item.ticket, self._preparation.origin(item)]
                for item in made
                if item.ticket not in {ticket for ticket, _ in wish["positions"]}
            ]
            alive = {*wish["opens"], *(item.order_id for item in opens)} & execution.open.keys()
            wish["opens"] = sorted(alive)
        else:
            self._fresh_changes(signal, made, opens, plan)
        row.plan, row.plan_kept = plan, False
        row.wanted_lots += sum((Decimal(str(item[3])) for item in fresh), ZERO)

    def _fresh_tickets(
        self,
        row: LegRow,
        signal: CloseSignal,
        made: tuple[Position, ...],
        opens: list[LegRow],
        plan: dict[str, Any],
        meaning: Meaning,
    ) -> list[list[object]]:
        """Of what the opens made, what is not planned yet; a ticket that is planned already may have got more since."""
        planned: dict[int, Decimal] = {}
        for ticket, _, _, lots, *_ in plan.get("tickets", []):
            planned[ticket] = planned.get(ticket, ZERO) + Decimal(lots)
        most: dict[int, Decimal] = {}
        notes: list[str] = []
        for item in made:
            mine = [opened for opened in opens if belongs(opened, item, meaning)]
            if signal.fraction is not None and item.ticket in planned:
                continue
            if meaning.hedging:
                filled = sum((opened.filled_lots for opened in mine), ZERO)
                known = planned.get(item.ticket)
                most[item.ticket] = (filled or item.volume) if known is None else filled - known
                continue
            for opened in mine:
                left = self._preparation.remainders.of(opened, item)
                if isinstance(left, Denial):
                    notes.append(left.message)
                    continue
                most[item.ticket] = most.get(item.ticket, ZERO) + left.lots
                if signal.opened_by is not None:
                    plan["waiting"] += self.unsure(left, signal, plan["waiting"])
        if signal.fraction is not None and plan["waiting"]:
            return []
        new = [item for item in made if most.get(item.ticket, ZERO) > ZERO]
        frozen = freeze_close(signal, new, self._preparation.spec, lambda item: most[item.ticket])
        tickets: list[list[object]] = []
        if isinstance(frozen, Denial):
            notes.append(frozen.message)
            plan["denied"] = frozen.code.value
        else:
            tickets, more = frozen
            notes += more
        if notes:
            plan["notes"] = [*plan.get("notes", []), *notes]
        return [[*item, len(row.requests)] if item[0] in planned else item for item in tickets]

    def _fresh_changes(
        self,
        signal: ModifySignal | CancelSignal,
        made: tuple[Position, ...],
        opens: list[LegRow],
        plan: dict[str, Any],
    ) -> None:
        active = self._execution.holdings.orders(signal)
        orders = tuple(item for item in active if any(placed_by(opened, item) for opened in opens))
        planned = {(item.get("position", 0), item.get("order", 0)) for item in plan.get("changes", [])}
        wants_positions = isinstance(signal, ModifySignal) and not names_entry(signal)
        found = self._preparation.changes(
            signal,
            tuple(item for item in made if wants_positions and (item.ticket, 0) not in planned),
            tuple(item for item in orders if (0, item.ticket) not in planned),
        )
        if isinstance(found, Denial):
            _deny(plan, found)
        else:
            plan["changes"] = [*plan.get("changes", []), *found]

    def unsure(self, left: Left, signal: Other, already: list[str]) -> list[str]:
        """The orders that are to be waited for."""
        known = self._execution.open
        return [
            name
            for name in left.waits_for
            if name not in already and name in known and self._is_unread(known[name], signal)
        ]


def _is_about(signal: Other, row: LegRow) -> bool:
    """Whether it means an open, also by the ticket of the pending order that this has placed."""
    opened = row.leg.signal
    by_ticket = getattr(signal, "order_ticket", None) in order_tickets(row)
    return isinstance(opened, OpenSignal) and (means(signal, opened) or by_ticket)


def _deny(plan: dict[str, Any], denial: Denial) -> None:
    """What was waited for cannot be done: the order ends with that, unless other parts of it came about."""
    plan["notes"] = [*plan.get("notes", []), denial.message]
    plan["denied"] = denial.code.value
