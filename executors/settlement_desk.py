"""Where an operator settles an order by hand: asks its executor, or ends it for an executor that is dead.

Precedes: `settling` in the executor. Follows: the admin's page and `manage.py settle_order`. The audit entry is written
first, so that what reached an executor is always known; the wish lies in the state Redis until the executor answers.
Asking again replaces what was asked; a crash in between leaves it to be asked again.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis
from django.db import transaction
from pydantic import ValidationError

from executors import audit, grants
from executors.errors import Code, Refused
from executors.messages import ExecutionReport
from executors.models import AuditEntry
from executors.orders import SETTLED, OrderState
from executors.settlement import SETTLABLE, Answer, Settlement, read_settlement
from tradedist import keys
from tradedist.clock import now_ms

DEAD_MS = 30_000  # an executor that has said something within this time is not dead
MOST_OPEN = 500
POLL_S = 0.05
ASKED, SETTLED_ENTRY, REFUSED_ENTRY = "settlement asked", "order settled by hand", "settlement refused"
FORCE = Path(__file__).parent / "lua" / "settle.lua"


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order as the operator sees it before he decides."""

    report: ExecutionReport
    leg: str
    overdue: bool
    silent_ms: int | None  # since its executor was heard of; None: never
    asked: Settlement | None  # a settlement that its executor has not answered

    @property
    def settlable(self) -> bool:
        """A living executor takes it; other open states only by force."""
        return self.report.state in SETTLABLE

    @property
    def executor_silent(self) -> bool:
        return self.silent_ms is None or self.silent_ms >= DEAD_MS


def find(client: "redis.Redis", order_id: str) -> OpenOrder | None:
    """None when there is no such order. Raises redis.RedisError."""
    terminal_id = order_id.rpartition(":")[2]
    pipe = client.pipeline(transaction=False)
    pipe.hmget(keys.order(order_id), ["report", "leg", "overdue"])
    pipe.hget(keys.instance(terminal_id), "seen_ms")
    pipe.hget(keys.settlements(terminal_id), order_id)
    (report, leg, overdue), seen_ms, asked = pipe.execute()
    if not report:
        return None
    return OpenOrder(
        report=ExecutionReport.model_validate_json(report),
        leg=leg or "",
        overdue=overdue == "1",
        silent_ms=max(0, now_ms() - int(seen_ms)) if seen_ms else None,
        asked=read_settlement(asked) if asked else None,
    )


def open_orders(client: "redis.Redis") -> list[OpenOrder]:
    """What is not settled, the longest overdue first. Raises redis.RedisError."""
    names = cast(list[str], client.zrange(keys.UNSETTLED, 0, MOST_OPEN - 1))
    return [order for name in names if (order := find(client, name)) and order.report.state not in SETTLED]


def ask(client: "redis.Redis", user: Any, wish: Settlement, *, address: str = "") -> None:
    """Leaves the settlement for the order's executor. Raises Refused: then nothing was asked."""
    _allowed(user)
    order = _open(client, wish)
    if not order.settlable:
        raise Refused(
            Code.INVALID,
            f"It is {order.report.state}: its executor is at work on it. Only UNKNOWN, PLACED and PARTIAL orders "
            "are settled by hand, others when their terminal's executor is dead.",
        )
    _note(user, ASKED, wish, address)
    try:
        client.hset(keys.settlements(wish.terminal_id), wish.order_id, wish.model_dump_json())
    except redis.RedisError as error:
        raise _not_taken() from error


def force(client: "redis.Redis", user: Any, wish: Settlement, *, address: str = "") -> None:
    """Settles an order whose executor was stated to be dead. Raises Refused: then nothing was changed."""
    _allowed(user)
    order = _open(client, wish)
    if not order.executor_silent:
        raise _alive(order.silent_ms or 0)
    stated = wish.model_copy(update={"forced": True, "leg": order.leg})
    report = order.report.model_copy(
        update={
            "state": OrderState.MANUAL,
            "report_seq": order.report.report_seq + 1,
            "filled_lots": stated.filled_lots,
            "price": stated.price or order.report.price,
            "code": Code.SETTLED_BY_HAND.value,
            "message": stated.sentence,
            "time_ms": now_ms(),
            "position": 0,
        }
    )
    _note(user, ASKED, stated, address)
    names = [
        keys.order(wish.order_id),
        keys.REPORTS,
        keys.UNSETTLED,
        keys.outbox(wish.terminal_id),
        keys.settlements(wish.terminal_id),
        keys.instance(wish.terminal_id),
    ]
    args: list[str | int] = [
        wish.order_id,
        wish.report_seq,
        report.model_dump_json(),
        stated.model_dump_json(),
        DEAD_MS,
    ]
    try:
        answer = cast(list[str], client.register_script(FORCE.read_text())(keys=names, args=args))
    except redis.RedisError as error:
        raise _not_taken() from error
    if answer[0] == "ALIVE":
        raise _alive(int(answer[1]))
    if answer[0] != "DONE":
        raise Refused(Code.INVALID, "The order has moved on since you looked. Look at it again.")
    _note(user, SETTLED_ENTRY, stated, address)


