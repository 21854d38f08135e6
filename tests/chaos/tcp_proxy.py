"""A TCP proxy in front of a server: its network can be cut, and led to another server, as a failover does."""

import contextlib
import socket
import threading

from tradedist.ports import free_block


class TcpProxy:
    """Listens on `port`. Threads carry the bytes; all end with `close`."""

    def __init__(self, leads_to: int) -> None:
        self.leads_to = leads_to
        self.port = free_block(1)
        self._cut = False
        self._pipes: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._listen, daemon=True).start()

    def cut(self) -> None:
        """Every connection ends; new ones are closed at once."""
        self._cut = True
        self.drop()

    def mend(self) -> None:
        self._cut = False

    def lead(self, port: int) -> None:
        """From now on to another server."""
        self.leads_to = port
        self.drop()

    def drop(self) -> None:
        with self._lock:
            pipes, self._pipes = self._pipes, set()
        for end in pipes:
            with contextlib.suppress(OSError):  # it has ended by itself
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._cut:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.leads_to), timeout=2)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pipes |= {client, server}
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):  # either end has gone
            while chunk := source.recv(65_536):
                target.sendall(chunk)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._pipes.discard(source)
        source.close()
