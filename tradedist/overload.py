"""Answers 503 at once when more HTTP requests are under way than the process answers in time.

Follows: the ASGI server. Precedes: Django. Without it a process that is too slow for a moment stays so: it works through
requests whose senders have given up and sent again, and answers none in time. The bound follows what the process is seen
to do: it grows with each quick answer, and shrinks by a tenth when answers are slow (AIMD, as TCP's congestion
window; Jacobson, "Congestion avoidance and control", 1988).
"""

import json
from typing import Any

from executors.errors import AcceptUnknown, Code
from tradedist import metrics
from tradedist.clock import monotonic_ms

QUICK_MS = 1_000.0  # an answer that took longer is slow: clients give up after three seconds
FEWEST, MOST = 8, 100
GROW, SHRINK = 0.2, 0.9
PAUSE_MS = 100.0  # between two steps down: those that were slow together count once
BUSY = "The server has more to do than it can answer in time. Nothing was done; try again in a moment."
HEALTH = "/api/health"
SIGNALS = ("POST", "/api/signals")


class Bound:
    """How many requests may be under way. Times are monotonic ms."""

    def __init__(self) -> None:
        self.limit = float(MOST)
        self.under_way = 0
        self._due_ms = 0.0

    def begin(self) -> bool:
        """Whether there is room; then `end` must follow."""
        if self.under_way >= int(self.limit):
            return False
        self.under_way += 1
        return True

    def end(self, took_ms: float, now_ms: float) -> None:
        self.under_way -= 1
        if took_ms <= QUICK_MS:
            self.limit = min(float(MOST), self.limit + GROW)
        elif now_ms >= self._due_ms:
            self.limit = max(float(FEWEST), self.limit * SHRINK)
            self._due_ms = now_ms + PAUSE_MS


class ShedLoad:
    """An ASGI application around another. Health is always answered: it says whether the process lives."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self.bound = Bound()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == HEALTH:
            await self._application(scope, receive, send)
            return
        if not self.bound.begin():
            metrics.shed_requests.inc()
            await _refuse(scope, send)
            return
        began = monotonic_ms()
        try:
            await self._application(scope, receive, send)
        finally:
            now = monotonic_ms()
            self.bound.end(now - began, now)


async def _refuse(scope: Any, send: Any) -> None:
    """Of a signal that is sent again, an earlier send may have been recorded: that is no refusal."""
    unknown = (scope["method"], scope["path"]) == SIGNALS
    said = (
        {"code": Code.ACCEPT_UNKNOWN, "message": AcceptUnknown.message}
        if unknown
        else {"code": Code.UNAVAILABLE, "message": BUSY}
    )
    headers = [
        (b"content-type", b"application/json"),
        (b"retry-after", b"1"),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(said).encode()})
