"""Clients that go away while their signal is accepted, against the real web process: each signal is recorded whole or not."""

import asyncio
import json
import random
import socket
import struct
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async

from executors import tokens
from executors.messages import ExecutionReport, Leg
from tests.integration.live import make_terminal, make_user, session_cookie
from tests.integration.test_sockets_server import Web, run_web
from tradedist import keys

pytestmark = pytest.mark.django_db(transaction=True)

POSTS, SOCKETS = 500, 60
TERMINALS = [f"t-{number}" for number in range(8)]


def a_signal() -> dict[str, Any]:
    return {
        "signal_id": str(uuid4()),
        "action": "open",
        "symbol": "EURUSD",
        "side": "buy",
        "lots": 0.1,
        "targets": {"terminals": TERMINALS},
    }


async def abort(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """An end in order, or as of a client whose machine is gone."""
    raw: socket.socket = writer.get_extra_info("socket")
    if reset:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def aborted_post(web: Web, token: str, body: dict[str, Any], chance: random.Random) -> None:
    raw = json.dumps(body).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(
        f"POST /api/signals HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode()
    )
    writer.write(raw if chance.random() > 0.05 else raw[: len(raw) // 2])
    await writer.drain()
    await asyncio.sleep(chance.random() ** 3)
    await abort(writer, reset=chance.random() < 0.5)


async def aborted_socket(web: Web, cookie: str, bodies: list[dict[str, Any]], chance: random.Random) -> None:
    client = await web.open(cookie=cookie, compression=None)
    for body in bodies:
        await client.send(json.dumps({"type": "signal", "request_id": "", "signal": body}))
    await asyncio.sleep(chance.random() ** 3)
    client.transport.abort()


def whole(client: Any, signal_id: str) -> bool:
    """Whether it is there; a part of it fails the test."""
    order_ids = [f"{signal_id}:{terminal}" for terminal in TERMINALS]
    orders = [client.hget(keys.order(name), "leg") for name in order_ids]
    waiting = [client.zscore(keys.outbox(name.partition(":")[2]), name) for name in order_ids]
    unsettled = [client.zscore(keys.UNSETTLED, name) for name in order_ids]
    listed = client.zscore(keys.SIGNALS, signal_id)
    record = client.hget(keys.signal(signal_id), "orders")
    if record is None:
        assert (listed, any(orders), any(waiting), any(unsettled)) == (None, False, False, False)
        return False
    assert json.loads(record) == order_ids
    assert listed is not None
    assert [Leg.model_validate_json(text).leg_seq for text in orders] == waiting
    assert all(unsettled)
    return True


async def test_an_aborted_signal_is_recorded_whole_or_not_at_all(tmp_path: Path, state_redis: Any) -> None:
    chance = random.Random(7)
    for terminal in TERMINALS:
        await sync_to_async(make_terminal)(terminal, login=100 + TERMINALS.index(terminal))
    grants = {name.replace("-", "_"): "trade" for name in TERMINALS}
    users = [
        await sync_to_async(make_user)(f"trader-{number}", **grants) for number in range(5)
    ]  # of 200 at once each
    tokens_of = [(await sync_to_async(tokens.create)(user, "test", actor="test"))[0] for user in users]
    cookie = await sync_to_async(session_cookie)(users[0])
    posted = [a_signal() for _ in range(POSTS)]
    spoken = [[a_signal() for _ in range(3)] for _ in range(SOCKETS)]
    at_once = asyncio.Semaphore(16)

    async def one(work: Any) -> None:
        async with at_once:
            await work

    with run_web(tmp_path, ORDERS_PER_SECOND="100000", SOCKETS_PER_USER="1000") as web:
        work = [aborted_post(web, tokens_of[place % 5], body, chance) for place, body in enumerate(posted)]
        work += [aborted_socket(web, cookie, bodies, chance) for bodies in spoken]
        chance.shuffle(work)
        await asyncio.gather(*(one(item) for item in work))
        await asyncio.sleep(1)  # what was under way ends
    sent = [body["signal_id"] for body in (*posted, *(body for bodies in spoken for body in bodies))]
    found = [signal_id for signal_id in sent if whole(state_redis, signal_id)]
    print(f"\n{len(found)} of {len(sent)} aborted signals are recorded")
    assert 0 < len(found) < len(sent)
    reports = [
        ExecutionReport.model_validate_json(fields["report"])
        for _, fields in state_redis.xrange(keys.REPORTS)
    ]
    assert len(reports) == len(found) * len(TERMINALS)
    for terminal in TERMINALS:  # numbers without gaps: nothing was begun and left
        seqs = sorted(
            int(seq) for _, seq in state_redis.zrange(keys.outbox(terminal), 0, -1, withscores=True)
        )
        assert seqs == list(range(1, len(found) + 1))
