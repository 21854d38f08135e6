"""Every kind of violation that the chaos runs look for, planted into a clean run: each must be found, and alone."""

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from executors.messages import ExecutionReport
from executors.orders import OrderState, request_magic
from executors.terminals.paper.oracle import Account, Deal, Order, Position, Records
from tests.chaos.checker import Evidence, violations
from tests.chaos.intervals import calm, merged

INSTALLATION = "test-installation"
SIGNAL = "5c0c2f0e-6f0b-4f6e-9a53-0f2b6f6a1d11"
TERMINAL, LOGIN = "oslo-1", 7
ORDER = f"{SIGNAL}:{TERMINAL}"
T0 = 1_795_000_000_000
DEADLINE = T0 + 5_000


def _row(kind: Any, **values: Any) -> Any:
    """A broker's row with whatever is not named empty."""
    empty: dict[Any, Any] = {int: 0, float: 0.0, str: "", bool: True}
    return kind(**{item.name: values.get(item.name, empty[item.type]) for item in dataclasses.fields(kind)})


def _report(seq: int, state: OrderState, ms: int, **values: Any) -> ExecutionReport:
    base: dict[str, Any] = {
        "order_id": ORDER,
        "signal_id": SIGNAL,
        "terminal_id": TERMINAL,
        "report_seq": seq,
        "state": state,
        "action": "open",
        "symbol": "EURUSD",
        "side": "buy",
        "lots": Decimal("0.1"),
        "time_ms": T0 + ms,
        "request_n": 1 if seq else 0,
    }
    return ExecutionReport(**base | values)


def clean() -> Evidence:
    """One open of 0.1 lots: accepted, sent, filled, shown."""
    magic = request_magic(INSTALLATION, ORDER, 1)
    account = _row(Account, login=LOGIN, margin_mode=2, balance=1000.0)
    order = _row(
        Order, login=LOGIN, ticket=11, symbol="EURUSD", state=4, magic=magic, position_id=11, volume_initial=0.1,
        setup_ms=T0 + 100, done_ms=T0 + 100, reason=3, request=1,
    )  # fmt: skip
    deposit = _row(Deal, login=LOGIN, ticket=1, type=2, profit=1000.0, time_ms=T0)
    deal = _row(
        Deal, login=LOGIN, ticket=12, order=11, position_id=11, symbol="EURUSD", magic=magic, volume=0.1,
        price=1.1, reason=3, time_ms=T0 + 100,
    )  # fmt: skip
    position = _row(
        Position,
        login=LOGIN,
        ticket=11,
        identifier=11,
        symbol="EURUSD",
        magic=magic,
        volume=0.1,
        price_open=1.1,
    )
    reports = [
        _report(0, OrderState.QUEUED, 0),
        _report(1, OrderState.INTENT, 90),
        _report(2, OrderState.FILLED, 110, filled_lots=Decimal("0.1"), deal_tickets=[12]),
    ]
    return Evidence(
        installation=INSTALLATION,
        records=Records({LOGIN: account}, {11: order}, {1: deposit, 12: deal}, {11: position}),
        orders={ORDER: reports[-1]},
        reports={ORDER: reports},
        accepted={SIGNAL: [ORDER]},
        sent=frozenset({SIGNAL}),
        deadlines={ORDER: DEADLINE},
        intents=[(ORDER, magic, T0 + 95)],
        call_ms=1_000,
        troubled={TERMINAL: []},
        logins={TERMINAL: LOGIN},
        held={TERMINAL: {11: Decimal("0.1")}},
    )


Plant = Callable[[Evidence], Evidence]


def doubled_order(evidence: Evidence) -> Evidence:
    """The same request twice: two broker orders with one magic, of which the second opened a position of its own."""
    records = evidence.records
    records.orders[21] = replace(records.orders[11], ticket=21, position_id=21, request=2)
    records.deals[22] = replace(records.deals[12], ticket=22, order=21, position_id=21)
    records.positions[21] = replace(records.positions[11], ticket=21, identifier=21)
    return replace(evidence, held={TERMINAL: {11: Decimal("0.1"), 21: Decimal("0.1")}})


def doubled_by_another_request(evidence: Evidence) -> Evidence:
    """An order that was filled is sent again under its next number; both fills are reported."""
    records, magic = evidence.records, request_magic(INSTALLATION, ORDER, 2)
    records.orders[21] = replace(records.orders[11], ticket=21, position_id=21, request=2, magic=magic)
    records.deals[22] = replace(records.deals[12], ticket=22, order=21, position_id=21, magic=magic)
    records.positions[21] = replace(records.positions[11], ticket=21, identifier=21, magic=magic)
    return _end(
        replace(evidence, held={TERMINAL: {11: Decimal("0.1"), 21: Decimal("0.1")}}),
        OrderState.CANCELLED,
        filled_lots=Decimal("0.2"),
        request_n=2,
        illegal=True,
    )


