"""A MetaTrader5 in another Python: under Wine, or on a Windows host, behind mt5linux's RPyC server.

Precedes: `adapter.ModuleTerminal`. It talks to that server itself rather than through mt5linux's client, which cannot fetch
MetaTrader's structures (they do not pickle) and writes each call as source text. One round trip a call: the other side
turns rows into plain tuples. RPyC's classic mode runs any code it is sent: keep its port on loopback or in a tunnel.
"""

import contextlib
import re
import socket
from types import SimpleNamespace
from typing import Any

import numpy as np

from executors.messages import TerminalConfig
from executors.terminals.adapter import ModuleTerminal
from executors.terminals.paper.dtypes import RATES, TICKS

DEFAULT_PORT = 18812
CONNECT_TIMEOUT_S = 5
ADDRESS = re.compile(r"^(?P<host>\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]*)(?::(?P<port>\d{1,5}))?$")
NOT_CONNECTED = (-10004, "No IPC connection")
LOST = (-10002, "IPC recv failed")

# Runs on the other side. Only tuples, numbers, texts and bytes cross: RPyC passes those by value.
FAR_SIDE = """
import sys
if sys.platform == "win32": sys.path.append("C:\\\\mt5libs")
import MetaTrader5 as mt5
def _td_plain(value):
    if isinstance(value, (bool, int, float, str, bytes)) or value is None:
        return value
    if hasattr(value, "_asdict"):
        return ("row", tuple((k, _td_plain(v)) for k, v in value._asdict().items()))
    if hasattr(value, "dtype"):
        return ("array", "ticks" if "bid" in value.dtype.names else "rates", value.tobytes())
    return ("tuple", tuple(_td_plain(item) for item in value))
def _td_call(name, arguments, keywords):
    keywords = dict(keywords)
    if name in ("order_send", "order_check"):
        arguments = (dict(arguments[0]),)
    function = getattr(mt5, name)
    value = function(*arguments, **keywords) if keywords else function(*arguments)
    return _td_plain(value), (mt5.last_error() if value is None or value is False else (1, "Success"))
"""


class RemoteModule:
    """Looks like the MetaTrader5 module to the adapter."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._connection: Any = None
        self._far_call: Any = None
        self._error: tuple[int, str] = (1, "Success")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*arguments: Any, **keywords: Any) -> Any:
            return self._call(name, arguments, keywords)

        return call

    def last_error(self) -> tuple[int, str]:
        return self._error

    def initialize(self, **keywords: Any) -> bool:
        self._close()
        try:
            self._open()
        except (OSError, EOFError) as error:
            self._error = (-10003, f"IPC initialize failed, {self._host}:{self._port}: {error}")
            return False
        done = bool(self._call("initialize", (), keywords))
        if not done:
            self._close()
        return done

    def shutdown(self) -> bool:
        if self._connection is not None:
            self._call("shutdown", (), {})
        self._close()
        return True

    def _open(self) -> None:
        import rpyc

        far = socket.create_connection((self._host, self._port), timeout=CONNECT_TIMEOUT_S)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = rpyc.classic.connect_stream(rpyc.SocketStream(far))
        self._connection._config["sync_request_timeout"] = self._timeout_s
        self._connection.execute(FAR_SIDE)
        self._far_call = self._connection.namespace["_td_call"]

    def _close(self) -> None:
        connection, self._connection, self._far_call = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(EOFError, OSError):
                connection.close()

    def _call(self, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if self._far_call is None:
            self._error = NOT_CONNECTED
            return None
        plain = tuple(tuple(item.items()) if isinstance(item, dict) else item for item in arguments)
        try:
            value, error = self._far_call(name, plain, tuple(keywords.items()))
        except (EOFError, OSError, TimeoutError):
            # the question may have arrived: what became of it is not known
            self._close()
            self._error = LOST
            return None
        except Exception as raised:  # noqa: BLE001 - whatever the far Python raised, in its own types
            self._error = (-1, f"Terminal: Call failed ({type(raised).__name__}: {raised})")
            return None
        self._error = (int(error[0]), str(error[1]))
        return _rebuilt(value)


def _rebuilt(value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    match value:
        case ("row", fields):
            return SimpleNamespace(**{name: _rebuilt(item) for name, item in fields})
        case ("array", kind, block):
            return np.frombuffer(block, dtype=TICKS if kind == "ticks" else RATES)
        case ("tuple", items):
            return tuple(map(_rebuilt, items))
    return value


def place_of(text: str) -> tuple[str, int, str]:
    """Host, port and the program's path on the other side, empty for any."""
    address, _, program = text.strip().partition("/")
    if (found := ADDRESS.match(address)) is None or not 0 < int(found["port"] or DEFAULT_PORT) < 65_536:
        raise ValueError(
            f"a remote terminal's path must look like 127.0.0.1:{DEFAULT_PORT}, or with the program behind it"
            rf" 127.0.0.1:{DEFAULT_PORT}/C:\MT5\terminal64.exe, not {text!r}"
        )
    return (found["host"] or "127.0.0.1").strip("[]"), int(found["port"] or DEFAULT_PORT), program


def open_remote(config: TerminalConfig, password: str, *, timeout_s: float = 120.0) -> ModuleTerminal:
    """`config.path` is `host:port`, or `host:port/C:\\path\\to\\terminal64.exe`. Raises ValueError."""
    host, port, path = place_of(config.path)
    module = RemoteModule(host, port, timeout_s)
    return ModuleTerminal(
        module,
        login=config.login,
        password=password,
        server=config.server,
        path=path,
        server_timezone=config.server_timezone,
    )
