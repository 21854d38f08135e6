"""Connections to whichever of several Redis servers is the primary now, and away from one that is it no more.

Precedes: the clients in `redis` and Celery's transport. Follows: a URL that may name several servers. Each new connection
asks them for their role, the last primary first: faster after a failover than a Sentinel's word, which comes a second or
two later. With one server (a name or address that moves) only its READONLY is heeded: connecting resolves the name anew.
"""

from typing import Any, cast
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.exceptions import ReadOnlyError, ResponseError

from tradedist.nodes import Node, read_nodes

# To connect to one of several, and for each answer until its role is known: a host that is gone, or a server that hangs,
# must not hold up the way to the others.
NODE_TIMEOUT_S = 0.5
NOT_ENOUGH = "NOREPLICAS"  # a primary that its replicas have left, maybe for a new one

_last_primary: dict[tuple[Node, ...], Node] = {}  # of this process


def connects(url: str, *, asynchronous: bool = False) -> dict[str, Any]:
    """What `from_url` needs beside the URL of `read_nodes`."""
    _, nodes = read_nodes(url)
    if not nodes:
        return {}
    secure = urlsplit(url).scheme == "rediss"
    if asynchronous:
        kind: Any = AsyncPrimaryConnectionTLS if secure else AsyncPrimaryConnection
    else:
        kind = PrimaryConnectionTLS if secure else PrimaryConnection
    return {"connection_class": kind, "nodes": nodes}


def _in_turn(nodes: tuple[Node, ...]) -> list[Node]:
    last = _last_primary.get(nodes)
    return sorted(nodes, key=lambda node: node != last)


def _leave(nodes: tuple[Node, ...], node: Node) -> None:
    if _last_primary.get(nodes) == node:
        del _last_primary[nodes]


def _check_role(role: Any, nodes: tuple[Node, ...], node: Node) -> None:
    name = role[0].decode() if isinstance(role[0], bytes) else role[0]
    if name != "master":
        raise redis.ConnectionError(f"{node[0]}:{node[1]} is no primary ({name}).")
    _last_primary[nodes] = node


def _turned_away(error: Exception, nodes: tuple[Node, ...], node: Node) -> bool:
    """Whether that answer says that the server is no primary, or not for us. Then another one is asked first next time."""
    demoted = isinstance(error, ReadOnlyError) or (len(nodes) > 1 and str(error).startswith(NOT_ENOUGH))
    if demoted:
        _leave(nodes, node)
    return demoted


class _OfNodes:
    """What a connection is, whether it waits in a thread or in an event loop."""

    host: str
    port: Any

    def __init__(self, *, nodes: tuple[Node, ...], **options: Any) -> None:
        self._nodes = nodes
        if len(nodes) > 1:
            options["socket_connect_timeout"] = NODE_TIMEOUT_S
        cast(Any, super()).__init__(**options)

    @property
    def node(self) -> Node:
        return self.host, int(self.port)

    def turned_away(self, error: Exception) -> bool:
        """For who reads this connection's answers himself: see `_turned_away`."""
        return _turned_away(error, self._nodes, self.node)

    def silent(self) -> None:
        """The same, when none came in time: the next connection asks another server first."""
        _leave(self._nodes, self.node)


class PrimaryConnection(_OfNodes, redis.Connection):
    """One server of `nodes`: the primary when it was connected to."""

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if cast(Any, self)._sock:
            return
        failed: redis.RedisError | None = None
        for node in _in_turn(self._nodes):
            self.host, self.port = node
            try:
                super().connect_check_health(check_health, retry_socket_connect)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                _leave(self._nodes, node)
                failed = error
            else:
                return
        assert failed is not None, "there is at least one server"
        raise failed

    def on_connect_check_health(self, check_health: bool = True) -> None:
        if len(self._nodes) == 1:
            super().on_connect_check_health(check_health)
            return
        self.update_current_socket_timeout(NODE_TIMEOUT_S)
        super().on_connect_check_health(check_health)
        cast(Any, self).send_command("ROLE", check_health=False)
        _check_role(self.read_response(), self._nodes, self.node)
        self.update_current_socket_timeout(self.socket_timeout)

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)
        except redis.TimeoutError:
            self.silent()
            raise
        except ResponseError as error:
            if not self.turned_away(error):
                raise
            cast(Any, self).disconnect()
            raise redis.ConnectionError(f"{self.host}:{self.port} is no primary any more: {error}") from error


class PrimaryConnectionTLS(PrimaryConnection, redis.SSLConnection):
    pass


class AsyncPrimaryConnection(_OfNodes, redis.asyncio.Connection):
    """The same for an event loop."""

    async def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        if self.is_connected:
            return
        failed: redis.RedisError | None = None
        for node in _in_turn(self._nodes):
            self.host, self.port = node
            try:
                await super().connect_check_health(check_health, retry_socket_connect)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                _leave(self._nodes, node)
                failed = error
            else:
                return
        assert failed is not None, "there is at least one server"
        raise failed

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        if len(self._nodes) == 1:
            await super().on_connect_check_health(check_health)
            return
        own_timeout, self.socket_timeout = self.socket_timeout, NODE_TIMEOUT_S
        try:
            await super().on_connect_check_health(check_health)
            await self.send_command("ROLE", check_health=False)
            _check_role(await self.read_response(), self._nodes, self.node)
        finally:
            self.socket_timeout = own_timeout

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except redis.TimeoutError:
            self.silent()
            raise
        except ResponseError as error:
            if not self.turned_away(error):
                raise
            await self.disconnect(nowait=True)
            raise redis.ConnectionError(f"{self.host}:{self.port} is no primary any more: {error}") from error


class AsyncPrimaryConnectionTLS(AsyncPrimaryConnection, redis.asyncio.SSLConnection):
    pass
