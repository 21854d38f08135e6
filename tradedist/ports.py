"""Ports on this machine: is one free, who holds it, where are several free in a row.

Precedes: `running`, which refuses to start on a busy port, and the tests, which take free ones.
"""

import errno
import random
import socket
from contextlib import closing

import psutil

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
IN_USE = "is in use"

# Below the range from which Linux gives ports to outgoing connections, so that none of those is in the way.
LOWEST, HIGHEST = 15_000, 32_000


def trouble(port: int, host: str = "127.0.0.1", kind: socket.SocketKind = TCP) -> str:
    """Why no server could listen there now; "" when one could. A closed connection's wait (TIME_WAIT) does not count."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, kind)) as probe:
        if kind == TCP:
            # Only for TCP: with it two UDP sockets may share a port without anyone noticing.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            if kind == TCP:
                probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return IN_USE
            return f"cannot be used on {host}: {error.strerror or error}"
    return ""


def is_free(port: int, host: str = "127.0.0.1", kind: socket.SocketKind = TCP) -> bool:
    return not trouble(port, host, kind)


def free_block(count: int) -> int:
    """The first of `count` ports in a row that are all free now, for TCP and UDP."""
    for _ in range(500):
        first = random.randrange(LOWEST, HIGHEST - count)
        block = range(first, first + count)
        if all(is_free(port) and is_free(port, kind=UDP) for port in block):
            return first
    raise OSError(f"no {count} free ports in a row between {LOWEST} and {HIGHEST}")


def holder(port: int) -> str:
    """Who listens on the port, for a message: `valkey-server (pid 12)`, or empty when it may not be known."""
    try:
        connections = psutil.net_connections(kind="inet")
    except psutil.AccessDenied:  # macOS shows other processes' sockets to root only
        return ""
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN or connection.type == UDP
        if not listens or not connection.laddr or connection.laddr.port != port or connection.pid is None:
            continue
        try:
            return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
        except psutil.Error:
            return f"pid {connection.pid}"
    return ""
