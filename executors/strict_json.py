"""Pure: JSON from strangers. Refuses what the standard library would let through, with a sentence.

Precedes: the schemas of `messages`. Follows: request bodies and socket frames, already bounded in size.
"""

import json
from typing import Any, NoReturn

from executors.errors import Code, Refused

MAX_DEPTH = 32


def loads(raw: bytes | str) -> Any:
    """The value. Raises Refused (NOT_JSON) for broken text, NaN, doubled names, deep nesting and huge numbers."""
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        value = json.loads(text, parse_constant=_constant, object_pairs_hook=_unique)
        if _depth(value) > MAX_DEPTH:
            raise Refused(Code.NOT_JSON, f"The JSON is nested deeper than {MAX_DEPTH} levels.", 400)
        return value
    except UnicodeDecodeError:
        raise Refused(Code.NOT_JSON, "The body is not UTF-8. Send JSON encoded as UTF-8.", 400) from None
    except json.JSONDecodeError as error:
        raise Refused(
            Code.NOT_JSON,
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            400,
        ) from None
    except RecursionError:
        raise Refused(Code.NOT_JSON, f"The JSON is nested deeper than {MAX_DEPTH} levels.", 400) from None
    except ValueError:  # Python's own limit on digits
        raise Refused(Code.NOT_JSON, "The JSON holds a number with too many digits.", 400) from None


def _constant(name: str) -> NoReturn:
    raise Refused(Code.NOT_JSON, f"{name} is not JSON. Send a number, or leave the field out.", 400)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Refused(Code.NOT_JSON, f"The name {name[:40]!r} occurs twice in one JSON object.", 400)
        found[name] = value
    return found


def _depth(value: Any) -> int:
    """How many objects and lists lie in one another; level by level, without recursion."""
    depth, level = 0, _holders([value])
    while level:
        depth += 1
        level = [inner for holder in level for inner in _holders(holder)]
    return depth


def _holders(items: Any) -> list[Any]:
    values = items.values() if isinstance(items, dict) else items
    return [item for item in values if isinstance(item, dict | list)]
