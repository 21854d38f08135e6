"""Pure: what an order is, the states it may take, how its state folds over its requests, how a request is named.

Precedes: messages (wire shapes). Follows: journal and execution apply these rules; nothing else decides a state.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class OrderState(StrEnum):
    """States of an order (leg). The projection in Redis and the page show exactly these."""

    QUEUED = "QUEUED"  # accepted; no executor has acted
    INTENT = "INTENT"  # the executor's journal holds the decision to send; requests may be under way
    PLACED = "PLACED"  # the broker holds it (pending, or done without a deal yet)
    PARTIAL = "PARTIAL"  # some lots filled, the rest still open
    FILLED = "FILLED"
    DONE = "DONE"  # finished without lots: nothing to close, SL/TP set, pending removed
    REJECTED = "REJECTED"  # MetaTrader or the broker refused
    DENIED = "DENIED"  # our own rules refused
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"  # sent, outcome not known; resolved only by looking
    NOT_EXECUTED = "NOT_EXECUTED"  # two clean sweeps found nothing
    MANUAL = "MANUAL"  # settled by an operator


S = OrderState

TRANSITIONS: dict[OrderState, frozenset[OrderState]] = {
    # MANUAL from QUEUED and INTENT: only of a terminal whose executor was stated to be dead (docs/adr)
    S.QUEUED: frozenset({S.INTENT, S.DENIED, S.EXPIRED, S.CANCELLED, S.MANUAL}),
    # INTENT repeats: each answered request of several is reported while the rest are under way. It ends NOT_EXECUTED
    # when the only request of several that mattered was looked for in vain before the others were done.
    S.INTENT: frozenset(
        {
            S.INTENT,
            S.PLACED,
            S.PARTIAL,
            S.FILLED,
            S.DONE,
            S.REJECTED,
            S.UNKNOWN,
            S.NOT_EXECUTED,
            S.MANUAL,
        }
    ),
    # PLACED and PARTIAL become UNKNOWN only when the journal that knew their requests is lost (docs/adr)
    S.PLACED: frozenset(
        {S.PLACED, S.PARTIAL, S.FILLED, S.CANCELLED, S.EXPIRED, S.REJECTED, S.UNKNOWN, S.MANUAL}
    ),
    S.PARTIAL: frozenset({S.PARTIAL, S.FILLED, S.CANCELLED, S.EXPIRED, S.UNKNOWN, S.MANUAL}),
    # back to INTENT when the answer of one request of several is found and further ones follow (docs/adr)
    S.UNKNOWN: frozenset(
        {
            S.INTENT,
            S.PLACED,
            S.PARTIAL,
            S.FILLED,
            S.DONE,
            S.REJECTED,
            S.CANCELLED,
            S.EXPIRED,
            S.NOT_EXECUTED,
            S.MANUAL,
        }
    ),
    S.NOT_EXECUTED: frozenset({S.PLACED, S.PARTIAL, S.FILLED}),  # a late fill is adopted, with an alarm
    S.FILLED: frozenset(),
    S.DONE: frozenset(),
    S.REJECTED: frozenset(),
    S.DENIED: frozenset(),
    S.EXPIRED: frozenset(),
    S.CANCELLED: frozenset(),
    S.MANUAL: frozenset(),
}

SETTLED = frozenset(
    {S.FILLED, S.DONE, S.REJECTED, S.DENIED, S.EXPIRED, S.CANCELLED, S.NOT_EXECUTED, S.MANUAL}
)


class IllegalTransition(ValueError):
    """A report asked for a move that the table does not allow: a bug, never data."""


def advance(old: OrderState, new: OrderState) -> OrderState:
    """The new state, if the table allows the move."""
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(f"{old} → {new}")
    return new


class Outcome(StrEnum):
    """What is known of one request to the broker."""

    PENDING = "PENDING"  # INTENT is on disk, no answer recorded: after a restart this is UNKNOWN
    FILLED = "FILLED"  # all of its lots, deal known
    PARTIAL = "PARTIAL"  # some of its lots, nothing left working at the broker
    PLACED = "PLACED"  # at the broker; deal not read yet, or a pending order
    DONE = "DONE"  # executed, and no lots belong to it (SL/TP, remove)
    REFUSED = "REFUSED"  # definitely not executed
    UNKNOWN = "UNKNOWN"
    NOT_EXECUTED = "NOT_EXECUTED"  # was UNKNOWN; sweeps found nothing
    MANUAL = "MANUAL"


OPEN_OUTCOMES = frozenset({Outcome.PENDING, Outcome.UNKNOWN})


@dataclass(frozen=True, slots=True)
class RequestView:
    """One request as the fold sees it. `lots` asked, `filled_lots` executed."""

    outcome: Outcome
    lots: Decimal
    filled_lots: Decimal = Decimal(0)


def fold(requests: Sequence[RequestView], wanted_lots: Decimal, *, more: bool) -> OrderState:
    """The order's state after its requests. `more`: further requests will follow (tickets left, a retry).

    An UNKNOWN request makes the order UNKNOWN, since what follows waits for it. Lots short of the wish, with
    nothing more to come, end as CANCELLED after PARTIAL (the caller reports both).
    """
    outcomes = [request.outcome for request in requests]
    if Outcome.UNKNOWN in outcomes:
        return S.UNKNOWN
    if more or not requests or Outcome.PENDING in outcomes:
        return S.INTENT
    filled = sum((request.filled_lots for request in requests), Decimal(0))
    if Outcome.PLACED in outcomes:
        return S.PARTIAL if filled else S.PLACED
    if filled:
        return S.FILLED if filled >= wanted_lots else S.PARTIAL
    if Outcome.MANUAL in outcomes:
        return S.MANUAL
    if Outcome.DONE in outcomes and wanted_lots <= 0:
        return S.DONE  # what was DONE has left wanted_lots; lots that are still wanted were refused
    if outcomes[-1] is Outcome.NOT_EXECUTED:
        return S.NOT_EXECUTED
    return S.REJECTED


MAGIC_BASE = 2**52
MOST_REQUESTS = 50  # of an order whose journal is lost, as many are looked for


def order_id(signal_id: str, terminal_id: str) -> str:
    return f"{signal_id}:{terminal_id}"


def request_magic(installation: str, order_id: str, n: int) -> int:
    """The request's number at the broker: 2^52 + 52 bits of SHA-256 over installation, order and n (from 1).

    Below 2^53, so that it survives every JSON reader; computable again without any store.
    """
    digest = hashlib.sha256(f"{installation}|{order_id}|{n}".encode()).digest()
    return MAGIC_BASE + (int.from_bytes(digest[:7], "big") >> 4)


def possible_magics(installation: str, order_id: str) -> frozenset[int]:
    """Of all requests that an order can have made, for when nobody knows which it has."""
    return frozenset(request_magic(installation, order_id, n) for n in range(1, MOST_REQUESTS + 1))


def comment_token(magic: int) -> str:
    """The request's mark in the comment, 15 characters: brokers cut comments to 16."""
    return f"td{magic - MAGIC_BASE:013x}"


def magic_of_comment(comment: str) -> int | None:
    """The magic whose token a comment begins with, None for other comments."""
    token = comment[:15]
    if len(token) < 15 or not token.startswith("td"):
        return None
    try:
        return MAGIC_BASE + int(token[2:], 16)
    except ValueError:
        return None
