"""The terminal protocol's contract, numbered, over every implementation (tests/contract/terminals.py names them)."""

from decimal import Decimal
from itertools import pairwise

import pytest

from executors.errors import TerminalError, TerminalUnavailable
from executors.terminals.base import TradeRequest
from tests.contract.terminals import Rig, bought, now_ms, sent

DEAL, PENDING, SLTP, MODIFY, REMOVE, CLOSE_BY = 1, 5, 6, 7, 8, 10
BUY, SELL, BUY_LIMIT, SELL_STOP = 0, 1, 2, 5
IOC, RETURN = 1, 2
DONE = 10009
LOT = Decimal("0.1")
MINUTE_MS = 60_000


def test_t01_connecting_says_who_is_logged_in_and_where(rig: Rig) -> None:
    account = rig.account()
    identity = rig.terminal(account).connect()
    assert (identity.login, identity.server) == (account["login"], account["server"])
    assert identity.path == rig.broker.url


def test_t02_a_wrong_password_is_unavailable_with_metatraders_code(rig: Rig) -> None:
    terminal = rig.terminal(rig.account(), password="not it")
    with pytest.raises(TerminalUnavailable) as caught:
        terminal.connect()
    assert caught.value.error[0] == -6


def test_t03_the_accounts_figures_are_exact_decimals(rig: Rig) -> None:
    terminal = rig.open(balance=12_345.67)
    account = terminal.account()
    assert (account.balance, account.equity, account.margin) == (
        Decimal("12345.67"),
        Decimal("12345.67"),
        Decimal(0),
    )
    assert (account.currency, account.leverage, account.margin_mode) == ("USD", 100, 2)
    assert terminal.status().trade_allowed


def test_t04_specs_of_known_symbols_and_none_for_others(rig: Rig) -> None:
    terminal = rig.open("micro")
    spec = terminal.spec("EURUSD.m")
    assert spec is not None
    assert (spec.point, spec.volume_step, spec.contract_size) == (
        Decimal("0.00001"),
        Decimal("0.01"),
        Decimal(100_000),
    )
    assert (spec.filling_mode, spec.stops_level, spec.freeze_level) == (3, 30, 10)
    assert terminal.spec("EURUSD") is None
    assert spec.symbol in {item.symbol for item in terminal.symbols()}


def test_t05_a_ticks_time_is_utc_whatever_the_servers_clock(rig: Rig) -> None:
    terminal = rig.open("lab")  # New York + 7 hours
    rig.broker.push("EURUSD", 1.10010, 1.10020)
    tick = terminal.tick("EURUSD")
    assert tick is not None
    assert (tick.bid, tick.ask) == (Decimal("1.1001"), Decimal("1.1002"))
    assert abs(tick.time_ms - now_ms()) < 2_000
    assert terminal.tick("NONE") is None


def test_t06_candles_end_with_the_one_that_is_open_at_the_time_asked_for(rig: Rig) -> None:
    terminal = rig.open()
    until = now_ms() - 90 * MINUTE_MS
    rates = terminal.rates("GBPUSD", 60, until, 50)
    assert len(rates) == 50
    assert rates[-1].time_ms == until // MINUTE_MS * MINUTE_MS
    assert all(second.time_ms > first.time_ms for first, second in pairwise(rates))
    assert all(
        item.low <= min(item.open, item.close) <= max(item.open, item.close) <= item.high for item in rates
    )


def test_t07_hourly_candles_hold_their_minutes(rig: Rig) -> None:
    terminal = rig.open()
    until = now_ms() - 3 * 3_600_000
    hour = terminal.rates("GBPUSD", 3600, until, 1)[0]
    minutes = [
        item
        for item in terminal.rates("GBPUSD", 60, hour.time_ms + 59 * MINUTE_MS, 60)
        if item.time_ms >= hour.time_ms
    ]
    assert hour.open == minutes[0].open
    assert hour.high == max(item.high for item in minutes)
    assert hour.tick_volume == sum(item.tick_volume for item in minutes)


def test_t08_a_market_buy_makes_a_position_with_our_magic_and_comment(rig: Rig) -> None:
    terminal = rig.open()
    magic = 2**52 + 12345
    result = sent(
        terminal,
        action=DEAL,
        symbol="EURUSD",
        volume=LOT,
        type=BUY,
        type_filling=IOC,
        magic=magic,
        comment="td0001",
    )
    assert (result.retcode, result.volume, result.price) == (DONE, LOT, Decimal("1.1001"))
    (position,) = terminal.positions()
    assert (position.ticket, position.magic, position.comment) == (result.order, magic, "td0001")
    assert (position.volume, position.price_open) == (LOT, Decimal("1.1001"))
    assert abs(position.time_ms - now_ms()) < 5_000


