"""What no source settles, numbered: each rule by its default, and as the personality's key turns it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from executors.terminals import paper as mt5
from tests.contract.desk import BASE, DONE, FAR, PEND, Desk
from tests.contract.ways import Through, only_over
from tests.paper import PaperBroker, running_broker
from tests.waiting import wait_until

DATES_AS_NUMBERS = only_over("paper", "remote", why="mt5linux's client takes dates as datetimes alone")
ENDS = datetime.now(UTC).replace(hour=12, minute=0, second=0) + timedelta(days=3)
FEAST = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d")
SYMBOLS = 'symbols = ["EURUSD", "EURUSD.thin", "EURUSD.bare", "OPTION"]'
COMMON = f"""
company = "Paper"
currency = "USD"
leverage = 100
margin_mode = 2
server_timezone = "UTC"
{SYMBOLS}
"""
THIN = 'like = "EURUSD"\nexemode = 3\nfilling = 7\nbook_depth = 2\nbook_lots = 1.0\n'
BARE = 'like = "EURUSD"\norder_mode = 15\n'  # neither SL nor TP
OPTION = 'like = "EURUSD"\ncalc_mode = 36\nmargin = "USD"\ncontract_size = 10.0\nmargin_initial = 100.0\n'
CONFIGURATION = f"""
[personalities.usual]
server = "PaperUsual-Test"
{COMMON}
[personalities.usual.all]
commission = 3.5
filling = 2
swap_long = -6.8
swap_rollover3 = -1
[personalities.usual.only."EURUSD.thin"]
{THIN}
[personalities.usual.only."EURUSD.bare"]
{BARE}
[personalities.usual.only.OPTION]
{OPTION}
[personalities.other]
server = "PaperOther-Test"
unknown_symbol = 10021
unknown_order = 10035
unknown_history = -4
unselected_tick = -1
odd_history = -1
unknown_calc = -1
unselect_again = false
wrong_type = 10035
barred_stops = 10035
result_comments = {{ 10036 = "Position doesn't exist", 10009 = "Done" }}
api_off = 10027
no_liquidity = 10021
boc_crossing = 10006
pending_filling = "any"
reversed_range = "none"
tick_flags = "named"
limit_improves = false
history_by = "setup"
history_inclusive = false
profit_with_swap = false
margin_at = "current"
request_ids = "random"
commission_on = "in"
stop_out_comment = "stop out at {{level:.1f}}%"
expiry_comment = "expired"
scramble_reason = true
float_noise = true
latency_shape = "lognormal"
latency_ms = [5.0, 40.0]
{COMMON}
[personalities.other.all]
commission = 3.5
filling = 2
swap_long = -6.8
swap_rollover3 = -1
[personalities.other.only."EURUSD.thin"]
{THIN}
[personalities.other.only."EURUSD.bare"]
{BARE}
[personalities.other.only.OPTION]
option_margin = "premium"
{OPTION}
[personalities.ends]
server = "PaperEnds-Test"
{COMMON.replace(SYMBOLS, 'symbols = ["EURUSD", "EURUSD.ends", "EURUSD.soon", "EURUSD.last", "EURUSD.feast"]')}
[personalities.ends.only."EURUSD.ends"]
like = "EURUSD"
expires = "{ENDS:%Y-%m-%d %H:%M}"
[personalities.ends.only."EURUSD.soon"]
like = "EURUSD"
starts = "{ENDS:%Y-%m-%d %H:%M}"
[personalities.ends.only."EURUSD.last"]
like = "EURUSD"
chart_mode = 1
[personalities.ends.only."EURUSD.feast"]
like = "EURUSD"
holidays = ["{FEAST}"]
"""


@pytest.fixture(scope="module")
def broker(way: str) -> Iterator[PaperBroker]:
    """One for each way: its clock only moves forward."""
    with running_broker(CONFIGURATION) as running:
        yield running


@pytest.fixture
def desk_at(broker: PaperBroker, through: Through) -> Iterator[Callable[[str], Desk]]:
    through(broker)
    broker.oracle.clear_faults()
    broker.push("EURUSD", 1.10000, 1.10010)

    def at(personality: str) -> Desk:
        desk = Desk(broker)
        desk.open(personality)
        return desk

    yield at
    broker.oracle.clear_faults()
    mt5.shutdown()
    broker.check(magics_unique=False)


Opener = Callable[[str], Desk]


def both(desk_at: Opener, ask: Callable[[Desk], Any]) -> tuple[Any, Any]:
    return ask(desk_at("usual")), ask(desk_at("other"))


def error_of(call: Callable[[], Any]) -> int:
    assert call() is None
    return int(mt5.last_error()[0])


SENDS: dict[str, tuple[dict[str, Any], int, int]] = {
    "o01 unknown symbol": ({**BASE, "symbol": "NONE"}, 10013, 10021),
    "o02 unknown order": ({"action": 8, "order": 1}, 10013, 10035),
    "o03 fill or kill beyond the depth": (
        {**BASE, "symbol": "EURUSD.thin", "volume": 5.0, "type_filling": 0}, 10006, 10021,
    ),
    "o04 book or cancel that crosses": (
        {**PEND, "symbol": "EURUSD.thin", "price": 1.2, "type_filling": 3}, 10015, 10006,
    ),
    "o05 a pending order's policy outside the mask": ({**PEND, "type_filling": 0}, 10030, DONE),
    "o16 a deal of a pending type": ({**BASE, "type": 2}, 10013, 10035),
    "o17 a pending order of a deal's type": ({**PEND, "type": 1}, 10013, 10035),
    "o18 a stop-loss that the symbol does not take": (
        {**BASE, "symbol": "EURUSD.bare", "sl": 1.09}, 10016, 10035,
    ),
    "o19 a take-profit that the symbol does not take": (
        {**PEND, "symbol": "EURUSD.bare", "tp": 1.12}, 10016, 10035,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SENDS)
def test_o01_to_o19_return_codes(desk_at: Opener, name: str) -> None:
    request, usual, other = SENDS[name]
    assert both(desk_at, lambda desk: desk.send(**request).retcode) == (usual, other)


def test_o06_unknown_history_and_unselected_ticks(desk_at: Opener) -> None:
    assert both(desk_at, lambda _: error_of(lambda: mt5.copy_rates_from_pos("NONE", 1, 0, 5))) == (-1, -4)

    def unselected(_: Desk) -> int:
        assert mt5.symbol_select("EURUSD.thin", False)
        return error_of(lambda: mt5.symbol_info_tick("EURUSD.thin"))

    assert both(desk_at, unselected) == (-4, -1)


def test_o07_the_api_switch(desk_at: Opener) -> None:
    desk_at("usual").broker.fault("api_off")
    assert error_of(lambda: mt5.order_send(BASE)) == -8
    assert desk_at("other").deal(0).retcode == 10027


@DATES_AS_NUMBERS
def test_o08_reversed_ranges(desk_at: Opener) -> None:
    desk_at("usual")
    rows = mt5.copy_rates_range("EURUSD", 1, FAR, 1_700_000_000)
    assert len(rows) == 0
    desk_at("other")
    assert error_of(lambda: mt5.copy_rates_range("EURUSD", 1, FAR, 1_700_000_000)) == -2


def test_o09_limits_on_a_gap_fill_better_or_at_their_price(desk_at: Opener) -> None:
    def price(desk: Desk) -> float:
        desk.price(1.10000, 1.10010)
        desk.pending(2, 1.09, type_filling=2)
        desk.price(1.08000, 1.08010)
        return float(round(desk.trades()[-1].price, 5))

    assert both(desk_at, price) == (1.0801, 1.09)


@DATES_AS_NUMBERS
def test_o10_ranges_of_history(desk_at: Opener) -> None:
    """By the order's end or its beginning; with or without the last second."""

    def counts(desk: Desk) -> tuple[int, int]:
        desk.price(1.10000, 1.10010)
        order = desk.pending(2, 1.09, type_filling=2).order
        setup = mt5.orders_get(ticket=order)[0].time_setup
        desk.broker.oracle.call("advance_clock", 120_000)
        desk.send(action=8, order=order)
        done = mt5.history_orders_get(ticket=order)[0].time_done
        return mt5.history_orders_total(setup, setup + 60), mt5.history_orders_total(setup + 61, done)

    assert both(desk_at, counts) == ((0, 1), (1, 0))


