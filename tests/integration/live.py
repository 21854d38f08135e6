"""What the socket tests stand on: users with terminals, reports and ticks written as their owners write them, and a
client that reads numbered messages through the real ASGI application."""

import asyncio
import json
from typing import Any
from uuid import uuid4

from channels.testing import WebsocketCommunicator
from django.contrib.auth import get_user_model
from django.test import Client

from charts.messages import Candle, MarketUpdate, Tick
from executors.messages import ExecutionReport, TerminalUpdate
from executors.models import Member, Terminal, TerminalGrant
from executors.orders import OrderState, order_id
from tradedist import keys
from tradedist.clock import now_ms

ORIGIN = b"http://testserver:8000"
HOST = b"testserver:8000"


def make_terminal(terminal_id: str, **fields: Any) -> Terminal:
    return Terminal.objects.create(
        terminal_id=terminal_id,
        label=fields.pop("label", terminal_id.title()),
        kind="paper",
        login=fields.pop("login", int.from_bytes(terminal_id.encode()[-5:], "big")),
        server="Paper-Demo",
        **fields,
    )


def make_user(name: str, role: str = "trader", **grants: str) -> Any:
    """`grants`: terminal_id (with _ for -) → view or trade."""
    user = get_user_model().objects.create_user(name, password="not-used-here")
    Member.objects.update_or_create(user=user, defaults={"role": role})
    for terminal_id, level in grants.items():
        TerminalGrant.objects.create(user=user, terminal_id=terminal_id.replace("_", "-"), level=level)
    return user


def session_cookie(user: Any) -> str:
    client = Client()
    client.force_login(user)
    return f"sessionid={client.cookies['sessionid'].value}"


def a_report(
    terminal_id: str, *, signal_id: str | None = None, seq: int = 0, **fields: Any
) -> ExecutionReport:
    signal_id = signal_id or str(uuid4())
    values: dict[str, Any] = {
        "state": OrderState.FILLED,
        "action": "open",
        "symbol": "EURUSD",
        "side": "buy",
        "lots": "0.10",
        "time_ms": now_ms(),
        **fields,
    }
    return ExecutionReport(
        order_id=order_id(signal_id, terminal_id),
        signal_id=signal_id,
        terminal_id=terminal_id,
        report_seq=seq,
        **values,
    )


def publish_report(redis: Any, report: ExecutionReport) -> str:
    """As the executor's link does: into the stream."""
    entry_id: str = redis.xadd(keys.REPORTS, {"report": report.model_dump_json()})
    return entry_id


def publish_terminal(redis: Any, update: TerminalUpdate) -> None:
    redis.publish(keys.RTS_CHANGES, update.model_dump_json(exclude_none=True))


def a_candle(
    open_ms: int, close: float = 1.1, *, seconds: int = 60, forming: bool = False, ticks: int = 1
) -> Candle:
    return Candle(
        symbol="EURUSD",
        seconds=seconds,
        open_ms=open_ms,
        open=1.1,
        high=max(1.1, close),
        low=min(1.1, close),
        close=close,
        ticks=ticks,
        forming=forming,
    )


def publish_market(
    redis: Any,
    bid: float,
    *,
    symbol: str = "EURUSD",
    time_ms: int | None = None,
    candles: tuple[Candle, ...] = (),
) -> None:
    update = MarketUpdate(
        tick=Tick(symbol=symbol, time_ms=time_ms or now_ms(), bid=bid, ask=bid + 0.0001),
        forming=[candle for candle in candles if candle.forming],
        closed=[candle for candle in candles if not candle.forming],
    )
    redis.publish(keys.market_channel(symbol), update.model_dump_json())


class Socket:
    """A WebSocket through the ASGI application. Checks the numbers of all it reads."""

    def __init__(self, path: str, *, cookie: str = "", headers: dict[bytes, bytes] | None = None) -> None:
        from tradedist.asgi import application

        given = {b"host": HOST, b"origin": ORIGIN, b"cookie": cookie.encode()} if headers is None else headers
        self.communicator = WebsocketCommunicator(application, path, headers=list(given.items()))
        self.n = 0

    async def __aenter__(self) -> "Socket":
        connected, _ = await self.communicator.connect(timeout=30)
        assert connected, "the handshake was refused"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.communicator.disconnect(timeout=30)

    async def refused(self) -> bool:
        connected, _ = await self.communicator.connect(timeout=30)
        return not connected

    async def send(self, message: Any) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        await self.communicator.send_to(text_data=text)

    async def read(self, limit_s: float = 30) -> dict[str, Any]:
        output = await self.communicator.receive_output(limit_s)
        assert output["type"] == "websocket.send", output
        message: dict[str, Any] = json.loads(output["text"])
        self.n += 1
        assert message["n"] == self.n
        return message

    async def read_until(self, kind: str, limit_s: float = 30) -> dict[str, Any]:
        async with asyncio.timeout(limit_s):
            while (message := await self.read(limit_s))["type"] != kind:
                pass
        return message

    async def silent(self, seconds: float = 0.2) -> bool:
        return bool(await self.communicator.receive_nothing(seconds, 0.01))

    async def closed(self, limit_s: float = 30) -> int:
        """The close code; what came before it is read over."""
        async with asyncio.timeout(limit_s):
            while True:
                output = await self.communicator.receive_output(limit_s)
                if output["type"] == "websocket.close":
                    code: int = output["code"]
                    return code


def a_signal(*terminals: str, **fields: Any) -> dict[str, Any]:
    """An order of 0.1 lots to the terminals."""
    return {
        "signal_id": str(uuid4()),
        "action": "open",
        "symbol": "EURUSD",
        "side": "buy",
        "lots": 0.1,
        "targets": {"terminals": list(terminals)},
        **fields,
    }
