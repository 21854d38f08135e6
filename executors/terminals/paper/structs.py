"""The eleven structure types of the module, in MetaTrader's field order.

Precedes: `client.py`. With PAPER_PICKLABLE=1 they can be pickled (the real ones cannot), as a remote server needs.
"""

import os
from typing import Any

from executors.terminals.paper.builtin import structure
from executors.terminals.paper.fields import FIELDS

_MODULE = "executors.terminals.paper.structs" if os.environ.get("PAPER_PICKLABLE") == "1" else "builtins"
TYPES: dict[str, Any] = {
    name: structure(name, tuple(field for field, _ in fields), module=_MODULE)
    for name, fields in FIELDS.items()
}

TerminalInfo = TYPES["TerminalInfo"]
AccountInfo = TYPES["AccountInfo"]
SymbolInfo = TYPES["SymbolInfo"]
Tick = TYPES["Tick"]
BookInfo = TYPES["BookInfo"]
TradePosition = TYPES["TradePosition"]
TradeOrder = TYPES["TradeOrder"]
TradeDeal = TYPES["TradeDeal"]
TradeRequest = TYPES["TradeRequest"]
OrderSendResult = TYPES["OrderSendResult"]
OrderCheckResult = TYPES["OrderCheckResult"]
