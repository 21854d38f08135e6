"""Orders that wait, numbered, over every way to a terminal: expiry, stop-limit, changes, freezes, close-by, parts."""

from decimal import Decimal

from executors.terminals import base
from executors.terminals.adapter import ModuleTerminal
from tests.contract.terminals import Rig, bought, sent
from tests.waiting import wait_until

DEAL, PENDING, SLTP, MODIFY, REMOVE, CLOSE_BY = 1, 5, 6, 7, 8, 10
BUY, SELL, BUY_LIMIT, SELL_LIMIT, BUY_STOP, SELL_STOP, BUY_STOP_LIMIT = range(7)
GTC, DAY, AT = 0, 1, 2
FOK, IOC, RETURN = 0, 1, 2
DONE = 10009
LOT = Decimal("0.1")
HOUR_MS = 3_600_000


def broker_now_ms(rig: Rig) -> int:
    return int(rig.broker.oracle.call("health")["now_ms"])


def placed(terminal: ModuleTerminal, kind: int, price: str, **more: object) -> base.Order:
    fields: dict[str, object] = {
        "action": PENDING, "symbol": "EURUSD", "volume": LOT, "type": kind, "price": Decimal(price),
        "type_filling": RETURN,
    }  # fmt: skip
    result = sent(terminal, **(fields | more))
    assert result.retcode == DONE, result
    (order,) = [item for item in terminal.orders() if item.ticket == result.order]
    return order


def history(rig: Rig, terminal: ModuleTerminal, ticket: int) -> base.Order:
    now = broker_now_ms(rig)
    (order,) = [
        item for item in terminal.history_orders(now - HOUR_MS, now + HOUR_MS) if item.ticket == ticket
    ]
    return order


