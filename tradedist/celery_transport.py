"""Celery's Redis transport, over connections that look for the primary.

Precedes: `celery`, which names it. Follows: `primary`.
"""

from typing import Any, cast

import redis
from kombu.transport import redis as kombu_redis

from tradedist.nodes import Node
from tradedist.primary import PrimaryConnection, PrimaryConnectionTLS

READ_SIZE = 8_192  # of each connection, for good: redis-py's own is 64 KB, and a worker has five connections


class Channel(kombu_redis.Channel):
    connection_class = PrimaryConnection
    connection_class_ssl = PrimaryConnectionTLS
    nodes: tuple[Node, ...] = ()
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "nodes")

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params: dict[str, Any] = cast(Any, super())._connparams(asynchronous)
        nodes = self.nodes or ((params["host"], params["port"]),)
        return params | {"nodes": nodes, "socket_read_size": READ_SIZE}

    def close(self) -> None:
        """Without waiting for the answer to a BRPOP that may be long in coming.

        What the server gives out in this very moment is lost to Celery, as with a killed worker; the outbox has it.
        """
        polling = cast(Any, self)._in_poll
        if polling and not _answered(polling):
            polling.disconnect()
            cast(Any, self)._in_poll = None
        super().close()


def _answered(connection: Any) -> bool:
    try:
        return bool(connection.can_read(0))
    except redis.RedisError:
        return False  # nothing will come of it


class Transport(kombu_redis.Transport):
    Channel = Channel
    # Half a second instead of one: a broker that hangs is noticed half a second sooner, and since each answer counts as a
    # sign of life, the PING that went before every other BRPOP is not needed. A worker that is told waits longer.
    brpop_timeout: Any = 0.5

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self.brpop_timeout = client.transport_options.get("brpop_timeout", self.brpop_timeout)

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """kombu looks once a second whether its bindings, which live for an hour, grow old."""
        super().register_with_event_loop(connection, loop)
        look_s = connection.client.transport_options.get("binding_look_s")
        cycle = cast(Any, self).cycle
        if look_s:
            cycle._binding_expiry_tref.cancel()
            cycle._binding_expiry_tref = loop.call_repeatedly(look_s, cycle.maybe_refresh_binding_expiry)
