"""A Prometheus port of a process without HTTP of its own (supervisor, feed), loopback only.

Precedes: what scrapes it. Follows: a registry of collectors. Who connects and says nothing, or leaves before the answer, costs a
thread for a few seconds and no word in the log.
"""

import logging
import sys
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

logger = logging.getLogger(__name__)

SILENCE_S = 5.0


def serve_metrics(port: int, registry: CollectorRegistry) -> tuple[WSGIServer, Thread]:
    server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    handler: Any = server.RequestHandlerClass
    server.RequestHandlerClass = type("Handler", (handler,), {"timeout": SILENCE_S})
    server.handle_error = _note  # type: ignore[method-assign]  # its only way to be told
    return server, thread


def _note(request: object, client_address: object) -> None:
    logger.debug("a client of the metrics' port left: %s", sys.exc_info()[1])
