"""Reconciles what Redis shows of a terminal with the terminal, after each account sync; tells what drifted.

Precedes: the account sync shows the log with what the terminal holds. Follows: `drift` decides. Reads history only
while something is in doubt. Never sends anything.
"""

from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from executors.drift import DriftWatch, Holdings, Known, Levels, added
from executors.journal import Journal
from executors.messages import AccountState, DriftLog, PendingOrderState, PositionState
from executors.orders import magic_of_comment
from executors.terminals.base import Deal, Terminal

DAY_MS = 86_400_000
RECENT = 2_000  # requests of ours in which an explanation is looked for
SLTP, MODIFY, REMOVE = 6, 7, 8  # TRADE_ACTION_*

M = TypeVar("M")
POSITIONS: TypeAdapter[list[PositionState]] = TypeAdapter(list[PositionState])
ORDERS: TypeAdapter[list[PendingOrderState]] = TypeAdapter(list[PendingOrderState])


class DriftSync:
    """Begins when what Redis showed at the start is known."""

    def __init__(self, terminal: Terminal, journal: Journal, *, alarm: Callable[[str], None]) -> None:
        self.log = DriftLog()
        self._terminal = terminal
        self._journal = journal
        self._alarm = alarm
        self._watch = DriftWatch()
        self.begun = False

    def begin(self, account: str | None, positions: str | None, orders: str | None, log: str | None) -> None:
        """What Redis shows, each as JSON. What is not there, or of another version, is not compared with."""
        self.begun = True
        self.log = _read(TypeAdapter(DriftLog), log) or DriftLog()
        said = _read(TypeAdapter(AccountState), account)
        held, waiting = _read(POSITIONS, positions), _read(ORDERS, orders)
        if said is not None and held is not None and waiting is not None:
            self._watch.before = _holdings(said, held, waiting)

    def look(
        self, account: AccountState, positions: list[PositionState], orders: list[PendingOrderState]
    ) -> bool:
        """Whether the log has grown. Raises TerminalError when the history cannot be read."""
        if not self.begun:
            return False
        self._watch.compare(_holdings(account, positions, orders))
        since = self._watch.history_from()
        if since is None:
            return False
        until = account.time_ms + DAY_MS
        deals = self._terminal.history_deals(since, until)
        kinds = {kind for kind, _ in self._watch.doubts}
        wanted = "order gone" in kinds or ("stops" in kinds and not account.hedging)
        history = self._terminal.history_orders(since, until) if wanted else ()
        events = self._watch.judge(deals, history, self._known())
        for event in events:
            self._alarm(f"{event.code}: {event.message}")
        self.log = added(self.log, events)
        return bool(events)

    def _known(self) -> Known:
        recent: list[tuple[dict[str, Any], dict[str, Any]]] = []

        def requests() -> list[tuple[dict[str, Any], dict[str, Any]]]:
            if not recent:
                recent.extend(self._journal.recent_requests(RECENT))
            return recent

        def ours(deal: Deal) -> bool:
            magics = {deal.magic, magic_of_comment(deal.comment)} - {0, None}
            if any(self._journal.order_of_magic(magic) for magic in magics if magic is not None):
                return True
            return any(deal.order in result.get("orders", ()) for _, result in requests())

        def asked(ticket: int) -> Collection[Levels]:
            found: set[Levels] = set()
            for request, _ in requests():
                if request.get("action") == SLTP and request.get("position") == ticket:
                    found.add((_level(request, "sl"), _level(request, "tp")))
                elif request.get("action") == MODIFY and request.get("order") == ticket:
                    found.add((_level(request, "price"), _level(request, "sl"), _level(request, "tp")))
            return found

        def removed(ticket: int) -> bool:
            return any(
                request.get("action") == REMOVE and request.get("order") == ticket
                for request, _ in requests()
            )

        return Known(ours, asked, removed)


def _level(request: dict[str, Any], name: str) -> Decimal | None:
    return Decimal(str(request.get(name) or 0)) or None


def _holdings(
    account: AccountState, positions: list[PositionState], orders: list[PendingOrderState]
) -> Holdings:
    return Holdings(
        account,
        {item.position_ticket: item for item in positions},
        {item.order_ticket: item for item in orders},
        account.time_ms,
    )


def _read(kind: TypeAdapter[M], text: str | None) -> M | None:
    try:
        return kind.validate_json(text) if text else None
    except ValidationError:
        return None
