"""What an open must pass before the first request: symbol, the broker's trade mode, limits, sizing.

Precedes: execution sends what is admitted. Follows: a leg whose turn has come. Asks the terminal, changes nothing.
"""

from collections.abc import Callable
from decimal import Decimal

from executors.errors import Code
from executors.levels import vanishing
from executors.messages import OpenSignal, TerminalConfig
from executors.sizing import Denial, RateBucket, check_trade_mode, size
from executors.specs import Specs
from executors.symbols import to_broker
from executors.wishes import expiration

ORDER_MODE_BITS = {"market": 1, "limit": 2, "stop": 4, "stop_limit": 8}  # of SymbolSpec.order_mode


def admit_open(
    signal: OpenSignal,
    *,
    specs: Specs,
    config: TerminalConfig,
    bucket: RateBucket,
    now_ms: float,
    utc_ms: int,
    held: Callable[[bool], int],
) -> Decimal | Denial:
    """The lots for this terminal, or why not. `now_ms` is monotonic, `utc_ms` by Redis. `held`: how many positions there
    are, if wished with the pending orders. Raises TerminalError."""
    if config.symbols and signal.symbol not in config.symbols:
        return Denial(
            Code.SYMBOL_NOT_ALLOWED,
            f"{signal.symbol} is not among the terminal's allowed symbols. Choose another or allow it.",
        )
    name = to_broker(config, signal.symbol)
    spec = specs.get(name, now_ms)
    if spec is None:
        return Denial(
            Code.SYMBOL_NOT_ALLOWED, f"The broker has no symbol {name}. Correct the symbol or its mapping."
        )
    if (denial := check_trade_mode(spec, signal.side)) is not None:
        return denial
    if not spec.order_mode & ORDER_MODE_BITS[signal.order_type]:
        return Denial(
            Code.ORDER_TYPE_NOT_ALLOWED,
            f"The broker takes no {signal.order_type} orders for {name}. Use another order_type.",
        )
    if (denial := vanishing(signal, spec)) is not None:
        return denial
    if signal.pending and isinstance(kept := expiration(signal.expires_ms, spec, utc_ms), Denial):
        return kept
    limits = config.limits
    if limits.max_positions:
        found = held(signal.pending)  # each that waits may become one more
        if found >= limits.max_positions:
            return Denial(
                Code.TOO_MANY_POSITIONS,
                f"{found} positions{' and pending orders' if signal.pending else ''} are open; the terminal's limit is"
                f" {limits.max_positions}. Close some or raise it.",
            )
    lots = size(signal.lots, config.sizing, limits, spec)
    if isinstance(lots, Denial):
        return lots
    # last, so that what is denied or waits for the terminal has used nothing up
    if not bucket.take(limits.orders_per_second, now_ms):
        return Denial(
            Code.TOO_MANY_ORDERS,
            f"More than {limits.orders_per_second} orders a second. Slow down or raise the terminal's limit.",
        )
    return lots
