"""Pure: which positions and pending orders a signal means at a terminal, and what it wishes of each, frozen as a plan.

Precedes: the plan is kept in the journal before the first request; plans makes requests of it. Follows: preparing reads
the terminal. A change is the part of a TradeRequest that says what is wished (of a modify: `levels`); comparing it with
what is there later tells whether it came about.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any

from executors.errors import Code
from executors.legs import LegRow, made_by, order_tickets
from executors.messages import (
    CancelSignal,
    CloseBySignal,
    CloseSignal,
    ModifySignal,
    OpenSignal,
    ProtectSignal,
    TerminalConfig,
)
from executors.orders import magic_of_comment
from executors.sizing import Denial, plain
from executors.symbols import to_broker
from executors.terminals.base import ZERO, Order, Position, SymbolSpec

SLTP, MODIFY, REMOVE, CLOSE_BY = 6, 7, 8, 10
BUY, SELL = 0, 1
PENDING_TYPES = range(2, 8)
TIME_GTC, TIME_SPECIFIED = 0, 2
MAY_CLOSE_BY = 64  # of SymbolSpec.order_mode

Change = dict[str, Any]
Spec = Callable[[str], SymbolSpec | None]
Selecting = ModifySignal | CloseSignal | CancelSignal | CloseBySignal | ProtectSignal


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a selector needs to be understood. `opened`: the open that `opened_by` names, when the journal has it; else
    `magics`: the numbers that its requests have at the broker."""

    config: TerminalConfig
    hedging: bool
    opened: LegRow | None = None
    magics: frozenset[int] = frozenset()

    def bears(self, item: Position | Order) -> bool:
        """Whether it is what the open made that the journal does not know."""
        return item.magic in self.magics or magic_of_comment(item.comment) in self.magics


def belongs(row: LegRow, position: Position, meaning: Meaning) -> bool:
    """Whether the position is what an open made. A netting account has one a symbol, of all opens of its side together:
    one that has turned keeps its identifier, and is no longer what the other side's opens made."""
    signal = row.leg.signal
    if not isinstance(signal, OpenSignal) or position.type != (BUY if signal.side == "buy" else SELL):
        return False
    if made_by(row, position):
        return True
    shared = not meaning.hedging and row.filled_lots > ZERO
    return shared and position.symbol == to_broker(meaning.config, signal.symbol)


def positions_meant(
    signal: Selecting, positions: Iterable[Position], meaning: Meaning
) -> tuple[Position, ...]:
    if getattr(signal, "order_ticket", None) is not None:
        return ()
    if isinstance(signal, CancelSignal) or (isinstance(signal, ModifySignal) and signal.pending_only):
        return ()
    if signal.position_ticket is not None:
        wanted = {signal.position_ticket}
        if isinstance(signal, CloseBySignal):
            wanted.add(signal.by_position_ticket or 0)
        return tuple(item for item in positions if item.ticket in wanted)
    if not isinstance(signal, CloseBySignal) and signal.opened_by is not None:
        opened = meaning.opened
        if opened is None:
            return tuple(item for item in positions if meaning.bears(item))
        return tuple(item for item in positions if belongs(opened, item, meaning))
    name = to_broker(meaning.config, signal.symbol) if signal.symbol is not None else None
    return tuple(item for item in positions if name in (None, item.symbol))


def orders_meant(
    signal: ModifySignal | CancelSignal, orders: Iterable[Order], meaning: Meaning
) -> tuple[Order, ...]:
    """Active pending orders. By ticket also the rest of a market order that works on at the broker."""
    if signal.order_ticket is not None:
        return tuple(item for item in orders if item.ticket == signal.order_ticket)
    if isinstance(signal, ModifySignal) and signal.position_ticket is not None:
        return ()
    pending = [item for item in orders if item.type in PENDING_TYPES]
    if signal.opened_by is not None:
        opened = meaning.opened
        if opened is None:
            return tuple(item for item in pending if meaning.bears(item))
        return tuple(item for item in pending if placed_by(opened, item))
    name = to_broker(meaning.config, signal.symbol) if signal.symbol is not None else None
    return tuple(item for item in pending if name in (None, item.symbol))


def names_entry(signal: ModifySignal) -> bool:
    """Whether it is about what only pending orders have."""
    return any(item is not None for item in (signal.price, signal.limit_price, signal.expires_ms))


def filled_from(
    signal: Selecting, positions: Iterable[Position], orders: Iterable[Order]
) -> tuple[Position, ...]:
    """The position that a pending order named by its ticket has become: levels and protection are wished of that."""
    ticket = getattr(signal, "order_ticket", None)
    entry = isinstance(signal, ModifySignal) and names_entry(signal)
    if ticket is None or entry or isinstance(signal, CancelSignal):
        return ()
    if any(item.ticket == ticket for item in orders):
        return ()
    return tuple(item for item in positions if item.ticket == ticket)


def placed_by(row: LegRow, order: Order) -> bool:
    return order.ticket in order_tickets(row) or any(order.magic == item.magic for item in row.requests)


