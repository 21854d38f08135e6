"""Celery's Redis transport, over connections that look for the primary.

Precedes: `celery`, which names it. Follows: `primary`.
"""

from typing import Any, cast

from kombu.transport import redis as kombu_redis

from tradedist.nodes import Node
from tradedist.primary import PrimaryConnection, PrimaryConnectionTLS


class Channel(kombu_redis.Channel):
    connection_class = PrimaryConnection
    connection_class_ssl = PrimaryConnectionTLS
    nodes: tuple[Node, ...] = ()
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "nodes")

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params: dict[str, Any] = cast(Any, super())._connparams(asynchronous)
        return params | {"nodes": self.nodes or ((params["host"], params["port"]),)}


class Transport(kombu_redis.Transport):
    Channel = Channel
    # Half a second instead of one: a broker that hangs is noticed half a second sooner, and since each answer counts as a
    # sign of life, the PING that went before every other BRPOP is not needed.
    brpop_timeout: Any = 0.5
