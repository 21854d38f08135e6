"""Clients that send as the page does: what was not answered is kept, and sent again with the same id and its age.

Half of them by socket, which they open again whenever it breaks, half by REST. A signal is done with only when it was
accepted or refused for good.
"""

import asyncio
import contextlib
import json
import random
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.chaos.history import History
from tests.chaos.market import Market
from tests.stack import Stack

SEND_AGAIN = ("ACCEPT_UNKNOWN", "UNAVAILABLE")  # as the page's messages.js has them
ANSWER_S, LONGEST_S = (
    3.0,
    20.0,
)  # silence after which a signal is sent again: doubled with each try, as the page does
LOOK_S = 0.5
MAX_UNANSWERED = 100


@dataclass
class Waiting:
    body: dict[str, Any]
    born: float  # monotonic
    due: float = 0.0
    tries: int = 0
    sends: int = 0
    busy: bool = False  # a request by REST is under way


class Client(ABC):
    """Sends `per_s` signals a second until `stop_at`, then only what is still unanswered."""

    def __init__(
        self, name: str, stack: Stack, history: History, market: Market, per_s: float, seed: str
    ) -> None:
        self.name = name
        self.accepted: dict[str, dict[str, Any]] = {}
        self.refused: dict[str, str] = {}  # signal_id → code
        self.sent: set[str] = set()
        self.waiting: dict[str, Waiting] = {}
        self.repeats = 0
        self._stack, self._history, self._market = stack, history, market
        self._pause_s = 1 / per_s
        self._random, self._jitter = random.Random(seed), random.Random(f"{seed}-jitter")
        self._headers = {"Authorization": f"Bearer {stack.token('trader')}"}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop_at: float) -> None:
        """Makes signals until the monotonic time `stop_at`; ends by being cancelled."""
        keep = asyncio.ensure_future(self.keep())
        due = time.monotonic()
        try:
            while True:
                await asyncio.sleep(max(0.0, min(due - time.monotonic(), LOOK_S)))
                now = time.monotonic()
                if now >= due and now < stop_at:
                    due = max(
                        due + self._pause_s, now - 1.0
                    )  # a moment's delay is made up for, not a minute's
                    if len(self.waiting) < MAX_UNANSWERED:
                        self.place(self._market.wish(self._random))
                for waiting in [item for item in self.waiting.values() if now >= item.due]:
                    self._try(waiting)
        finally:
            for task in (keep, *self._tasks):
                task.cancel()
            await asyncio.gather(keep, *self._tasks, return_exceptions=True)

    @abstractmethod
    async def keep(self) -> None:
        """What goes on beside sending, until it is cancelled."""

    @abstractmethod
    def send(self, waiting: Waiting) -> None:
        """Once; without an answer it is called again."""

    # --- sending and answers ---

    def place(self, body: dict[str, Any]) -> None:
        signal_id = body["signal_id"]
        self.sent.add(signal_id)
        self.waiting[signal_id] = waiting = Waiting(body, time.monotonic())
        facts = {
            key: value for key, value in body.items() if key not in ("signal_id", "action", "order_type")
        }
        self._history.write("invoke", self.name, body["action"], signal_id=signal_id, **facts)
        self._try(waiting)

    def _try(self, waiting: Waiting) -> None:
        silence_s = min(LONGEST_S, ANSWER_S * 2 ** min(waiting.tries, 10)) * self._jitter.uniform(1, 1.5)
        waiting.due = time.monotonic() + silence_s
        waiting.tries += 1
        self.send(waiting)

    def going(self, waiting: Waiting) -> dict[str, Any]:
        """Its body as it goes out now."""
        waiting.sends += 1
        if waiting.sends > 1:
            self.repeats += 1
            self._history.write("info", self.name, "sends again", signal_id=waiting.body["signal_id"])
        return waiting.body | {"age_ms": round((time.monotonic() - waiting.born) * 1000)}

    def on_accepted(self, view: dict[str, Any]) -> None:
        signal_id = view["signal_id"]
        if self.waiting.pop(signal_id, None) is not None:
            self.accepted[signal_id] = view
            states = {order["terminal_id"]: order["state"] for order in view["orders"]}
            self._history.write("ok", self.name, view["action"], signal_id=signal_id, orders=states)

    def on_refused(self, signal_id: str, code: str, message: str) -> None:
        if signal_id not in self.waiting:
            return
        if code in SEND_AGAIN or (code == "RATE_LIMITED" and self.waiting[signal_id].sends > 1):
            self._history.write("info", self.name, "not answered", signal_id=signal_id, code=code)
            return  # tried again after a while
        del self.waiting[signal_id]
        self.refused[signal_id] = code
        self._history.write("fail", self.name, "refused", signal_id=signal_id, code=code, message=message)

    def on_report(self, report: dict[str, Any]) -> None:
        self._market.on_report(report)


class RestClient(Client):
    async def keep(self) -> None:
        self._http = httpx.AsyncClient(base_url=self._stack.base_url, headers=self._headers, timeout=5)
        try:
            await asyncio.Event().wait()
        finally:
            await self._http.aclose()

    def send(self, waiting: Waiting) -> None:
        if waiting.busy:
            return
        waiting.busy = True
        task = asyncio.ensure_future(self._post(waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _post(self, waiting: Waiting) -> None:
        try:
            answer = await self._http.post("/api/signals", json=self.going(waiting))
        except httpx.HTTPError:
            return
        finally:
            waiting.busy = False
        body = (
            json.loads(answer.content)
            if answer.headers.get("content-type", "").startswith("application/json")
            else {}
        )
        if answer.status_code in (200, 202):
            self.on_accepted(body)
        elif "code" in body and answer.status_code != 401:
            self.on_refused(waiting.body["signal_id"], body["code"], body["message"])


class SocketClient(Client):
    _socket: ClientConnection | None = None

    async def keep(self) -> None:
        """One connection after the other."""
        while True:
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                async with connect(
                    f"{self._stack.ws_url}/ws/orders/",
                    additional_headers=self._headers,
                    open_timeout=3,
                    max_size=None,
                ) as opened:
                    await self._talk(opened)
            self._socket = None
            await asyncio.sleep(self._random.uniform(0.05, 0.25))

    async def _talk(self, opened: ClientConnection) -> None:
        expected = 1
        async for text in opened:
            message = json.loads(text)
            if message["n"] != expected:
                self._history.write("info", self.name, "GAP", expected=expected, n=message["n"])
            expected = message["n"] + 1
            match message["type"]:
                case "snapshot":
                    self._socket = opened
                    for waiting in list(self.waiting.values()):
                        waiting.tries = min(waiting.tries, 1)
                        self._try(waiting)
                case "accepted":
                    self.on_accepted(message["signal"])
                case "refused":
                    self.on_refused(message["signal_id"], message["code"], message["message"])
                case "report":
                    self.on_report(message["report"])

    def send(self, waiting: Waiting) -> None:
        if self._socket is None:
            return  # it goes when the connection is there
        task = asyncio.ensure_future(self._send(self._socket, waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, opened: ClientConnection, waiting: Waiting) -> None:
        signal = self.going(waiting)
        with contextlib.suppress(WebSocketException, OSError):
            await opened.send(
                json.dumps({"type": "signal", "request_id": signal["signal_id"][:8], "signal": signal})
            )
