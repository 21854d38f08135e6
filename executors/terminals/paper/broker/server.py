"""The paper broker's process: a TCP server on asyncio. Start reading here.

A frame comes in (`connection.py`), the market is played up to now, the session answers from the state, and the answer leaves
after the ledger is on disk: answers wait for one group commit per turn of the loop. `admin.…` methods are the operator's.
"""

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import Any

from executors.terminals.paper import wire
from executors.terminals.paper.broker.broker import Broker, OperatorError, Options
from executors.terminals.paper.broker.connection import Connection
from executors.terminals.paper.broker.faults import Fault, FaultError
from executors.terminals.paper.broker.housekeeping import Housekeeping
from executors.terminals.paper.broker.ledger import LedgerError
from executors.terminals.paper.broker.personalities import ConfigurationError
from executors.terminals.paper.broker.session import METHODS, Refusal, Session, Waits
from executors.terminals.paper.broker.staging import latency_ms
from executors.terminals.paper.broker.state import UnknownEntry
from executors.terminals.servertime import UnknownTimezone

log = logging.getLogger(__name__)
HOUSEKEEPING_MS = 250
MAX_UNREAD = 512 * 1024 * 1024  # bytes of answers that a client leaves lying
MIN_PAUSE_S = 0.001
MAX_PAUSE_S = 0.1
OPERATOR_FAILED = -2
LOGIN_LOOK_S = 0.1  # a terminal that waits for its trade server, or for the pipe, looks so often
PIPE_WAIT_S = 100.0  # of an initialize whose terminal does not start; the package says that it was 60
NO_FAULTS: list[Fault] = []
NO_PIPE = (-10003, "IPC initialize failed, Pipe server didn't answer in 60 sec")
SEND_FAILED = (-10001, "IPC send failed")
FAILURES = {
    -1: "Terminal: Call failed", -2: "Terminal: Invalid params", -3: "Terminal: Out of memory", -4: "Terminal: Not found",
    -6: "Terminal: Authorization failed", -7: "Terminal: Unsupported function", -10000: "IPC call failed",
    -10003: "IPC initialize failed, MetaTrader 5 x64 not found", -10004: "No IPC connection", -10005: "IPC timeout",
}  # fmt: skip
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Server:
    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.connections: set[Connection] = set()
        self._held: list[
            tuple[Connection, bytes, bool]
        ] = []  # answers that wait for the disk; whether to cut after
        self._flushing = False
        self._loop = asyncio.get_running_loop()
        self._housekeeping = Housekeeping(broker)
        self._next_housekeeping_ms = 0
        self._timer: asyncio.TimerHandle | None = None
        self._down: dict[
            int, float
        ] = {}  # login → when its crashed terminal can be started again, by the loop's clock
        broker.faults.methods = METHODS

    # --- Questions ---------------------------------------------------------------------------------------------------

    def ask(self, connection: Connection, sequence: int, method: Any, arguments: Any) -> None:
        if not isinstance(method, str) or not isinstance(arguments, list):
            connection.transport.abort()
            return
        broker = self.broker
        self._play()
        if method.startswith("admin."):
            self._administer(connection, sequence, method[6:], arguments)
            return
        if connection.stuck:
            self._write(connection, wire.answer(sequence, *SEND_FAILED, None), False)
            return
        session, now_ms = connection.session, broker.now_ms()
        struck: list[Fault] = []
        if broker.faults:
            login, symbol = session.login_of(method, arguments), session.symbol_of(method, arguments)
            if broker.faults.standing("outage", login, symbol, now_ms):
                connection.transport.abort()
                return
            struck = broker.faults.strike(method, login, symbol, now_ms)
        if method == "initialize" and (broker.faults or self._down):
            self._enter(connection, sequence, arguments, struck)
        else:
            self._begin(connection, sequence, method, arguments, struck)

    def _enter(
        self,
        connection: Connection,
        sequence: int,
        arguments: list[Any],
        struck: list[Fault],
        give_up_s: float = 0.0,
    ) -> None:
        """An initialize waits for a pipe that another client has, without limit, and for a terminal that starts."""
        login = connection.session.login_of("initialize", arguments)
        starts = self._down.get(login, 0.0) > self._loop.time()
        if not starts:
            self._down.pop(login, None)
        give_up_s = give_up_s or self._loop.time() + PIPE_WAIT_S
        if starts and self._loop.time() >= give_up_s:
            self._write(connection, wire.answer(sequence, *NO_PIPE, None), False)
        elif starts or self.broker.faults.standing("pipe_busy", login, "", self.broker.now_ms()):
            if not connection.closed:
                again = (connection, sequence, arguments, struck, give_up_s)
                self._loop.call_later(LOGIN_LOOK_S, self._enter, *again)
        else:
            self._begin(connection, sequence, "initialize", arguments, struck)

    def _begin(
        self, connection: Connection, sequence: int, method: str, arguments: list[Any], struck: list[Fault]
    ) -> None:
        if struck and self._fail(connection, sequence, method, arguments, struck):
            return
        wait_s = sum(fault.value for fault in struck if fault.kind == "delay") / 1000
        if method == "order_send":
            wait_s += self._latency_s(connection.session)
        if wait_s > 0:
            self._loop.call_later(wait_s, self._run, connection, sequence, method, arguments, struck)
        else:
            self._run(connection, sequence, method, arguments, struck)

    def _latency_s(self, session: Session) -> float:
        scale = self.broker.options.latency_scale
        book = self.broker.state.books.get(session.login_number)
        if not scale or book is None:
            return 0.0
        return latency_ms(book.house.personality, self.broker.state.random) * scale / 1000

    def _fail(
        self, connection: Connection, sequence: int, method: str, arguments: list[Any], struck: list[Fault]
    ) -> bool:
        """Faults that keep the call from being done at all."""
        for fault in struck:
            match fault.kind:
                case "lose_question" | "outage":
                    connection.transport.abort()
                case "crash" | "stuck":
                    self._crash(connection, method, arguments, fault)
                    if fault.kind == "stuck":
                        self._write(connection, wire.answer(sequence, *SEND_FAILED, None), False)
                case "hang":
                    late = wire.answer(sequence, -10005, "IPC timeout", None)
                    self._loop.call_later(fault.value, self._write, connection, late, False)
                case "timeout":
                    self._write(connection, wire.answer(sequence, -10005, "IPC timeout", None), False)
                case "error":
                    code = int(fault.value)
                    text = FAILURES.get(code, FAILURES[-1])
                    self._write(connection, wire.answer(sequence, code, text, None), False)
                case _:
                    continue
            return True
        return False

    def _crash(self, connection: Connection, method: str, arguments: list[Any], fault: Fault) -> None:
        """An account's terminal dies, and can be started again after a while. Its pipe breaks, or hangs on (`stuck`); after
        an execution the caller's own is cut with its answer."""
        login = connection.session.login_of(method, arguments)
        self._down[login] = self._loop.time() + fault.value / 1000
        own = {connection} if fault.kind != "crash_after" else set()
        others = {item for item in self.connections if login and item.session.login_number == login}
        for item in own | (others - {connection}):
            self._end_terminal(item, stuck=fault.kind == "stuck")

    @staticmethod
    def _end_terminal(connection: Connection, *, stuck: bool) -> None:
        if stuck:
            connection.stuck = True
        else:
            connection.transport.abort()

    def _run(
        self,
        connection: Connection,
        sequence: int,
        method: str,
        arguments: list[Any],
        struck: list[Fault],
        give_up_s: float = 0.0,
    ) -> None:
        session = connection.session
        handler = session.handler(method)
        session.struck = struck
        self.broker.player.advance(self.broker.now_ms())
        try:
            if handler is None:
                raise Refusal(-7, "Terminal: Unsupported function")
            body = wire.answer(sequence, 1, "Success", handler(*arguments))
        except Waits as waits:
            give_up_s = give_up_s or self._loop.time() + waits.timeout_ms / 1000
            if self._loop.time() < give_up_s and not connection.closed:
                pause_s = min(LOGIN_LOOK_S, give_up_s - self._loop.time())
                again = (connection, sequence, method, arguments, struck, give_up_s)
                self._loop.call_later(max(pause_s, MIN_PAUSE_S), self._run, *again)
                return
            body = wire.answer(sequence, waits.code, waits.text, None)
        except Refusal as refusal:
            body = wire.answer(sequence, refusal.code, refusal.text, None)
        except Exception:
            log.exception("a call failed", extra={"action": method})
            body = wire.answer(sequence, -1, "Terminal: Call failed", None)
        if not struck:
            self._write(connection, body, False)
            return
        session.struck = NO_FAULTS
        kinds = {fault.kind: fault for fault in struck}
        cut = "lose_answer" in kinds or "crash_after" in kinds
        if crash := kinds.get("crash_after"):
            self._crash(connection, method, arguments, crash)
        if "last_error_race" in kinds:
            body = wire.answer(sequence, wire.RACED, "Success", None)
        if "double_answer" in kinds:
            body += body
        if late := kinds.get("slow_answer"):
            self._later(late.value / 1000, connection, body, cut)
        elif late := kinds.get("hang_after"):
            self._later(late.value, connection, wire.answer(sequence, -10005, "IPC timeout", None), cut)
        else:
            self._write(connection, body, cut)

    def _administer(self, connection: Connection, sequence: int, name: str, arguments: list[Any]) -> None:
        operation = self.broker.operation(name)
        try:
            if name == "drop_connections":
                value: Any = self._drop(connection, *arguments)
            elif operation is None:
                raise OperatorError(f"there is no operation {name!r}")
            else:
                value = operation(*arguments)
            body = wire.answer(sequence, 1, "Success", value)
        except (OperatorError, FaultError, TypeError, ValueError, LookupError) as error:
            body = wire.answer(sequence, OPERATOR_FAILED, str(error), None)
        self._write(connection, body, False)

    def _drop(self, asker: Connection, login: int = 0, mode: str = "broken") -> int:
        """Terminals crash: all of them, or one account's. `broken`: the pipes are cut, so that the next call fails with
        -10001 or -10002 and later ones with -10004. `stuck`: every call fails with -10001, until initialize."""
        if mode not in ("broken", "stuck"):
            raise OperatorError(f"a terminal crashes with its pipe broken or stuck, not {mode!r}")
        hit = [
            item
            for item in self.connections
            if item is not asker and item.session.login_number and login in (0, item.session.login_number)
        ]
        for item in hit:
            self._end_terminal(item, stuck=mode == "stuck")
        return len(hit)

    # --- Answers: never before the ledger is on disk ------------------------------------------------------------------

    def _later(self, seconds: float, connection: Connection, body: bytes, cut: bool) -> None:
        self._commit_soon()
        self._loop.call_later(seconds, self._write, connection, body, cut)

    def _write(self, connection: Connection, body: bytes, cut: bool) -> None:
        if self.broker.ledger.dirty or self._held:
            self._held.append((connection, body, cut))
            self._commit_soon()
        else:
            self._send(connection, body, cut)

    def _commit_soon(self) -> None:
        if self.broker.ledger.dirty and not self._flushing:
            self._flushing = True
            # the turn after next: everything that is readable by then joins this commit
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        try:
            self.broker.ledger.sync()
        except OSError:
            # nothing that was not written may be answered or kept: the clients see a broken connection
            log.critical("the ledger cannot be written; the broker stops", exc_info=True)
            os._exit(1)
        held, self._held = self._held, []
        for connection, body, cut in held:
            self._send(connection, body, cut)

    def _send(self, connection: Connection, body: bytes, cut: bool) -> None:
        if connection.closed:
            return
        if cut or connection.transport.get_write_buffer_size() > MAX_UNREAD:
            connection.transport.abort()
        else:
            connection.transport.write(body)

    # --- Time --------------------------------------------------------------------------------------------------------

    def _play(self) -> None:
        now_ms = self.broker.now_ms()
        self.broker.player.advance(now_ms)
        if self.broker.engine.triggers.late:
            self.broker.engine.triggers.run_late(now_ms)
        if now_ms >= self._next_housekeeping_ms:
            self._next_housekeeping_ms = now_ms + HOUSEKEEPING_MS
            self._housekeeping.run(now_ms)
        self._commit_soon()

    def pulse(self) -> None:
        """Plays what is due and sleeps until the next tick."""
        try:
            self._play()
        except Exception:
            log.exception("the market stumbled", extra={"action": "play"})
        pause = (self.broker.player.next_ms() - self.broker.now_ms()) / 1000
        self._timer = self._loop.call_later(min(max(pause, MIN_PAUSE_S), MAX_PAUSE_S), self.pulse)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        for connection in list(self.connections):
            connection.transport.close()


