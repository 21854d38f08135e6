"""The web process with plain Celery in place of accept: the same Daphne, socket, checks of the signal, hub and mailbox.

Run by `browser.py`, never by the platform. Its worker writes the reports that the hub reads into the same result stream.
"""

import os
import sys
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradedist.settings")

import django

django.setup()

from channels.routing import ProtocolTypeRouter, URLRouter
from daphne.endpoints import build_endpoint_description_strings
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path

from bench.alternatives.celery_queue import Sender
from executors.consumers import Asked, OrderSocket
from executors.dispatch import parse
from executors.errors import Refused
from executors.management.commands.run_web import SWITCH_S
from executors.messages import SendSignal
from executors.tokens import find_user
from tradedist import hub
from tradedist.server import WebServer
from tradedist.socket_auth import SocketAuth

sender = Sender(settings.REDIS_STATE_URL)


class PlainSocket(OrderSocket):
    async def _accept(self, message: SendSignal, asked: Asked) -> None:
        try:
            signal = parse(message.signal)
        except Refused as refused:
            self.answer({"type": "refused", "request_id": message.request_id, "message": refused.message})
            return
        indexes = [int(name.rpartition("-")[2]) for name in signal.targets.terminals]
        await sender.send(indexes, message.signal)
        self.answer({"type": "accepted", "request_id": message.request_id, "created": True})


def start() -> None:
    hub.current()


async def stop() -> None:
    hub.current().shut()


def main(port: int) -> None:
    sys.setswitchinterval(SWITCH_S)
    sockets: Any = URLRouter([path("ws/orders/", PlainSocket.as_asgi())])
    server = WebServer(
        ProtocolTypeRouter(
            {
                "http": get_asgi_application(),
                "websocket": SocketAuth(sockets, find_user),
            }
        ),
        endpoints=build_endpoint_description_strings(host="127.0.0.1", port=port),
        max_connections=settings.MAX_CONNECTIONS,
        on_start=start,
        on_stop=stop,
    )
    server.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
