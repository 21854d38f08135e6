"""The trade server's days, numbered: expiry, swap, orders for a day, sessions and holidays. The broker's clock is moved."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from executors.terminals import paper as mt5
from executors.terminals.servertime import server_clock
from tests.contract.desk import DONE, FAR, Desk
from tests.contract.ways import Through
from tests.paper import PaperBroker, running_broker
from tests.waiting import wait_until

DAY_MS = 86_400_000
CONFIGURATION = """
[personalities.days]
server = "PaperDays-Test"
company = "Paper Days"
currency = "USD"
leverage = 100
margin_mode = 2
server_timezone = "NY+7"
symbols = ["EURUSD", "EURUSD.money", "EURUSD.interest", "EURUSD.reopen", "EURUSD.day", "EURUSD.night", "EURUSD.open"]
[personalities.days.all]
swap_long = -6.8
swap_short = 2.1
[personalities.days.only."EURUSD.money"]
like = "EURUSD"
swap_mode = 4
swap_long = -3.0
[personalities.days.only."EURUSD.interest"]
like = "EURUSD"
swap_mode = 6
swap_long = -7.2
swap_rollover3 = -1
[personalities.days.only."EURUSD.reopen"]
like = "EURUSD"
swap_mode = 7
swap_long = 5.0
[personalities.days.only."EURUSD.day"]
like = "EURUSD"
gtc_mode = 1
[personalities.days.only."EURUSD.night"]
like = "EURUSD"
sessions = [[0, "00:00", "00:01"]]
[personalities.days.only."EURUSD.open"]
like = "EURUSD"
sessions = [[0, "00:00", "24:00"], [1, "00:00", "24:00"], [2, "00:00", "24:00"], [3, "00:00", "24:00"],
  [4, "00:00", "24:00"], [5, "00:00", "24:00"], [6, "00:00", "24:00"]]
"""


class Days(Desk):
    """A desk whose broker's clock is moved to given hours of a week."""

    def now_ms(self) -> int:
        return int(self.broker.oracle.call("health")["now_ms"])

    def server_now(self) -> datetime:
        return datetime.fromtimestamp(server_clock("NY+7").to_server(self.now_ms()) / 1000, UTC)

    def go_to(self, weekday: int, hour: int, minute: int = 0) -> datetime:
        """On to the next such moment of server time (0 Monday)."""
        now = self.server_now()
        then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        then += timedelta(days=(weekday - now.weekday()) % 7)
        if then <= now:
            then += timedelta(days=7)
        self.broker.oracle.call("advance_clock", int((then - now).total_seconds() * 1000))
        self.price(1.10000, 1.10010)
        return then


@pytest.fixture(scope="module")
def days_broker(way: str) -> Iterator[PaperBroker]:
    """One for each way: its clock only moves forward."""
    with running_broker(CONFIGURATION) as running:
        yield running


@pytest.fixture
def days(days_broker: PaperBroker, through: Through) -> Iterator[Days]:
    through(days_broker)
    days_broker.push("EURUSD", 1.10000, 1.10010)
    made = Days(days_broker)
    made.open("days")
    yield made
    mt5.shutdown()
    days_broker.check(magics_unique=False)


def swap_after(days: Days, **more: Any) -> float:
    """Of a position of one lot, over one of the server's midnights."""
    ticket = days.deal(more.pop("side", 0), 1.0, **more).order
    days.go_to((days.server_now().weekday() + 1) % 7, 0, 1)
    wait_until(lambda: mt5.positions_get(ticket=ticket)[0].swap != 0)
    return float(mt5.positions_get(ticket=ticket)[0].swap)


def test_d01_swap_in_points_at_the_servers_midnight(days: Days) -> None:
    days.go_to(0, 23)
    assert swap_after(days) == -6.8
    days.go_to(0, 23)
    assert swap_after(days, side=1) == 2.1


def test_d02_wednesdays_night_counts_three(days: Days) -> None:
    days.go_to(2, 23)
    assert swap_after(days) == -20.4


def test_d03_weekends_are_free_unless_every_night_counts(days: Days) -> None:
    days.go_to(5, 23)
    plain, daily = days.deal(0, 1.0).order, days.deal(0, 1.0, "EURUSD.interest").order
    days.go_to(6, 0, 1)
    wait_until(lambda: mt5.positions_get(ticket=daily)[0].swap != 0)
    assert mt5.positions_get(ticket=daily)[0].swap == round(-1.1001 * 100_000 * 0.072 / 360, 2)
    assert mt5.positions_get(ticket=plain)[0].swap == 0.0