async def serve(options: Options, *, port_file: Path | None = None) -> None:
    host, port = wire.address(options.url)
    if host not in LOOPBACK:
        raise SystemExit(f"PAPER_BROKER_URL: the paper broker listens on loopback only, not on {host}.")
    loop = asyncio.get_running_loop()
    try:
        broker = Broker(options)
    except (ConfigurationError, LedgerError, UnknownTimezone, UnknownEntry) as error:
        raise SystemExit(f"The paper broker cannot start: {error}.") from None
    server = Server(broker)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        listener = await loop.create_server(lambda: Connection(server), host, port)
    except OSError as error:
        broker.close()
        raise SystemExit(
            f"PAPER_BROKER_URL: {options.url} cannot be opened: {error}. Free the port."
        ) from None
    port = listener.sockets[0].getsockname()[1]
    if port_file is not None:
        fresh = port_file.with_suffix(".new")
        fresh.write_text(str(port))
        fresh.replace(port_file)
    server.pulse()
    log.info("paper broker listens on tcp://%s:%s with %s accounts", host, port, len(broker.state.books))
    try:
        await stopping.wait()
    finally:
        listener.close()
        server.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(listener.wait_closed(), 2)
        broker.close()


def run(options: Options, *, port_file: Path | None = None) -> None:
    asyncio.run(serve(options, port_file=port_file))
