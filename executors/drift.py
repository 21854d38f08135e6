"""Pure: what the terminal holds against what was shown of it before: changes that no order of ours explains.

Precedes: `drift_sync` asks the terminal's history and tells. Follows: each account sync. Nothing is ever traded on it.
A change becomes a doubt; a doubt ends when a deal or a request of ours explains it, or as an event when none does.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from executors.messages import AccountState, DriftEvent, DriftLog, PendingOrderState, PositionState
from executors.terminals.base import ZERO, Deal, Order

CONFIRM_MS = 2_000  # a change that needs no history to be explained is told after this
HISTORY_MS = 20_000  # a terminal's history may trail what it holds
SLACK_MS = 10_000  # a deal's time is the broker's clock
CENT = Decimal("0.01")
MOST_EVENTS = 20  # kept, newest first
MOST_TOLD = 500
OF_PEOPLE = frozenset(
    {0, 1, 2, 3}
)  # DEAL_REASON_CLIENT, _MOBILE, _WEB, _EXPERT; all others are the broker's own doing
NEVER_OURS = frozenset({1, 2})  # DEAL_REASON_MOBILE, _WEB: such a close may repeat our position's magic
ENTRY_IN, ENTRY_OUT, ENTRY_INOUT = 0, 1, 2
DEAL_CREDIT = 3
CANCELED, PARTIAL, FILLED, REJECTED, EXPIRED = 2, 3, 4, 5, 6  # ORDER_STATE_*

Levels = tuple[Decimal | None, ...]


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a terminal holds at one moment."""

    account: AccountState
    positions: dict[int, PositionState]
    orders: dict[int, PendingOrderState]
    at_ms: int


@dataclass(frozen=True, slots=True)
class Known:
    """What our own journal can say."""

    ours: Callable[[Deal], bool]
    asked: Callable[
        [int], Collection[Levels]
    ]  # of a position's or order's ticket: the levels that requests of ours set
    removed: Callable[[int], bool]  # whether a request of ours removed the pending order


@dataclass(slots=True)
class Doubt:
    kind: str
    ticket: int
    symbol: str
    since_ms: int  # when it was first seen
    from_ms: int  # when it was not so yet
    before: Decimal | Levels = ZERO
    position_id: int = 0  # of a position: what its deals name


