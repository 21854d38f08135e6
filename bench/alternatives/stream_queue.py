"""The floor: no task queue at all. An entry in the worker's own stream, read with a blocking XREADGROUP, acknowledged after."""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import redis
import redis.asyncio

from bench.work import Work

NAME = "floor: a raw stream"
WARM = ()
GROUP = "bench"


def stream(index: int) -> str:
    return f"bench:stream:{index}"


class Sender:
    def __init__(self, url: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(url)

    async def send(self, terminals: Sequence[int], signal: dict[str, Any]) -> None:
        body = json.dumps(signal)
        pipe = self._redis.pipeline(transaction=False)
        for index in terminals:
            pipe.xadd(stream(index), {"signal": body})
        await pipe.execute()


def serve(index: int, ready: Callable[[], None]) -> None:
    work = Work("stream", index)
    client: Any = redis.Redis.from_url(os.environ["BENCH_REDIS"], socket_timeout=None)
    client.xgroup_create(stream(index), GROUP, id="0", mkstream=True)
    ready()
    while True:
        for _, entries in client.xreadgroup(GROUP, "one", {stream(index): ">"}, count=10, block=5_000) or ():
            for entry_id, fields in entries:
                work.run(json.loads(fields[b"signal"]))
                client.xack(stream(index), GROUP, entry_id)
