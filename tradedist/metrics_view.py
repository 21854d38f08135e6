"""GET /metrics: Prometheus text of this web process, for who may read it; for others the address does not exist.

Follows: django-prometheus and tradedist.metrics register what is shown. Allowed: programs on this machine that come
without a proxy, `Authorization: Bearer` with METRICS_TOKEN, signed-in staff.
"""

import hmac

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from tradedist.addresses import direct_loopback


@require_safe
async def metrics(request: HttpRequest) -> HttpResponse:
    if not (direct_loopback(request) or _has_token(request) or await _is_staff(request)):
        raise Http404
    return HttpResponse(generate_latest(REGISTRY), content_type=CONTENT_TYPE_LATEST)


def _has_token(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    wanted: str = settings.METRICS_TOKEN
    return (
        bool(wanted)
        and scheme.lower() == "bearer"
        and hmac.compare_digest(token.strip().encode(), wanted.encode())
    )


async def _is_staff(request: HttpRequest) -> bool:
    user = await request.auser()
    return user.is_active and user.is_staff