def test_t23_an_order_expires_at_its_second_utc(rig: Rig) -> None:
    terminal = rig.open("net")  # Moscow's clock
    expiry = (broker_now_ms(rig) // 1000 + 120) * 1000
    order = placed(terminal, BUY_LIMIT, "1.09", type_time=AT, expiration_ms=expiry, magic=70)
    assert order.expiration_ms == expiry
    rig.broker.oracle.call("advance_clock", 110_000)
    assert [item.ticket for item in terminal.orders()] == [order.ticket]
    rig.broker.oracle.call("advance_clock", 11_000)
    wait_until(lambda: terminal.orders() == ())
    past = history(rig, terminal, order.ticket)
    assert (past.state, past.magic, past.volume_current) == (6, 70, LOT)


def test_t24_expiries_that_cannot_be_are_refused(rig: Rig) -> None:
    terminal = rig.open()
    fields = {
        "action": PENDING,
        "symbol": "EURUSD",
        "volume": LOT,
        "type": BUY_LIMIT,
        "price": Decimal("1.09"),
    }
    past = broker_now_ms(rig) - 60_000
    assert sent(terminal, **fields, type_filling=RETURN, type_time=AT, expiration_ms=past).retcode == 10022
    assert sent(terminal, **fields, type_filling=RETURN, type_time=AT).retcode == 10022
    spec = terminal.spec("EURUSD.gtc")
    assert spec is not None
    assert spec.expiration_mode == 1
    assert (
        sent(
            terminal, **(fields | {"symbol": "EURUSD.gtc", "type_filling": RETURN, "type_time": DAY})
        ).retcode
        == 10022
    )
    assert terminal.orders() == ()


def test_t25_a_stop_limit_becomes_a_limit_of_the_same_ticket_and_fills(rig: Rig) -> None:
    terminal = rig.open()
    order = placed(terminal, BUY_STOP_LIMIT, "1.1020", stoplimit=Decimal("1.1015"), magic=71)
    assert (order.type, order.price_open, order.price_stoplimit) == (6, Decimal("1.102"), Decimal("1.1015"))
    rig.broker.push("EURUSD", 1.10200, 1.10210)
    (order,) = terminal.orders()
    assert (order.type, order.price_open) == (BUY_LIMIT, Decimal("1.1015"))
    rig.broker.push("EURUSD", 1.10130, 1.10140)
    (position,) = terminal.positions()
    assert (position.ticket, position.magic, position.price_open) == (order.ticket, 71, Decimal("1.1014"))
    past = history(rig, terminal, order.ticket)
    assert (past.state, past.position_id, past.volume_current) == (4, position.identifier, Decimal(0))


def test_t26_an_order_is_changed_in_price_levels_and_expiry(rig: Rig) -> None:
    terminal = rig.open()
    order = placed(terminal, SELL_LIMIT, "1.11", sl=Decimal("1.12"), tp=Decimal("1.10"))
    expiry = (broker_now_ms(rig) // 1000 + 3600) * 1000
    change = {
        "action": MODIFY, "order": order.ticket, "price": Decimal("1.112"), "sl": Decimal("1.122"),
        "type_time": AT, "expiration_ms": expiry,
    }  # fmt: skip
    assert sent(terminal, **change).retcode == DONE
    (changed,) = terminal.orders()
    assert (changed.price_open, changed.sl, changed.tp) == (Decimal("1.112"), Decimal("1.122"), Decimal(0))
    assert (changed.expiration_ms, changed.type_time) == (expiry, AT)
    assert sent(terminal, **change).retcode == 10025
    assert sent(terminal, action=MODIFY, order=order.ticket).retcode == 10015  # no price
    assert sent(terminal, action=MODIFY, order=1, price=Decimal("1.1")).retcode == 10013
    assert sent(terminal, action=REMOVE, order=order.ticket).retcode == DONE
    assert sent(terminal, action=REMOVE, order=order.ticket).retcode == 10013


def test_t27_near_the_market_orders_and_positions_are_frozen(rig: Rig) -> None:
    terminal = rig.open()
    spec = terminal.spec("EURUSD.far")
    assert spec is not None
    assert (spec.stops_level, spec.freeze_level) == (30, 10)
    order = placed(terminal, BUY_LIMIT, "1.0995", symbol="EURUSD.far")
    position = bought(terminal, symbol="EURUSD.far", sl=Decimal("1.0995"))
    rig.broker.push("EURUSD", 1.09955, 1.09958)
    assert sent(terminal, action=REMOVE, order=order.ticket).retcode == 10029
    assert sent(terminal, action=MODIFY, order=order.ticket, price=Decimal("1.09")).retcode == 10029
    close = {
        "action": DEAL, "symbol": "EURUSD.far", "volume": LOT, "type": SELL, "type_filling": IOC,
        "position": position.ticket,
    }  # fmt: skip
    assert sent(terminal, **close).retcode == 10029
    levels = {"action": SLTP, "symbol": "EURUSD.far", "position": position.ticket, "sl": Decimal("1.09")}
    assert sent(terminal, **levels).retcode == 10029
    rig.broker.push("EURUSD", 1.10000, 1.10010)
    assert sent(terminal, **levels).retcode == DONE
    assert sent(terminal, action=REMOVE, order=order.ticket).retcode == DONE
    assert sent(terminal, **close).retcode == DONE


def test_t28_close_by_takes_two_sides_of_one_symbol(rig: Rig) -> None:
    terminal = rig.open()
    first, second = bought(terminal), bought(terminal)
    assert sent(terminal, action=CLOSE_BY, position=first.ticket, position_by=second.ticket).retcode == 10013
    assert sent(terminal, action=CLOSE_BY, position=first.ticket, position_by=1).retcode == 10036
    other = sent(terminal, action=DEAL, symbol="EURUSD", volume=LOT, type=SELL, type_filling=IOC)
    result = sent(terminal, action=CLOSE_BY, position=first.ticket, position_by=other.order)
    assert (result.retcode, result.volume) == (DONE, LOT)
    assert [item.ticket for item in terminal.positions()] == [second.ticket]
    past = history(rig, terminal, result.order)
    assert (past.type, past.position_id, past.position_by_id) == (8, first.identifier, other.order)
    spec = rig.open("desk").spec("EURUSD")
    assert spec is not None
    assert spec.order_mode & 64 == 0  # a broker that does not know it


def test_t29_a_position_is_closed_in_parts_and_never_beyond(rig: Rig) -> None:
    terminal = rig.open()
    position = bought(terminal, Decimal("0.3"), magic=72)
    close = {
        "action": DEAL,
        "symbol": "EURUSD",
        "type": SELL,
        "type_filling": IOC,
        "position": position.ticket,
    }
    assert sent(terminal, **close, volume=Decimal("0.2"), magic=73).retcode == DONE
    (rest,) = terminal.positions()
    assert (rest.ticket, rest.volume, rest.magic) == (position.ticket, LOT, 72)
    assert sent(terminal, **close, volume=Decimal("0.2")).retcode == 10038
    assert sent(terminal, **close, volume=LOT, magic=74).retcode == DONE
    assert sent(terminal, **close, volume=LOT).retcode == 10036
    now = broker_now_ms(rig)
    deals = [
        deal
        for deal in terminal.history_deals(now - HOUR_MS, now + HOUR_MS)
        if deal.position_id == position.identifier
    ]
    assert [(deal.entry, deal.magic, deal.volume) for deal in deals] == [
        (0, 72, Decimal("0.3")), (1, 73, Decimal("0.2")), (1, 74, LOT),
    ]  # fmt: skip


def test_t30_on_a_netting_account_levels_go_by_symbol_and_orders_join_the_position(rig: Rig) -> None:
    terminal = rig.open("net")
    common = {"action": DEAL, "symbol": "EURUSD", "type_filling": IOC}
    opened = sent(terminal, **common, volume=LOT, type=BUY)
    assert (
        sent(terminal, action=SLTP, symbol="EURUSD", sl=Decimal("1.09"), tp=Decimal("1.12")).retcode == DONE
    )
    placed(terminal, BUY_STOP, "1.1010", magic=75)
    rig.broker.push("EURUSD", 1.10100, 1.10110)
    (position,) = terminal.positions()
    assert (position.identifier, position.volume, position.sl) == (
        opened.order,
        Decimal("0.2"),
        Decimal("1.09"),
    )
    assert (position.price_open, position.magic) == (Decimal("1.1006"), 75)
    closed = sent(terminal, **common, volume=Decimal("0.2"), type=SELL, position=position.ticket)
    assert closed.retcode == DONE
    assert terminal.positions() == ()


def test_t31_volumes_and_prices_with_a_wrong_last_bit_are_read_as_meant(rig: Rig) -> None:
    terminal = rig.open("noisy")
    position = bought(terminal, Decimal("0.3"), symbol="EURUSD")
    assert (position.volume, position.price_open) == (Decimal("0.3"), Decimal("1.1001"))
    order = placed(terminal, BUY_LIMIT, "1.0955")
    assert (order.volume_initial, order.price_open) == (LOT, Decimal("1.0955"))