def test_d04_swap_in_the_deposits_currency(days: Days) -> None:
    days.go_to(0, 23)
    assert swap_after(days, symbol="EURUSD.money") == -3.0


def test_d05_swap_goes_to_the_closing_deals_in_proportion(days: Days) -> None:
    days.go_to(0, 23)
    swap_after(days)
    (position,) = mt5.positions_get()
    days.deal(1, 0.25, position=position.ticket)
    assert mt5.positions_get()[0].swap == -5.1
    days.deal(1, 0.75, position=position.ticket)
    assert [deal.swap for deal in days.trades()] == [0.0, -1.7, -5.1]
    assert mt5.account_info().balance == 10_000 - 10 - 6.8


def test_d06_reopening_keeps_the_identifier_and_not_the_ticket(days: Days) -> None:
    days.go_to(0, 23)
    ticket = days.deal(0, 0.1, "EURUSD.reopen", sl=1.05, comment="stays").order
    days.go_to(1, 0, 1)
    wait_until(lambda: mt5.positions_get(symbol="EURUSD.reopen")[0].ticket != ticket)
    (position,) = mt5.positions_get(symbol="EURUSD.reopen")
    assert (position.identifier, position.price_open, position.sl) == (ticket, 1.09995, 1.05)
    assert position.comment == "stays"
    deals = mt5.history_deals_get(position=ticket)
    assert [(deal.entry, deal.reason) for deal in deals] == [(0, 3), (1, 7), (0, 7)]


def test_d07_orders_expire_at_their_second_and_at_the_days_end(days: Days) -> None:
    days.go_to(1, 12)
    server = int(days.server_now().timestamp())
    common: dict[str, Any] = {"lots": 0.1, "price": 1.0}
    at = days.pending(2, type_time=2, expiration=server + 600, **common)
    day = days.pending(2, type_time=1, **common)
    whole_day = days.pending(2, type_time=3, expiration=server + 86_400, **common)
    always = days.pending(2, **common)
    assert mt5.orders_get(ticket=day.order)[0].time_expiration == server // 86_400 * 86_400
    days.go_to(1, 12, 11)
    wait_until(lambda: mt5.orders_total() == 3)
    assert mt5.history_orders_get(ticket=at.order)[0].state == 6
    days.go_to(2, 0, 1)
    wait_until(lambda: not mt5.orders_get(ticket=day.order))
    assert {order.ticket for order in mt5.orders_get()} == {whole_day.order, always.order}
    days.go_to(3, 0, 1)
    wait_until(lambda: [order.ticket for order in mt5.orders_get()] == [always.order])


def test_d08_symbols_for_a_day_lose_orders_and_stop_levels_at_midnight(days: Days) -> None:
    days.go_to(1, 12)
    days.deal(0, 0.1, "EURUSD.day", sl=1.0, tp=1.2)
    days.pending(2, 1.0, symbol="EURUSD.day")
    days.go_to(2, 0, 1)
    wait_until(lambda: mt5.orders_total() == 0)
    (position,) = mt5.positions_get()
    assert (position.sl, position.tp) == (0.0, 0.0)


def test_d09_outside_its_session_a_symbol_neither_trades_nor_moves(days: Days) -> None:
    days.go_to(1, 12)
    assert days.deal(0, symbol="EURUSD.open").retcode == DONE
    assert days.deal(0, symbol="EURUSD.night").retcode in (10018, 10021)
    before = mt5.symbol_info("EURUSD.night").bid
    days.price(1.2, 1.2001)
    assert mt5.symbol_info("EURUSD.open").bid == 1.2
    assert mt5.symbol_info("EURUSD.night").bid == before
    assert len(mt5.copy_rates_from_pos("EURUSD.open", mt5.TIMEFRAME_M1, 0, 10)) == 10


def test_d10_missed_nights_are_charged_when_the_broker_is_back(days: Days) -> None:
    days.go_to(0, 23)
    days.deal(0, 1.0)
    days.go_to(2, 1)
    wait_until(lambda: mt5.positions_get()[0].swap == -13.6)
    assert mt5.history_deals_get(0, FAR)[0].type == 2
