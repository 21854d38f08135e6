"""The trade server's rules, numbered: how orders are executed and positions change. Prices are set by hand."""

from typing import Any

import pytest

from executors.terminals import paper as mt5
from tests.contract.desk import BASE, DONE, PARTLY, Desk


def test_r70_instant_execution_requotes_beyond_the_deviation(desk: Desk) -> None:
    desk.open("classic")
    asked = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0, "price": 1.09990, "deviation": 10}
    refused = desk.send(**asked)
    assert (refused.retcode, refused.bid, refused.ask, refused.order) == (10004, 1.1, 1.1001, 0)
    assert refused.request_id > 0
    filled = desk.send(**{**asked, "deviation": 20})
    assert (filled.retcode, filled.price) == (DONE, 1.1001)
    assert desk.send(**{**asked, "price": 0.0}).retcode == 10015


def test_r71_market_execution_ignores_price_and_deviation(desk: Desk) -> None:
    assert desk.deal(0, price=0.5).price == 1.1001
    assert desk.deal(1).price == 1.1


def test_r72_depth_is_swept_and_ioc_takes_what_there_is(desk: Desk) -> None:
    desk.open("lab", 1_000_000.0)
    result = desk.deal(0, 5.0, "EURUSD.thin")  # five levels of two lots
    assert (result.retcode, result.volume) == (DONE, 5.0)
    assert [deal.volume for deal in desk.trades()] == [2.0, 2.0, 1.0]
    assert [deal.price for deal in desk.trades()] == [1.1001, 1.10011, 1.10012]
    (position,) = mt5.positions_get()
    assert (position.ticket, position.volume, position.price_open) == (result.order, 5.0, 1.10011)
    partly = desk.deal(0, 12.0, "EURUSD.thin")
    assert (partly.retcode, partly.volume) == (PARTLY, 10.0)
    order = mt5.history_orders_get(ticket=partly.order)[0]
    assert (order.state, order.volume_initial, order.volume_current) == (2, 12.0, 2.0)


def test_r73_fill_or_kill_is_all_or_nothing(desk: Desk) -> None:
    desk.open("lab", 1_000_000.0)
    refused = desk.deal(0, 12.0, "EURUSD.thin", type_filling=0)
    assert (refused.retcode, refused.order) == (10006, 0)
    assert mt5.positions_total() == 0


def test_r74_return_leaves_the_rest_working_under_the_same_ticket(desk: Desk) -> None:
    desk.open("lab", 1_000_000.0)
    partly = desk.deal(0, 12.0, "EURUSD.thin", type_filling=2)
    assert partly.retcode == PARTLY
    (order,) = mt5.orders_get()
    assert (order.ticket, order.state, order.volume_current, order.volume_initial) == (
        partly.order,
        3,
        2.0,
        12.0,
    )
    assert mt5.positions_get()[0].ticket == partly.order
    desk.price(1.10000, 1.10010)
    assert mt5.orders_total() == 0
    assert mt5.positions_get()[0].volume == 12.0
    assert mt5.history_orders_get(ticket=partly.order)[0].state == 4


def test_r75_a_marketable_limit_fills_on_an_exchange_and_book_or_cancel_is_refused(desk: Desk) -> None:
    desk.open("lab", 1_000_000.0)
    placed = desk.pending(2, 1.10012, 3.0, "EURUSD.thin")
    assert placed.retcode == DONE
    assert mt5.orders_total() == 0
    assert mt5.positions_get()[0].volume == 3.0
    assert desk.pending(2, 1.10012, 3.0, "EURUSD.thin", type_filling=3).retcode == 10015
    assert desk.pending(2, 1.09900, 3.0, "EURUSD.thin", type_filling=3).retcode == DONE


def test_r76_a_placed_order_is_done_and_not_placed(desk: Desk) -> None:
    placed = desk.pending(2, 1.09)
    assert (placed.retcode, placed.deal, placed.price, placed.volume) == (DONE, 0, 0.0, 0.1)
    assert (placed.bid, placed.ask) == (1.1, 1.1001)


@pytest.mark.parametrize(
    ("kind", "price", "before", "after", "filled"),
    [
        (2, 1.09950, (1.09945, 1.09955), (1.09935, 1.09945), 1.09945),  # buy limit: ask reaches it
        (3, 1.10050, (1.10045, 1.10055), (1.10060, 1.10070), 1.10060),  # sell limit: bid does
        (4, 1.10050, (1.10035, 1.10045), (1.10090, 1.10100), 1.10100),  # buy stop: gap, at the ask
        (5, 1.09950, (1.09955, 1.09965), (1.09940, 1.09950), 1.09940),  # sell stop
    ],
)
def test_r77_pending_orders_wait_for_their_side_of_the_spread(
    desk: Desk,
    kind: int,
    price: float,
    before: tuple[float, float],
    after: tuple[float, float],
    filled: float,
) -> None:
    order = desk.pending(kind, price, sl=0.0, magic=8, comment="waits").order
    desk.price(*before)
    assert mt5.positions_total() == 0
    desk.price(*after)
    (position,) = mt5.positions_get()
    assert (position.ticket, position.price_open, position.magic, position.comment) == (
        order,
        filled,
        8,
        "waits",
    )
    past = mt5.history_orders_get(ticket=order)[0]
    assert (past.state, past.volume_current, past.position_id) == (4, 0.0, order)


