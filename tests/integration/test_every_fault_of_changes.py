"""Every fault of the paper broker's requests, against changes: stop loss and take profit, a pending order changed and cancelled,
a close by. How each ends, what a trader is told, and what the broker has then. Goes on where test_every_fault has opens and
closes; a new kind of fault needs a row here too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from executors.errors import Code
from executors.orders import OrderState
from executors.retcodes import REFUSALS, RETRIABLE
from executors.terminals.paper.broker.faults import OF_A_CALL
from tests.integration.test_executor_verbs import RigOf, pending
from tests.rig import Rig

S = OrderState
STOP, ENTRY = Decimal("1.08"), Decimal("1.085")
SHORT_S, SHORT_MS = {"value": 0.1}, {"value": 60}
LOCKED = 10028


@dataclass(frozen=True)
class Case:
    """`then`: how it ends. `looked`: by looking, after it was UNKNOWN. `tries`: requests that are sent."""

    kind: str
    then: OrderState
    looked: bool = False
    tries: int = 1
    says: str = ""
    spec: dict[str, Any] = field(default_factory=dict)


CASES = {
    "refused": Case("reject", S.REJECTED, says="10006"),
    "another request is under way": Case("reject", S.REJECTED, says="10028", spec={"value": LOCKED}),
    "frozen near the market": Case("reject", S.REJECTED, says="10029", spec={"value": 10029}),
    "requoted": Case("requote", S.DONE, tries=2),
    "no price": Case("price_off", S.DONE, tries=2),
    "a part, which it has not": Case("partial", S.DONE),
    "a price, which it has not": Case("slippage", S.DONE),
    "slow": Case("delay", S.DONE, spec=SHORT_MS),
    "slow to answer": Case("slow_answer", S.DONE, spec=SHORT_MS),
    "little is said": Case("blank", S.DONE),
    "placed, which it has not": Case("placed", S.DONE),
    "timeout, yet done": Case("ambiguous", S.DONE, looked=True),
    "a code that nobody knows, yet done": Case("ambiguous", S.DONE, looked=True, spec={"value": 10999}),
    "placed, as it was said": Case("ambiguous", S.DONE, looked=True, spec={"value": 10008}),
    "a fill, which it has not": Case("late_fill", S.DONE, spec=SHORT_MS),
    "the answer lost": Case("lose_answer", S.DONE, looked=True),
    "the question lost": Case("lose_question", S.NOT_EXECUTED, looked=True),
    "the answer doubled": Case("double_answer", S.DONE),
    "the terminal dies before": Case("crash", S.NOT_EXECUTED, looked=True, spec=SHORT_MS),
    "the terminal dies after": Case("crash_after", S.DONE, looked=True, spec=SHORT_MS),
    "the terminal is stuck": Case("stuck", S.NOT_EXECUTED, looked=True, spec=SHORT_MS),
    "hangs": Case("hang", S.NOT_EXECUTED, looked=True, spec=SHORT_S),
    "hangs when it is done": Case("hang_after", S.DONE, looked=True, spec=SHORT_S),
    "no answer at once": Case("timeout", S.NOT_EXECUTED, looked=True),
    "a failed call": Case("error", S.NOT_EXECUTED, looked=True),
    "arguments refused": Case("error", S.REJECTED, says="-2", spec={"value": -2}),
    "no connection before": Case("error", S.DONE, tries=2, spec={"value": -10004}),
    "last_error overwritten": Case("last_error_race", S.DONE, looked=True),
    "Algo Trading off": Case("algo_off", S.REJECTED, says="10027"),
    "forbidden by the server": Case("expert_off", S.REJECTED, says="10026"),
    "the Python API off": Case("api_off", S.REJECTED, says="-8"),
    "no link to the server": Case("no_connection", S.NOT_EXECUTED, looked=True),
}
RACES = {"race_fill"}  # has a test of its own


@dataclass(frozen=True)
class Held:
    buy: int
    sell: int
    order: int


def held(rig: Rig) -> Held:
    buy, sell = (rig.settle(rig.signal("open", side=side)).position_tickets[0] for side in ("buy", "sell"))
    name = pending(rig)
    return Held(buy, sell, rig.execution.resting[name][0])


Asked = Callable[[Held], tuple[str, dict[str, Any]]]
Reached = Callable[[Rig, Held], bool]
VERBS: dict[str, tuple[Asked, Reached]] = {
    "SLTP": (
        lambda it: ("modify", {"position_ticket": it.buy, "stop_loss": STOP}),
        lambda rig, it: any(item.ticket == it.buy and item.sl == STOP for item in rig.positions()),
    ),
    "MODIFY": (
        lambda it: ("modify", {"order_ticket": it.order, "price": ENTRY}),
        lambda rig, it: any(item.ticket == it.order and item.price_open == ENTRY for item in rig.orders()),
    ),
    "REMOVE": (
        lambda it: ("cancel", {"order_ticket": it.order}),
        lambda rig, it: all(item.ticket != it.order for item in rig.orders()),
    ),
    "CLOSE_BY": (
        lambda it: ("close_by", {"position_ticket": it.buy, "by_position_ticket": it.sell}),
        lambda rig, it: not {it.buy, it.sell} & {item.ticket for item in rig.positions()},
    ),
}


def test_every_fault_of_a_request_has_its_case() -> None:
    assert {case.kind for case in CASES.values()} | RACES >= set(OF_A_CALL)


@pytest.mark.parametrize("name", CASES)
def test_how_each_change_ends(rig_of: RigOf, settings: Any, name: str) -> None:
    settings.BREAKER_UNKNOWN = settings.BREAKER_REJECTIONS = 0
    case, rig = CASES[name], rig_of("lab")
    it = held(rig)
    for verb, (asked, reached) in VERBS.items():
        rig.broker.fault(case.kind, login=rig.login, **({"at": 1} | case.spec))
        action, fields = asked(it)
        order_id = rig.signal(action, **fields)
        report = rig.settle(order_id)
        rig.broker.oracle.clear_faults()
        rig.until(lambda _: rig.ready, order_id)
        assert report.state is case.then, f"{verb}: {report.message}"
        assert reached(rig, it) is (case.then is S.DONE), verb
        assert case.says in report.message
        assert (S.UNKNOWN in rig.states(order_id)) is case.looked, verb
        codes = {S.REJECTED: Code.BROKER_REFUSED, S.NOT_EXECUTED: Code.NOT_EXECUTED, S.DONE: ""}
        assert report.code == codes[case.then]
        row = rig.journal.get(order_id)
        assert row is not None
        assert len(row.requests) == case.tries, verb


def test_a_locked_position_is_a_refusal_for_every_request_and_not_tried_again(rig_of: RigOf) -> None:
    """10028: another request for it is under way. It was not executed, and the sender decides."""
    assert LOCKED in REFUSALS
    assert LOCKED not in RETRIABLE
    rig = rig_of("lab")
    it = held(rig)
    rig.broker.fault("reject", login=rig.login, at=1, value=LOCKED)
    report = rig.settle(rig.signal("close", position_ticket=it.buy))
    assert (report.state, report.code, report.retcode) == (S.REJECTED, Code.BROKER_REFUSED, LOCKED)
    assert "Another request for this position is under way" in report.message
    rig.broker.fault("reject", login=rig.login, at=1, value=LOCKED)
    report = rig.settle(rig.open())
    assert (report.state, report.retcode) == (S.REJECTED, LOCKED)
    assert {item.ticket for item in rig.positions()} == {it.buy, it.sell}
    # a change that finds its target locked is no fault of the broker's, however often
    for _ in range(6):
        rig.broker.fault("reject", login=rig.login, at=1, value=LOCKED)
        rig.settle(rig.signal("modify", position_ticket=it.buy, stop_loss=STOP))
    assert rig.execution.breaker.reason == ""
    # the executor's own move is refused too, and made later
    rig.broker.fault("reject", login=rig.login, at=1, value=LOCKED)
    rig.settle(rig.signal("protect", position_ticket=it.buy, trailing={"distance": 0.002}))
    rig.turn()
    armed = rig.execution.guard.of(it.buy)
    assert armed is not None
    assert "10028" in armed.error
    rig.until(lambda _: any(item.sl == Decimal("1.098") for item in rig.positions()), rig.open())


@pytest.mark.parametrize(
    ("verb", "state", "code"),
    [
        ("SLTP", S.REJECTED, Code.BROKER_REFUSED),
        ("MODIFY", S.REJECTED, Code.NO_TARGET),
        ("REMOVE", S.REJECTED, Code.BROKER_REFUSED),
        ("CLOSE_BY", S.REJECTED, Code.BROKER_REFUSED),
    ],
)
def test_what_ends_first_is_told(rig_of: RigOf, verb: str, state: OrderState, code: Code) -> None:
    rig = rig_of("lab")
    it = held(rig)
    rig.broker.fault("race_fill", login=rig.login, at=1)
    asked, _ = VERBS[verb]
    action, fields = asked(it)
    report = rig.settle(rig.signal(action, **fields))
    assert (report.state, report.code) == (state, code), report.message
    assert rig.execution.breaker.reason == ""
