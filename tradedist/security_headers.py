"""The Content-Security-Policy of every answer: scripts, styles and connections from this site alone, nothing inline.

Follows: every view. Django's own middleware adds the other headers (see settings, SECURE_*).
"""

from django.http import HttpRequest, HttpResponseBase

from tradedist.layers import AnswerLayer

# The one style element that lightweight-charts makes, for the attribution it asks for (tests/frontend compares).
CHART_STYLE = "sha256-3pRED1tOXas1FXFoPb9TGCjmYe9XQsmO9OV23khV2nY="

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        f"style-src 'self' '{CHART_STYLE}'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


class ContentSecurityPolicy(AnswerLayer):
    def finish(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response