def test_r78_a_stop_limit_turns_into_a_limit_of_the_same_ticket(desk: Desk) -> None:
    order = desk.pending(6, 1.10100, stoplimit=1.10050, sl=1.09, tp=1.12).order
    desk.price(1.10100, 1.10110)
    (waiting,) = mt5.orders_get()
    assert (waiting.ticket, waiting.type, waiting.price_open, waiting.price_stoplimit) == (
        order,
        2,
        1.1005,
        1.1005,
    )
    assert waiting.type_filling == 2
    desk.price(1.10030, 1.10040)
    (position,) = mt5.positions_get()
    assert (position.price_open, position.sl, position.tp) == (1.1004, 1.09, 1.12)


def test_r79_stop_loss_and_take_profit_look_at_the_closing_side(desk: Desk) -> None:
    bought = desk.deal(0, sl=1.09900, tp=1.10200).order
    sold = desk.deal(1, sl=1.10200, tp=1.09850).order
    desk.price(1.09905, 1.09915)
    assert mt5.positions_total() == 2
    desk.price(1.09880, 1.09890)  # a gap through the buy's stop
    stopped = mt5.history_deals_get(position=bought)[-1]
    assert (stopped.price, stopped.reason, stopped.comment, stopped.entry) == (1.0988, 4, "[sl 1.09900]", 1)
    desk.price(1.09830, 1.09840)
    taken = mt5.history_deals_get(position=sold)[-1]
    assert (taken.price, taken.reason, taken.comment) == (1.0984, 5, "[tp 1.09850]")
    assert mt5.history_orders_get(position=sold)[-1].reason == 5


def test_r80_freezes_near_the_price(desk: Desk) -> None:
    ticket = desk.deal(0, symbol="EURUSD.far", sl=1.09950).order
    order = desk.pending(2, 1.09950, symbol="EURUSD.far").order
    desk.price(1.09958, 1.09959)
    assert desk.send(action=6, position=ticket, sl=1.09).retcode == 10029
    assert desk.deal(1, symbol="EURUSD.far", position=ticket).retcode == 10029
    assert desk.send(action=8, order=order).retcode == 10029
    assert desk.send(action=7, order=order, price=1.09).retcode == 10029
    desk.price(1.10000, 1.10010)
    assert desk.send(action=8, order=order).retcode == DONE


def test_r81_modifying(desk: Desk) -> None:
    order = desk.pending(4, 1.11, sl=1.10).order
    assert desk.send(action=7, order=order).retcode == 10015  # no price is price 0
    assert desk.send(action=7, order=order, price=1.11, sl=1.10).retcode == 10025
    assert desk.send(action=7, order=order, price=1.12).retcode == DONE
    (changed,) = mt5.orders_get()
    assert (changed.price_open, changed.sl, changed.volume_current) == (1.12, 0.0, 0.1)


# --- Positions ---


def test_r90_hedging_without_a_position_opens_the_opposite(desk: Desk) -> None:
    desk.deal(0)
    desk.deal(1)
    assert sorted(item.type for item in mt5.positions_get()) == [0, 1]


def test_r91_closing_on_a_hedging_account(desk: Desk) -> None:
    ticket = desk.deal(0, magic=7, comment="mine").order
    assert desk.deal(0, position=ticket).retcode == 10013  # wrong direction
    assert desk.deal(1, 0.2, position=ticket).retcode == 10038
    assert desk.deal(1, symbol="GBPUSD", position=ticket).retcode == 10013
    assert desk.deal(1, 0.04, position=ticket, magic=9, comment="half").retcode == DONE
    (rest,) = mt5.positions_get(ticket=ticket)
    assert (rest.volume, rest.magic, rest.comment, rest.identifier) == (0.06, 7, "mine", ticket)
    assert rest.time_update_msc >= rest.time_msc
    out = mt5.history_deals_get(position=ticket)[-1]
    assert (out.entry, out.magic, out.comment, out.profit) == (1, 9, "half", -0.4)
    assert desk.deal(1, 0.06, symbol="", position=ticket).retcode == DONE
    assert desk.deal(1, 0.06, position=ticket).retcode == 10036


def test_r92_close_by(desk: Desk) -> None:
    first, second = desk.deal(0, 0.3).order, desk.deal(1, 0.1).order
    assert desk.send(action=10, position=first, position_by=first).retcode == 10013
    result = desk.send(action=10, position=first, position_by=second)
    assert (result.retcode, result.volume) == (DONE, 0.1)
    order = mt5.history_orders_get(ticket=result.order)[0]
    assert (order.type, order.position_id, order.position_by_id, order.price_open) == (8, first, second, 1.1)
    deals = mt5.history_deals_get(ticket=result.order)
    assert [(deal.entry, deal.position_id, deal.price, deal.profit) for deal in deals] == [
        (3, first, 1.1, -1.0),
        (3, second, 1.1001, 0.0),
    ]
    assert mt5.positions_get()[0].volume == 0.2