def test_o11_commission_request_numbers_and_comments(desk_at: Opener) -> None:
    def told(desk: Desk) -> Any:
        desk.price(1.10000, 1.10010)
        ticket = desk.deal(0, 1.0).order
        desk.deal(1, 1.0, position=ticket)
        return [deal.commission for deal in desk.trades()]

    assert both(desk_at, told) == ([-3.5, -3.5], [-7.0, 0.0])
    desk = desk_at("usual")
    first, second = desk.deal(0).request_id, desk.deal(0).request_id
    assert second == first + 1
    desk = desk_at("other")
    numbers = [desk.deal(0).request_id for _ in range(4)]
    assert max(numbers) - min(numbers) > 1000


def test_o12_reasons_and_last_bits_may_be_off(desk_at: Opener) -> None:
    desk = desk_at("other")
    ticket = desk.deal(0, 0.3).order
    (position,) = mt5.positions_get(ticket=ticket)
    assert position.volume == 0.30000000000000004
    assert position.price_open != 1.1001
    desk.deal(1, 0.3, position=ticket)
    for _ in range(10):  # a broker that scrambles them may by chance tell a few as they are
        desk.deal(1, 0.3, position=desk.deal(0, 0.3).order)
    assert {deal.reason for deal in desk.trades()} != {mt5.DEAL_REASON_EXPERT}


