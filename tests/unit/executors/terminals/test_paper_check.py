"""The ledger's checker finds what is wrong: each violation made by hand in an otherwise sound ledger."""

import copy
from collections.abc import Callable

import pytest

from executors.terminals.paper.check import check
from executors.terminals.paper.oracle import Account, Deal, Order, Position, Records


def account() -> Account:
    return Account(1, "", "", "S", "lab", "USD", 2, 100, 2, "", 0, balance=10_000.5)


def order(ticket: int, kind: int, lots: float, position_id: int, magic: int, request: int) -> Order:
    return Order(
        1, ticket, "EURUSD", kind, 4, magic, position_id, 0, 3, lots, 0.0, 1.1, 1.1, 0.0, 0.0, 0.0, 1, 0, 0, "", 5, 5,
        request,
    )  # fmt: skip


def deal(
    ticket: int, of: int, kind: int, lots: float, position_id: int, magic: int, profit: float = 0.0
) -> Deal:
    return Deal(
        1, ticket, of, position_id, "EURUSD", kind, kind, 3, magic, lots, 1.1, profit, 0.0, 0.0, 0.0, "", 5
    )


def sound() -> Records:
    deposit = Deal(1, 100, 0, 0, "", 2, 0, 0, 0, 0.0, 0.0, 10_000.0, 0.0, 0.0, 0.0, "", 1)
    return Records(
        {1: account()},
        {10: order(10, 0, 0.3, 10, 77, 1), 11: order(11, 1, 0.1, 10, 78, 2)},
        {100: deposit, 101: deal(101, 10, 0, 0.3, 10, 77), 102: deal(102, 11, 1, 0.1, 10, 78, 0.5)},
        {10: Position(1, 10, 10, "EURUSD", 0, 77, 3, 0.2, 1.1, 0.0, 0.0, 0.0, "", 5, 5)},
    )


def test_a_sound_ledger_has_no_violations() -> None:
    assert check(sound()) == []


def balance(records: Records) -> None:
    records.accounts[1].balance += 0.01


def missing_deal(records: Records) -> None:
    del records.deals[102]


def doubled_order(records: Records) -> None:
    records.orders[12] = order(12, 0, 0.1, 12, 77, 3)
    records.deals[103] = deal(103, 12, 0, 0.1, 12, 77)
    records.positions[12] = Position(1, 12, 12, "EURUSD", 0, 77, 3, 0.1, 1.1, 0.0, 0.0, 0.0, "", 5, 5)


def foreign_order(records: Records) -> None:
    records.deals[102].order = 99


def larger_position(records: Records) -> None:
    records.positions[10].volume = 0.3


def twice_held(records: Records) -> None:
    records.positions[11] = copy.copy(records.positions[10])


def unfilled(records: Records) -> None:
    records.orders[10].volume_current = 0.1


def ended_without_time(records: Records) -> None:
    records.orders[10].done_ms = 0


def no_account(records: Records) -> None:
    records.deals[102].login = records.orders[11].login = 9


def other_symbol(records: Records) -> None:
    records.orders[10].symbol = "GBPUSD"


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (balance, "its deals sum up to"),
        (missing_deal, "its deals have 0 lots"),
        (doubled_order, "magic 77 has 2 orders: 10, 12"),
        (foreign_order, "which does not exist"),
        (larger_position, "its deals net to 0.2"),
        (twice_held, "holds position 10 2 times"),
        (unfilled, "is filled, yet"),
        (ended_without_time, "does not fit its end time"),
        (no_account, "is of account 9, which does not exist"),
        (other_symbol, "differ in account or symbol"),
    ],
)
def test_each_violation_is_found_and_said(harm: Callable[[Records], None], says: str) -> None:
    records = sound()
    harm(records)
    assert any(says in line for line in check(records)), check(records)


def test_the_brokers_own_orders_may_repeat_a_magic() -> None:
    records = sound()
    records.orders[13] = order(13, 1, 0.2, 10, 77, 0)  # a stop-loss: no request made it
    records.deals[104] = deal(104, 13, 1, 0.2, 10, 77)
    del records.positions[10]
    assert check(records) == []
    doubled_order(records)
    assert check(records, magics_unique=False) == []


def test_records_can_be_narrowed() -> None:
    records = sound()
    assert set(records.of_login(1).deals) == {100, 101, 102}
    assert records.of_login(2).orders == {}
    assert set(records.with_magic(78).orders) == {11}
    assert [item.ticket for item in records.orders_by_magic()[77]] == [10]
