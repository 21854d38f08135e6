"""What a planned change becomes right before it is sent: whole, with what it does not name as the terminal has it now.

Precedes: execution writes the INTENT of what comes out. Follows: the plan. Works on an Execution, in the same thread; reads
the terminal, sends nothing. A pending order that was filled meanwhile passes its levels on to its position.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from executors.errors import Code
from executors.legs import LegRow
from executors.levels import ENTRY, completed, has_become, may_have_joined, of_its_position, raises_risk
from executors.past import shown
from executors.sizing import Denial
from executors.terminals.base import Order, Position
from executors.wishes import MODIFY, SLTP, Change

if TYPE_CHECKING:
    from executors.execution import Execution

REDUCING_ONLY = (
    "The terminal only reduces now: it may not move a stop loss away from the price, or a pending order's"
    " entry. Set it ACTIVE for that."
)


class Completion:
    """Of one Execution. `hedging`, `reducing`: of its account, and by its mode or clock."""

    def __init__(
        self, execution: "Execution", *, hedging: Callable[[], bool], reducing: Callable[[], bool]
    ) -> None:
        self._execution = execution
        self._hedging = hedging
        self._reducing = reducing

    def of(self, row: LegRow, change: Change) -> Change | Denial | None:
        """None: the plan has changed, and says what to do instead. Raises TerminalError."""
        holdings = self._execution.holdings
        target: Position | Order | None
        if change["action"] == SLTP:
            target = holdings.position(change["position"])
            if target is None:
                return Denial(Code.NO_TARGET, f"Position {change['position']} is not there any more.")
            if (later := _overtaken(row, change, target, hedging=self._hedging())) is not None:
                return later
            raising = raises_risk([change], [target], ())
        elif change["action"] == MODIFY:
            target = holdings.order(change["order"])
            if target is None:
                return self._passed_on(row, change)
            raising = raises_risk([change], (), [target])
        else:
            return change
        if raising is not None and self._reducing():
            return Denial(Code.RAISES_RISK, REDUCING_ONLY)
        return completed(change, target)

    def _passed_on(self, row: LegRow, change: Change) -> Denial | None:
        """A pending order that is gone may have been filled: its levels are wished of the position that it became, or
        will have become when our own open is looked up."""
        execution, planned = self._execution, row.plan["changes"]
        opened = execution.open_of(change["order"])
        held = execution.terminal.positions()
        hedging = self._hedging()
        became = next((item for item in held if has_become(change, item, hedging=hedging)), None)
        if became is None and opened is None and not hedging and self._was_filled(change["order"]):
            became = next((item for item in held if may_have_joined(change, item)), None)
        others = [item for item in planned if item != change]
        if change.keys() & ENTRY or (became is None and opened is None):
            return _not_pending(change, became)
        if became is None:
            execution.resting.pop(opened or "", None)
            plan = {"changes": others, "waiting": [*row.plan["waiting"], opened]}
        elif any(item.get("position") == became.ticket for item in planned):
            plan = {"changes": others}
        else:
            instead = of_its_position(change, became)
            plan = {"changes": [instead if item == change else item for item in planned]}
        row.plan, row.plan_kept = row.plan | plan, False
        return None

    def _was_filled(self, ticket: int) -> bool:
        """Of an order that is no open of ours with an end to come. What is not shown changes nothing: on a netting
        account the position may be other trades' alone. Raises TerminalUnavailable."""
        execution = self._execution
        now = execution.clock.redis_ms()
        past = shown(execution.terminal.history_orders, now, now, action="modify")
        return any(item.ticket == ticket and item.volume_current < item.volume_initial for item in past or ())


def _not_pending(change: Change, became: Position | None) -> Denial:
    gone = f"Order {change['order']} is not pending any more: it was filled, or has ended."
    if became is None or not change.keys() & {"sl", "tp"}:
        return Denial(Code.NO_TARGET, gone)
    left = (
        f"The stop loss and take profit that came with its entry were not given to position {became.ticket}"
    )
    return Denial(Code.OVERTAKEN, f"{gone} {left}: set them there.")


def _overtaken(row: LegRow, change: Change, position: Position, *, hedging: bool) -> Denial | None:
    """A wish whose answer was lost is late: levels that the position did not get from its order are newer than it."""
    for item in row.requests:
        left: dict[str, str] | None = item.result.get("left")
        if left is None or (hedging and position.ticket != item.request["order"]):
            continue
        now = {"sl": position.sl, "tp": position.tp}
        if any(name in change and Decimal(left[name]) != level for name, level in now.items()):
            return Denial(
                Code.OVERTAKEN,
                f"The levels of position {position.ticket} were changed since order {item.request['order']} was filled:"
                " they are left as they are. Set them anew if you still want it.",
            )
    return None
