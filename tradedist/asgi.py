"""The ASGI application: HTTP to Django, the two WebSockets to their consumers.

Follows: `manage.py run_web` or any ASGI server. Precedes: urls and the apps' consumers.
"""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradedist.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()  # sets Django up: the consumers import models

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path, re_path

from charts.consumers import ChartSocket
from executors.consumers import OrderSocket
from executors.tokens import find_user
from tradedist.celery import app as celery_app
from tradedist.overload import ShedLoad
from tradedist.socket_auth import SocketAuth, refuse


async def no_such_socket(scope: Any, receive: Any, send: Any) -> None:
    await refuse(receive, send)


application = ProtocolTypeRouter(
    {
        "http": ShedLoad(http),
        "websocket": SocketAuth(
            URLRouter(
                [
                    path("ws/orders/", OrderSocket.as_asgi()),
                    path("ws/chart/", ChartSocket.as_asgi()),
                    re_path("", no_such_socket),  # type: ignore[arg-type]  # Django's types want a view
                ]
            ),
            find_user,
        ),
    }
)

celery_app.set_default()  # accept publishes with the current application, in whatever thread
