"""Who a socket belongs to, and whether the page that opened it may.

Follows: the ASGI router. Precedes: the consumers, which find `scope["login"]` and ask it again each minute and on
each order. Browsers always send Origin: it must be this site's. Without one only a program with a bearer token is
let in, since a cookie proves nothing about who sends it.

Logins are looked up by threads of their own: newcomers, who may be anybody and many, wait for one another, and not those
who are in and trade.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, Protocol
from urllib.parse import urlsplit

from channels.auth import get_user
from channels.db import database_sync_to_async
from django.conf import settings
from django.http import parse_cookie
from django.http.request import split_domain_port, validate_host

_newcomers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="login")
_known = ThreadPoolExecutor(max_workers=2, thread_name_prefix="login-again")
_find_session_user: Callable[[dict[str, Any]], Any] = (
    get_user.func
)  # Channels' own wrapper has one thread for all

DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


class LoginSource(Protocol):
    """How a connection proved its user, so that it can be asked again."""

    name: str  # of the session, for counting
    expires_ms: int | None  # when the login ends by itself, as last read; None = it does not, or is not known

    async def user(self) -> Any | None: ...


class _Lookup:
    """A function that reads the database, for one connection."""

    def __init__(self, find: Callable[[Any], Any | None]) -> None:
        self._find = find
        self._threads = _newcomers

    async def __call__(self, by: Any) -> Any | None:
        ask = database_sync_to_async(self._find, thread_sensitive=False, executor=self._threads)
        user = await ask(by)
        if user is not None and user.is_authenticated:
            self._threads = _known
        return user


class SessionLogin:
    """Django's session by its cookie."""

    def __init__(self, session_key: str) -> None:
        self.name = f"session:{session_key}"
        self.expires_ms: int | None = None
        self._look_up = _Lookup(_find_session_user)
        self._key = session_key
        self._store: Any = import_module(settings.SESSION_ENGINE).SessionStore

    async def user(self) -> Any | None:
        if not self._key:
            return None
        session = self._store(self._key)
        user = await self._look_up({"session": session})
        if user is None or not (user.is_authenticated and user.is_active):
            return None
        self.expires_ms = int(session.get_expiry_date().timestamp() * 1000)
        return user


class TokenLogin:
    """An API token; `find` belongs to the app that keeps them."""

    def __init__(self, token: str, find: Callable[[str], Any | None]) -> None:
        self.name = f"token:{hash(token)}"
        self.expires_ms: int | None = None
        self._token = token
        self._look_up = _Lookup(find)

    async def user(self) -> Any | None:
        return await self._look_up(self._token)


class SocketAuth:
    """ASGI middleware for WebSockets."""

    def __init__(self, application: Any, token_user: Callable[[str], Any | None]) -> None:
        self._application = application
        self._token_user = token_user

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers: dict[bytes, str] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, value.decode("latin1"))
        origin = headers.get(b"origin")
        scheme, _, token = headers.get(b"authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        if not (bearer if origin is None else allowed_origin(origin, headers.get(b"host", ""))):
            await refuse(receive, send)
            return
        login: LoginSource
        if bearer:
            login = TokenLogin(bearer, self._token_user)
        else:
            cookies = parse_cookie(headers.get(b"cookie", ""))
            login = SessionLogin(cookies.get(settings.SESSION_COOKIE_NAME, ""))
        await self._application({**scope, "login": login}, receive, send)


def allowed_origin(origin: str, host: str) -> bool:
    """Whether a page of `origin` may open sockets at `host`: this site, port included, or a trusted origin."""
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    try:
        parts = urlsplit(origin)
        origin_port = str(parts.port) if parts.port else DEFAULT_PORTS.get(parts.scheme, "")
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return False
    if settings.SECURE and parts.scheme != "https":
        return False
    allowed = settings.ALLOWED_HOSTS or ["localhost", "127.0.0.1", "[::1]"]
    own_domain, own_port = split_domain_port(host.lower())
    domain = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if not validate_host(domain, allowed) or not validate_host(own_domain, allowed):
        return False
    return origin_port == (own_port or DEFAULT_PORTS[parts.scheme])


async def refuse(receive: Any, send: Any) -> None:
    """HTTP 403 instead of the handshake."""
    await receive()
    await send({"type": "websocket.close", "code": 4403})