def _end(evidence: Evidence, state: OrderState, *, illegal: bool = False, **values: Any) -> Evidence:
    """Another last report; by way of PARTIAL where the table asks for it."""
    reports = [*evidence.reports[ORDER][:2]]
    if illegal:
        reports.append(_report(2, OrderState.PARTIAL, 105, **values))
    reports.append(_report(len(reports), state, 110, **values))
    return replace(evidence, orders={ORDER: reports[-1]}, reports={ORDER: reports})


def lost(evidence: Evidence) -> Evidence:
    other = "11111111-6f0b-4f6e-9a53-0f2b6f6a1d11"
    return replace(evidence, accepted={**evidence.accepted, other: [f"{other}:{TERMINAL}"]})


def stray(evidence: Evidence) -> Evidence:
    return replace(evidence, orders={}, reports={}, accepted={}, intents=[], logins={}, held={})


def invented(evidence: Evidence) -> Evidence:
    return replace(evidence, sent=frozenset({"another"}))


def refused(evidence: Evidence) -> Evidence:
    return replace(evidence, refused=frozenset({SIGNAL}))


def said_not_executed(evidence: Evidence) -> Evidence:
    reports = [
        *evidence.reports[ORDER][:2],
        _report(2, OrderState.UNKNOWN, 100),
        _report(3, OrderState.NOT_EXECUTED, 110),
    ]
    return replace(evidence, orders={ORDER: reports[-1]}, reports={ORDER: reports}, logins={}, held={})


def said_filled_too_little(evidence: Evidence) -> Evidence:
    short = _end(
        evidence, OrderState.FILLED, filled_lots=Decimal("0.05"), lots=Decimal("0.05"), deal_tickets=[12]
    )
    return replace(short, logins={}, held={})


def filled_short_of_its_lots(evidence: Evidence) -> Evidence:
    return _end(
        evidence, OrderState.FILLED, filled_lots=Decimal("0.1"), lots=Decimal("0.3"), deal_tickets=[12]
    )


def unsettled(evidence: Evidence) -> Evidence:
    reports = [*evidence.reports[ORDER][:2], _report(2, OrderState.UNKNOWN, 100, filled_lots=Decimal("0.1"))]
    return replace(evidence, orders={ORDER: reports[-1]}, reports={ORDER: reports})


def gap(evidence: Evidence) -> Evidence:
    reports = evidence.reports[ORDER]
    return replace(evidence, reports={ORDER: [reports[0], reports[2]]})


def doubled_report(evidence: Evidence) -> Evidence:
    reports = evidence.reports[ORDER]
    return replace(evidence, reports={ORDER: [*reports, reports[-1]]})


def illegal(evidence: Evidence) -> Evidence:
    reports = [evidence.reports[ORDER][0], replace_report(evidence.reports[ORDER][2], report_seq=1)]
    return replace(evidence, reports={ORDER: reports})


def replace_report(report: ExecutionReport, **values: Any) -> ExecutionReport:
    return report.model_copy(update=values)


def projection(evidence: Evidence) -> Evidence:
    return replace(evidence, reports={ORDER: evidence.reports[ORDER][:2]})


def decided_late(evidence: Evidence) -> Evidence:
    return replace(evidence, deadlines={ORDER: T0 + 20})


def sent_late(evidence: Evidence) -> Evidence:
    evidence.records.orders[11].setup_ms = DEADLINE + 1_200
    return evidence


def unresolved(evidence: Evidence) -> Evidence:
    reports = [
        *evidence.reports[ORDER][:2],
        _report(2, OrderState.UNKNOWN, 100),
        _report(3, OrderState.FILLED, 40_000, filled_lots=Decimal("0.1"), deal_tickets=[12]),
    ]
    return replace(evidence, orders={ORDER: reports[-1]}, reports={ORDER: reports})


def forgotten_in_the_queue(evidence: Evidence) -> Evidence:
    reports = evidence.reports[ORDER]
    late = [reports[0], *(replace_report(item, time_ms=item.time_ms + 40_000) for item in reports[1:])]
    return replace(evidence, reports={ORDER: late})


