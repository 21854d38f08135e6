"""One call of order_send, whatever it does: an exception of the client library is an answer that says nothing for sure.

Precedes: retcodes judges the reply. Follows: execution, once the INTENT is on disk, and guard.
"""

import logging

from executors.terminals.base import SendReply, Terminal, TradeRequest

logger = logging.getLogger(__name__)


def send(terminal: Terminal, request: TradeRequest) -> SendReply:
    try:
        return terminal.send(request)
    except Exception as error:
        logger.exception("order_send raised", extra={"action": "send", "magic": request.magic})
        return SendReply(None, (-1, f"{type(error).__name__}: {error}"))
