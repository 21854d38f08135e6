"""The REST API: the apps' routers under one sign-in, one form of errors and one OpenAPI document (/api/docs).

Follows: urls. Precedes: executors.api and charts.api. Every error is `{"code", "message"}`.
"""

import logging
from typing import Any

import redis
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

import charts.api
import executors.api
from executors.api_auth import Authenticate, known_parameters
from executors.api_schema import HealthView
from executors.errors import AcceptUnknown, Code, Refused
from tradedist.health import Health
from tradedist.http_errors import ERRORS, error_response, said

logger = logging.getLogger(__name__)

DESCRIPTION = """
Sign in on the page (then send the `csrftoken` cookie as `X-CSRFToken` with each POST), or send
`Authorization: Bearer <token>`; `manage.py create_token USER` makes one. Times are UTC milliseconds. Lists are
`{items, cursor}`: give the cursor back to go on; null is the end. Unknown fields and parameters are refused.
"""

api = NinjaAPI(
    title="Tradedist",
    version="1",
    description=DESCRIPTION,
    auth=Authenticate(),
    openapi_extra={
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "sessionid"},
            }
        },
        "security": [{"bearer": []}, {"session": []}],
    },
)
api.add_router("", executors.api.router)
api.add_router("", charts.api.router)

health_checks = Health()


@api.get(
    "/health",
    auth=None,
    response={200: HealthView, 503: HealthView, 422: ERRORS[422]},
    summary="The state of each part",
    operation_id="health",
    tags=["health"],
)
async def health(request: HttpRequest) -> HttpResponse:
    """200 while trading works, 503 when a part that it needs is down. No login."""
    known_parameters(request)
    status, body = await health_checks.check()
    view = HealthView.model_validate(body)
    response = HttpResponse(view.model_dump_json(), content_type="application/json", status=status)
    response["Cache-Control"] = "no-store"
    return response


# --- Errors ---


@api.exception_handler(Refused)
def refused(request: HttpRequest, error: Refused) -> HttpResponse:
    return error_response(error.code, error.message, error.status)


@api.exception_handler(AcceptUnknown)
def accept_unknown(request: HttpRequest, error: AcceptUnknown) -> HttpResponse:
    return error_response(error.code, error.message, error.status)


@api.exception_handler(ValidationError)
def invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    return error_response(Code.INVALID, "; ".join(_fault(fault) for fault in error.errors[:5]), 422)


@api.exception_handler(HttpError)
def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    code, message = said(error.status_code)
    return error_response(code, message, error.status_code)


@api.exception_handler(Http404)
def not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return error_response(*said(404), 404)


@api.exception_handler(redis.RedisError)
def redis_down(request: HttpRequest, error: redis.RedisError) -> HttpResponse:
    logger.warning("Redis did not answer a request: %s", error, extra={"action": "read"})
    return error_response(Code.UNAVAILABLE, "Redis does not answer. Try again in a moment.", 503)


@api.exception_handler(DatabaseError)
def database_down(request: HttpRequest, error: DatabaseError) -> HttpResponse:
    logger.exception("the database did not answer a request", extra={"action": "read"})
    return error_response(Code.UNAVAILABLE, "The database does not answer. Try again in a moment.", 503)


def _fault(fault: Any) -> str:
    # ("query", "limit") or ("query", "query", "limit"): where it came from, perhaps the argument's name, the field
    parts = fault.get("loc", ())[1:]
    where = ".".join(str(part) for part in (parts[1:] or parts))
    return f"{where}: {fault['msg']}" if where else str(fault["msg"])
