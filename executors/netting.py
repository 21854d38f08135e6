"""Pure: which opens account for the lots of a netting account's one position, by its deals and the journal's requests.

Precedes: a close of one open closes what is left of that, and nothing of others. Follows: `remainders` reads terminal
and journal. The rule: lots of a close that names its open are taken from that open. All other lots that go (a close of
the symbol or of the position, an opposite open, stop loss, take profit, stop-out, another hand) are taken first in,
first out. Lots of a request whose outcome is not known count as gone until it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from executors.orders import Outcome, comment_token
from executors.terminals.base import ZERO, Deal, Position

IN, OUT, INOUT, OUT_BY = 0, 1, 2, 3  # DEAL_ENTRY_*
# DEAL_REASON_MOBILE, _WEB, _SL, _TP, _SO: never by a request of ours, though they may repeat the position's magic
BY_OTHERS = frozenset({1, 2, 4, 5, 6})
ROLLOVER = 7  # DEAL_REASON_ROLLOVER: closed and opened again with the same lots, which stay whose they were
UNDECIDED = frozenset({Outcome.PENDING, Outcome.UNKNOWN, Outcome.PLACED})
EVERYTHING = Decimal("Infinity")  # of a close whose lots a lost journal knew


@dataclass(frozen=True, slots=True)
class Trade:
    """One request of ours that may change the position's lots."""

    order_id: str
    charged_to: str  # the order_id of the open that a close names, else empty
    opens: bool
    pending: bool
    buys: bool
    magic: int
    lots: Decimal
    filled_lots: Decimal
    outcome: Outcome
    orders: frozenset[int] = frozenset()
    deals: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Left:
    """Of one open: lots that are its own whatever the unknown outcomes are, and the orders that may have taken more."""

    lots: Decimal = ZERO
    waits_for: tuple[str, ...] = ()  # order_ids


def left_of(order_id: str, position: Position, deals: Iterable[Deal], trades: Sequence[Trade]) -> Left:
    """`deals`: all of the account since the position began; `trades`: of its symbol, in the order of their intents."""
    ledger = _Ledger(position, deals, trades)
    sure, hoped = ledger.shares(pessimistic=True), ledger.shares(pessimistic=False)
    lots = sure.get(order_id, ZERO)
    if hoped.get(order_id, ZERO) <= lots:
        return Left(lots)
    names = [trade.order_id for trade, _ in ledger.unseen if ledger.may_take(trade)]
    return Left(lots, tuple(dict.fromkeys(names)))


class _Ledger:
    def __init__(self, position: Position, deals: Iterable[Deal], trades: Sequence[Trade]) -> None:
        self._position = position
        self._deals: list[tuple[Deal, Trade | None]] = []
        shown: dict[int, Decimal] = {}  # magic → lots that the history shows
        known = _Names(trades)
        self._turn = {trade.magic: index for index, trade in enumerate(trades)}
        for deal in sorted(deals, key=lambda item: (item.time_ms, item.ticket)):
            trade = known.of(deal)
            if trade is not None:
                shown[trade.magic] = shown.get(trade.magic, ZERO) + deal.volume
            if deal.position_id == position.identifier and deal.reason != ROLLOVER:
                self._deals.append((deal, trade))
        # executed or perhaps executed, and not in the history yet
        self.unseen = [
            (trade, missing)
            for trade in trades
            if (missing := _told(trade) - shown.get(trade.magic, ZERO)) > ZERO
            and not _before(trade, position)
        ]

    def shares(self, *, pessimistic: bool) -> dict[str, Decimal]:
        shown = _Lots()
        for deal, trade in self._deals:
            shown.book(deal, trade)
        before = shown.total if shown.buys == self._buys else ZERO
        lots = self._replayed(pessimistic=pessimistic)
        if lots.buys != self._buys:
            return {}
        # positions and history need not be of the same moment: only what both lack was taken by nobody we know
        least = min(before, lots.total) if before else lots.total
        lots.take(max(least - self._position.volume, ZERO))
        return lots.shares()

    def _replayed(self, *, pessimistic: bool) -> "_Lots":
        """Requests that the history does not show yet come before those that were begun after them: a history may show
        a close before the open that it closes."""
        lots = _Lots()
        waiting = [
            item
            for item in self.unseen
            if item[0].outcome not in UNDECIDED or (pessimistic and self.may_take(item[0]))
        ]
        for deal, trade in self._deals:
            if trade is not None and not trade.pending:
                while waiting and self._turn[waiting[0][0].magic] < self._turn[trade.magic]:
                    lots.move(*waiting.pop(0))
            lots.book(deal, trade)
        for item in waiting:
            lots.move(*item)
        return lots

    def may_take(self, trade: Trade) -> bool:
        """Whether it takes lots of the position, should it turn out to be executed."""
        return trade.outcome in UNDECIDED and (not trade.opens or trade.buys != self._buys)

    @property
    def _buys(self) -> bool:
        return self._position.type == 0