def test_t09_closing_in_two_parts_leaves_deals_that_belong_together(rig: Rig) -> None:
    terminal = rig.open()
    position = bought(terminal)
    for lots in (Decimal("0.04"), Decimal("0.06")):
        closing = sent(
            terminal,
            action=DEAL,
            symbol="EURUSD",
            volume=lots,
            type=SELL,
            type_filling=IOC,
            position=position.ticket,
        )
        assert closing.retcode == DONE
    assert terminal.positions() == ()
    deals = terminal.history_deals(now_ms() - 60_000, now_ms() + 60_000)
    trades = [deal for deal in deals if deal.symbol]
    assert [deal.entry for deal in trades] == [0, 1, 1]
    assert {deal.position_id for deal in trades} == {position.identifier}
    assert sum((deal.profit for deal in trades), Decimal(0)) == Decimal("-1.0")
    orders = terminal.history_orders(now_ms() - 60_000, now_ms() + 60_000)
    assert {order.ticket for order in orders} == {deal.order for deal in trades}


def test_t10_stop_levels_are_set_changed_and_cleared(rig: Rig) -> None:
    terminal = rig.open()
    ticket = bought(terminal).ticket
    low, high = Decimal("1.09"), Decimal("1.12")
    assert sent(terminal, action=SLTP, position=ticket, sl=low, tp=high).retcode == DONE
    assert (terminal.positions()[0].sl, terminal.positions()[0].tp) == (low, high)
    assert sent(terminal, action=SLTP, position=ticket, sl=low, tp=high).retcode == 10025
    assert sent(terminal, action=SLTP, position=ticket, tp=high).retcode == DONE
    assert terminal.positions()[0].sl == 0


def test_t11_a_stop_loss_closes_with_the_positions_magic(rig: Rig) -> None:
    terminal = rig.open()
    position = bought(terminal, magic=99, sl=Decimal("1.09900"))
    rig.broker.push("EURUSD", 1.09890, 1.09900)
    assert terminal.positions() == ()
    deal = terminal.history_deals(now_ms() - 60_000, now_ms() + 60_000)[-1]
    assert (deal.reason, deal.magic, deal.position_id) == (4, 99, position.identifier)
    assert (deal.price, deal.comment) == (Decimal("1.0989"), "[sl 1.09900]")