def position_of_nobody(evidence: Evidence) -> Evidence:
    """The broker holds more than was reported, by an order without a magic of ours."""
    records = evidence.records
    records.orders[21] = replace(records.orders[11], ticket=21, position_id=21, magic=0)
    records.deals[22] = replace(records.deals[12], ticket=22, order=21, position_id=21, magic=0)
    records.positions[21] = replace(records.positions[11], ticket=21, identifier=21, magic=0)
    return replace(evidence, held={TERMINAL: {11: Decimal("0.1"), 21: Decimal("0.1")}})


def shown_wrongly(evidence: Evidence) -> Evidence:
    return replace(evidence, held={TERMINAL: {11: Decimal("0.3")}})


def broken_ledger(evidence: Evidence) -> Evidence:
    evidence.records.accounts[LOGIN].balance = 999.0
    return evidence


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (doubled_order, {"doubled:", "untrue:", "account", "positions:"}),
        (doubled_by_another_request, {"doubled:"}),
        (lost, {"lost:"}),
        (stray, {"stray:"}),
        (invented, {"invented:"}),
        (refused, {"refused:"}),
        (said_not_executed, {"untrue:"}),
        (said_filled_too_little, {"untrue:", "doubled:"}),
        (filled_short_of_its_lots, {"untrue:"}),
        (unsettled, {"unsettled:"}),
        (gap, {"gap:"}),
        (doubled_report, {"gap:"}),
        (illegal, {"illegal:"}),
        (projection, {"projection:"}),
        (decided_late, {"late:"}),
        (sent_late, {"late:"}),
        (unresolved, {"unresolved:"}),
        (forgotten_in_the_queue, {"unresolved:"}),
        (position_of_nobody, {"positions:"}),
        (shown_wrongly, {"shown:"}),
        (broken_ledger, {"account"}),
    ],
    ids=lambda item: item.__name__ if callable(item) else "",
)
def test_a_planted_violation_is_found(plant: Plant, words: set[str]) -> None:
    assert {text.split()[0] for text in violations(plant(clean()))} == words


def test_a_clean_run_has_none() -> None:
    assert violations(clean()) == []


def test_what_a_hand_closed_in_the_terminal_is_no_violation() -> None:
    ran = clean()
    by_hand = _row(
        Order,
        login=LOGIN,
        ticket=31,
        symbol="EURUSD",
        type=1,
        state=4,
        position_id=11,
        volume_initial=0.1,
        done_ms=T0 + 200,
    )
    ran.records.orders[31] = by_hand
    out = {
        "type": 1,
        "entry": 1,
        "order": 31,
        "position_id": 11,
        "volume": 0.1,
        "price": 1.1,
        "time_ms": T0 + 200,
    }
    ran.records.deals[32] = _row(Deal, login=LOGIN, ticket=32, symbol="EURUSD", **out)
    del ran.records.positions[11]
    held = replace(ran, held={TERMINAL: {}})
    assert violations(held) == []
    ran.records.deals[32].reason = 3  # an expert's, which without a magic none of ours is
    assert any(text.startswith("positions:") for text in violations(held))


def test_what_could_not_be_kept_is_no_violation() -> None:
    """A disturbed terminal has its time from when it answers again; a frozen executor, or call, its delay."""
    late = unresolved(clean())
    assert violations(replace(late, troubled={TERMINAL: [(T0 + 5_000, T0 + 12_000)]})) == []
    assert violations(replace(late, troubled={TERMINAL: [(T0 + 5_000, T0 + 8_000)]})) != []
    slow = clean()
    slow.records.orders[11].setup_ms = DEADLINE + 900
    assert violations(slow) == []
    frozen = {TERMINAL: [(T0 + 10, T0 + 94)]}
    assert violations(replace(decided_late(clean()), frozen=frozen)) == []


def test_an_hour_is_checked_in_seconds() -> None:
    """Not timed: quadratic rules would take minutes here, and the limit of the tests would end them."""
    one = clean()
    orders = {f"{number:08d}-{SIGNAL[9:]}:{TERMINAL}": one.orders[ORDER] for number in range(20_000)}
    queued = {name: [_report(0, OrderState.QUEUED, 0)] for name in orders}
    many = replace(one, orders={**one.orders, **orders}, reports={**one.reports, **queued}, accepted={})
    assert len(violations(many)) > 20_000


def test_calm_is_the_longest_stretch_between_disturbances() -> None:
    assert merged([(5, 9), (1, 3), (2, 4), (9, 10)]) == [(1, 4), (5, 10)]
    assert calm([], 0, 10) == 10
    assert calm([(4, 5)], 0, 10) == 5
    assert calm([(-5, 2), (8, 20)], 0, 10) == 6
    assert calm([(0, 10)], 0, 10) == 0
    assert calm([(3, 3), (30, 40)], 0, 10) == 7
