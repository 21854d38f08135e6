"""The trade server's rules, numbered: margin, profit, costs, stop-out. Figures are exact: prices are set by hand."""

import pytest

from executors.terminals import paper as mt5
from executors.terminals.paper.fields import FIELDS
from tests.contract.desk import BASE, DONE, FAR, PEND, Desk


def test_r100_margin_in_the_documented_examples(desk: Desk) -> None:
    desk.price(1.09900, 1.09910)
    assert mt5.order_calc_margin(0, "EURUSD", 0.1, 1.0991) == 109.91
    assert mt5.order_calc_margin(0, "USDJPY", 0.1, 110.0) == 100.0
    assert mt5.order_calc_margin(0, "EURJPY", 0.1, 120.0) == 109.91
    assert mt5.order_calc_margin(0, "GBPUSD", 1.0, 1.31668) == 1316.68
    assert mt5.order_calc_margin(1, "GBPUSD", 1.0, 1.31661) == 1316.61
    assert mt5.order_calc_margin(2, "GBPUSD", 1.0, 1.31568) == 1315.68
    assert mt5.order_calc_margin(0, "XAUUSD", 1.0, 2000.0) == 2000.0  # with leverage
    assert mt5.order_calc_margin(0, "NONE", 1.0, 2000.0) is None


def test_r101_profit_in_the_documented_examples(desk: Desk) -> None:
    assert mt5.order_calc_profit(0, "USDJPY", 1.0, 108.182, 108.482) == pytest.approx(276.54, abs=0.01)
    assert mt5.order_calc_profit(1, "USDJPY", 1.0, 108.178, 107.878) == pytest.approx(278.09, abs=0.01)
    assert mt5.order_calc_profit(0, "USDJPY", 0.1, 144.132, 144.124) == -0.56
    assert mt5.order_calc_profit(0, "EURUSD", 1.0, 1.1, 1.101) == 100.0
    desk.open("micro")  # a EUR account: a gain converts at the ask of EURUSD, a loss at its bid
    gain, loss = (
        mt5.order_calc_profit(0, "GBPUSD.m", 1.0, 1.3, 1.31),
        mt5.order_calc_profit(1, "GBPUSD.m", 1.0, 1.3, 1.31),
    )
    tick = mt5.symbol_info_tick("EURUSD.m")
    assert gain == round(1000 / tick.ask, 2)
    assert loss == round(-1000 / tick.bid, 2)


def test_r102_the_accounts_sums(desk: Desk) -> None:
    desk.deal(0, 1.0)
    account = mt5.account_info()
    assert (account.balance, account.profit, account.equity, account.margin) == (
        10_000.0,
        -10.0,
        9_990.0,
        1_100.1,
    )
    assert account.margin_free == 8_889.9
    assert account.margin_level == round(9990 / 1100.1 * 100, 2)
    desk.price(1.10500, 1.10510)
    assert mt5.account_info().equity == 10_490.0
    assert mt5.account_info().margin == 1_100.1  # at the open price


@pytest.mark.parametrize(
    ("symbol", "margin"),
    [("EURUSD", 1_650.11), ("EURUSD.leg", 1_650.15), ("EURUSD.free", 550.05)],
)
def test_r103_hedged_margin(desk: Desk, symbol: str, margin: float) -> None:
    desk.deal(0, 1.5, symbol)
    desk.deal(1, 1.0, symbol)
    assert mt5.account_info().margin == pytest.approx(margin, abs=0.05)
    check = mt5.order_check({**BASE, "symbol": symbol, "volume": 0.1, "type": 1})
    assert check.margin <= mt5.account_info().margin + 0.05


def test_r104_a_check_counts_what_is_open_already(desk: Desk) -> None:
    check = mt5.order_check({**BASE, "volume": 1.0})
    assert (check.margin, check.margin_free, check.equity, check.profit) == (1_100.1, 8_899.9, 10_000.0, 0.0)
    desk.deal(0, 1.0)
    assert mt5.order_check({**BASE, "volume": 1.0}).margin == 2_200.2
    assert mt5.order_check({**BASE, "volume": 9.0}).retcode == 10019


def test_r105_commission_on_both_sides(desk: Desk) -> None:
    ticket = desk.deal(0, 0.1, "EURUSD.fee").order
    assert mt5.account_info().balance == 9_999.65
    desk.deal(1, 0.1, "EURUSD.fee", position=ticket)
    assert [deal.commission for deal in mt5.history_deals_get(position=ticket)] == [-0.35, -0.35]
    assert mt5.account_info().balance == 9_998.3


def test_r106_stop_out_takes_the_worst_first(desk: Desk) -> None:
    desk.open("lab", 1_300.0)
    small, large = desk.deal(0, 0.3).order, desk.deal(0, 0.7).order
    desk.price(1.09300, 1.09310)  # equity 590 over margin 1100: still above half
    assert mt5.positions_total() == 2
    desk.price(1.09200, 1.09210)
    (left,) = mt5.positions_get()
    assert left.ticket == small
    deal = mt5.history_deals_get(position=large)[-1]
    assert deal.reason == 6
    assert deal.comment.startswith("[so 4")


