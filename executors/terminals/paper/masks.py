"""Pure: MetaTrader's group masks, as its Python client filters positions, orders and history.

Precedes: the module's `*_get(group=…)`; the broker uses it for `symbols_get`. `"*,!*EUR*"`: all but what holds EUR.
"""

import re
from functools import lru_cache


@lru_cache(maxsize=256)
def _tokens(group: str) -> tuple[tuple[bool, re.Pattern[str]], ...]:
    """(excludes, pattern) in order; what is empty does not count."""
    out = []
    for part in group.split(","):
        token = part.lstrip(" ").rstrip(" ")[:255]
        if not token:
            continue
        name = token.lstrip("!")
        pattern = re.compile(".*".join(re.escape(piece) for piece in name.split("*")), re.DOTALL)
        out.append((token.startswith("!"), pattern))
    return tuple(out)


def selects(group: str, name: str) -> bool:
    """Case counts; `*` is any run; an exclusion that fits ends it at once."""
    selected = False
    for excludes, pattern in _tokens(group):
        if pattern.fullmatch(name):
            if excludes:
                return False
            selected = True
    return selected
