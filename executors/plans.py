"""Pure: from a leg to the requests it needs, one after another.

Precedes: execution sends what comes out. Follows: the leg, the plan that `wishes` has frozen, and the outcomes so far.
"""

from collections import defaultdict
from dataclasses import dataclass, fields
from decimal import Decimal
from operator import attrgetter
from typing import Any

from executors.legs import LegRow, RequestRow
from executors.levels import on_grid
from executors.messages import Leg, OpenSignal, TerminalConfig
from executors.orders import Outcome, comment_token
from executors.retcodes import INVALID, INVALID_FILL, POSITION_CLOSED
from executors.symbols import to_broker
from executors.terminals.base import ZERO, SymbolSpec, Tick, TradeRequest
from executors.wishes import MODIFY, SLTP, Change

ACTION_DEAL, ACTION_PENDING = 1, 5
BUY, SELL = 0, 1
PENDING_TYPES = {
    ("buy", "limit"): 2, ("sell", "limit"): 3, ("buy", "stop"): 4, ("sell", "stop"): 5,
    ("buy", "stop_limit"): 6, ("sell", "stop_limit"): 7,
}  # fmt: skip
EXEMODE_MARKET = 2  # market and exchange execution ignore the price
FILLING_FOK_BIT, FILLING_IOC_BIT = 1, 2
FOK, IOC, RETURN = 0, 1, 2
REQUEST_FIELDS = tuple(field.name for field in fields(TradeRequest))
_in_order = attrgetter(*REQUEST_FIELDS)
WHOLE = {SLTP: {"sl", "tp"}, MODIFY: {"price", "stoplimit", "sl", "tp", "type_time", "expiration_ms"}}


@dataclass(frozen=True, slots=True)
class Step:
    """The next request's shape: a market or pending order, the close of one position, or a change without lots."""

    symbol: str  # the broker's; empty for a change
    type: int
    lots: Decimal
    attempt: int  # 1 for the first try
    position: int = 0
    change: Change | None = None
    pending: bool = False

    @property
    def needs_price(self) -> bool:
        return self.change is None and not self.pending


def is_pending(row: LegRow) -> bool:
    """Whether the order is an open by a pending order."""
    signal = row.leg.signal
    return isinstance(signal, OpenSignal) and signal.pending


def next_step(row: LegRow, config: TerminalConfig, *, min_lots: Decimal = ZERO) -> Step | None:
    """What to send next; None when the order needs nothing more. Every request so far must have an outcome."""
    signal = row.leg.signal
    if isinstance(signal, OpenSignal):
        made, most = row.requests, config.max_attempts
        attempt = _attempt(made, most, position=0)
        if attempt is None:
            return None
        left = row.wanted_lots - sum((item.filled_lots for item in made), ZERO) if made else row.wanted_lots
        if left <= 0 or left < min_lots:
            return None
        kind = PENDING_TYPES.get((signal.side, signal.order_type), BUY if signal.side == "buy" else SELL)
        return Step(to_broker(config, signal.symbol), kind, left, attempt, pending=signal.pending)
    by_target: dict[tuple[int, int, int], list[RequestRow]] = defaultdict(list)
    for item in row.requests:
        by_target[target_of(item.request)].append(item)
    tickets = row.plan.get("tickets", [])
    for index, (ticket, symbol, position_type, lots, *after) in enumerate(tickets):
        # lots that a ticket got later, after its first were asked for, have requests of their own
        until = next((item[4] for item in tickets[index + 1 :] if item[0] == ticket), None)
        made = [
            item
            for item in by_target.get((ticket, 0, 0), [])
            if item.n > (after[0] if after else 0) and (until is None or item.n <= until)
        ]
        attempt = _attempt(made, config.max_attempts, position=ticket)
        left = Decimal(lots) - sum((item.filled_lots for item in made), ZERO)
        if attempt is not None and left > 0:
            return Step(symbol, SELL if position_type == BUY else BUY, left, attempt, ticket)
    for change in row.plan.get("changes", []):
        attempt = _attempt(by_target.get(target_of(change), []), config.max_attempts, position=1)
        if attempt is not None:
            return Step("", change.get("type", 0), ZERO, attempt, change.get("position", 0), change)
    return None


def target_of(request: dict[str, Any]) -> tuple[int, int, int]:
    return request.get("position", 0), request.get("order", 0), request.get("position_by", 0)


