"""Runs the web process: HTTP, the two WebSockets and the admin, on HOST and PORT, until SIGTERM.

Precedes: tradedist.server and tradedist.asgi. Follows: an operator, `make run` or a systemd unit.
"""

import gc
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import get_resolver

SWITCH_S = (
    0.0005  # the event loop gets its turn after this, not after 5 ms of a thread that publishes or reads
)


class Command(BaseCommand):
    help = "Serves the page, REST and the WebSockets."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=settings.HOST)
        parser.add_argument("--port", type=int, default=settings.PORT)

    def handle(self, *args: Any, **options: Any) -> None:
        from daphne.endpoints import build_endpoint_description_strings

        from tradedist.asgi import application
        from tradedist.server import WebServer

        sys.setswitchinterval(SWITCH_S)
        list(get_resolver().url_patterns)  # loads every view now instead of with the first request
        # what the program itself consists of is never garbage: looking through it would hold an order up for 70 ms
        gc.collect()
        gc.freeze()
        host, port = options["host"], options["port"]
        server = WebServer(
            application,
            endpoints=build_endpoint_description_strings(host=host, port=port),
            max_connections=settings.MAX_CONNECTIONS,
            on_start=start,
            on_stop=stop,
        )
        server.run()
        if server.failed:
            raise CommandError(f"{host}:{port} cannot be listened on. Free it, or set HOST or PORT.")


def start() -> None:
    """The hub reads from the beginning, so that the metrics count without any socket open."""
    from executors.dispatch import open_process
    from tradedist import hub

    hub.current()
    open_process()


async def stop() -> None:
    """Tells the sockets, and waits until signals under way are recorded."""
    from executors.consumers import finish_accepting
    from executors.dispatch import close_process
    from tradedist import hub

    hub.current().shut()
    await finish_accepting()
    await close_process()
