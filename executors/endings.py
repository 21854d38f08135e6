"""Pure: what an order has come to when no more requests follow: its state, its code, and the sentence for people.

Precedes: execution records the steps. Follows: the outcomes of its requests, by replies or by looking.
"""

from dataclasses import dataclass

from executors.errors import Code
from executors.legs import LegRow, RequestRow
from executors.messages import CancelSignal, CloseSignal, ModifySignal, ProtectSignal
from executors.orders import OrderState, Outcome, fold
from executors.retcodes import INVALID, LOST_RACES
from executors.sizing import plain

S = OrderState
MISSED = (Outcome.REFUSED, Outcome.NOT_EXECUTED)
END_CODES = {S.CANCELLED: Code.PENDING_CANCELLED, S.EXPIRED: Code.PENDING_EXPIRED}


@dataclass(frozen=True, slots=True)
class Ending:
    """`steps`: (state, code, message), one report each."""

    steps: list[tuple[OrderState, str, str]]
    counts_as_rejection: bool = False


def ending(row: LegRow, *, message: str = "", code: str = "") -> Ending:
    """`message` and `code`: why no more will come, if not by the broker."""
    if row.requests and "changes" in row.plan:
        return _of_changes(row, message, code)
    if row.requests:
        return _of_lots(row, message, code)
    return _of_nothing(row, message, code)


def _of_lots(row: LegRow, message: str, code: str) -> Ending:
    last = row.requests[-1]
    if len(row.requests) == 1 and not row.plan and _is_whole(last, row):  # most orders end so
        return Ending([(S.FILLED, "", message or last.result.get("message", ""))])
    left_open = bool(row.plan.get("waiting"))  # it ends before the opens that it waits for
    state = fold([item.view for item in row.requests], row.wanted_lots, more=False)
    if left_open and state in (S.FILLED, S.DONE):
        state = S.PARTIAL if row.filled_lots else S.REJECTED
    if row.plan.get("foreign"):
        # of what a lost journal may have sent, what reached the broker counts, not what was looked for in vain
        reached = [item for item in row.requests if item.outcome is not Outcome.NOT_EXECUTED]
        last = (reached or row.requests)[-1]
        if reached and state is S.NOT_EXECUTED:
            state = S.REJECTED
    missed = [item for item in row.requests if item.outcome in MISSED]
    why = last.result if last.outcome in MISSED else (missed or row.requests)[-1].result
    message = message or (row.requests[-1].result if state is S.FILLED else why).get("message", "")
    message = _with_notes(row, message)
    ended = _ended(last)
    refusal = code or why.get("code", "") or (END_CODES[ended] if ended else Code.BROKER_REFUSED)
    if state is S.PARTIAL and not any(item.outcome is Outcome.PLACED for item in row.requests):
        given_up = (
            f"{plain(row.filled_lots)} of {plain(row.wanted_lots)} lots were executed; the rest was given up."
        )
        return Ending([(S.PARTIAL, "", message), (ended or S.CANCELLED, refusal, f"{given_up} {message}")])
    if state is S.REJECTED and ended is not None:
        return Ending([(ended, refusal, message)])
    end_code = {S.REJECTED: refusal, S.NOT_EXECUTED: Code.NOT_EXECUTED}.get(state, "")
    rejected = state is S.REJECTED and refusal == Code.BROKER_REFUSED
    return Ending([(state, end_code, message)], rejected)


def _is_whole(request: RequestRow, row: LegRow) -> bool:
    return (
        request.outcome is Outcome.FILLED
        and bool(request.filled_lots)
        and request.filled_lots >= row.wanted_lots
    )