def test_r107_stop_out_in_money_and_a_protected_balance(desk: Desk) -> None:
    desk.open("moneyso", 1_000.0)
    desk.deal(0, 0.5)
    desk.price(1.08690, 1.08700)
    assert mt5.positions_total() == 1
    desk.price(1.07000, 1.07010)  # a gap far below zero
    assert mt5.positions_total() == 0
    assert mt5.account_info().balance == 0.0
    assert mt5.history_deals_get(0, FAR)[-1].type == 5


def test_r108_credit_is_equity_and_not_balance(desk: Desk) -> None:
    desk.broker.oracle.call("credit", Desk.last_login, 500.0)
    account = mt5.account_info()
    assert (account.balance, account.credit, account.equity) == (10_000.0, 500.0, 10_500.0)


def test_r109_a_pending_order_without_money_is_rejected_when_it_triggers(desk: Desk) -> None:
    order = desk.pending(4, 1.10100, 9.0)
    assert order.retcode == DONE  # pendings bind no margin on retail accounts
    desk.deal(0, 4.0)
    desk.price(1.10100, 1.10110)
    past = mt5.history_orders_get(ticket=order.order)[0]
    assert (past.state, past.comment, past.position_id) == (5, "no money", 0)
    assert mt5.positions_total() == 1


def test_r110_exchange_accounts_bind_margin_for_orders(desk: Desk) -> None:
    desk.open("exchange", 10_000.0)
    tick = mt5.symbol_info_tick("ACME")
    price = round(tick.bid - 5, 2)
    placed = desk.pending(2, price, 50.0, "ACME")
    assert placed.retcode == DONE
    assert mt5.account_info().margin == pytest.approx(50 * price, abs=0.01)
    assert desk.pending(2, price, 100.0, "ACME").retcode == 10019
    assert desk.send(action=8, order=placed.order).retcode == DONE
    assert mt5.account_info().margin == 0.0


def test_r111_tickets_rise_and_link(desk: Desk) -> None:
    results = [desk.deal(0) for _ in range(5)]
    orders = [item.order for item in results]
    deals = [item.deal for item in results]
    assert orders == sorted(set(orders))
    assert deals == sorted(set(deals))
    for result in results:
        (deal,) = mt5.history_deals_get(ticket=result.order)
        assert (deal.ticket, deal.order, deal.position_id) == (result.deal, result.order, result.order)
    initial = mt5.history_deals_get(0, FAR)[0]
    assert (initial.type, initial.symbol, initial.volume, initial.price, initial.profit) == (
        2,
        "",
        0.0,
        0.0,
        10_000.0,
    )
    assert mt5.history_deals_get(0, FAR, group="*USD") == tuple(desk.trades())


def test_r112_bonds_options_and_collateral(desk: Desk) -> None:
    desk.open("papers", 100_000.0)
    price = mt5.symbol_info_tick("BOND").ask
    assert mt5.order_calc_margin(0, "BOND", 2.0, price) == pytest.approx(2 * 1000 * price / 100, abs=0.01)
    assert mt5.order_calc_profit(0, "BOND", 2.0, 0.80, 0.81) == 20.0
    assert mt5.order_calc_margin(0, "OPTION", 3.0, 5.0) == 300.0
    assert mt5.order_calc_profit(1, "OPTION", 3.0, 5.0, 4.0) == 3.0
    before = mt5.account_info()
    assert desk.deal(0, 10.0, "PLEDGE").retcode == DONE
    after = mt5.account_info()
    bid = mt5.symbol_info_tick("PLEDGE").bid
    assert (after.margin, after.profit) == (0.0, 0.0)
    assert after.assets == pytest.approx(10 * bid * 0.5, abs=0.01)
    assert after.equity == pytest.approx(before.equity + after.assets, abs=0.01)
    assert mt5.symbol_info("BOND").trade_face_value == 1000.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), -1.0, 0.0])
def test_r113_what_is_no_lot_and_no_price_is_not_reckoned_with(desk: Desk, bad: float) -> None:
    for margin in ((0, "EURUSD", bad, 1.1), (0, "EURUSD", 0.1, bad)):
        assert mt5.order_calc_margin(*margin) is None
        assert mt5.last_error() == (-2, "Terminal: Invalid params")
    for profit in (
        (0, "EURUSD", bad, 1.1, 1.2),
        (0, "EURUSD", 0.1, bad, 1.2),
        (0, "EURUSD", 0.1, 1.1, bad),
    ):
        assert mt5.order_calc_profit(*profit) is None
        assert mt5.last_error() == (-2, "Terminal: Invalid params")


def test_r114_nor_what_comes_to_no_number(desk: Desk) -> None:
    assert mt5.order_calc_margin(0, "EURUSD", 1e308, 1e10) is None
    assert mt5.last_error() == (-2, "Terminal: Invalid params")
    assert mt5.order_calc_profit(0, "EURUSD", 1e308, 1.0, 1e10) is None
    assert mt5.last_error() == (-2, "Terminal: Invalid params")


def test_r115_an_account_with_nothing_open_any_more_tells_floats(desk: Desk) -> None:
    ticket = desk.deal(0).order
    assert desk.deal(1, position=ticket).retcode == 10009
    told = {"AccountInfo": mt5.account_info(), "OrderCheckResult": mt5.order_check(PEND)}
    for structure, row in told.items():
        for name, kind in FIELDS[structure]:
            assert kind != "f" or type(getattr(row, name)) is float, name
