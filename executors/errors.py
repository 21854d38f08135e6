"""What can go wrong, by who must act. Every code a user can meet is in `Code` and in docs/errors.md (a test compares).

TradedistError
├── Refused            the sender: the request was not accepted; says what to change (has a `Code`)
├── AcceptUnknown      the sender: whether it was accepted is not known; send the same signal_id again
├── EpochPassed        the operator: the terminal was moved while this executor lived; it stops
└── TerminalError      the executor: a terminal's query failed (None is not an empty tuple)
    └── TerminalUnavailable   provably nothing was sent: no connection before the call
"""

from enum import StrEnum


class Code(StrEnum):
    """Codes of refusals (answers to a sender) and denials (an order's end by our own rules)."""

    # refusals at the edge
    INVALID = "INVALID"  # the message does not fit its schema
    NOT_JSON = "NOT_JSON"
    TOO_LARGE = "TOO_LARGE"
    UNKNOWN_TYPE = "UNKNOWN_TYPE"
    NOT_SIGNED_IN = "NOT_SIGNED_IN"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    SIGNAL_CONFLICT = "SIGNAL_CONFLICT"  # the id is known with another body, or is another user's
    UNKNOWN_SYMBOL = "UNKNOWN_SYMBOL"
    UNKNOWN_TERMINAL = "UNKNOWN_TERMINAL"
    UNKNOWN_GROUP = "UNKNOWN_GROUP"
    NO_TERMINALS = "NO_TERMINALS"
    TOO_OLD = "TOO_OLD"
    TRADING_HALTED = "TRADING_HALTED"
    RATE_LIMITED = "RATE_LIMITED"
    ACCEPT_UNKNOWN = "ACCEPT_UNKNOWN"
    STORE_FULL = "STORE_FULL"  # the state Redis has no memory left: nothing is accepted, nothing was recorded
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"
    # denials by the executor's last line
    EXPIRED = "EXPIRED"
    HALTED = "HALTED"
    REDUCING = "REDUCING"
    CLOCK_SKEW = "CLOCK_SKEW"  # the executor's machine and Redis differ in time
    LOTS_BELOW_MIN = "LOTS_BELOW_MIN"
    LOTS_ABOVE_MAX = "LOTS_ABOVE_MAX"
    TOO_MANY_ORDERS = "TOO_MANY_ORDERS"
    TOO_MANY_POSITIONS = "TOO_MANY_POSITIONS"
    SYMBOL_NOT_ALLOWED = "SYMBOL_NOT_ALLOWED"
    SYMBOL_NOT_TRADABLE = "SYMBOL_NOT_TRADABLE"
    NO_PRICE = "NO_PRICE"
    NOT_VERIFIED = "NOT_VERIFIED"  # login, server or path of the terminal differ from what is configured
    TERMINAL_DOWN = "TERMINAL_DOWN"
    SUPERSEDED = "SUPERSEDED"
    DIGEST_MISMATCH = "DIGEST_MISMATCH"
    NO_TARGET = "NO_TARGET"  # nothing is there that the signal means
    OVERTAKEN = (
        "OVERTAKEN"  # levels of a pending order that its fill, and perhaps others' changes, came before
    )
    NETTING_ACCOUNT = "NETTING_ACCOUNT"
    LOTS_NOT_KNOWN = "LOTS_NOT_KNOWN"  # what is left of an open on a netting account cannot be read
    ORDER_TYPE_NOT_ALLOWED = "ORDER_TYPE_NOT_ALLOWED"
    EXPIRATION_NOT_ALLOWED = "EXPIRATION_NOT_ALLOWED"
    RAISES_RISK = "RAISES_RISK"  # refused while REDUCING
    PRICE_TOO_SMALL = (
        "PRICE_TOO_SMALL"  # less than half a step of the symbol's prices: it would be sent as 0, i.e. none
    )
    # ends by the broker
    BROKER_REFUSED = "BROKER_REFUSED"
    PARTLY_DONE = "PARTLY_DONE"  # of several positions or orders some could not be changed
    PENDING_CANCELLED = "PENDING_CANCELLED"
    PENDING_EXPIRED = "PENDING_EXPIRED"
    NOT_EXECUTED = "NOT_EXECUTED"
    NOT_SHOWN = "NOT_SHOWN"  # placed by its answer, and never seen at the terminal
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    SETTLED_BY_HAND = "SETTLED_BY_HAND"


class TradedistError(Exception):
    """The root of everything we raise on purpose."""


class Refused(TradedistError):
    """Not accepted. `message` is a sentence that says what to change; `status` is the HTTP status. `version`: of users and
    grants, when it was decided by them."""

    def __init__(self, code: Code, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.version = ""
        self.code = code
        self.message = message
        self.status = status


class AcceptUnknown(TradedistError):
    """The store did not answer: the signal may or may not be recorded. The same signal_id may be sent again."""

    code = Code.ACCEPT_UNKNOWN
    status = 503
    message = "It is not known whether the signal was recorded. Send it again with the same signal_id."


class EpochPassed(TradedistError):
    """The terminal was moved to another host: an executor of the epoch before must not go on."""

    def __init__(self, terminal_id: str, epoch: int, since: int) -> None:
        super().__init__(
            f"{terminal_id} was moved (epoch {since}) while its executor of epoch {epoch} lived on. That executor stops: it"
            " sends nothing more, and what it reports is not taken. Compare the account with the orders: what it sent"
            " meanwhile is not shown."
        )
        self.epoch = epoch
        self.since = since


class TerminalError(TradedistError):
    """A terminal call failed. `error` is MetaTrader's last_error pair."""

    def __init__(self, call: str, error: tuple[int, str]) -> None:
        super().__init__(f"{call}: {error[1]} ({error[0]})")
        self.call = call
        self.error = error


class TerminalUnavailable(TerminalError):
    """There is no connection to the terminal; nothing was sent."""