def test_o13_profit_with_or_without_swap(desk_at: Opener) -> None:
    def profit(desk: Desk) -> tuple[float, float]:
        desk.price(1.10000, 1.10010)
        ticket = desk.deal(0, 1.0).order
        desk.broker.oracle.call("advance_clock", 86_400_000)
        desk.price(1.10000, 1.10010)
        wait_until(lambda: mt5.positions_get(ticket=ticket)[0].swap != 0)
        (position,) = mt5.positions_get(ticket=ticket)
        return round(mt5.account_info().profit - position.profit, 2), position.swap

    for personality, with_swap in (("usual", True), ("other", False)):
        difference, swap = profit(desk_at(personality))
        assert difference == (swap if with_swap else 0.0)


def test_o14_stop_outs_and_expiries_have_the_brokers_words(desk_at: Opener) -> None:
    def words(desk: Desk) -> str:
        desk.open(desk.broker.oracle.accounts()[-1]["personality"], 1_200.0)
        desk.price(1.10000, 1.10010)
        desk.deal(0, 1.0)
        desk.price(1.09200, 1.09210)
        return str(desk.trades()[-1].comment)[:11]

    usual, other = both(desk_at, words)
    assert usual.startswith("[so ")
    assert other == "stop out at"
    desk = desk_at("other")
    now_s = desk.broker.oracle.call("health")["now_ms"] // 1000
    order = desk.pending(2, 1.09, type_filling=2, type_time=2, expiration=now_s + 60).order
    desk.broker.oracle.call("advance_clock", 61_000)
    wait_until(lambda: bool(mt5.history_orders_get(ticket=order)))
    assert mt5.history_orders_get(ticket=order)[0].comment == "expired"


def test_o15_margin_at_the_opening_or_the_current_price(desk_at: Opener) -> None:
    def margins(desk: Desk) -> tuple[float, float]:
        desk.price(1.10000, 1.10010)
        desk.deal(1, 1.0)
        first = mt5.account_info().margin
        desk.price(1.12000, 1.12010)
        return float(first), float(mt5.account_info().margin)

    assert both(desk_at, margins) == ((1100.0, 1100.0), (1100.1, 1120.1))


