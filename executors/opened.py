"""Which open a signal means by `opened_by`: by its journal, or where that does not know it (lost, on another host before a
move, or so old that it was forgotten) by the numbers that its requests must have at the broker.

Precedes: preparing freezes what is meant. Follows: the leg. Runs in the executor's thread.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.conf import settings

from executors.errors import Code
from executors.legs import LegRow
from executors.messages import CloseBySignal
from executors.orders import magic_of_comment, order_id, possible_magics
from executors.past import shown
from executors.sizing import Denial
from executors.terminals.base import Position
from executors.wishes import Meaning, Selecting

if TYPE_CHECKING:
    from executors.execution import Execution

SHARE_NOT_KNOWN = (
    "What is left of that open is not known: the journal that knew it is gone or has forgotten it, and on this account all"
    " opens of a symbol are one position. Close by the position's ticket or the symbol."
)


class Opened:
    """Of one Execution."""

    def __init__(self, execution: "Execution") -> None:
        self._execution = execution

    def name(self, signal: Selecting) -> str | None:
        if isinstance(signal, CloseBySignal) or signal.opened_by is None:
            return None
        return order_id(signal.opened_by, self._execution.config.terminal_id)

    def row(self, signal: Selecting) -> LegRow | None:
        name = self.name(signal)
        return None if name is None else self._execution.open.get(name) or self._execution.journal.get(name)

    def meaning(self, signal: Selecting, *, hedging: bool) -> Meaning:
        name, row = self.name(signal), self.row(signal)
        lost = name is not None and row is None
        magics = possible_magics(settings.INSTALLATION_ID, name) if name is not None and lost else frozenset()
        return Meaning(self._execution.config, hedging, row, magics)

    def share_not_known(self, meaning: Meaning, held: Iterable[Position]) -> Denial | None:
        """On a netting account, where an open that the journal does not know may have lots of a position that is there.
        Raises TerminalUnavailable."""
        held = tuple(held)
        if meaning.hedging or not meaning.magics or not held:
            return None
        read, now = self._execution.terminal.history_deals, self._execution.clock.redis_ms()
        deals = shown(read, min(item.time_ms for item in held), now, action="close")
        identifiers = {item.identifier for item in held}
        if deals is None or any(
            deal.position_id in identifiers
            and (deal.magic in meaning.magics or magic_of_comment(deal.comment) in meaning.magics)
            for deal in deals
        ):
            return Denial(Code.LOTS_NOT_KNOWN, SHARE_NOT_KNOWN)
        return None
