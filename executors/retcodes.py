"""Pure: what MetaTrader's answer to a request means. The one table of definite refusals; all else is UNKNOWN.

Precedes: execution records the outcome. Follows: base.Terminal.send. Codes and their meaning: MQL5 reference, "Return
codes of the trade server"; the client's own errors: the MetaTrader5 package's RES_* constants.
"""

from dataclasses import dataclass
from decimal import Decimal

from executors.orders import Outcome
from executors.terminals.base import ZERO, SendReply, TradeRequest

ACTION_DEAL, ACTION_PENDING, ACTION_SLTP, ACTION_MODIFY, ACTION_REMOVE = 1, 5, 6, 7, 8  # TRADE_ACTION_*
FILLING_RETURN = 2  # ORDER_FILLING_RETURN
REQUOTE, REJECT, CANCEL, PLACED, DONE, DONE_PARTIAL = 10004, 10006, 10007, 10008, 10009, 10010
INVALID, NO_CHANGES, POSITION_CLOSED, PRICE_CHANGED, PRICE_OFF, INVALID_FILL, CONNECTION = (
    10013,
    10025,
    10036,
    10020,
    10021,
    10030,
    10031,
)
ORDER_CHANGED, LOCKED = 10023, 10028

# Definitely not executed. 10011 ERROR, 10012 TIMEOUT, 10031 CONNECTION and whatever is not here may have been.
REFUSALS: dict[int, str] = {
    10004: "The price moved beyond the allowed deviation",
    10006: "The broker refused the request",
    10007: "The broker cancelled the request",
    10013: "The broker calls the request invalid",
    10014: "The broker calls the volume invalid",
    10015: "The broker calls the price invalid",
    10016: "Stop loss or take profit lies on the wrong side of the price or too near to it",
    10017: "Trading this symbol or account is disabled",
    10018: "The market is closed",
    10019: "There is not enough free margin",
    10020: "The price changed",
    10021: "The broker has no price for the symbol",
    10022: "The broker calls the expiration invalid",
    10023: "The order changed meanwhile",
    10024: "The broker gets too many requests",
    10025: "Nothing would change",
    10026: "The server has disabled automated trading for the account",
    10027: "Algo Trading is switched off in the terminal",
    10028: "Another request for this position is under way",
    10029: "The position or order is frozen near the market",
    10030: "The broker does not support the filling mode",
    10032: "Only real accounts may do this",
    10033: "The account's limit of pending orders is reached",
    10034: "The volume limit of the symbol is reached",
    10035: "The symbol does not allow this order type",
    10036: "The position is closed already",
    10038: "The volume to close exceeds the position's",
    10039: "A close order for the position exists already",
    10040: "The account's limit of positions is reached",
    10041: "The activation of the order was rejected",
    10042: "Only long positions are allowed",
    10043: "Only short positions are allowed",
    10044: "Only closing is allowed",
    10045: "Positions must be closed oldest first",
    10046: "Opposite positions are not allowed",
}

# Refusals that may pass next time with a fresh price, a wider deviation, or another filling policy: masks have lied.
RETRIABLE = frozenset({REQUOTE, PRICE_CHANGED, PRICE_OFF, INVALID_FILL})

# What a change is about was filled, closed or changed just before, or another request for it is under way.
LOST_RACES = frozenset({ORDER_CHANGED, LOCKED, POSITION_CLOSED})

# order_send gave None and nothing went out: the client refused the arguments, the option that disables the Python API
# is set, or there was no connection to the terminal before the call.
NOT_SENT: dict[int, str] = {
    -2: "MetaTrader's client refused the request's arguments",
    -8: "Automated trading through the Python API is disabled in the terminal",
    -10004: "There was no connection to the terminal",
}
RETRIABLE_NOT_SENT = frozenset({-10004})


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: Outcome
    message: str = ""
    retriable: bool = False


def judge(request: TradeRequest, reply: SendReply) -> Verdict:
    """The outcome of one request by its reply alone."""
    result = reply.result
    if result is None:
        code, text = reply.error
        if code in NOT_SENT:
            return Verdict(Outcome.REFUSED, f"{NOT_SENT[code]} ({code}: {text}).", code in RETRIABLE_NOT_SENT)
        return Verdict(Outcome.UNKNOWN, f"No answer from the terminal ({code}: {text}).")
    code = result.retcode
    if code in (PLACED, DONE, DONE_PARTIAL):
        if request.action == ACTION_PENDING:
            return Verdict(Outcome.PLACED, "The pending order is at the broker.")
        if request.action != ACTION_DEAL:  # no lots belong to it
            if code == DONE:
                return Verdict(Outcome.DONE, "Done.")
            return Verdict(Outcome.UNKNOWN, f"MetaTrader answered {code}: whether it is done is looked up.")
        told = result.deal != 0 and result.price > ZERO
        if code == DONE and told and result.volume >= request.volume:
            return Verdict(Outcome.FILLED)
        if code == DONE_PARTIAL and told and result.volume > ZERO and request.type_filling != FILLING_RETURN:
            return Verdict(Outcome.PARTIAL, "Filled in part.")
        # 10008, or done without deal, price or all lots: some servers tell these later. With RETURN the rest of a
        # partial fill stays at the broker, where it may still fill: asking for it again would double it.
        return Verdict(Outcome.PLACED, "The broker has the order; its deal is not known yet.")
    if code == NO_CHANGES and request.action in (ACTION_SLTP, ACTION_MODIFY):
        return Verdict(Outcome.DONE, "It was so already.")
    if code == INVALID and request.order:
        gone = f"Order {request.order} is not there (any more), or may not be changed so"
        # it may have become a position meanwhile, whose levels are then what is wished
        again = request.action == ACTION_MODIFY
        return Verdict(Outcome.REFUSED, f"{gone} (MetaTrader {code}: {result.comment}).", again)
    if code in REFUSALS:
        # what was filled in part, or has become a position, is read anew before the next try
        again = code == ORDER_CHANGED and request.action in (ACTION_MODIFY, ACTION_REMOVE)
        message = f"{REFUSALS[code]} (MetaTrader {code}: {result.comment})."
        return Verdict(Outcome.REFUSED, message, again or code in RETRIABLE)
    return Verdict(
        Outcome.UNKNOWN, f"MetaTrader answered {code} ({result.comment}), which says nothing for sure."
    )


def filled_lots(verdict: Verdict, request: TradeRequest, reply: SendReply) -> Decimal:
    """Lots that the reply proves filled."""
    if verdict.outcome is Outcome.FILLED:
        return request.volume
    if verdict.outcome is Outcome.PARTIAL and reply.result is not None:
        return reply.result.volume
    return ZERO
