"""Pure: what a look at the terminal says about a request whose answer is missing.

Precedes: execution records the resolution. Follows: a sweep, i.e. open orders, positions, history orders and deals of
one moment. Absence counts only after two clean sweeps; see `SweepTracker`.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from decimal import Decimal

from executors.orders import OrderState, Outcome, comment_token
from executors.terminals.base import ZERO, Deal, Identity, Order, Position

DEAL_REASON_SL, DEAL_REASON_TP, DEAL_REASON_SO = 4, 5, 6
ORDER_STATE_CANCELED, ORDER_STATE_FILLED, ORDER_STATE_REJECTED, ORDER_STATE_EXPIRED = 2, 4, 5, 6
PENDING_TYPES = range(2, 8)
ENDED = {ORDER_STATE_CANCELED: OrderState.CANCELLED, ORDER_STATE_EXPIRED: OrderState.EXPIRED}


@dataclass(frozen=True, slots=True)
class Sweep:
    """One look: every query succeeded (a failed one raises before a Sweep exists)."""

    identity: Identity
    connected: bool
    taken_ms: int
    orders: tuple[Order, ...]
    positions: tuple[Position, ...]
    history_orders: tuple[Order, ...]
    deals: tuple[Deal, ...]

    def knows_ticket(self, ticket: int) -> bool:
        return any(
            ticket in (item.ticket for item in group)
            for group in (self.orders, self.history_orders, self.positions)
        )

    def of(self, *, login: int, server: str) -> bool:
        """Whether this is a look at that account at all."""
        return self.identity.login == login and self.identity.server == server

    def clean(self, *, login: int, server: str, newest_ticket: int) -> bool:
        """Whether absence in this look may count. `newest_ticket`: an order ticket of the window known before."""
        return (
            self.connected
            and self.of(login=login, server=server)
            and (newest_ticket == 0 or self.knows_ticket(newest_ticket))
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What a request turned out to be."""

    outcome: Outcome
    filled_lots: Decimal = ZERO
    price: Decimal = ZERO
    deal_tickets: tuple[int, ...] = ()
    order_tickets: tuple[int, ...] = ()
    position_tickets: tuple[int, ...] = ()
    message: str = ""
    ended: OrderState | None = None  # of a pending order that the broker ended
    left: dict[str, str] | None = None  # levels of a pending order that was filled before it was changed


def find(magic: int, lots: Decimal, sweep: Sweep, *, order_tickets: Collection[int] = ()) -> Found | None:
    """The request in a sweep, by its magic, by its token in a comment where a broker drops the magic, or by the
    order tickets that its answer told.

    Deals of stop loss, take profit and stop-out repeat their position's magic: they are not the request's.
    """
    token = comment_token(magic)

    def ours(item: Order | Deal | Position) -> bool:
        return item.magic == magic or item.comment.startswith(token)

    active = tuple(order for order in sweep.orders if ours(order) or order.ticket in order_tickets)
    past = tuple(order for order in sweep.history_orders if ours(order) or order.ticket in order_tickets)
    tickets = tuple(dict.fromkeys(order.ticket for order in (*active, *past)))
    # a broker that drops magic and comment from deals still links them to the order
    linked = {*tickets, *order_tickets}
    deals = [deal for deal in sweep.deals if _of_market(deal) and (ours(deal) or deal.order in linked)]
    filled = sum((deal.volume for deal in deals), ZERO)
    # what the orders say was executed: their deals may show up later than they do
    told = sum(
        (order.volume_initial - order.volume_current for order in past if _by_request(order, deals)), ZERO
    )
    if filled:
        price = sum((deal.price * deal.volume for deal in deals), ZERO) / filled
        rest = Outcome.PLACED if active or filled < told else Outcome.PARTIAL
        outcome = Outcome.FILLED if filled >= lots else rest
        over = next((item for item in past if item.state in ENDED and item.type in PENDING_TYPES), None)
        return Found(
            outcome,
            filled,
            price,
            tuple(deal.ticket for deal in deals),
            tickets or tuple(dict.fromkeys(deal.order for deal in deals)),
            tuple(dict.fromkeys(deal.position_id for deal in deals if deal.position_id)),
            message=_said(over) if over is not None and outcome is Outcome.PARTIAL else "",
            ended=ENDED[over.state] if over is not None and outcome is Outcome.PARTIAL else None,
        )
    if active or told:  # at work, or executed and its deals still to be read
        return Found(Outcome.PLACED, order_tickets=tickets)
    held = [position for position in sweep.positions if ours(position)]
    if held:
        return Found(
            Outcome.PLACED, order_tickets=tickets, position_tickets=tuple(item.ticket for item in held)
        )
    for order in past:
        if order.state in (ORDER_STATE_REJECTED, ORDER_STATE_CANCELED, ORDER_STATE_EXPIRED):
            return Found(
                Outcome.REFUSED,
                order_tickets=tickets,
                message=_said(order),
                ended=ENDED.get(order.state) if order.type in PENDING_TYPES else None,
            )
        return Found(Outcome.PLACED, order_tickets=tickets)
    return None


def _said(order: Order) -> str:
    if order.type in PENDING_TYPES and order.state in ENDED:
        return f"The pending order {order.ticket} {'expired' if order.state == ORDER_STATE_EXPIRED else 'was cancelled'}."
    return f"The broker ended the order in state {order.state}."


def _by_request(order: Order, deals: list[Deal]) -> bool:
    """Whether a past order is the request's own: one that closed its position by SL or TP repeats its magic too."""
    own = {deal.order for deal in deals}
    return order.ticket in own or not own


def _of_market(deal: Deal) -> bool:
    return deal.reason not in (DEAL_REASON_SL, DEAL_REASON_TP, DEAL_REASON_SO)


@dataclass(slots=True)
class SweepTracker:
    """Counts the clean sweeps in which a request was absent."""

    gap_ms: int
    settle_ms: int
    since_ms: int = 0  # monotonic ms of the first look for it
    clean_at: list[int] = field(default_factory=list)  # monotonic ms of the sweeps that count

    def absent(self, now_ms: int, *, age_ms: int, answering_ms: int) -> bool:
        """Notes a clean sweep without the request; True when it is proven not executed.

        A sweep counts only `settle_ms` after the intent and after the terminal answers again (`age_ms` and
        `answering_ms` are how long ago those were), and `gap_ms` after the one before. `now_ms` is monotonic, and so
        must both ages be: a clock that is set forward proves nothing.
        """
        if min(age_ms, answering_ms) < self.settle_ms:
            return False
        if self.clean_at and now_ms - self.clean_at[-1] < self.gap_ms:
            return False
        self.clean_at.append(now_ms)
        return len(self.clean_at) >= 2

    def disturbed(self) -> None:
        """A sweep was not clean: begin again."""
        self.clean_at.clear()
