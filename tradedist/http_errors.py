"""Errors over HTTP: `{"code", "message"}` for programs, a plain page for people.

Follows: every view and middleware, Django's own errors included (404, 405, CSRF, broken requests, 500). Precedes: the
sender. `AnswerErrors` turns whatever is not yet in that form into it.
"""

from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from pydantic import BaseModel, Field

from executors.errors import Code
from tradedist.layers import AnswerLayer

PROGRAMS = ("/api/", "/udf/", "/metrics")  # paths whose callers are programs

SAID: dict[int, tuple[Code, str]] = {
    400: (Code.INVALID, "The request cannot be read. Send well-formed HTTP to this site's own name."),
    401: (Code.NOT_SIGNED_IN, "Sign in, or send `Authorization: Bearer` with an API token."),
    403: (Code.FORBIDDEN, "This is not allowed."),
    404: (Code.NOT_FOUND, "There is nothing at this address."),
    405: (Code.METHOD_NOT_ALLOWED, "This address does not take this method."),
    413: (Code.TOO_LARGE, "The request is too large."),
    415: (Code.INVALID, "Send the body as application/json."),
    422: (Code.INVALID, "The request does not fit what this address takes."),
    429: (Code.RATE_LIMITED, "Too many requests. Wait and try again."),
    500: (Code.INTERNAL, "Something went wrong here. It is in the log; try again."),
    503: (Code.UNAVAILABLE, "A part that this needs does not answer. Try again in a moment."),
}


class Error(BaseModel):
    """Every error, whatever the route."""

    code: Code
    message: str = Field(description="A sentence that says what to change")


ERRORS: dict[Any, Any] = dict.fromkeys((400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 503), Error)
"""For the responses that a route documents."""


def error_response(code: str, message: str, status: int, **more: Any) -> JsonResponse:
    response = JsonResponse({"code": str(code), "message": message, **more}, status=status)
    if status == 401:
        response["WWW-Authenticate"] = "Bearer"
    if status in (429, 503):
        response["Retry-After"] = "1"
    response["Cache-Control"] = "no-store"
    return response


def said(status: int) -> tuple[Code, str]:
    return SAID.get(status) or SAID[500 if status >= 500 else 400]


def for_programs(request: HttpRequest) -> bool:
    if request.path.startswith(PROGRAMS):
        return not request.path.startswith("/api/docs")
    return "text/html" not in request.headers.get("Accept", "text/html")


def answer(request: HttpRequest, status: int, message: str = "") -> HttpResponse:
    code, text = said(status)
    if for_programs(request):
        return error_response(code, message or text, status)
    context = {"status": status, "title": HTTPStatus(status).phrase, "message": message or text}
    return render(request, "error.html", context, status=status)


# --- Django's handlers and its CSRF failure view ---


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if type(exception).__name__ in ("RequestDataTooBig", "TooManyFieldsSent", "TooManyFilesSent"):
        return answer(request, 413)
    return answer(request, 400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, 403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, 404)


def server_error(request: HttpRequest) -> HttpResponse:
    return answer(request, 500)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return answer(request, 403, "This form is out of date or came from another site. Load the page again.")


class AnswerErrors(AnswerLayer):
    """The outermost view of an answer: an error for a program that is not JSON yet becomes so."""

    def finish(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if response.status_code < 400 or response.get("Content-Type", "").startswith("application/json"):
            return response
        if not for_programs(request):
            return response
        code, message = said(response.status_code)
        fresh = error_response(code, message, response.status_code)
        if allowed := response.get("Allow"):
            fresh["Allow"] = allowed
        return fresh