def _of_changes(row: LegRow, message: str, code: str) -> Ending:
    """Without lots: done when every position and order meant is as wished."""
    done = sum(item.outcome is Outcome.DONE for item in row.requests)
    denied = row.plan.get("denied", "")
    meant = len(row.plan["changes"]) + bool(denied)
    last = row.requests[-1]
    if any(item.outcome is Outcome.UNKNOWN for item in row.requests):
        return Ending([(S.UNKNOWN, Code.OUTCOME_UNKNOWN, last.result.get("message", ""))])
    if done and done >= meant and not row.plan.get("waiting"):
        return Ending([(S.DONE, "", _with_notes(row, message or last.result.get("message", "")))])
    missed = [item for item in row.requests if item.outcome in MISSED]
    decisive = (missed or row.requests)[-1].result
    why = message or decisive.get("message", "")
    if done:
        return Ending(
            [(S.REJECTED, code or Code.PARTLY_DONE, _with_notes(row, f"{done} of {meant} were done. {why}"))]
        )
    if missed and all(item.outcome is Outcome.NOT_EXECUTED for item in missed):
        return Ending([(S.NOT_EXECUTED, Code.NOT_EXECUTED, _with_notes(row, why))])
    refusal = code or decisive.get("code", "") or Code.BROKER_REFUSED
    faults = any(item.outcome is Outcome.REFUSED and not _lost_a_race(item) for item in missed)
    rejected = refusal == Code.BROKER_REFUSED and faults
    return Ending([(S.REJECTED, refusal, _with_notes(row, why))], rejected)


def levels_not_set(row: LegRow) -> str:
    """For an operator: a stop loss or take profit whose answer was lost, and that the position does not have which the
    pending order has become meanwhile."""
    signal = row.leg.signal
    if row.state not in (S.REJECTED, S.EXPIRED) or not isinstance(signal, ModifySignal):
        return ""
    if signal.stop_loss is None and signal.take_profit is None:
        return ""
    tickets = [str(item.request["order"]) for item in row.requests if item.result.get("left") is not None]
    closed = any(item.result.get("code") == Code.NO_TARGET for item in row.requests) or not (
        row.plan.get("changes") or row.plan.get("waiting")
    )
    if not tickets or closed:
        return ""
    return (
        f"order {row.order_id}: the stop loss or take profit that it wished for pending order {', '.join(tickets)} was not"
        " set, and the order was filled meanwhile; look at the position"
    )


def _lost_a_race(request: RequestRow) -> bool:
    """What it was about was filled, closed or changed just before, or is at work: no fault of the broker's. Of a
    change that had to be looked up only that is ever called refused."""
    return (
        request.retcode in LOST_RACES
        or (request.retcode == INVALID and bool(request.request.get("order")))
        or bool(request.result.get("looked") or request.result.get("code"))
    )


def _of_nothing(row: LegRow, message: str, code: str) -> Ending:
    signal, left_open = row.leg.signal, bool(row.plan.get("waiting"))
    steps: list[tuple[OrderState, str, str]] = [(S.INTENT, "", "")] if row.state is S.QUEUED else []
    if isinstance(signal, ProtectSignal):
        wish = row.plan.get("protect", {"positions": [], "opens": []})
        if (wish["positions"] or wish["opens"]) and not left_open:
            return Ending([*steps, (S.DONE, "", "The executor moves the stop loss from now on.")])
    tidy = isinstance(signal, (CloseSignal, CancelSignal)) and not row.plan.get("tickets")
    if tidy and not left_open and not row.plan.get("notes"):
        thing = "position to close" if isinstance(signal, CloseSignal) else "pending order to cancel"
        return Ending([*steps, (S.DONE, "", message or f"There was no {thing}.")])
    otherwise = Code.BROKER_REFUSED if isinstance(signal, CloseSignal) else Code.NO_TARGET
    refusal = code or row.plan.get("denied", "") or otherwise
    if not message and not row.plan.get("notes"):
        message = "Nothing is there (any more) that it means."
    rejected = refusal == Code.BROKER_REFUSED
    return Ending([*steps, (S.REJECTED, refusal, _with_notes(row, message))], rejected)


def _ended(request: RequestRow) -> OrderState | None:
    """How a pending order ended at the broker without being filled (wholly)."""
    found = request.result.get("ended")
    return S(found) if found else None


def _with_notes(row: LegRow, message: str) -> str:
    return " ".join(part for part in (message, *row.plan.get("notes", [])) if part)
