"""Which servers a Redis URL names: one, or a primary and its replicas.

Precedes: `env`, which refuses what names none, and `primary`, which connects to one of them. Nothing is asked here.
"""

from urllib.parse import SplitResult, urlsplit

Node = tuple[str, int]
DEFAULT_PORT = 6379


def read_nodes(url: str) -> tuple[str, tuple[Node, ...]]:
    """(the URL with its first server alone, every server that it names). Raises ValueError with a sentence.

    `redis://:password@one:6379,two:6379/0`; a port that is absent is 6379.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss"):
        return url, ()
    sign_in, at, places = parts.netloc.rpartition("@")
    nodes = tuple(_node(place) for place in places.split(","))
    if len({*nodes}) != len(nodes):
        raise ValueError(f"{places} names a server twice. Name each once.")
    first = places.partition(",")[0]
    return SplitResult(parts.scheme, f"{sign_in}{at}{first}", *parts[2:]).geturl(), nodes


def _node(place: str) -> Node:
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or place.endswith(":") or port == 0:
        raise ValueError(f"{place!r} is no server. Write host:port, several of them with commas in between.")
    return host, port or DEFAULT_PORT