def test_r93_netting(desk: Desk) -> None:
    desk.open("net")
    first = desk.deal(0, 0.1, sl=1.09).order
    desk.price(1.10100, 1.10110)
    desk.deal(0, 0.3)
    (position,) = mt5.positions_get()
    assert (position.ticket, position.volume, position.sl) == (first, 0.4, 1.09)
    assert position.price_open == pytest.approx((1.1001 + 3 * 1.1011) / 4, abs=1e-9)
    assert desk.send(action=6, symbol="EURUSD", tp=1.2).retcode == DONE
    reverse = desk.deal(1, 0.6).order
    (turned,) = mt5.positions_get()
    assert (turned.ticket, turned.identifier, turned.type, turned.volume) == (reverse, first, 1, 0.2)
    assert turned.price_open == 1.101
    deals = mt5.history_deals_get(position=first)
    assert [deal.entry for deal in deals] == [0, 0, 2]
    assert desk.deal(0, 0.2).retcode == DONE
    assert mt5.positions_total() == 0
    assert desk.send(action=10, position=first, position_by=reverse).retcode == 10036


def test_r99_stop_levels_by_symbol_where_there_is_no_such_symbol_or_no_position(desk: Desk) -> None:
    for personality, without_position in (("net", 10036), ("lab", 10013)):
        desk.open(personality)
        assert desk.send(action=6, symbol="NOPE", sl=1.0).retcode == 10013
        assert desk.send(action=6, symbol="EURUSD", sl=1.0).retcode == without_position


def test_r94_first_in_first_out_and_no_opposite_positions(desk: Desk) -> None:
    desk.open("usa")
    desk.broker.fault("slippage", value=0)
    sides: dict[str, Any] = {"type_filling": 0}
    first, second = desk.deal(0, **sides), desk.deal(0, **sides)
    assert first.retcode == second.retcode == DONE
    assert desk.deal(1, **sides).retcode == 10046
    refused = desk.deal(1, position=second.order, **sides)
    assert (
        refused.retcode,
        mt5.order_check({**BASE, "type": 1, "position": second.order, **sides}).retcode,
    ) == (10045, 0)
    assert desk.deal(1, position=first.order, **sides).retcode == DONE
    assert desk.deal(1, position=second.order, **sides).retcode == DONE


def test_r95_limits_of_an_account(desk: Desk) -> None:
    desk.open("capped")
    assert [desk.pending(2, price).retcode for price in (1.09, 1.08, 1.07)] == [DONE, DONE, 10033]
    desk.open("capped")
    assert [desk.deal(0).retcode for _ in range(3)] == [DONE, DONE, 10040]
    desk.open("capped")
    ticket = desk.deal(0).order
    codes = [
        desk.send(action=6, position=ticket, sl=round(1.0 + step / 1000, 3)).retcode for step in range(5)
    ]
    assert codes == [DONE, DONE, DONE, 10024, 10024]


def test_r96_the_volume_limit_counts_positions_and_orders_of_a_side(desk: Desk) -> None:
    desk.open("lab", 1_000_000.0)
    assert desk.deal(0, 5.0, "EURUSD.step").retcode == DONE
    assert desk.pending(2, 1.0, 3.0, "EURUSD.step").retcode == DONE
    assert desk.deal(0, 0.1, "EURUSD.step").retcode == 10034
    assert desk.deal(1, 0.1, "EURUSD.step").retcode == DONE


def test_r97_what_brokers_make_of_comments(desk: Desk) -> None:
    kept = {}
    for personality, symbol in (
        ("classic", "EURUSD"),
        ("micro", "EURUSD.m"),
        ("usa", "EURUSD"),
        ("capped", "EURUSD"),
    ):
        desk.open(personality)
        filling: dict[str, Any] = {"type_filling": 0} if personality == "usa" else {}
        desk.deal(0, symbol=symbol, comment="python script open", price=1.1001, **filling)
        kept[personality] = [item.comment for item in mt5.positions_get()]
    assert kept["classic"] == ["python script op"]
    assert kept["micro"] == ["python script open/micro"]
    assert kept["capped"] == ["Paper Capped"]
    assert kept["usa"] == [""]


def test_r98_a_netting_position_turns_within_one_sweep(desk: Desk) -> None:
    """The first level closes what is open, the next ones open the other side."""
    desk.open("lab", 1_000_000.0, margin_mode=0)
    first = desk.deal(0, 1.5, "EURUSD.thin").order
    reverse = desk.deal(1, 4.5, "EURUSD.thin", position=first)  # levels of two lots
    (position,) = mt5.positions_get()
    assert (position.ticket, position.identifier, position.type, position.volume) == (
        reverse.order,
        first,
        1,
        3.0,
    )
    assert [(deal.entry, deal.volume) for deal in desk.trades()] == [(0, 1.5), (2, 2.0), (0, 2.0), (0, 0.5)]
