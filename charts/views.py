"""The trading page: one HTML document for a signed-in user. Everything on it that changes comes by the two sockets.

Follows: tradedist.urls. Precedes: static/js/main.js, which opens /ws/orders/ and /ws/chart/.
"""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

from charts.messages import TIMEFRAMES

NAMES = {86_400: "d", 3_600: "h", 60: "m", 1: "s"}


def timeframe_name(seconds: int) -> str:
    """60 → 1m, 3600 → 1h."""
    unit = next(unit for unit in NAMES if seconds % unit == 0)
    return f"{seconds // unit}{NAMES[unit]}"


@require_safe
@login_required
@ensure_csrf_cookie
def chart(request: HttpRequest) -> HttpResponse:
    """Who may see and do what is not decided here: the sockets and REST ask on each message."""
    timeframes = [{"seconds": seconds, "name": timeframe_name(seconds)} for seconds in TIMEFRAMES]
    response = render(request, "charts/index.html", {"timeframes": timeframes})
    response["Cache-Control"] = "no-store"
    return response
