"""Pure: from a signal's lots to a terminal's lots, and the last line of risk. The preview will use the same functions.

Precedes: execution builds the request from what comes out. Follows: the terminal's configuration.
"""

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from executors.errors import Code
from executors.messages import Action, Mode, RiskLimits, Sizing
from executors.terminals.base import SymbolSpec

TRADE_MODE_DISABLED, TRADE_MODE_LONGONLY, TRADE_MODE_SHORTONLY, TRADE_MODE_CLOSEONLY = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Denial:
    code: Code
    message: str  # says what to change


def size(lots: Decimal, sizing: Sizing, limits: RiskLimits, spec: SymbolSpec) -> Decimal | Denial:
    """Lots for the terminal: sized, held to the limit, rounded down to the step (never above what was meant)."""
    wanted = sizing.value if sizing.method == "fixed" else lots * sizing.value
    ceiling = spec.volume_max
    if limits.max_lots and wanted > limits.max_lots:
        return Denial(
            Code.LOTS_ABOVE_MAX,
            f"{plain(wanted)} lots exceed this terminal's limit of {plain(limits.max_lots)} per order."
            " Send fewer lots or raise it.",
        )
    if wanted > ceiling:
        return Denial(
            Code.LOTS_ABOVE_MAX,
            f"{plain(wanted)} lots exceed the broker's maximum of {plain(ceiling)} for {spec.symbol}. Send fewer lots.",
        )
    step = spec.volume_step
    if step <= 0:
        return Denial(
            Code.SYMBOL_NOT_TRADABLE,
            f"The broker gives no lot step for {spec.symbol}. Choose another symbol or mend it at the broker.",
        )
    rounded = (wanted / step).to_integral_value(ROUND_DOWN) * step
    if rounded < spec.volume_min:
        return Denial(
            Code.LOTS_BELOW_MIN,
            f"{plain(wanted)} lots are below the broker's minimum of {plain(spec.volume_min)} for {spec.symbol}."
            " Send more lots or raise the terminal's multiplier.",
        )
    return rounded.quantize(step) if step < 1 else rounded


def check_mode(mode: Mode, action: Action) -> Denial | None:
    """HALTED stops everything but cancels, REDUCING whatever opens."""
    if mode == "HALTED" and action != "cancel":
        return Denial(Code.HALTED, "The terminal is halted. Resume it in the admin, then send a new signal.")
    if mode == "REDUCING" and action == "open":
        return Denial(
            Code.REDUCING, "The terminal only closes positions now. Set it ACTIVE to open new ones."
        )
    return None


def strictest(modes: list[str]) -> Mode:
    """The strictest of global, group and terminal modes. A word that is none of the three counts as REDUCING."""
    known: list[Mode] = ["ACTIVE", "REDUCING", "HALTED"]
    worst = 0
    for mode in modes:
        worst = max(worst, known.index(mode) if mode in known else 1)
    return known[worst]


def check_trade_mode(spec: SymbolSpec, side: str) -> Denial | None:
    """What the symbol's own trade mode forbids, before the broker would refuse it."""
    mode = spec.trade_mode
    if (
        mode in (TRADE_MODE_DISABLED, TRADE_MODE_CLOSEONLY)
        or (mode == TRADE_MODE_LONGONLY and side == "sell")
        or (mode == TRADE_MODE_SHORTONLY and side == "buy")
    ):
        return Denial(
            Code.SYMBOL_NOT_TRADABLE,
            f"The broker does not allow opening a {side} of {spec.symbol} now. Choose another symbol or side.",
        )
    return None


def plain(lots: Decimal) -> str:
    """Lots as people write them: 45, not 45.00000000."""
    return format(lots.normalize(), "f")


class RateBucket:
    """Orders per second with one second's burst; `now_ms` is given, so that it can be tested."""

    def __init__(self) -> None:
        self._tokens: float | None = None
        self._at = 0.0

    def take(self, rate: int, now_ms: float) -> bool:
        if not rate:
            return True
        if self._tokens is None:
            self._tokens, self._at = float(rate), now_ms
        self._tokens = min(float(rate), self._tokens + max(0.0, now_ms - self._at) / 1000 * rate)
        self._at = now_ms
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
