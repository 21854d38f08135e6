"""Carries the schedule out on a running platform, and watches which terminals answer meanwhile.

Every deed is in the history, by name, with its begin and its end. Nothing here depends on the state Redis: it is killed, too.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

import redis

from executors.locks import process_start
from executors.terminals.paper.link import LinkError
from executors.terminals.paper.oracle import Operator
from tests.chaos.desk import LOGINS
from tests.chaos.detour import Detour
from tests.chaos.history import History
from tests.chaos.intervals import Interval
from tests.chaos.schedule import Fault
from tests.stack import Stack
from tradedist import keys

LOOK_S = 0.25
SEEN_MS = 2_500  # an executor shows itself every second
BACK_S = 60.0


class Nemesis:
    def __init__(self, stack: Stack, history: History, faults: list[Fault], seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.missed: list[str] = []  # processes that did not come back
        self.frozen: dict[str, list[Interval]] = defaultdict(list)  # by terminal: its executor stood still
        self.troubled: dict[str, list[Interval]] = {name: [] for name in LOGINS}
        self._stack, self._history, self._faults = stack, history, faults
        self._detour = Detour(stack, tuple(LOGINS), seed)
        self._under_way: set[asyncio.Task[None]] = set()
        self._stopped: set[int] = set()  # pids that are frozen now

    async def run(self) -> None:
        """Returns when the last fault is over and everything that was frozen goes on."""
        await self._detour.start()
        began = time.monotonic()
        try:
            for fault in self._faults:
                await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
                task = asyncio.ensure_future(self._do(fault))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
            if self._under_way:
                await asyncio.gather(*self._under_way)
        finally:
            for pid in self._stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            await self._detour.stop()

    async def _do(self, fault: Fault) -> None:
        self.counts[fault.spec.get("kind", fault.kind)] += 1
        facts = {key: value for key, value in asdict(fault).items() if value and key not in ("kind", "at_s")}
        began = self._history.write("info", "nemesis", fault.kind, **facts)
        ended: dict[str, object] = {}
        match fault.kind:
            case "kill":
                ended = await self._kill(fault.target)
            case "freeze":
                ended = await self._freeze(fault.target, fault.for_s)
            case "network":
                ended |= await self._detour.on(fault.target, fault.for_s, fault.spec)
            case "cut-redis":
                with contextlib.suppress(redis.RedisError):
                    await asyncio.to_thread(self._cut_redis)
            case "cut-broker":
                await self._broker("drop_connections", LOGINS.get(fault.target, 0), fault.spec["mode"])
            case "broker":
                await self._misbehave(fault)
        end = self._history.write("info", "nemesis", f"end of {fault.kind}", target=fault.target, **ended)
        if fault.kind == "freeze" and fault.target.startswith("terminal."):
            self.frozen[fault.target.removeprefix("terminal.")].append((began, end))
        if fault.kind in ("broker", "cut-broker") or "broker" in fault.target:
            for terminal_id in LOGINS:
                if fault.target in ("", "paper-broker", terminal_id):
                    self.troubled[terminal_id].append((began, end))

    # --- processes ---

    def pid(self, name: str) -> int:
        """0 when there is none now."""
        if not name.startswith("terminal."):
            return self._stack.pid(name)
        lock = Path(self._stack.data_dir) / "terminals" / name.removeprefix("terminal.") / "lock"
        words = lock.read_bytes().split()
        if len(words) != 2 or process_start(int(words[0])) != int(words[1]):
            return 0
        return int(words[0])

    async def _kill(self, name: str) -> dict[str, object]:
        pid = await asyncio.to_thread(self.pid, name)
        if not pid:
            return {"pid": 0}
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + BACK_S
        while time.monotonic() < until:
            await asyncio.sleep(0.05)
            fresh = await asyncio.to_thread(self.pid, name)
            if fresh not in (0, pid):
                return {"pid": pid, "next_pid": fresh}
        self.missed.append(name)
        return {"pid": pid, "next_pid": 0}

    async def _freeze(self, name: str, for_s: float) -> dict[str, object]:
        pid = await asyncio.to_thread(self.pid, name)
        if not pid:
            return {"pid": 0}
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            self._stopped.add(pid)
            await asyncio.sleep(for_s)
            os.kill(pid, signal.SIGCONT)
        self._stopped.discard(pid)
        return {"pid": pid}

    # --- connections and the broker ---

    def _cut_redis(self) -> None:
        with self._stack.state() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    async def _misbehave(self, fault: Fault) -> None:
        login = LOGINS.get(fault.target, 0)
        spec = fault.spec | {"login": login, "for_ms": round(fault.for_s * 1000)}
        if await self._broker("fault_add", spec):
            await asyncio.sleep(fault.for_s)

    async def _broker(self, operation: str, *arguments: object) -> bool:
        """An operator's call; False when the broker is away just now."""

        def call() -> None:
            with Operator(f"tcp://127.0.0.1:{self._stack.port + 3}") as operator:
                operator.call(operation, *arguments)

        try:
            await asyncio.wait_for(asyncio.to_thread(call), 15)
        except (OSError, LinkError, TimeoutError) as error:
            self._history.write("info", "nemesis", "the broker is away", error=str(error))
            return False
        return True

    async def quieten(self) -> None:
        """No fault of the broker's stands any more."""
        for _ in range(round(BACK_S)):
            if await self._broker("fault_clear"):
                return
            await asyncio.sleep(1)

    # --- watching ---

    async def watch(self) -> None:
        """Notes when each terminal did not answer, as its executor says; ends by being cancelled."""
        bad_since: dict[str, int] = {}
        client = self._stack.state()
        try:
            while True:
                asked = round(time.time() * 1000)  # a frozen server is asked for seconds
                try:
                    answering = await asyncio.to_thread(self._answering, client)
                except redis.RedisError:
                    answering = set()
                now = round(time.time() * 1000)
                for terminal_id in LOGINS:
                    if terminal_id not in answering and terminal_id not in bad_since:
                        bad_since[terminal_id] = asked
                        self._history.write("info", terminal_id, "does not answer")
                    elif terminal_id in answering and terminal_id in bad_since:
                        # it may have been away since it was last seen
                        self.troubled[terminal_id].append((bad_since.pop(terminal_id) - SEEN_MS, now))
                        self._history.write("info", terminal_id, "answers again")
                await asyncio.sleep(LOOK_S)
        finally:
            now = round(time.time() * 1000)
            for terminal_id, since in bad_since.items():
                self.troubled[terminal_id].append((since - SEEN_MS, now))
            client.close()

    @staticmethod
    def _answering(client: "redis.Redis") -> set[str]:
        pipe = client.pipeline(transaction=False)
        for terminal_id in LOGINS:
            pipe.hmget(keys.instance(terminal_id), ["state", "seen_ms"])
        now = round(time.time() * 1000)
        return {
            terminal_id
            for terminal_id, (state, seen_ms) in zip(LOGINS, pipe.execute(), strict=True)
            if state == "READY" and now - int(seen_ms or 0) < SEEN_MS
        }
