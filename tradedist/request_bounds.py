"""Ends HTTP requests whose body is larger than anything we take, while it comes in: Daphne keeps whole bodies on disk.

Follows: `server`, which gives it to each connection. Precedes: Django, whose own limits (64 KiB for the API, 1 MiB for
forms) need the whole body to have arrived.
"""

import json
from http import HTTPStatus

from daphne.http_protocol import WebRequest
from twisted.web.http import RESPONSES

from executors.errors import Code

MAX_BODY_BYTES = 1024 * 1024 + 64 * 1024  # forms may have 1 MiB (DATA_UPLOAD_MAX_MEMORY_SIZE)

# Twisted knows no words for some statuses that we answer with (422, 429).
RESPONSES.update(
    {status.value: status.phrase.encode() for status in HTTPStatus if status.value not in RESPONSES}
)

_BODY = json.dumps({"code": Code.TOO_LARGE, "message": "The request is too large."}).encode()
TOO_LARGE = (
    b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


class BoundedRequest(WebRequest):
    _received = 0

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0 if length is not None and length > MAX_BODY_BYTES else length)
        if length is not None and length > MAX_BODY_BYTES:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Bodies without a length are counted as they come."""
        self._received += len(data)
        if self._received <= MAX_BODY_BYTES:
            super().handleContentChunk(data)
        else:
            self._refuse()

    def _refuse(self) -> None:
        self._received = MAX_BODY_BYTES + 1  # what still comes is dropped
        if not self.channel.transport.disconnecting:
            self.channel.transport.write(TOO_LARGE)
            self.channel.loseConnection()
