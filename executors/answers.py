"""Pure: what the broker's answer to a request says, put into the request and its order.

Precedes: execution writes the RESULT. Follows: `retcodes` judges the reply; the step says what was asked.
"""

from executors import retcodes
from executors.legs import LegRow, RequestRow
from executors.orders import Outcome
from executors.plans import Step, already_closed
from executors.terminals.base import SendReply, TradeRequest


def put_answer(made: RequestRow, row: LegRow, step: Step, request: TradeRequest, reply: SendReply) -> None:
    """Outcome, lots, tickets and sentence of the request; `row.wanted_lots` where nothing was left to close."""
    verdict = retcodes.judge(request, reply)
    made.outcome = verdict.outcome
    made.filled_lots = retcodes.filled_lots(verdict, request, reply)
    made.result = {"message": verdict.message, "retriable": verdict.retriable}
    if reply.result is not None:
        result = reply.result
        made.retcode = result.retcode
        made.price = result.price
        made.result["comment"] = result.comment
        made.result["orders"] = [result.order] if result.order else []
        made.result["deals"] = [result.deal] if result.deal else []
        if step.change is not None:
            named = (step.change.get(name) for name in ("position", "position_by"))
            made.result["positions"] = [ticket for ticket in named if ticket]
            if "order" in step.change:
                made.result["orders"] = [step.change["order"]]
        elif step.position:
            made.result["positions"] = [step.position]
        elif result.order and made.filled_lots:
            made.result["positions"] = [result.order]  # a hedging account's position has its order's ticket
        if already_closed(step, result.retcode):
            made.outcome = Outcome.DONE
            made.result["message"] = "The position was closed already."
            row.wanted_lots -= step.lots
    else:
        made.result["error"] = list(reply.error)
