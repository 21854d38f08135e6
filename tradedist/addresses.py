"""Where a request came from: the client's address, and whether it is a program on this machine.

Precedes: sign-in limits, the audit log and /metrics. A proxy's word counts only with BEHIND_PROXY.
"""

import ipaddress

from django.conf import settings
from django.http import HttpRequest

FORWARDED = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "Via", "X-Forwarded-Host", "X-Forwarded-Proto")


def client_address(request: HttpRequest) -> str:
    """The nearest address that we may believe: with a proxy of ours, the last one that it wrote."""
    direct = str(request.META.get("REMOTE_ADDR") or "")
    if settings.BEHIND_PROXY:
        last = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        return _valid(last) or _valid(direct)
    return _valid(direct)


def direct_loopback(request: HttpRequest) -> bool:
    """A program on this machine that came without any proxy."""
    address = _valid(str(request.META.get("REMOTE_ADDR") or ""))
    if not address or any(name in request.headers for name in FORWARDED):
        return False
    return ipaddress.ip_address(address).is_loopback


def _valid(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