@dataclass(slots=True)
class DriftWatch:
    """Compares each look with the one before."""

    before: Holdings | None = None
    doubts: dict[tuple[str, int], Doubt] = field(default_factory=dict)
    _told: dict[int, None] = field(default_factory=dict)  # deals that were told of

    def compare(self, now: Holdings) -> None:
        """Notes what has changed since the last look."""
        before, self.before = self.before, now
        if before is None:
            return
        for ticket, position in now.positions.items():
            old = before.positions.get(ticket)
            if old is None:
                if position.order_id is None:
                    self._doubt("appeared", ticket, position, before, now)
                continue
            if old.lots != position.lots:
                self._doubt("lots", ticket, position, before, now, old.lots)
            armed = any(item.trailing or item.break_even for item in (old, position))
            if _stops(old) != _stops(position) and not armed:
                self._doubt("stops", ticket, position, before, now, _stops(old))
        for ticket in before.positions.keys() - now.positions.keys():
            self._doubt("gone", ticket, before.positions[ticket], before, now)
        for ticket, order in now.orders.items():
            earlier = before.orders.get(ticket)
            if earlier is None:
                if order.order_id is None:
                    self._doubt("order appeared", ticket, order, before, now)
            elif earlier.order_type == order.order_type and _levels(earlier) != _levels(order):
                # one whose stop was reached goes on as another type, at its limit price
                self._doubt("order changed", ticket, order, before, now, _levels(earlier))
        for ticket in before.orders.keys() - now.orders.keys():
            self._doubt("order gone", ticket, before.orders[ticket], before, now)
        if before.account.balance != now.account.balance:
            self._doubt("balance", 0, None, before, now, before.account.balance)

    def history_from(self) -> int | None:
        """From when on the terminal's history is needed; None when nothing is in doubt."""
        return min((doubt.from_ms - SLACK_MS for doubt in self.doubts.values()), default=None)

    def judge(self, deals: Collection[Deal], history: Collection[Order], known: Known) -> list[DriftEvent]:
        """What is certain by now; the rest stays in doubt."""
        events = []
        by_position: dict[int, list[Deal]] = {}
        for deal in deals:
            by_position.setdefault(deal.position_id, []).append(deal)
        for key, doubt in list(self.doubts.items()):
            mine = deals if doubt.kind == "balance" else by_position.get(doubt.position_id, [])
            verdict = self._judge(doubt, mine, history, known)
            if verdict is None:
                continue
            del self.doubts[key]
            if verdict:
                code, message = verdict
                ticket = doubt.ticket or None
                assert self.before is not None
                at = self.before.at_ms
                events.append(
                    DriftEvent(code=code, message=message, symbol=doubt.symbol, ticket=ticket, time_ms=at)
                )
        return events

    def _doubt(
        self,
        kind: str,
        ticket: int,
        about: PositionState | PendingOrderState | None,
        before: Holdings,
        now: Holdings,
        was: Decimal | Levels = ZERO,
    ) -> None:
        if (kind, ticket) in self.doubts:
            return
        symbol = about.symbol if about is not None else ""
        position_id = (about.position_id or ticket) if isinstance(about, PositionState) else 0
        self.doubts[kind, ticket] = Doubt(kind, ticket, symbol, now.at_ms, before.at_ms, was, position_id)

    def _judge(
        self, doubt: Doubt, deals: Collection[Deal], history: Collection[Order], known: Known
    ) -> tuple[str, str] | tuple[()] | None:
        """A code with its sentence; () when it is explained; None when it is not clear yet."""
        assert self.before is not None
        now = self.before
        age = now.at_ms - doubt.since_ms
        if doubt.kind in ("appeared", "gone", "lots"):
            return self._judge_position(doubt, now, age, deals, known)
        if doubt.kind == "balance":
            return _judge_balance(doubt, now, age, deals)
        if doubt.kind == "order gone":
            return _judge_removed(doubt, age, history, known)
        if doubt.kind == "order appeared":
            order = now.orders.get(doubt.ticket)
            if order is not None and order.order_id is not None:
                return ()
            if age < CONFIRM_MS:
                return None
            what = f"{order.order_type} {order.lots:f} {doubt.symbol}" if order else doubt.symbol
            return "ORDER_NOT_OURS", f"Pending order {doubt.ticket} ({what}) was placed by somebody else."
        held = now.positions.get(doubt.ticket) if doubt.kind == "stops" else None
        waiting = now.orders.get(doubt.ticket) if doubt.kind == "order changed" else None
        levels = _stops(held) if held else _levels(waiting) if waiting else None
        if levels is None or levels == doubt.before or levels in known.asked(doubt.ticket):
            return ()  # gone, as it was, or as we asked
        merges = held is not None and not now.account.hedging
        if merges and _brought(doubt, levels, deals, history, known):
            return ()
        if age < (HISTORY_MS if merges else CONFIRM_MS):
            return None
        if held is not None:
            text = f"Stop loss and take profit of position {doubt.ticket} were changed at the terminal to {_text(levels)}."
            return "STOPS_CHANGED", text
        return (
            "ORDER_CHANGED",
            f"Pending order {doubt.ticket} was changed at the terminal to {_text(levels)}.",
        )

    def _judge_position(
        self, doubt: Doubt, now: Holdings, age: int, deals: Collection[Deal], known: Known
    ) -> tuple[str, str] | tuple[()] | None:
        held = now.positions.get(doubt.ticket)
        if doubt.kind == "appeared" and held is not None and held.order_id is not None:
            return ()
        if doubt.kind == "lots" and held is not None and held.lots == doubt.before:
            return ()
        grows = doubt.kind == "appeared" or (
            doubt.kind == "lots" and held is not None and held.lots > _number(doubt.before)
        )
        since = doubt.from_ms - SLACK_MS
        own = [
            deal
            for deal in deals
            if deal.time_ms >= since and (deal.entry == ENTRY_INOUT or (deal.entry == ENTRY_IN) == grows)
        ]
        for deal in own:
            others = deal.reason in NEVER_OURS or (deal.reason in OF_PEOPLE and not known.ours(deal))
            if others and deal.ticket not in self._told:
                self._tell(deal)
                return _by_others(doubt, held, deal)
        if own:
            return ()
        if doubt.kind == "appeared":
            if age < CONFIRM_MS:
                return None
            return (
                "POSITION_NOT_OURS",
                f"Position {doubt.ticket} in {doubt.symbol} was opened by no order of ours.",
            )
        if age < HISTORY_MS:
            return None
        if doubt.kind == "gone":
            return (
                "POSITION_MISSING",
                f"Position {doubt.ticket} in {doubt.symbol} is gone, and no deal says why.",
            )
        if held is None:
            return ()  # it is gone by now: that is a doubt of its own
        lots = f"from {_number(doubt.before):f} to {held.lots:f}"
        return (
            "LOTS_CHANGED",
            f"Position {doubt.ticket} in {doubt.symbol} changed {lots} lots, and no deal says why.",
        )

    def _tell(self, deal: Deal) -> None:
        self._told[deal.ticket] = None
        while len(self._told) > MOST_TOLD:
            del self._told[next(iter(self._told))]


