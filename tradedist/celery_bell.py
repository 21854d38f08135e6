"""What ends the sleep of a worker that asks its broker seldom: a signal, or the word that the broker is gone.

Precedes: a worker's event loop, by `Hears`. Follows: who asks the same Redis more often, as an executor's link does. A
worker that asked by itself twice a second took as much of the processor as the rest of an idle executor.
"""

import contextlib
import signal
import socket
import threading
from typing import Any

import redis
from celery import Celery, bootsteps

# Of the server, which answers BRPOP at once when there is a task; and of each look at what a connection may have become.
SELDOM_S = 30.0
# A connection whose other end is gone without a word is closed by the kernel; one that hangs is told of.
KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3}


class Bell:
    """`lost` may be called from any thread. Made after the fork; its two sockets live as long as the process."""

    def __init__(self) -> None:
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._writer.setblocking(False)
        self.times = 0  # that the broker was said to be gone
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def lost(self) -> None:
        """The broker did not answer: whoever waits for it connects anew."""
        self.times += 1
        self.ring()

    def ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full of rings that were not heard yet
            self._writer.send(b"\0")

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.reader.recv(4096):
                pass


class Connected(bootsteps.StartStopStep):
    """What was said before the connection was made is not said of it. Another new one at once would lose the task that the
    first has just asked for."""

    requires = ("celery.worker.consumer.connection:Connection",)
    known = 0

    def include_if(self, parent: Any) -> bool:
        return Hears.bell is not None

    def start(self, parent: Any) -> None:
        assert Hears.bell is not None
        Connected.known = Hears.bell.times


class Hears(bootsteps.StartStopStep):
    """In the worker's event loop. What was said since the connection was made ends it."""

    requires = ("celery.worker.consumer.tasks:Tasks", Connected)
    bell: Bell | None = None

    def include_if(self, parent: Any) -> bool:
        return self.bell is not None

    def start(self, parent: Any) -> None:
        assert self.bell is not None
        parent.hub.add_reader(self.bell.reader.fileno(), self._heard)
        if self.bell.times != Connected.known:
            self.bell.ring()

    def _heard(self) -> None:
        assert self.bell is not None
        self.bell.drain()
        if self.bell.times != Connected.known:
            raise redis.exceptions.ConnectionError("the broker does not answer others: connecting anew")


def asks_seldom(app: Celery, bell: Bell) -> None:
    """For a worker whose broker another thread watches, before it is made."""
    Hears.bell = bell
    app.steps["consumer"].update((Connected, Hears))
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "brpop_timeout": SELDOM_S,
        "health_check_interval": SELDOM_S,
        "binding_look_s": SELDOM_S,
        "unacked_restore_interval": SELDOM_S,
        "unacked_restore_throttle": 1,
        "socket_keepalive_options": {
            getattr(socket, name): value for name, value in KEEPALIVE.items() if hasattr(socket, name)
        },
    }