@pytest.mark.parametrize(
    "call",
    [
        lambda: mt5.copy_rates_from_pos("EURUSD", 1, 0, 0),
        lambda: mt5.copy_rates_from_pos("EURUSD", 1, -1, 5),
        lambda: mt5.copy_rates_from_pos("EURUSD", 7, 0, 5),
        lambda: mt5.copy_rates_from("EURUSD", 1, datetime.now(UTC), -1),
        lambda: mt5.copy_ticks_from("EURUSD", datetime.now(UTC), 0, -1),
    ],
)
def test_o24_counts_and_timeframes_that_cannot_be(desk_at: Opener, call: Callable[[], Any]) -> None:
    assert both(desk_at, lambda _: error_of(call)) == (-2, -1)


def test_o24_kinds_of_ticks_are_bits(desk_at: Opener) -> None:
    def counts(desk: Desk) -> list[int]:
        desk.price(1.10050, 1.10060)
        now = datetime.fromtimestamp(desk.broker.oracle.call("health")["now_ms"] // 1000, UTC)
        minute, found = timedelta(minutes=1), []
        for flags in (-1, 1, 2, 3, 0, 4):
            rows = mt5.copy_ticks_range("EURUSD", now - minute, now + minute, flags)
            found.append(mt5.last_error()[0] if rows is None else min(len(rows), 1))
            rows = mt5.copy_ticks_from("EURUSD", now - minute, 1000, flags)
            found.append(mt5.last_error()[0] if rows is None else min(len(rows), 1))
        return found

    assert both(desk_at, counts) == (
        [1, 1, 1, 1, 0, 0, 1, 1, -2, -2, -2, -2],
        [1, 1, 1, 1, 0, 0, -2, -2, -2, -2, -2, -2],
    )


def test_o25_reckoning_with_an_unknown_symbol(desk_at: Opener) -> None:
    assert both(desk_at, lambda _: error_of(lambda: mt5.order_calc_margin(0, "NONE", 0.1, 1.1))) == (-4, -1)
    assert both(desk_at, lambda _: error_of(lambda: mt5.order_calc_profit(0, "NONE", 0.1, 1.1, 1.2))) == (
        -4,
        -1,
    )


def test_o26_taking_a_symbol_from_market_watch_twice(desk_at: Opener) -> None:
    def again(_: Desk) -> tuple[bool, bool, int]:
        first = mt5.symbol_select("EURUSD.bare", False)
        second = mt5.symbol_select("EURUSD.bare", False)
        return first, second, mt5.last_error()[0]

    assert both(desk_at, again) == ((True, True, 1), (True, False, -1))


def test_o27_results_in_the_brokers_words(desk_at: Opener) -> None:
    def words(desk: Desk) -> tuple[str, str, str, str]:
        gone = {**BASE, "position": 5}
        return (
            desk.send(**gone).comment,
            mt5.order_check(gone).comment,
            desk.send(**BASE).comment,
            desk.send(**{**BASE, "volume": 0.001}).comment,
        )

    usual, other = both(desk_at, words)
    assert usual == ("Position closed", "Position closed", "Request executed", "Invalid volume")
    assert other == ("Position doesn't exist", "Position doesn't exist", "Done", "Invalid volume")


def test_o28_options_bind_their_own_margin_or_their_premium(desk_at: Opener) -> None:
    assert both(desk_at, lambda _: mt5.order_calc_margin(0, "OPTION", 2.0, 1.5)) == (200.0, 30.0)


def test_o20_a_contract_begins_and_ends(desk_at: Opener) -> None:
    desk = desk_at("ends")
    info = mt5.symbol_info("EURUSD.ends")
    assert info.expiration_time == int(ENDS.replace(second=0, microsecond=0).timestamp())
    assert mt5.symbol_info("EURUSD.soon").start_time == info.expiration_time
    ticket = desk.deal(0, symbol="EURUSD.ends").order
    waiting = desk.pending(2, 1.0, symbol="EURUSD.ends").order
    assert desk.deal(0, symbol="EURUSD.soon").retcode == 10018
    now_ms = desk.broker.oracle.call("health")["now_ms"]
    desk.broker.oracle.call("advance_clock", max(info.expiration_time * 1000 - now_ms, 0) + 1000)
    desk.price(1.10100, 1.10110)
    wait_until(lambda: not mt5.positions_total() and not mt5.orders_total())
    assert mt5.history_orders_get(ticket=waiting)[0].state == mt5.ORDER_STATE_EXPIRED
    assert mt5.history_deals_get(position=ticket)[-1].comment == "expiration"
    assert desk.deal(0, symbol="EURUSD.ends").retcode == 10018
    assert desk.deal(0, symbol="EURUSD.soon").retcode == DONE


@DATES_AS_NUMBERS
def test_o21_symbols_with_trades_trigger_on_the_last_one(desk_at: Opener) -> None:
    """A buy stop waits for a trade at its price, where elsewhere the ask would do."""
    desk = desk_at("ends")
    desk.pending(4, 1.10050, symbol="EURUSD.last")
    desk.pending(4, 1.10050, symbol="EURUSD")
    desk.price(1.10045, 1.10055)
    assert [order.symbol for order in mt5.orders_get()] == ["EURUSD.last"]
    tick = mt5.symbol_info_tick("EURUSD.last")
    assert (tick.last, tick.flags & mt5.TICK_FLAG_LAST, tick.volume_real) == (
        1.10045,
        mt5.TICK_FLAG_LAST,
        0.01,
    )
    desk.price(1.10050, 1.10060)
    assert mt5.orders_total() == 0
    now_s = desk.broker.oracle.call("health")["now_ms"] // 1000
    trades = mt5.copy_ticks_range("EURUSD.last", now_s - 60, now_s + 60, mt5.COPY_TICKS_TRADE)
    assert trades["last"].tolist()[-1:] == [1.1005]
    assert len(mt5.copy_ticks_range("EURUSD", now_s - 60, now_s + 60, mt5.COPY_TICKS_TRADE)) == 0


@DATES_AS_NUMBERS
def test_o22_a_holiday_is_no_trading_day(broker: PaperBroker, desk_at: Opener) -> None:
    """Its clock has moved past the feast by now: its candles are what tells."""
    desk_at("ends")
    feast = int(datetime.fromisoformat(FEAST).replace(tzinfo=UTC).timestamp())
    if broker.oracle.call("health")["now_ms"] < (feast + 86_400) * 1000:
        broker.oracle.call("advance_clock", 2 * 86_400_000)
    broker.oracle.resume("EURUSD")
    rows = mt5.copy_rates_range("EURUSD.feast", mt5.TIMEFRAME_H1, feast - 86_400, feast + 2 * 86_400 - 1)
    days = {int(row["time"]) // 86_400 * 86_400 for row in rows}
    assert feast not in days
    assert feast - 86_400 in days


@DATES_AS_NUMBERS
def test_o23_ticks_say_what_changed(desk_at: Opener) -> None:
    """The history's carry a bit without a name beside the bid's, and a trade its own; a repeated quote says both sides."""
    desk = desk_at("ends")
    seen = []
    for bid, ask in ((1.2, 1.2001), (1.2002, 1.2003), (1.2002, 1.2004), (1.2001, 1.2004), (1.2001, 1.2004)):
        desk.price(bid, ask)
        seen.append(mt5.symbol_info_tick("EURUSD").flags)
    both, history = mt5.TICK_FLAG_BID | mt5.TICK_FLAG_ASK, 0x80
    assert seen == [both] * 5
    now_s = desk.broker.oracle.call("health")["now_ms"] // 1000
    first, last = now_s - 3600, now_s + 60
    rows = mt5.copy_ticks_range("EURUSD", first, last, mt5.COPY_TICKS_ALL)[-5:]
    assert rows["flags"].tolist() == [
        history | both,
        history | both,
        mt5.TICK_FLAG_ASK,
        history | mt5.TICK_FLAG_BID,
        history | both,
    ]
    sold = mt5.TICK_FLAG_LAST | mt5.TICK_FLAG_VOLUME | mt5.TICK_FLAG_SELL
    trades = mt5.copy_ticks_range("EURUSD.last", first, last, mt5.COPY_TICKS_TRADE)["flags"]
    assert {int(flags) & sold for flags in trades} == {sold}
