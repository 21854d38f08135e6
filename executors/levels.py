"""Pure: stop losses, take profits, entry prices and expirations that a modify wishes: only what it names is frozen, and
what it does not name goes into the request as the terminal has it right before.

Precedes: plans makes the request of what is completed. Follows: wishes says what is meant, preparing reads the terminal.
A level that would round to 0 is denied: 0 means none.
"""

from collections.abc import Iterable
from decimal import Decimal

from executors.errors import Code
from executors.messages import ModifySignal, OpenSignal
from executors.sizing import Denial, plain
from executors.terminals.base import Order, Position, SymbolSpec
from executors.wishes import BUY, MODIFY, SLTP, TIME_SPECIFIED, Change, Spec, expiration

STOP_LIMITS = frozenset({6, 7})
BUYING = frozenset({0, 2, 4, 6})
FIELDS = {"price": "price", "stoplimit": "limit_price", "sl": "stop_loss", "tp": "take_profit"}  # of a signal
ENTRY = frozenset({"price", "stoplimit", "type_time", "expiration_ms"})  # what only a pending order has

# --- prices ---


def price_step(spec: SymbolSpec) -> Decimal:
    """Some symbols move in larger steps than their digits allow."""
    return max(spec.tick_size, Decimal(1).scaleb(-spec.digits))


def on_grid(price: Decimal, spec: SymbolSpec | None) -> Decimal:
    """The nearest price that the symbol can have."""
    if spec is None:
        return price
    step = price_step(spec)
    return price if not price % step else (price / step).to_integral_value() * step


def vanishing(signal: OpenSignal | ModifySignal, spec: SymbolSpec | None) -> Denial | None:
    """A price that the symbol's step makes 0 of, which would set nothing, or remove what is set."""
    for name in FIELDS.values():
        price: Decimal | None = getattr(signal, name)
        if spec is not None and price and not on_grid(price, spec):
            removable = isinstance(signal, ModifySignal) and name in ("stop_loss", "take_profit")
            removes = ", or 0 to remove it" if removable else ""
            return Denial(
                Code.PRICE_TOO_SMALL,
                f"{name} {plain(price)} is less than a price step of {spec.symbol}, {plain(price_step(spec))}, and would"
                f" count as none. Give a price that it can have{removes}.",
            )
    return None


# --- what a modify names ---


def freeze_modify(
    signal: ModifySignal, positions: Iterable[Position], orders: Iterable[Order], spec: Spec, now_ms: int
) -> list[Change] | Denial:
    changes: list[Change] = []
    for held in positions:
        named = _named(signal, ("sl", "tp"), spec(held.symbol))
        if isinstance(named, Denial):
            return named
        if named:
            changes.append({"action": SLTP, "symbol": held.symbol, "position": held.ticket} | named)
    for order in orders:
        found = spec(order.symbol)
        takes_limit = order.type in STOP_LIMITS
        if signal.limit_price is not None and not takes_limit and signal.order_ticket is not None:
            return Denial(
                Code.ORDER_TYPE_NOT_ALLOWED,
                f"Order {order.ticket} is no stop_limit order: leave limit_price out.",
            )
        named = _named(signal, tuple(name for name in FIELDS if takes_limit or name != "stoplimit"), found)
        if isinstance(named, Denial):
            return named
        if signal.expires_ms is not None:
            if found is None:
                return Denial(Code.SYMBOL_NOT_ALLOWED, f"The broker has no symbol {order.symbol}.")
            kept = expiration(signal.expires_ms or None, found, now_ms)
            if isinstance(kept, Denial):
                return kept
            named |= {"type_time": kept[0], "expiration_ms": kept[1]}
        if named:
            which = {"action": MODIFY, "symbol": order.symbol, "order": order.ticket, "type": order.type}
            changes.append(which | named)
    return changes


def _named(signal: ModifySignal, names: Iterable[str], spec: SymbolSpec | None) -> Change | Denial:
    if (denial := vanishing(signal, spec)) is not None:
        return denial
    wished = {name: getattr(signal, FIELDS[name]) for name in names}
    return {name: str(on_grid(price, spec)) for name, price in wished.items() if price is not None}


# --- what is sent ---


def completed(change: Change, target: Position | Order) -> Change | Denial:
    """The whole of it: what it does not name is as the terminal has it now."""
    now: Change
    if isinstance(target, Position):
        now = {
            "action": SLTP,
            "symbol": target.symbol,
            "position": target.ticket,
            "sl": str(target.sl),
            "tp": str(target.tp),
        }
        return now | change
    if target.type != change["type"] and change.keys() & {"price", "stoplimit"}:
        return Denial(
            Code.ORDER_TYPE_NOT_ALLOWED,
            f"The stop price of order {target.ticket} was reached meanwhile: it is a limit order now. Look at it again.",
        )
    now = {
        "action": MODIFY,
        "order": target.ticket,
        "price": str(target.price_open),
        "stoplimit": str(target.price_stoplimit),
        "sl": str(target.sl),
        "tp": str(target.tp),
        "type_time": target.type_time,
        "expiration_ms": _expiration_of(target),
    }
    return now | {name: change[name] for name in now.keys() & change.keys()} | {"type": target.type}


def of_its_position(change: Change, position: Position) -> Change:
    """What the levels of a pending order's change wish of the position that the order has become."""
    levels = {name: change[name] for name in ("sl", "tp") if name in change}
    return {"action": SLTP, "symbol": position.symbol, "position": position.ticket} | levels


def has_become(change: Change, position: Position, *, hedging: bool) -> bool:
    """Whether the fill of a pending order has made the position: it has the order's ticket, on a netting account only as
    long as it was not turned over."""
    return position.ticket == change["order"] and (hedging or _same_side(change, position))


def may_have_joined(change: Change, position: Position) -> bool:
    """Whether the position is where the fill of a pending order goes on a netting account, if there was one."""
    return position.symbol == change.get("symbol") and _same_side(change, position)


def _same_side(change: Change, position: Position) -> bool:
    return (position.type == BUY) == (change["type"] in BUYING)


# --- risk ---


def raises_risk(
    changes: Iterable[Change], positions: Iterable[Position], orders: Iterable[Order]
) -> Change | None:
    """The first change that a terminal which only reduces must not make: a stop loss further away or removed, or
    another entry for a pending order."""
    held = {item.ticket: item for item in positions}
    pending = {item.ticket: item for item in orders}
    for change in changes:
        target: Position | Order
        if change["action"] == SLTP:
            target = held[change["position"]]
            buying = target.type == BUY
        elif change["action"] == MODIFY:
            target = pending[change["order"]]
            buying = target.type in BUYING
            if _other_entry(change, target):
                return change
        else:
            continue
        if "sl" in change and _further(Decimal(change["sl"]), target.sl, buying=buying):
            return change
    return None


def _other_entry(change: Change, order: Order) -> bool:
    now = {"price": order.price_open, "stoplimit": order.price_stoplimit}
    if any(name in change and Decimal(change[name]) != price for name, price in now.items()):
        return True
    return "expiration_ms" in change and change["expiration_ms"] != _expiration_of(order)


def _further(wished: Decimal, now: Decimal, *, buying: bool) -> bool:
    if not now:
        return False
    return not wished or (wished < now if buying else wished > now)


def _expiration_of(order: Order) -> int:
    return order.expiration_ms if order.type_time >= TIME_SPECIFIED else 0
