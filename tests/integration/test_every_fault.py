"""Every fault that the paper broker has, against a running executor: how the order ends, what a trader is told, what is true.

The cases `v…` are one table. A new kind of fault needs a row in it: the first test says so. Whatever happens, no request has two
orders at the broker (the fixture checks the ledger), and what the trader is shown filled is what the ledger has.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from executors.errors import Code
from executors.messages import ExecutionReport
from executors.orders import OrderState
from executors.terminals.paper.broker.faults import OF_A_CALL, STANDING
from tests.running_executor import Maker, RunningExecutor

S = OrderState
LOST, REFUSED = Code.OUTCOME_UNKNOWN, Code.BROKER_REFUSED
NEVER = Code.NOT_EXECUTED


@dataclass(frozen=True)
class Case:
    """`then`: the state that ends it, with the code and words that a trader sees; `by_way_of`: a state before it."""

    kind: str
    then: OrderState
    trades: list[str]
    says: str = ""
    code: str = ""
    by_way_of: OrderState | None = None
    close: bool = False  # the fault meets a close of one position of 0.1 lots, whose trade is not counted
    personality: str = "lab"  # fills whole or in part; its symbols take FOK first
    spec: dict[str, Any] = field(default_factory=lambda: {"at": 1})
    lifts: bool = False  # the fault is lifted after `by_way_of` was seen, or a moment
    crash: bool = False  # the terminal's connection is cut first, so that it has to log in


CASES: dict[str, Case] = {
    "v01 rejected": Case("reject", S.REJECTED, [], "10006", REFUSED),
    "v02 rejected with another code": Case(
        "reject", S.REJECTED, [], "not enough free margin", REFUSED, spec={"at": 1, "value": 10019}
    ),
    "v03 requoted once": Case("requote", S.FILLED, ["0.1"]),
    "v04 requoted for ever": Case("requote", S.REJECTED, [], "10004", REFUSED, spec={}),
    "v05 no price once": Case("price_off", S.FILLED, ["0.1"]),
    "v06 no price for ever": Case("price_off", S.REJECTED, [], "10021", REFUSED, spec={}),
    "v07 a part, fill or kill": Case("partial", S.REJECTED, [], "10006", REFUSED),
    "v08 a part, then the rest": Case(
        "partial", S.FILLED, ["0.04", "0.06"], personality="ecn", spec={"at": 1, "value": 0.4}
    ),
    "v09 parts only": Case(
        "partial", S.CANCELLED, ["0.05", "0.02", "0.01"], "the rest was given up", REFUSED,
        personality="ecn", spec={"value": 0.5},
    ),
    "v10 slipped": Case("slippage", S.FILLED, ["0.1"], spec={"at": 1, "value": 30}),
    "v11 slow": Case("delay", S.FILLED, ["0.1"], spec={"at": 1, "value": 150}),
    "v12 slow to answer": Case("slow_answer", S.FILLED, ["0.1"], spec={"at": 1, "value": 150}),
    "v13 done, and no more said": Case("blank", S.FILLED, ["0.1"], by_way_of=S.PLACED),
    "v14 placed, and no more said": Case("placed", S.FILLED, ["0.1"], by_way_of=S.PLACED),
    "v15 filled later": Case("late_fill", S.FILLED, ["0.1"], by_way_of=S.PLACED, spec={"at": 1, "value": 300}),
    "v16 timeout, yet executed": Case("ambiguous", S.FILLED, ["0.1"], code="", by_way_of=S.UNKNOWN),
    "v17 server fault, yet executed": Case(
        "ambiguous", S.FILLED, ["0.1"], by_way_of=S.UNKNOWN, spec={"at": 1, "value": 10011}
    ),
    "v18 no connection said, yet executed": Case(
        "ambiguous", S.FILLED, ["0.1"], by_way_of=S.UNKNOWN, spec={"at": 1, "value": 10031}
    ),
    "v19 a code that nobody knows, yet executed": Case(
        "ambiguous", S.FILLED, ["0.1"], by_way_of=S.UNKNOWN, spec={"at": 1, "value": 10999}
    ),
    "v20 the answer lost": Case("lose_answer", S.FILLED, ["0.1"], by_way_of=S.UNKNOWN),
    "v21 the question lost": Case(
        "lose_question", S.NOT_EXECUTED, [], "Two clean looks", NEVER, by_way_of=S.UNKNOWN
    ),
    "v22 the answer doubled": Case("double_answer", S.FILLED, ["0.1"]),
    "v23 hangs, nothing done": Case(
        "hang", S.NOT_EXECUTED, [], "Two clean looks", NEVER, by_way_of=S.UNKNOWN, spec={"at": 1, "value": 0.2}
    ),
    "v24 hangs when it is done": Case(
        "hang_after", S.FILLED, ["0.1"], by_way_of=S.UNKNOWN, spec={"at": 1, "value": 0.2}
    ),
    "v25 -10005 at once": Case("timeout", S.NOT_EXECUTED, [], "Two clean looks", NEVER, by_way_of=S.UNKNOWN),
    "v26 a failed call": Case("error", S.NOT_EXECUTED, [], "Two clean looks", NEVER, by_way_of=S.UNKNOWN),
    "v27 arguments refused": Case(
        "error", S.REJECTED, [], "-2", REFUSED, spec={"at": 1, "value": -2}
    ),
    "v28 last_error overwritten": Case("last_error_race", S.FILLED, ["0.1"], by_way_of=S.UNKNOWN),
    "v29 nothing to race with": Case("race_fill", S.FILLED, ["0.1"]),
    "v30 Algo Trading off": Case("algo_off", S.REJECTED, [], "10027", REFUSED, spec={}),
    "v31 forbidden by the server": Case("expert_off", S.REJECTED, [], "10026", REFUSED, spec={}),
    "v32 the Python API off": Case("api_off", S.REJECTED, [], "-8", REFUSED, spec={}),
    "v33 trade disabled": Case("trade_disabled", S.REJECTED, [], "10017", REFUSED, spec={}),
    "v34 market closed": Case("market_closed", S.REJECTED, [], "The market is closed", REFUSED, spec={}),
    "v35 no link to the server": Case(
        "no_connection", S.NOT_EXECUTED, [], "Two clean looks", NEVER, by_way_of=S.UNKNOWN, spec={}, lifts=True
    ),
    "v36 wrong version at login": Case("version_mismatch", S.FILLED, ["0.1"], spec={}, lifts=True, crash=True),
    "v37 refused at login": Case("auth_fail", S.FILLED, ["0.1"], spec={}, lifts=True, crash=True),
    "v38 no answer at login": Case("login_timeout", S.FILLED, ["0.1"], spec={}, lifts=True, crash=True),
    "v39 credentials hang, attaching works": Case("relogin_timeout", S.FILLED, ["0.1"], spec={}, crash=True),
    "v40 the pipe is busy": Case("pipe_busy", S.FILLED, ["0.1"], spec={}, lifts=True, crash=True),
    "v41 outage": Case("outage", S.FILLED, ["0.1"], spec={}, lifts=True, crash=True),
    "v45 attached to another terminal": Case("cross_wired", S.FILLED, ["0.1"], spec={}, lifts=True, crash=True),
    "v46 crashed before the order": Case(
        "crash", S.NOT_EXECUTED, [], "Two clean looks", NEVER, by_way_of=S.UNKNOWN, spec={"at": 1, "value": 300}
    ),
    "v47 crashed after the order": Case(
        "crash_after", S.FILLED, ["0.1"], by_way_of=S.UNKNOWN, spec={"at": 1, "value": 300}
    ),
    "v48 died without breaking its pipe": Case(
        "stuck", S.NOT_EXECUTED, [], "Two clean looks", NEVER, by_way_of=S.UNKNOWN, spec={"at": 1, "value": 300}
    ),
    "v42 dear ask": Case("wide_spread", S.FILLED, ["0.1"], spec={"symbol": "EURUSD"}),
    "v43 late history after a lost answer": Case("history_lag", S.FILLED, ["0.1"], spec={"value": 300}),
    "v44 late positions after a lost answer": Case("position_lag", S.FILLED, ["0.1"], spec={"value": 300}),
    # closes
    "v50 a close rejected": Case("reject", S.REJECTED, [], "10006", REFUSED, close=True),
    "v51 a close whose answer is lost": Case("lose_answer", S.FILLED, ["0.1"], by_way_of=S.UNKNOWN, close=True),
    "v52 a close whose question is lost": Case("lose_question", S.NOT_EXECUTED, [], "", NEVER, S.UNKNOWN, close=True),
    "v53 a close that times out, yet is executed": Case(
        "ambiguous", S.FILLED, ["0.1"], by_way_of=S.UNKNOWN, close=True
    ),
    "v54 a close that hangs when it is done": Case(
        "hang_after", S.FILLED, ["0.1"], by_way_of=S.UNKNOWN, close=True, spec={"at": 1, "value": 0.2}
    ),
    "v55 a close in two parts": Case(
        "partial", S.FILLED, ["0.04", "0.06"], close=True, personality="ecn", spec={"at": 1, "value": 0.4}
    ),
    "v56 a close of what is gone meanwhile": Case("race_fill", S.DONE, ["0.1"], "closed already", close=True),
    "v57 a close that is filled later": Case(
        "late_fill", S.FILLED, ["0.1"], by_way_of=S.PLACED, close=True, spec={"at": 1, "value": 300}
    ),
    "v58 a close requoted": Case("requote", S.FILLED, ["0.1"], close=True),
    "v59 a close told nothing of": Case("blank", S.FILLED, ["0.1"], by_way_of=S.PLACED, close=True),
}  # fmt: skip


def test_v00_every_kind_of_fault_has_its_case() -> None:
    assert {case.kind for case in CASES.values()} == {*OF_A_CALL, *STANDING}


@pytest.mark.parametrize("name", CASES)
def test_v01_to_v59_how_it_ends(running_executor: Maker, name: str) -> None:
    case = CASES[name]
    run = running_executor(case.personality)
    before = 0
    if case.close:
        assert run.settle(run.open()).state is S.FILLED
        before = 1
    oracle = run.broker.oracle
    if case.crash:
        _log_out(run)
    login = {} if case.kind in ("wide_spread", "outage") else {"login": run.login}
    run.broker.fault(case.kind, **login, **case.spec)
    if case.kind == "wide_spread":
        run.broker.push("EURUSD", 1.10000, 1.10010)
    if case.kind in ("history_lag", "position_lag"):
        run.broker.fault("lose_answer", login=run.login, at=1)
    if case.crash:
        oracle.call("drop_connections", run.login)
    order_id = run.close_all() if case.close else run.open()
    if case.lifts:
        if case.by_way_of:
            run.until(lambda report: report.state is case.by_way_of, order_id)
        run.wait_for(lambda: _noticed(run, case), "the trouble")
        oracle.clear_faults()
    if case.kind in ("history_lag", "position_lag"):
        # looked for in vain within the shortened waits, and adopted when it shows up
        report = run.until(lambda report: report.state is S.FILLED, order_id)
    else:
        report = run.settle(order_id)
    _right(run, case, order_id, report, before)


def _right(run: RunningExecutor, case: Case, order_id: str, report: ExecutionReport, before: int) -> None:
    trades = run.trades()[before:]
    assert report.state is case.then
    assert [deal.volume for deal in trades] == [float(lots) for lots in case.trades]
    own = (
        sum((Decimal(lots) for lots in case.trades), Decimal(0))
        if case.kind != "race_fill" or not case.close
        else 0
    )
    assert report.filled_lots == own
    assert case.says in report.message
    assert report.code == case.code
    states = [earlier.state for earlier in run.reports(order_id)]
    if case.by_way_of is not None:
        assert case.by_way_of in states
    assert [earlier.report_seq for earlier in run.reports(order_id)] == list(range(1, len(states) + 1))
    if case.close and case.then in (S.FILLED, S.DONE):
        assert run.broker.oracle.positions(run.login) == []


def _log_out(run: RunningExecutor) -> None:
    """The order has to find a terminal that is not logged in: its own tries are held up by the fault."""
    run.wait_for(lambda: run.shown("account") is not None, "the account")


def _noticed(run: RunningExecutor, case: Case) -> bool:
    """The executor shows that its terminal is not as it should be."""
    if case.kind == "no_connection":
        return run.shown("account")["connected"] is False
    if case.kind == "pipe_busy":  # it hangs in initialize: only its watchdog sees
        return run.executor.is_alive()
    return run.instance().get("state") in ("DISCONNECTED", "CONNECTING", "FAILED")


@pytest.mark.parametrize("mode", ["broken", "stuck"])
def test_v60_a_terminal_that_crashes_before_an_order_loses_none(
    running_executor: Maker,
    mode: str,
) -> None:
    run = running_executor()
    run.broker.oracle.call("drop_connections", run.login, mode)
    report = run.settle(run.open())
    assert (report.state, report.filled_lots) in (
        (S.FILLED, Decimal("0.1")),
        (S.NOT_EXECUTED, Decimal(0)),
    )
    assert len(run.trades()) == (report.state is S.FILLED)


def test_v61_the_broker_killed_between_orders(running_executor: Maker) -> None:
    run = running_executor()
    assert run.settle(run.open()).state is S.FILLED
    run.broker.restart()
    report = run.settle(run.open())
    assert report.state in (S.FILLED, S.NOT_EXECUTED)
    assert len(run.trades()) == 1 + (report.state is S.FILLED)
    assert run.settle(run.close_all()).state is S.FILLED
    assert run.broker.oracle.positions(run.login) == []


def test_v62_orders_that_die_in_an_outage_say_so(running_executor: Maker) -> None:
    run = running_executor()
    run.broker.fault("outage")
    run.broker.oracle.call("drop_connections", run.login)
    run.wait_for(lambda: run.instance().get("state") in ("DISCONNECTED", "CONNECTING"), "the loss")
    report = run.settle(run.open(ttl_ms=300))
    assert (report.state, report.code) == (S.EXPIRED, Code.EXPIRED)
    assert "Send a new signal" in report.message
    assert run.trades() == []


def test_v63_an_executor_that_dies_with_an_answer_on_the_way_looks_it_up(running_executor: Maker) -> None:
    """Its thread is stopped while the answer of an executed order has been lost; the next one knows nothing but the journal."""
    run = running_executor()
    run.broker.fault("lose_answer", login=run.login, at=1)
    run.broker.fault("auth_fail", login=run.login, for_ms=1_000)
    order_id = run.open()
    run.until(lambda report: report.state is S.UNKNOWN, order_id)
    run.stop()
    run.broker.oracle.clear_faults()
    run.start()
    assert run.settle(order_id).state is S.FILLED
    assert [deal.volume for deal in run.trades()] == [0.1]


def test_v64_another_account_in_the_terminal_gets_no_order(running_executor: Maker) -> None:
    """Somebody logs the terminal in elsewhere: the executor logs it in again before anything is sent."""
    from executors.terminals import paper as mt5

    run = running_executor()
    stranger = run.login + 500
    run.broker.account(stranger, "lab", 1_000.0)
    for _ in range(5):
        assert mt5.login(stranger, "paper-password")
        assert run.settle(run.open()).state is S.FILLED
    assert len(run.trades()) == 5
    assert run.broker.oracle.orders(stranger) == []


@pytest.mark.parametrize("personality", ["classic", "usa", "micro", "net"])
def test_v65_brokers_that_rewrite_comments_do_not_hide_an_order(
    running_executor: Maker,
    personality: str,
) -> None:
    """The magic finds it, where comments are cut, emptied or appended to, on hedging and netting accounts."""
    run = running_executor(personality)
    run.broker.fault("lose_answer", login=run.login, at=1)
    assert run.settle(run.open()).state is S.FILLED
    run.broker.fault("lose_answer", login=run.login, at=1)
    assert run.settle(run.close_all()).state is S.FILLED
    assert [deal.volume for deal in run.trades()] == [0.1, 0.1]
    assert run.broker.oracle.positions(run.login) == []


def test_v66_the_account_is_the_same_after_every_fault(running_executor: Maker) -> None:
    """Fifteen orders through a broker that does something wrong to a third of all calls: each told as it was."""
    run = running_executor()
    run.broker.oracle.call("fault_seed", 11)
    for kind in ("lose_answer", "ambiguous", "requote", "blank", "reject", "slippage"):
        run.broker.fault(kind, login=run.login, rate=0.06)
    reports = [run.settle(run.open()) for _ in range(15)]
    run.broker.oracle.clear_faults()
    filled = [report for report in reports if report.state is S.FILLED]
    assert all(report.state in (S.FILLED, S.REJECTED, S.NOT_EXECUTED, S.DENIED) for report in reports)
    assert len(run.trades()) == len(filled)
    tickets = {ticket for report in filled for ticket in report.position_tickets}
    assert tickets == {position.ticket for position in run.broker.oracle.positions(run.login)}


def test_v67_a_symbol_whose_mask_lies_is_traded_with_what_it_takes(running_executor: Maker) -> None:
    """FOK is named and refused, IOC is taken: by an open, and by a close."""
    run = running_executor("liar")
    assert run.settle(run.open()).state is S.FILLED
    assert run.settle(run.close_all()).state is S.FILLED
    assert [order.type_filling for order in run.broker.oracle.orders(run.login)] == [1, 1]
