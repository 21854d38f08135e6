"""Pure: what a look at the terminal says about a request whose answer is missing.

Precedes: execution records the resolution. Follows: a sweep, i.e. open orders, positions, history orders and deals of
one moment. Absence counts only after two clean sweeps; see `SweepTracker`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from executors.orders import Outcome, comment_token
from executors.terminals.base import ZERO, Deal, Identity, Order, Position

DEAL_REASON_SL, DEAL_REASON_TP, DEAL_REASON_SO = 4, 5, 6
ORDER_STATE_CANCELED, ORDER_STATE_FILLED, ORDER_STATE_REJECTED, ORDER_STATE_EXPIRED = 2, 4, 5, 6


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

    def clean(self, *, login: int, server: str, newest_ticket: int) -> bool:
        """Whether absence in this look may count. `newest_ticket`: an order ticket of the window known before."""
        return (
            self.connected
            and self.identity.login == login
            and self.identity.server == server
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


def find(magic: int, lots: Decimal, sweep: Sweep) -> Found | None:
    """The request in a sweep, by its magic, or by its token in a comment where a broker drops the magic.

    Deals of stop loss, take profit and stop-out repeat their position's magic: they are not the request's.
    """
    token = comment_token(magic)

    def ours(item: Order | Deal | Position) -> bool:
        return item.magic == magic or item.comment.startswith(token)

    deals = _market_deals(filter(ours, sweep.deals))
    active = tuple(filter(ours, sweep.orders))
    past = tuple(filter(ours, sweep.history_orders))
    tickets = tuple(dict.fromkeys(order.ticket for order in (*active, *past)))
    if not deals:
        # a broker that drops magic and comment from deals still links them to the order
        deals = _market_deals(deal for deal in sweep.deals if deal.order in tickets)
    filled = sum((deal.volume for deal in deals), ZERO)
    if filled:
        price = sum((deal.price * deal.volume for deal in deals), ZERO) / filled
        outcome = Outcome.FILLED if filled >= lots else Outcome.PLACED if active else Outcome.PARTIAL
        return Found(
            outcome,
            filled,
            price,
            tuple(deal.ticket for deal in deals),
            tickets or tuple(dict.fromkeys(deal.order for deal in deals)),
            tuple(dict.fromkeys(deal.position_id for deal in deals if deal.position_id)),
        )
    if active:
        return Found(Outcome.PLACED, order_tickets=tickets)
    for order in past:
        if order.state in (ORDER_STATE_REJECTED, ORDER_STATE_CANCELED, ORDER_STATE_EXPIRED):
            return Found(
                Outcome.REFUSED,
                order_tickets=tickets,
                message=f"The broker ended the order in state {order.state}.",
            )
        return Found(Outcome.PLACED, order_tickets=tickets)  # filled, its deals are still to be read
    held = [position for position in sweep.positions if ours(position)]
    if held:
        return Found(Outcome.PLACED, position_tickets=tuple(position.ticket for position in held))
    return None


def _market_deals(deals: Iterable[Deal]) -> list[Deal]:
    return [deal for deal in deals if deal.reason not in (DEAL_REASON_SL, DEAL_REASON_TP, DEAL_REASON_SO)]


@dataclass(slots=True)
class SweepTracker:
    """Counts the clean sweeps in which a request was absent."""

    gap_ms: int
    settle_ms: int
    clean_at: list[int] = field(default_factory=list)  # monotonic ms of the sweeps that count

    def absent(self, now_ms: int, *, age_ms: int, answering_ms: int) -> bool:
        """Notes a clean sweep without the request; True when it is proven not executed.

        A sweep counts only `settle_ms` after the intent and after the terminal answers again (`age_ms` and
        `answering_ms` are how long ago those were), and `gap_ms` after the one before. `now_ms` is monotonic.
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