def _by_others(doubt: Doubt, held: PositionState | None, deal: Deal) -> tuple[str, str]:
    by = f"deal {deal.ticket}, {deal.volume:f} lots at {deal.price:f}"
    where = f"Position {doubt.ticket} in {doubt.symbol}"
    if doubt.kind == "appeared":
        return "POSITION_NOT_OURS", f"{where} was opened by somebody else ({by})."
    if doubt.kind == "gone":
        return "POSITION_CLOSED", f"{where} was closed by somebody else ({by})."
    lots = f" and has {held.lots:f} lots" if held else ""
    return "LOTS_CHANGED", f"{where} was changed by somebody else ({by}){lots}."


def _brought(
    doubt: Doubt, levels: Levels, deals: Iterable[Deal], history: Collection[Order], known: Known
) -> bool:
    """Whether orders of ours that were filled into a netting account's one position brought its new stops along."""
    since = doubt.from_ms - SLACK_MS
    filled = {
        deal.order for deal in deals if deal.time_ms >= since and deal.entry != ENTRY_OUT and known.ours(deal)
    }
    orders = [order for order in history if order.ticket in filled]
    before = doubt.before if isinstance(doubt.before, tuple) else (None, None)
    return bool(orders) and all(
        level in {was, *named} for level, was, named in
        zip(levels, before, ([order.sl for order in orders], [order.tp for order in orders]), strict=True)
    )  # fmt: skip


def _judge_balance(
    doubt: Doubt, now: Holdings, age: int, deals: Iterable[Deal]
) -> tuple[str, str] | tuple[()] | None:
    difference = now.account.balance - _number(doubt.before)
    if abs(difference) < CENT or _sums_to(difference, deals):
        return ()
    if age < HISTORY_MS:
        return None
    change = f"{_number(doubt.before):f} to {now.account.balance:f} {now.account.currency}"
    return (
        "BALANCE_UNEXPLAINED",
        f"The balance changed from {change}, and the deals of that time do not make it up.",
    )


def _sums_to(difference: Decimal, deals: Iterable[Deal]) -> bool:
    """Whether the newest deals, however many, make up the difference: how many the balance held already is not known."""
    total = ZERO
    for deal in sorted(deals, key=lambda deal: (deal.time_ms, deal.ticket), reverse=True):
        if deal.type != DEAL_CREDIT:
            total += deal.profit + deal.commission + deal.swap + deal.fee
        if abs(total - difference) < CENT:
            return True
    return False


def _judge_removed(
    doubt: Doubt, age: int, history: Iterable[Order], known: Known
) -> tuple[str, str] | tuple[()] | None:
    if known.removed(doubt.ticket):
        return ()
    past = next((order for order in history if order.ticket == doubt.ticket), None)
    if past is not None and past.state in (PARTIAL, FILLED, REJECTED, EXPIRED):
        return ()
    if past is not None and past.state == CANCELED:
        return (
            "ORDER_REMOVED",
            f"Pending order {doubt.ticket} in {doubt.symbol} was cancelled by somebody else.",
        )
    if age < HISTORY_MS:
        return None
    return (
        "ORDER_MISSING",
        f"Pending order {doubt.ticket} in {doubt.symbol} is gone, and the history does not say why.",
    )


def added(log: DriftLog, events: Iterable[DriftEvent]) -> DriftLog:
    """The log with these events; all are counted, the newest are kept."""
    counts, kept = dict(log.counts), list(log.events)
    for event in events:
        counts[event.code] = counts.get(event.code, 0) + 1
        kept.insert(0, event)
    return DriftLog(counts=counts, events=kept[:MOST_EVENTS])


def _stops(position: PositionState) -> Levels:
    return (position.stop_loss, position.take_profit)


def _levels(order: PendingOrderState) -> Levels:
    return (order.price, order.stop_loss, order.take_profit)


def _text(levels: Levels) -> str:
    return " / ".join("none" if level is None else f"{level.normalize():f}" for level in levels)


def _number(value: Decimal | Levels) -> Decimal:
    assert isinstance(value, Decimal)
    return value