def test_t12_a_pending_order_lives_and_is_removed(rig: Rig) -> None:
    terminal = rig.open()
    expiry = (now_ms() // 1000 + 3600) * 1000
    placed = sent(
        terminal, action=PENDING, symbol="EURUSD", volume=LOT, type=BUY_LIMIT, price=Decimal("1.09"), magic=5,
        type_filling=RETURN, type_time=2, expiration_ms=expiry,
    )  # fmt: skip
    assert placed.retcode == DONE
    (order,) = terminal.orders()
    assert (order.ticket, order.magic, order.price_open) == (placed.order, 5, Decimal("1.09"))
    assert (order.type, order.state, order.expiration_ms) == (BUY_LIMIT, 1, expiry)
    changed = sent(
        terminal, action=MODIFY, order=order.ticket, price=Decimal("1.085"), sl=Decimal("1.08"), type_time=0
    )
    assert changed.retcode == DONE
    assert (terminal.orders()[0].price_open, terminal.orders()[0].sl) == (Decimal("1.085"), Decimal("1.08"))
    assert sent(terminal, action=REMOVE, order=order.ticket).retcode == DONE
    assert terminal.orders() == ()
    past = terminal.history_orders(now_ms() - 60_000, now_ms() + 60_000)[-1]
    assert (past.ticket, past.state, past.volume_current) == (placed.order, 2, LOT)


def test_t13_a_pending_order_is_filled_at_its_side_of_the_spread(rig: Rig) -> None:
    terminal = rig.open()
    placed = sent(
        terminal, action=PENDING, symbol="EURUSD", volume=LOT, type=SELL_STOP, price=Decimal("1.0990"),
        type_filling=RETURN,
    )  # fmt: skip
    rig.broker.push("EURUSD", 1.09895, 1.09905)
    (position,) = terminal.positions()
    assert (position.ticket, position.type, position.price_open) == (placed.order, 1, Decimal("1.09895"))
    assert terminal.orders() == ()


def test_t14_two_opposite_positions_close_each_other(rig: Rig) -> None:
    terminal = rig.open()
    first = bought(terminal)
    second = sent(terminal, action=DEAL, symbol="EURUSD", volume=Decimal("0.3"), type=SELL, type_filling=IOC)
    result = sent(terminal, action=CLOSE_BY, position=first.ticket, position_by=second.order)
    assert result.retcode == DONE
    (rest,) = terminal.positions()
    assert (rest.ticket, rest.volume) == (second.order, Decimal("0.2"))
    last = terminal.history_deals(now_ms() - 60_000, now_ms() + 60_000)[-2:]
    assert [deal.entry for deal in last] == [3, 3]
    assert last[1].profit == 0


def test_t15_a_refusal_is_a_result_with_its_code(rig: Rig) -> None:
    terminal = rig.open()
    too_small = sent(
        terminal, action=DEAL, symbol="EURUSD", volume=Decimal("0.001"), type=BUY, type_filling=IOC
    )
    assert (too_small.retcode, too_small.order, too_small.request_id) == (10014, 0, 0)
    rig.broker.fault("reject", at=1)
    rejected = sent(terminal, action=DEAL, symbol="EURUSD", volume=LOT, type=BUY, type_filling=IOC)
    assert rejected.retcode == 10006
    assert rejected.request_id > 0
    assert terminal.positions() == ()


def test_t16_a_lost_answer_is_no_result_and_the_order_was_executed(rig: Rig) -> None:
    account = rig.account()
    terminal = rig.terminal(account)
    terminal.connect()
    rig.broker.fault("lose_answer", login=account["login"], at=1)
    reply = terminal.send(TradeRequest(DEAL, "EURUSD", LOT, BUY, type_filling=IOC, magic=31))
    assert reply.result is None
    assert reply.error[0] == -10002
    terminal.connect()
    assert [position.magic for position in terminal.positions()] == [31]


def test_t17_without_a_connection_every_query_is_unavailable(rig: Rig) -> None:
    terminal = rig.open()
    terminal.disconnect()
    for query in (terminal.account, terminal.positions, terminal.orders, terminal.symbols, terminal.status):
        with pytest.raises(TerminalUnavailable):
            query()
    with pytest.raises(TerminalError):
        terminal.history_deals(0, now_ms())
    reply = terminal.send(TradeRequest(DEAL, "EURUSD", LOT, BUY))
    assert (reply.result, reply.error[0]) == (None, -10004)
    terminal.connect()
    assert terminal.positions() == ()


def test_t18_a_check_says_what_would_be_and_places_nothing(rig: Rig) -> None:
    terminal = rig.open()
    good = terminal.check(TradeRequest(DEAL, "EURUSD", LOT, BUY, type_filling=IOC)).result
    assert good is not None
    assert (good.retcode, good.comment) == (0, "Done")
    dear = terminal.check(TradeRequest(DEAL, "EURUSD", Decimal(50), BUY, type_filling=IOC)).result
    assert dear is not None
    assert dear.retcode == 10019
    assert terminal.positions() == ()


def test_t19_long_comments_are_cut_to_what_every_build_takes(rig: Rig) -> None:
    terminal = rig.open()
    position = bought(terminal, comment="x" * 60)
    assert position.comment == "x" * 28


def test_t20_histories_are_asked_for_in_utc(rig: Rig) -> None:
    terminal = rig.open("net")  # Moscow: three hours ahead
    assert (
        sent(terminal, action=DEAL, symbol="EURUSD", volume=LOT, type=BUY, type_filling=IOC).retcode == DONE
    )
    here = now_ms()
    assert [deal.symbol for deal in terminal.history_deals(here - 60_000, here + 60_000)][-1:] == ["EURUSD"]
    assert terminal.history_deals(here - 7_200_000, here - 3_600_000) == ()
    assert terminal.history_deals(here + 3_600_000, here + 7_200_000) == ()


def test_t21_a_netting_account_closes_and_turns_one_position(rig: Rig) -> None:
    terminal = rig.open("net")
    common = {"action": DEAL, "symbol": "EURUSD", "type_filling": IOC}
    opened = sent(terminal, volume=LOT, type=BUY, **common)
    turned = sent(terminal, volume=Decimal("0.3"), type=SELL, **common)
    (position,) = terminal.positions()
    assert (position.identifier, position.ticket) == (opened.order, turned.order)
    assert (position.type, position.volume) == (1, Decimal("0.2"))
    deals = terminal.history_deals(now_ms() - 60_000, now_ms() + 60_000)
    assert deals[-1].entry == 2


def test_t22_the_filling_mode_of_a_symbol_is_told_and_enforced(rig: Rig) -> None:
    terminal = rig.open("ecn")
    spec = terminal.spec("EURUSD")
    assert spec is not None
    assert spec.filling_mode == 2
    assert sent(terminal, action=DEAL, symbol="EURUSD", volume=LOT, type=BUY, type_filling=0).retcode == 10030
    assert (
        sent(terminal, action=DEAL, symbol="EURUSD", volume=LOT, type=BUY, type_filling=IOC).retcode == DONE
    )