class _Names:
    """Finds the request of a deal: by magic, by its token in the comment, by the tickets that its answer told."""

    def __init__(self, trades: Sequence[Trade]) -> None:
        self._magics = {trade.magic: trade for trade in trades}
        self._tokens = {comment_token(trade.magic): trade for trade in trades}
        self._orders = {ticket: trade for trade in trades for ticket in trade.orders}
        self._deals = {ticket: trade for trade in trades for ticket in trade.deals}

    def of(self, deal: Deal) -> Trade | None:
        if deal.reason in BY_OTHERS:
            return None
        return (
            self._magics.get(deal.magic)
            or self._tokens.get(deal.comment[:15])
            or self._deals.get(deal.ticket)
            or self._orders.get(deal.order)
        )


class _Lots:
    """The position's lots as they came: whose they are ("": nobody's of ours), the oldest first."""

    def __init__(self) -> None:
        self.buys = True
        self._parts: list[tuple[str, Decimal]] = []

    @property
    def total(self) -> Decimal:
        return sum((lots for _, lots in self._parts), ZERO)

    def shares(self) -> dict[str, Decimal]:
        found: dict[str, Decimal] = {}
        for name, lots in self._parts:
            found[name] = found.get(name, ZERO) + lots
        return found

    def book(self, deal: Deal, trade: Trade | None) -> None:
        owner = trade.order_id if trade is not None and trade.opens else ""
        if deal.entry == IN:
            self._add(owner, deal.volume, buys=deal.type == 0)
        elif deal.entry == INOUT:
            rest = deal.volume - self.total
            self._parts.clear()
            self._add(owner, max(rest, ZERO), buys=deal.type == 0)
        else:
            self.take(deal.volume, trade.charged_to if trade is not None else "")

    def move(self, trade: Trade, lots: Decimal) -> None:
        """A request that the history does not show yet."""
        if not trade.opens:
            self.take(lots, trade.charged_to)
        elif not self._parts or trade.buys == self.buys:
            self._add(trade.order_id, lots, buys=trade.buys)
        else:
            rest = lots - self.total
            self.take(lots)
            if rest > ZERO:
                self._add(trade.order_id, rest, buys=trade.buys)

    def take(self, lots: Decimal, named: str = "") -> None:
        """From the named open first, and for what it lacks first in, first out."""
        if named:
            lots = self._take(lots, named)
        if not named or lots != EVERYTHING:
            self._take(lots, None)

    def _take(self, lots: Decimal, named: str | None) -> Decimal:
        """What is still to be taken."""
        kept: list[tuple[str, Decimal]] = []
        for name, part in self._parts:
            taken = min(part, lots) if named in (None, name) else ZERO
            lots -= taken
            if part > taken:
                kept.append((name, part - taken))
        self._parts = kept
        return lots

    def _add(self, name: str, lots: Decimal, *, buys: bool) -> None:
        if lots <= ZERO:
            return
        if buys != self.buys:  # what the history does not show has closed the other side
            self._parts.clear()
        self.buys = buys
        self._parts.append((name, lots))


def _before(trade: Trade, position: Position) -> bool:
    """Whether it was executed before the position began, which has the ticket of the order that began it: they rise."""
    return not trade.pending and bool(trade.orders) and max(trade.orders) < position.identifier


def _told(trade: Trade) -> Decimal:
    """The lots that it executed, or may have. What rests at the broker and is filled there shows up as it is."""
    rests = trade.outcome is Outcome.PLACED and trade.opens and (trade.pending or trade.filled_lots > ZERO)
    if rests or trade.outcome not in UNDECIDED:
        return trade.filled_lots
    return max(trade.lots, trade.filled_lots)
