"""Who calls the API: a session with CSRF for the page, a bearer token for programs; how often; with what body.

Precedes: every route of `api`. Follows: sessions and `tokens`. Raises Refused and AcceptUnknown, which become answers with
a code and a message.
"""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.request import RawPostDataException, UnreadablePostError
from django.middleware.csrf import CsrfViewMiddleware

from executors import strict_json
from executors.errors import AcceptUnknown, Code, Refused
from executors.messages import MAX_MESSAGE_BYTES
from executors.tokens import token_user
from tradedist.clock import monotonic_ms
from tradedist.rates import Buckets

SAFE = ("GET", "HEAD", "OPTIONS")
REQUESTS_PER_SECOND, BURST = 50, 200  # of one user, all routes together; orders have a limit of their own

SEND_SIGNAL = ("POST", "/api/signals")

requests_of_users = Buckets(REQUESTS_PER_SECOND, BURST)


class SignedIn(HttpRequest):
    """A request as the routes get it; its class is Django's own, this says only what `Authenticate` has put there."""

    auth: Any  # the user


class _Csrf(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


class Authenticate:
    """For NinjaAPI(auth=…). The user is then `request.auth`."""

    is_async = True
    csrf = True  # the documentation page sends the token along

    async def __call__(self, request: HttpRequest) -> Any:
        user = await self._user(request)
        wait = requests_of_users.take(user.pk, monotonic_ms())
        if wait and (request.method, request.path) == SEND_SIGNAL:
            # an earlier send may have been recorded: whoever takes this for a refusal would decide anew
            raise AcceptUnknown
        if wait:
            raise Refused(
                Code.RATE_LIMITED,
                f"At most {REQUESTS_PER_SECOND} requests a second are answered. Wait {wait:.2f} s.",
                429,
            )
        return user

    async def _user(self, request: HttpRequest) -> Any:
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            user = await token_user(token.strip()) if scheme.lower() == "bearer" else None
            if user is None:
                raise Refused(
                    Code.NOT_SIGNED_IN,
                    "The API token is not valid: unknown, revoked or expired. Make one with create_token.",
                    401,
                )
            return user
        user = await request.auser()
        if not user.is_authenticated or not user.is_active:
            raise Refused(
                Code.NOT_SIGNED_IN, "Sign in, or send `Authorization: Bearer` with an API token.", 401
            )
        if request.method not in SAFE:
            require_json(request)  # before the CSRF check, which would parse a form
            _check_csrf(request)
        return user


def _check_csrf(request: HttpRequest) -> None:
    check = _Csrf(lambda request: HttpResponse())
    check.process_request(request)
    reason = check.process_view(request, _unprotected, (), {})
    if reason is not None:
        # not FORBIDDEN: it says nothing of what the user may, nor of an earlier send of the same signal
        raise Refused(
            Code.NOT_SIGNED_IN,
            f"The CSRF check failed: {reason} Send the cookie's token as X-CSRFToken, or reload the page.",
            403,
        )


def _unprotected(request: HttpRequest) -> HttpResponse:
    raise AssertionError("never called: it stands for the view in the CSRF check")


def require_json(request: HttpRequest) -> None:
    if request.content_type != "application/json":
        raise Refused(Code.INVALID, "Send the body with Content-Type: application/json.", 415)


def json_body(request: HttpRequest) -> dict[str, Any]:
    """The body as a JSON object of at most 64 KiB. Reads no further than that."""
    require_json(request)
    try:
        declared = int(request.META.get("CONTENT_LENGTH") or 0)
        raw = b"" if declared > MAX_MESSAGE_BYTES else request.read(MAX_MESSAGE_BYTES + 1)
    except (UnreadablePostError, RawPostDataException, ValueError):
        raise Refused(Code.INVALID, "The body could not be read. Send the request again.", 400) from None
    if declared > MAX_MESSAGE_BYTES or len(raw) > MAX_MESSAGE_BYTES:
        raise Refused(Code.TOO_LARGE, f"A body may have {MAX_MESSAGE_BYTES} bytes at most.", 413)
    body = strict_json.loads(raw)
    if not isinstance(body, dict):
        raise Refused(Code.INVALID, "The body must be a JSON object.", 422)
    return body


def known_parameters(request: HttpRequest, *names: str) -> None:
    """Refuses query parameters that a route does not know, or that come twice."""
    for name, values in request.GET.lists():
        if name not in names:
            allowed = ", ".join(names) or "none"
            raise Refused(
                Code.INVALID, f"Unknown query parameter {name[:40]!r}; this address takes: {allowed}.", 422
            )
        if len(values) > 1:
            raise Refused(Code.INVALID, f"The query parameter {name!r} is given more than once.", 422)
