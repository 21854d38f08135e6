"""Whether each process of a run is well, asked from outside in the way its users would.

Precedes: `running`, which waits for all of them and shows them in `make status`. A probe answers "" or what is wrong.
"""

import base64
import http.client
import json
import socket
from collections.abc import Callable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tradedist import settings
from tradedist.nodes import read_nodes
from tradedist.primary import connects

LIMIT_S = 3.0
FLOWER_USER = "admin"

Probe = Callable[[], str]


def always() -> str:
    """For processes that nothing asks: it runs, and that is all there is to see from outside."""
    return ""


def valkey(url: str) -> Probe:
    def probe() -> str:
        client = redis.Redis.from_url(
            read_nodes(url)[0],
            **connects(url),
            socket_timeout=LIMIT_S,
            socket_connect_timeout=LIMIT_S,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            with client:
                client.ping()
        except redis.RedisError as error:
            return f"does not answer: {str(error).rstrip('.')}"
        return ""

    return probe


def listens(port: int) -> Probe:
    def probe() -> str:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S).close()
        except OSError as error:
            return f"port {port}: {error.strerror or error}"
        return ""

    return probe


def answers(port: int, path: str = "/metrics") -> Probe:
    def probe() -> str:
        status, _ = _get("127.0.0.1", port, path)
        return "" if status == 200 else f"{path} on port {port} answers {status or 'nothing'}"

    return probe


def flower() -> str:
    pair = base64.b64encode(f"{FLOWER_USER}:{settings.FLOWER_PASSWORD}".encode()).decode()
    status, _ = _get("127.0.0.1", settings.FLOWER_PORT, "/api/workers", {"Authorization": f"Basic {pair}"})
    return "" if status == 200 else f"answers {status or 'nothing'}"


def web() -> str:
    """The page's own health check, which looks at every part that trading needs."""
    status, body = health()
    try:
        answer = json.loads(body)
        parts = {str(name): str(said) for name, said in answer["parts"].items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"/api/health answers {status or 'nothing'}"
    return "; ".join(f"{name} {said}" for name, said in parts.items() if said != "ok")


def health() -> tuple[int, str]:
    return _get(web_address(), settings.PORT, "/api/health")


def web_address() -> str:
    """Where this machine reaches the page: a server that listens everywhere listens on loopback too."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(settings.HOST, settings.HOST)


def _get(host: str, port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and body; status 0 when there is no answer."""
    connection = http.client.HTTPConnection(host, port, timeout=LIMIT_S)
    try:
        connection.request("GET", path, headers={"Host": f"localhost:{port}", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read(1_000_000).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()
