"""Pure: what the real client accepts as an argument, slot by slot, and the texts it refuses with.

Precedes: `client.py`. `Wrong` carries the text of last_error (-2); `wrong_c` marks refusals that the real client leaves
with a pending C error, which CPython turns into SystemError.
"""

import operator
from datetime import datetime
from typing import Any

from executors.terminals.paper.fields import FIELDS

MAX_SYMBOL = 29
MAX_COMMENT = 29
MAX_GROUP = 1997
U32, U64, I32, I64 = 2**32, 2**64, 2**31, 2**63
BAD_ARGUMENTS = "Invalid arguments"
UNNAMED = "Unnamed arguments not allowed"
NUMBER = "Invalid number of arguments"


class Wrong(Exception):
    """The arguments are refused; `c_error`: and the call ends in SystemError."""

    def __init__(self, text: str, *, c_error: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.c_error = c_error


def named(name: str) -> str:
    return f'Invalid "{name}" argument'


def units(text: str) -> int:
    """Length in UTF-16 units."""
    return len(text) if text.isascii() else len(text) + sum(ord(char) > 0xFFFF for char in text)


def symbol(value: Any) -> str:
    if not isinstance(value, str) or units(value) > MAX_SYMBOL:
        raise Wrong(BAD_ARGUMENTS)
    return str(value)


def c_int(value: Any) -> int:
    """The `i` format: anything with __index__ that fits in 32 bits."""
    try:
        number = operator.index(value)
    except TypeError:
        raise Wrong(BAD_ARGUMENTS, c_error=True) from None
    if not -I32 <= number < I32:
        raise Wrong(BAD_ARGUMENTS, c_error=True)
    return number


def c_double(value: Any) -> float:
    """The `d` format: anything with __float__ or __index__."""
    if isinstance(value, str | bytes):
        raise Wrong(BAD_ARGUMENTS, c_error=True)
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise Wrong(BAD_ARGUMENTS, c_error=True) from None


def real_int(value: Any) -> int:
    """The `k` format: an int and nothing like one."""
    if not isinstance(value, int):
        raise Wrong(BAD_ARGUMENTS, c_error=True)
    return int(value) & (U32 - 1)


def date(value: Any) -> int:
    """Seconds: int, float or datetime, cut to 32 bits. A naive datetime is local time."""
    if isinstance(value, datetime):
        try:
            value = value.timestamp()
        except (OverflowError, OSError, ValueError):
            raise Wrong(BAD_ARGUMENTS) from None
    if not isinstance(value, int | float):
        raise Wrong(BAD_ARGUMENTS)
    if isinstance(value, int) and not -I32 <= value < I32:
        raise Wrong(BAD_ARGUMENTS, c_error=True)
    try:
        return max(0, min(int(value), U32 - 1))
    except (OverflowError, ValueError):
        raise Wrong(BAD_ARGUMENTS) from None


def keyword_int(name: str, value: Any, limit: int = U64) -> int:
    if not isinstance(value, int):
        raise Wrong(named(name))
    if not 0 <= value < limit:
        raise Wrong(named(name), c_error=True)
    return int(value)


def keyword_text(name: str, value: Any, longest: int) -> str:
    if not isinstance(value, str) or units(value) > longest:
        raise Wrong(named(name))
    return str(value)


_LIMITS = {"action": U32, "type": U32, "type_filling": U32, "type_time": U32}
_KINDS = dict(FIELDS["TradeRequest"])
_ORDER = (
    "action", "magic", "order", "symbol", "volume", "price", "stoplimit", "sl", "tp", "deviation", "type",
    "type_filling", "type_time", "expiration", "comment", "position", "position_by",
)  # fmt: skip
_EMPTY: dict[str, Any] = {"i": 0, "f": 0.0, "s": ""}
_ABSENT: Any = object()
_BLANK = [_EMPTY[_KINDS[name]] for name in _ORDER]


def trade_request(arguments: tuple[Any, ...], keywords: dict[str, Any] | None) -> list[Any]:
    """The seventeen fields; unknown keys are ignored, absent ones are zero."""
    if keywords is not None:
        if arguments:
            raise Wrong(UNNAMED)
        request = keywords
    else:
        if len(arguments) != 1:
            raise Wrong(NUMBER)
        request = arguments[0]
        if not isinstance(request, dict):
            raise Wrong(BAD_ARGUMENTS)
    row = list(_BLANK)
    for index, name in enumerate(_ORDER):
        value = dict.get(request, name, _ABSENT)  # C looks past what a subclass makes of it
        if value is _ABSENT:
            continue
        kind = _KINDS[name]
        if kind == "f":
            if not isinstance(value, float):
                raise Wrong(named(name))
            row[index] = float(value)
        elif kind == "s":
            row[index] = keyword_text(name, value, MAX_SYMBOL if name == "symbol" else MAX_COMMENT)
        elif name == "expiration":
            if not isinstance(value, int):
                raise Wrong(named(name))
            if not -I64 <= value < I64:
                raise Wrong(named(name), c_error=True)
            row[index] = int(value)
        else:
            row[index] = keyword_int(name, value, _LIMITS.get(name, U64))
    return row