def wait(client: "redis.Redis", wish: Settlement, limit_s: float) -> Answer | None:
    """The executor's answer, noted in the audit log; None when none came in time: it comes later."""
    until = time.monotonic() + limit_s
    while True:
        text = cast(str | None, client.hget(keys.settlement_answers(wish.terminal_id), wish.order_id))
        answer = Answer.model_validate_json(text) if text else None
        if answer is not None and answer.settlement_id == wish.settlement_id:
            collect(client, [wish.terminal_id])
            return answer
        if time.monotonic() >= until:
            return None
        time.sleep(POLL_S)


def collect(client: "redis.Redis", terminal_ids: Iterable[str]) -> int:
    """Notes the executors' answers in the audit log, each once, and forgets them. Raises redis.RedisError."""
    noted = 0
    for terminal_id in terminal_ids:
        name = keys.settlement_answers(terminal_id)
        for order_id, text in cast(dict[str, str], client.hgetall(name)).items():
            answer = Answer.model_validate_json(text)
            action = SETTLED_ENTRY if answer.done else REFUSED_ENTRY
            detail = {"settlement_id": answer.settlement_id, "message": answer.message}
            with transaction.atomic():
                same = AuditEntry.objects.filter(
                    action=action, detail__settlement_id=answer.settlement_id, detail__answered=True
                )
                if not same.exists():  # a crash before it was forgotten
                    audit.append("executor", action, f"order {order_id}", detail | {"answered": True})
                    noted += 1
            client.eval(FORGET, 1, name, order_id, text)
    return noted


# KEYS answers  ARGV order_id, the answer that was noted. A newer one stays.
FORGET = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 1
"""


def read_wish(values: dict[str, Any]) -> Settlement:
    """Raises Refused with a sentence when the parts do not fit together."""
    try:
        return Settlement.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        raise Refused(Code.INVALID, f"{where}: {said}" if where else said) from None


def _open(client: "redis.Redis", wish: Settlement) -> OpenOrder:
    try:
        order = find(client, wish.order_id)
    except redis.RedisError as error:
        raise _not_taken() from error
    if order is None:
        raise Refused(Code.NOT_FOUND, "There is no such order. The admin's list of signals has the ids.", 404)
    if order.report.state in SETTLED:
        raise Refused(Code.INVALID, f"It is settled: {order.report.state}. {order.report.message}".strip())
    if order.report.report_seq != wish.report_seq:
        raise Refused(
            Code.INVALID,
            f"It has moved on since you looked: it is {order.report.state} now. Look at it again.",
        )
    if wish.filled_lots < order.report.filled_lots:
        known = f"{order.report.filled_lots.normalize():f}"
        raise Refused(Code.INVALID, f"Deals of {known} lots are known already; it cannot have had fewer.")
    return order


def _allowed(user: Any) -> None:
    if not grants.is_admin(user):
        raise Refused(Code.FORBIDDEN, "Only an admin settles orders by hand.", 403)


def _note(user: Any, action: str, wish: Settlement, address: str) -> None:
    detail = wish.model_dump(mode="json", exclude={"order_id", "leg"})
    with transaction.atomic():
        audit.append(user, action, f"order {wish.order_id}", detail, address=address)


def _alive(silent_ms: int) -> Refused:
    return Refused(
        Code.INVALID,
        f"Its executor was heard of {silent_ms / 1000:.0f} s ago, so it is not dead. Settle the order the ordinary "
        f"way, or make sure that the executor is stopped for good and try again {DEAD_MS // 1000} s later.",
    )


def _not_taken() -> Refused:
    return Refused(
        Code.UNAVAILABLE,
        "The state Redis does not answer: it is not known whether the settlement was taken. Do it again.",
        503,
    )
