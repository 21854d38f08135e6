"""Pure: from a leg to the requests it needs, one after another.

Precedes: execution sends what comes out. Follows: the leg, the frozen plan, and the outcomes so far.
"""

from collections import defaultdict
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from executors.legs import LegRow, RequestRow
from executors.messages import CloseSignal, Leg, OpenSignal, TerminalConfig
from executors.orders import Outcome, comment_token
from executors.retcodes import POSITION_CLOSED
from executors.symbols import to_broker
from executors.terminals.base import ZERO, Position, SymbolSpec, Tick, TradeRequest

ACTION_DEAL = 1
BUY, SELL = 0, 1
EXEMODE_MARKET = 2  # market and exchange execution ignore the price
FILLING_FOK_BIT, FILLING_IOC_BIT = 1, 2
FOK, IOC, RETURN = 0, 1, 2
REQUEST_FIELDS = tuple(field.name for field in fields(TradeRequest))


@dataclass(frozen=True, slots=True)
class Step:
    """The next request's shape: a market order, or the close of one position."""

    symbol: str  # the broker's
    type: int
    lots: Decimal
    attempt: int  # 1 for the first try
    position: int = 0


def freeze_close(
    signal: CloseSignal, config: TerminalConfig, positions: tuple[Position, ...]
) -> list[list[object]]:
    """The positions that a close means, as [ticket, broker_symbol, type, lots]; kept before the first send."""
    if signal.position_ticket is not None:
        chosen = [item for item in positions if item.ticket == signal.position_ticket]
    elif signal.symbol is not None:
        name = to_broker(config, signal.symbol)
        chosen = [item for item in positions if item.symbol == name]
    else:
        chosen = list(positions)
    return [[item.ticket, item.symbol, item.type, str(item.volume)] for item in chosen]


def next_step(row: LegRow, config: TerminalConfig, *, min_lots: Decimal = ZERO) -> Step | None:
    """What to send next; None when the order needs nothing more. Every request so far must have an outcome."""
    signal = row.leg.signal
    if isinstance(signal, OpenSignal):
        kind = BUY if signal.side == "buy" else SELL
        return _step(
            row.requests, to_broker(config, signal.symbol), kind, row.wanted_lots, 0, config, min_lots
        )
    if not isinstance(signal, CloseSignal):
        return None
    by_position: dict[int, list[RequestRow]] = defaultdict(list)
    for item in row.requests:
        by_position[item.request["position"]].append(item)
    for ticket, symbol, position_type, lots in row.plan.get("tickets", []):
        made = by_position.get(ticket, [])
        step = _step(made, symbol, SELL if position_type == BUY else BUY, Decimal(lots), ticket, config, ZERO)
        if step is not None:
            return step
    return None


def _step(
    made: list[RequestRow],
    symbol: str,
    kind: int,
    lots: Decimal,
    position: int,
    config: TerminalConfig,
    min_lots: Decimal,
) -> Step | None:
    if made:
        last = made[-1]
        # An open found PARTIAL by looking may have deals that are not shown yet: its rest is not asked for again.
        # The rest of a position cannot be closed twice.
        certain = bool(position) or not last.result.get("looked")
        retry = (last.outcome is Outcome.PARTIAL and certain) or (
            last.outcome is Outcome.REFUSED and last.result.get("retriable") is True
        )
        if not retry or len(made) >= config.max_attempts:
            return None
    left = lots - sum((item.filled_lots for item in made), ZERO)
    if left <= 0 or left < min_lots:
        return None
    return Step(symbol, kind, left, len(made) + 1, position)


def build_request(
    step: Step, row: LegRow, config: TerminalConfig, spec: SymbolSpec, tick: Tick | None, magic: int
) -> TradeRequest:
    """MetaTrader's request. The deviation widens with each attempt; `tick` is needed for instant execution."""
    price = ZERO
    if spec.exemode < EXEMODE_MARKET and tick is not None:
        price = tick.ask if step.type == BUY else tick.bid
    sl = tp = ZERO
    if isinstance(row.leg.signal, OpenSignal):
        sl = row.leg.signal.stop_loss or ZERO
        tp = row.leg.signal.take_profit or ZERO
    return TradeRequest(
        action=ACTION_DEAL,
        symbol=step.symbol,
        volume=step.lots,
        type=step.type,
        price=price,
        sl=sl,
        tp=tp,
        deviation=config.deviation_points * step.attempt,
        type_filling=filling(spec),
        comment=comment_token(magic),
        magic=magic,
        position=step.position,
    )


def filling(spec: SymbolSpec) -> int:
    """The filling policy the symbol takes. Instant and request execution take any; else the mask says."""
    if spec.exemode < EXEMODE_MARKET or spec.filling_mode & FILLING_FOK_BIT:
        return FOK
    return IOC if spec.filling_mode & FILLING_IOC_BIT else RETURN


def already_closed(step: Step, retcode: int | None) -> bool:
    """Closing a position that is gone is what the close wished."""
    return bool(step.position) and retcode == POSITION_CLOSED


def late(leg: Leg, now_ms: int) -> str:
    return (
        f"Its deadline passed {now_ms - leg.deadline_ms} ms before it could be sent."
        " Send a new signal if you still want it."
    )


def jsonable(request: TradeRequest) -> dict[str, Any]:
    """All its values are plain: `dataclasses.asdict` would copy each of them."""
    found = ((name, getattr(request, name)) for name in REQUEST_FIELDS)
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in found}
