"""The official MetaTrader5 package: the only module that imports it. It exists on Windows (and in Wine) alone.

Precedes: `adapter.ModuleTerminal`. `install()` of the paper module stands in for it in tests.
"""

import importlib
import sys
from typing import Any


class PackageMissing(RuntimeError):
    """The MetaTrader5 package cannot be imported here; says what to do."""


def module() -> Any:
    try:
        return importlib.import_module("MetaTrader5")
    except ImportError:
        raise PackageMissing(
            f"The MetaTrader5 package is not installed for {sys.platform}. On Windows run `pip install MetaTrader5`; "
            "elsewhere set the terminal's kind to remote (docs/metatrader.md)."
        ) from None
