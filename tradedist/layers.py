"""A middleware that works on answers, in Django's synchronous and asynchronous chains without a thread in between.

Precedes: `http_errors` and `security_headers` say what is done with an answer.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase


class AnswerLayer:
    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._asynchronous = iscoroutinefunction(get_response)
        if self._asynchronous:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._asynchronous:
            return self._later(request)
        return self.finish(request, self.get_response(request))

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        return self.finish(request, await self.get_response(request))

    def finish(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        raise NotImplementedError
