"""A lossy way to the executors: wake-ups pass through here while it is on, and are lost, doubled, garbled, late or reset.

It stands in for a bad network without touching the machine's: the addresses that executors announce in Redis are replaced
by its own, again and again, since each executor announces itself every second. Whoever reads one in between goes direct.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Mapping
from typing import Any

import redis

from tests.stack import Stack
from tradedist import keys

EVERY_S = 0.05
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closed with RST, what is under way is lost


class Detour:
    """One UDP and one TCP port for each terminal. `faults`: loss, double, garble, reset as shares, and delay_s."""

    def __init__(self, stack: Stack, terminals: tuple[str, ...], seed: int) -> None:
        self._stack = stack
        self._random = random.Random(seed)
        self._ways = {terminal_id: _Way(self._random) for terminal_id in terminals}
        self._client = stack.state()

    async def start(self) -> None:
        for way in self._ways.values():
            await way.start()

    async def stop(self) -> None:
        for way in self._ways.values():
            await way.stop()
        self._client.close()

    async def on(self, target: str, for_s: float, faults: Mapping[str, float]) -> dict[str, int]:
        """Leads the wake-ups of one terminal, or of all, through here; returns what became of them."""
        chosen = {name: way for name, way in self._ways.items() if target in ("", name)}
        for way in chosen.values():
            way.faults = dict(faults)
        until = asyncio.get_running_loop().time() + for_s
        before = {name: way.counts() for name, way in chosen.items()}
        while asyncio.get_running_loop().time() < until:
            with contextlib.suppress(redis.RedisError):  # it is killed, too
                await asyncio.to_thread(self._rewrite, chosen)
            await asyncio.sleep(EVERY_S)
        for way in chosen.values():
            way.faults = {}
        with contextlib.suppress(redis.RedisError):
            await asyncio.to_thread(self._restore, chosen)
        after = {name: way.counts() for name, way in chosen.items()}
        return {key: sum(after[name][key] - before[name][key] for name in chosen) for key in _Way.COUNTED}

    def _rewrite(self, chosen: Mapping[str, "_Way"]) -> None:
        pipe = self._client.pipeline(transaction=False)
        for name in chosen:
            pipe.hget(keys.instance(name), "address")
        for (name, way), address in zip(chosen.items(), pipe.execute(), strict=True):
            if address and address != way.address:
                way.leads_to = address
                pipe.hset(keys.instance(name), "address", way.address)
        pipe.execute()

    def _restore(self, chosen: Mapping[str, "_Way"]) -> None:
        """An executor that was restarted meanwhile has announced its new address by itself."""
        for name, way in chosen.items():
            if way.leads_to and self._client.hget(keys.instance(name), "address") == way.address:
                self._client.hset(keys.instance(name), "address", way.leads_to)


class _Way(asyncio.DatagramProtocol):
    COUNTED = ("passed", "lost", "resets")

    def __init__(self, choice: random.Random) -> None:
        self.faults: dict[str, float] = {}
        self.leads_to = ""
        self.address = ""
        self.passed = self.lost = self.resets = 0
        self._random = choice
        self._writers: set[asyncio.StreamWriter] = set()

    def counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.COUNTED}

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(20):
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
            port = self._server.sockets[0].getsockname()[1]
            try:
                self._udp, _ = await loop.create_datagram_endpoint(
                    lambda: self, local_addr=("127.0.0.1", port)
                )
            except OSError:
                self._server.close()
                continue
            self.address = f"127.0.0.1:{port}"
            self._out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            return
        raise OSError("no port is free for both UDP and TCP")

    async def stop(self) -> None:
        self._server.close()
        self._udp.close()
        self._out.close()
        for writer in self._writers:
            writer.close()

    # --- datagrams ---

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if not self.leads_to or self._strikes("loss"):
            self.lost += 1
            return
        if self._strikes("garble"):
            place = self._random.randrange(len(data))
            data = data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]
        host, _, port = self.leads_to.rpartition(":")
        for _ in range(2 if self._strikes("double") else 1):
            delay_s = self._random.random() * self.faults.get("delay_s", 0.0)
            asyncio.get_running_loop().call_later(delay_s, self._forward, data, (host, int(port)))
        self.passed += 1

    def _forward(self, data: bytes, address: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):  # the executor is gone
            self._out.sendto(data, address)

    # --- connections ---

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.leads_to.rpartition(":")
        self._writers.add(writer)
        try:
            _, onward = await asyncio.open_connection(host, int(port or 0))
        except OSError:
            self._cut(writer)
            return
        self._writers.add(onward)
        try:
            while data := await reader.read(65_536):
                if self._strikes("reset"):
                    self.resets += 1
                    onward.write(data[: self._random.randrange(len(data))])  # half a frame may have come
                    self._cut(writer)
                    break
                await asyncio.sleep(self._random.random() * self.faults.get("delay_s", 0.0))
                onward.write(data)
                await onward.drain()
        except OSError:
            self._cut(writer)
        finally:
            for end in (writer, onward):
                self._writers.discard(end)
                end.close()

    def _cut(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        if (sock := writer.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    def _strikes(self, name: str) -> bool:
        return self._random.random() < self.faults.get(name, 0.0)