# --- close ---


def freeze_close(
    signal: CloseSignal, positions: Iterable[Position], spec: Spec, most: Callable[[Position], Decimal]
) -> tuple[list[list[object]], list[str]] | Denial:
    """[ticket, broker_symbol, type, lots] of each, and what rounding cost. `most`: of a position, what is meant."""
    tickets: list[list[object]] = []
    notes: list[str] = []
    denial: Denial | None = None
    for item in positions:
        lots = wanted = min(item.volume, most(item))
        if signal.lots is not None:
            if signal.lots > item.volume:
                return Denial(
                    Code.LOTS_ABOVE_MAX,
                    f"{plain(signal.lots)} lots exceed the position's {plain(item.volume)}. Close fewer.",
                )
            wanted = signal.lots
        elif signal.fraction is not None:
            wanted = lots * signal.fraction
        if signal.lots is not None or signal.fraction is not None:
            found = spec(item.symbol)
            if found is None or found.volume_step <= 0:
                denial = Denial(Code.SYMBOL_NOT_TRADABLE, f"The broker gives no lot step for {item.symbol}.")
                notes.append(denial.message)
                continue
            lots = (wanted / found.volume_step).to_integral_value(ROUND_DOWN) * found.volume_step
            if lots < found.volume_min:
                denial = Denial(
                    Code.LOTS_BELOW_MIN,
                    f"{plain(wanted)} lots of position {item.ticket} are below the broker's minimum of"
                    f" {plain(found.volume_min)}: it stays as it is. Close more of it, or all.",
                )
                notes.append(denial.message)
                continue
            if lots < wanted:
                notes.append(f"{plain(wanted)} lots of position {item.ticket} were rounded to {plain(lots)}.")
        tickets.append([item.ticket, item.symbol, item.type, str(lots)])
    if denial is not None and not tickets:
        return denial
    return tickets, notes


# --- pending orders ---


def freeze_cancel(orders: Iterable[Order]) -> list[Change]:
    return [{"action": REMOVE, "order": item.ticket, "type": item.type} for item in orders]


def expiration(expires_ms: int | None, spec: SymbolSpec, now_ms: int) -> tuple[int, int] | Denial:
    """(ORDER_TIME_*, UTC ms) of a pending order, as far as the symbol's mask allows it."""
    modes = ("until it is cancelled", "for the day", "until a time", "until the end of a day")
    allowed = (
        " or ".join(mode for bit, mode in enumerate(modes) if spec.expiration_mode >> bit & 1) or "never"
    )
    wanted = TIME_GTC if expires_ms is None else TIME_SPECIFIED
    if not spec.expiration_mode >> wanted & 1:
        return Denial(
            Code.EXPIRATION_NOT_ALLOWED,
            f"The broker keeps pending orders of {spec.symbol} {allowed}, not {modes[wanted]}."
            + (" Give expires_ms." if expires_ms is None else " Leave expires_ms out."),
        )
    if expires_ms is None:
        return wanted, 0
    whole = expires_ms // 1000 * 1000  # MetaTrader counts seconds
    if whole <= now_ms:
        return Denial(Code.EXPIRATION_NOT_ALLOWED, "expires_ms is over already. Give a time in the future.")
    return wanted, whole


# --- close by ---


def freeze_close_by(
    signal: CloseBySignal, positions: Iterable[Position], spec: Spec, *, hedging: bool
) -> list[Change] | Denial:
    """Opposite positions against each other, the oldest first."""
    if not hedging:
        return Denial(
            Code.NETTING_ACCOUNT,
            "A netting account has no opposite positions. Use close to close its position.",
        )
    chosen = sorted(positions, key=lambda item: item.ticket)
    if chosen and (found := spec(chosen[0].symbol)) is not None and not found.order_mode & MAY_CLOSE_BY:
        return Denial(
            Code.ORDER_TYPE_NOT_ALLOWED, f"The broker does not close {found.symbol} by. Use close for each."
        )
    if signal.position_ticket is not None:
        if len(chosen) < 2:
            return Denial(Code.NO_TARGET, "One of the two positions is not there (any more).")
        if chosen[0].symbol != chosen[1].symbol or chosen[0].type == chosen[1].type:
            return Denial(
                Code.NO_TARGET,
                "The two positions are not opposite ones of one symbol. Name a buy and a sell.",
            )
        return [
            {"action": CLOSE_BY, "position": signal.position_ticket, "position_by": signal.by_position_ticket}
        ]
    left = {item.ticket: item.volume for item in chosen}
    buys = [item.ticket for item in chosen if item.type == BUY]
    sells = [item.ticket for item in chosen if item.type == SELL]
    changes: list[Change] = []
    while buys and sells:
        buy, sell = buys[0], sells[0]
        changes.append({"action": CLOSE_BY, "position": buy, "position_by": sell})
        netted = min(left[buy], left[sell])
        for ticket, queue in ((buy, buys), (sell, sells)):
            left[ticket] -= netted
            if not left[ticket]:
                queue.pop(0)
    return changes
