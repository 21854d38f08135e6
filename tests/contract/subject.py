"""What the module's cases are run on: the paper module, or the package that CONTRACT_MODULE names (on Windows MetaTrader5).

A real package needs a demo account: CONTRACT_LOGIN, CONTRACT_SERVER, MT5_PASSWORD, and CONTRACT_PATH if there are several
terminals. Its cases place and leave small orders on EURUSD and GBPUSD, at the market.
"""

import importlib
import os
from typing import Any

MODULE = os.environ.get("CONTRACT_MODULE", "executors.terminals.paper")
REAL = MODULE != "executors.terminals.paper"
mt5: Any = importlib.import_module(MODULE)


def log_in() -> bool:
    """To the real terminal's demo account."""
    path = os.environ.get("CONTRACT_PATH")
    return bool(
        mt5.initialize(
            *([path] if path else []),
            login=int(os.environ["CONTRACT_LOGIN"]),
            password=os.environ["MT5_PASSWORD"],
            server=os.environ["CONTRACT_SERVER"],
        )
    )