def _attempt(made: list[RequestRow], most: int, *, position: int) -> int | None:
    """The number of the next try; None when there is none."""
    if not made:
        return 1
    last = made[-1]
    # An open found PARTIAL by looking may have deals that are not shown yet: its rest is not asked for again.
    # The rest of a position cannot be closed twice.
    certain = bool(position) or not last.result.get("looked")
    gone = [item for item in made if _gone(item)]
    if gone == [last]:  # what it has become is looked for once, however many tries there were
        return len(made) + 1
    retry = (last.outcome is Outcome.PARTIAL and certain) or (
        last.outcome is Outcome.REFUSED and last.result.get("retriable") is True
    )
    return len(made) + 1 if retry and len(made) < most else None


def _gone(request: RequestRow) -> bool:
    """Refused since the pending order that it was about is not there: it may have become a position, whose levels are then
    what is wished."""
    if request.outcome is not Outcome.REFUSED or request.request.get("action") != MODIFY:
        return False
    return request.retcode == INVALID or request.result.get("left") is not None


def build_request(
    step: Step, row: LegRow, config: TerminalConfig, spec: SymbolSpec | None, tick: Tick | None, magic: int
) -> TradeRequest:
    """MetaTrader's request. The deviation widens with each attempt; `tick` is needed for instant execution.

    `spec` is needed but for a change, which `levels.completed` has made whole.
    """
    if step.change is not None:
        return _change(step.change, magic)
    if spec is None:
        raise ValueError(f"a request for {step.symbol} needs its specification")
    signal = row.leg.signal
    sl = tp = ZERO
    if isinstance(signal, OpenSignal):
        sl = on_grid(signal.stop_loss, spec) if signal.stop_loss else ZERO
        tp = on_grid(signal.take_profit, spec) if signal.take_profit else ZERO
        if step.pending:
            time_type, expiration_ms = row.plan.get("expiration", (0, 0))
            return TradeRequest(
                action=ACTION_PENDING,
                symbol=step.symbol,
                volume=step.lots,
                type=step.type,
                price=on_grid(signal.price or ZERO, spec),
                stoplimit=on_grid(signal.limit_price or ZERO, spec),
                sl=sl,
                tp=tp,
                type_filling=_not_refused((RETURN, FOK, IOC), row),
                type_time=time_type,
                expiration_ms=expiration_ms,
                comment=comment_token(magic),
                magic=magic,
            )
    price = ZERO
    if spec.exemode < EXEMODE_MARKET and tick is not None:
        price = tick.ask if step.type == BUY else tick.bid
    return TradeRequest(
        action=ACTION_DEAL,
        symbol=step.symbol,
        volume=step.lots,
        type=step.type,
        price=price,
        sl=sl,
        tp=tp,
        deviation=config.deviation_points * step.attempt,
        type_filling=_not_refused((filling(spec), FOK, IOC, RETURN), row),
        comment=comment_token(magic),
        magic=magic,
        position=step.position,
    )


def _change(change: Change, magic: int) -> TradeRequest:
    """MetaTrader ignores the magic of these actions; the journal and its tests count requests by it.

    What such a request leaves out would be removed.
    """
    if missing := WHOLE.get(change["action"], set()) - change.keys():
        raise ValueError(f"a change is sent whole, and {', '.join(sorted(missing))} are not in it")
    asked: Change = {
        name: Decimal(value) if name in ("price", "stoplimit", "sl", "tp") else value
        for name, value in change.items()
    }
    return TradeRequest(**asked, magic=magic)


def _not_refused(policies: tuple[int, ...], row: LegRow) -> int:
    """The first that the broker has not refused this order; some symbols' masks name policies that are not taken."""
    if not row.requests:
        return policies[0]
    refused = {item.request.get("type_filling") for item in row.requests if item.retcode == INVALID_FILL}
    return next((policy for policy in policies if policy not in refused), policies[0])


def filling(spec: SymbolSpec) -> int:
    """The filling policy the symbol takes. Instant and request execution take any; else the mask says."""
    if spec.exemode < EXEMODE_MARKET or spec.filling_mode & FILLING_FOK_BIT:
        return FOK
    return IOC if spec.filling_mode & FILLING_IOC_BIT else RETURN


def already_closed(step: Step, retcode: int | None) -> bool:
    """Closing a position that is gone is what the close wished."""
    return step.change is None and bool(step.position) and retcode == POSITION_CLOSED


def late(leg: Leg, now_ms: int) -> str:
    return (
        f"Its deadline passed {now_ms - leg.deadline_ms} ms before it could be sent."
        " Send a new signal if you still want it."
    )


def jsonable(request: TradeRequest) -> dict[str, Any]:
    """All its values are plain: `dataclasses.asdict` would copy each of them."""
    return {
        name: str(value) if isinstance(value, Decimal) else value
        for name, value in zip(REQUEST_FIELDS, _in_order(request), strict=True)
    }
