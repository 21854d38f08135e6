"""Opens the terminal that a configuration describes. The executor calls this and `base.Terminal`, nothing else of terminals.

Precedes: the executor's connect. Follows: `TerminalConfig` and the unsealed password.
"""

from typing import Any

from django.conf import settings

from executors.messages import TerminalConfig
from executors.terminals import base
from executors.terminals.adapter import ModuleTerminal


def open_terminal(config: TerminalConfig, password: str) -> base.Terminal:
    """Not connected yet: call `connect()`. One per process, since MetaTrader's module keeps one connection."""
    path = config.path
    match config.kind:
        case "paper":
            from executors.terminals import paper

            module: Any = paper
            path = path or settings.PAPER_BROKER_URL
        case "metatrader":
            from executors.terminals import metatrader

            module = metatrader.module()
        case "remote":
            from executors.terminals.remote import open_remote

            return open_remote(config, password)
    return ModuleTerminal(
        module,
        login=config.login,
        password=password,
        server=config.server,
        path=path,
        server_timezone=config.server_timezone,
        connect_timeout_ms=settings.INITIALIZE_LIMIT_S * 500,  # half of the watchdog's patience
    )
