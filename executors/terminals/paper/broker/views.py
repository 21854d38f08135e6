"""Rows as MetaTrader's structures want them: the broker's records in the fields' order, times on the server's clock.

Precedes: sessions. Follows: the state.
"""

import math
import ntpath
from typing import Any

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.broker import money
from executors.terminals.paper.broker.model import Deal, Order, Position
from executors.terminals.paper.broker.personalities import Instrument
from executors.terminals.paper.broker.sessions import moment_s
from executors.terminals.paper.broker.state import BUY_TYPES, Book, Desk, House, State
from executors.terminals.paper.fields import FIELDS

TRADE_FLAGS = mt5.TICK_FLAG_LAST | mt5.TICK_FLAG_VOLUME | mt5.TICK_FLAG_SELL  # sold into the bid
BUILD = 6231
BUILD_DATE = "27 Sep 2026"
ZERO = {"b": False, "i": 0, "f": 0.0, "s": ""}
SYMBOL_FIELDS = FIELDS["SymbolInfo"]
SYMBOL_DEFAULTS = {name: ZERO[kind] for name, kind in SYMBOL_FIELDS}


def position_row(state: State, book: Book, position: Position) -> list[Any]:
    clock = book.house.clock
    off = noisy if book.house.personality.float_noise else float
    desk = book.house.desks.get(position.symbol)
    current = 0.0 if desk is None else desk.quote.bid if position.type == 0 else desk.quote.ask
    opened, updated = clock.to_server(position.time_ms), clock.to_server(position.update_ms)
    return [
        position.ticket, opened // 1000, opened, updated // 1000, updated, position.type, position.magic,
        position.identifier, position.reason, off(position.volume), off(position.price_open), position.sl, position.tp,
        current, position.swap, state.floating(book, position), position.symbol, position.comment, "",
    ]  # fmt: skip


def noisy(value: float) -> float:
    """One bit off, as sums of binary fractions are: 0.30000000000000004."""
    return math.nextafter(value, math.inf) if value else value


def _reason(house: House, ticket: int, reason: int) -> int:
    """One broker has been seen whose reasons disagree with what happened."""
    return (reason + 1 + ticket) % 4 if house.personality.scramble_reason else reason


def order_row(book: Book, order: Order) -> list[Any]:
    clock = book.house.clock
    off = noisy if book.house.personality.float_noise else float
    current = order.price_current
    desk = book.house.desks.get(order.symbol)
    if not order.done_ms and desk is not None:
        current = desk.quote.ask if order.type in BUY_TYPES else desk.quote.bid
    setup, done = clock.to_server(order.setup_ms), clock.to_server(order.done_ms)
    return [
        order.ticket, setup // 1000, setup, done // 1000, done, order.expiration_s, order.type, order.type_time,
        order.type_filling, order.state, order.magic, order.position_id, order.position_by_id,
        _reason(book.house, order.ticket, order.reason),
        off(order.volume_initial), off(order.volume_current), off(order.price_open), order.sl, order.tp, current,
        order.price_stoplimit, order.symbol, order.comment, "",
    ]  # fmt: skip


def deal_row(deal: Deal, house: House) -> list[Any]:
    at = house.clock.to_server(deal.time_ms)
    off = noisy if house.personality.float_noise else float
    return [
        deal.ticket, deal.order, at // 1000, at, deal.type, deal.entry, deal.magic, deal.position_id,
        _reason(house, deal.ticket, deal.reason), off(deal.volume), off(deal.price),
        deal.commission, deal.swap, deal.profit, deal.fee, deal.symbol, deal.comment, "",
    ]  # fmt: skip


def account_row(state: State, book: Book, *, connected: bool, investor: bool) -> list[Any]:
    account, house = book.account, book.house.personality
    state.freshen(book)
    equity, margin = state.equity(book), book.margin
    profit = book.money(equity - account.balance - account.credit - state.assets(book))
    if not house.profit_with_swap:
        profit = book.money(sum(book.profits.values()))
    counted = equity if house.margin_free_profit else min(equity, account.balance + account.credit)
    level = round(equity / margin * 100, 2) if margin else 0.0
    return [
        account.login, house.trade_mode, account.leverage, house.limit_orders, house.so_mode,
        account.enabled and connected and not investor, account.expert, account.margin_mode, account.digits,
        house.fifo_close, account.balance, account.credit, profit, equity, margin, book.money(counted - margin),
        level, house.margin_call, house.stop_out, 0.0, 0.0, state.assets(book), 0.0, 0.0,
        account.name, account.server, account.currency, house.company,
    ]  # fmt: skip


def terminal_row(
    book: Book, path: str, *, connected: bool, algo_trading: bool, api_disabled: bool
) -> list[Any]:
    house = book.house.personality
    if path.lower().endswith(".exe"):  # the folder is told, whatever was started in it
        path = ntpath.dirname(path)
    return [
        False, False, connected, False, algo_trading, api_disabled, False, False, False, False, BUILD,
        house.max_bars, 0, 42_214, 0.0, 0.0, house.company, "MetaTrader 5", "English", path,
        f"{path}\\data", f"{path}\\common",
    ]  # fmt: skip


def traded(instrument: Instrument) -> bool:
    """Are there trades to be seen, with their prices and volumes? Elsewhere there are quotes only."""
    return instrument.by_last or instrument.calc_mode in money.EXCHANGE_TRADED


def tick_row(desk: Desk) -> list[Any]:
    quote = desk.quote
    at = desk.house.clock.to_server(quote.time_ms)
    flags = mt5.TICK_FLAG_BID | mt5.TICK_FLAG_ASK
    if not traded(desk.instrument):
        return [at // 1000, quote.bid, quote.ask, 0.0, 0, at, flags, 0.0]
    lots = desk.instrument.volume_min
    return [at // 1000, quote.bid, quote.ask, quote.last, int(lots), at, flags | TRADE_FLAGS, lots]


def book_rows(desk: Desk) -> list[list[Any]]:
    """Market depth: sells first, then buys, both by descending price."""
    instrument, quote = desk.instrument, desk.quote
    if not instrument.book_depth or not quote.bid:
        return []
    lots = instrument.book_lots
    step, digits = instrument.step, instrument.digits
    sells = [
        [mt5.BOOK_TYPE_SELL, round(quote.ask + depth * step, digits), int(lots), lots]
        for depth in reversed(range(instrument.book_depth))
    ]
    buys = [
        [mt5.BOOK_TYPE_BUY, round(quote.bid - depth * step, digits), int(lots), lots]
        for depth in range(instrument.book_depth)
    ]
    return sells + buys


def symbol_row(book: Book, desk: Desk) -> list[Any]:
    instrument, quote = desk.instrument, desk.quote
    at = desk.house.clock.to_server(quote.time_ms) // 1000
    selected = instrument.name in book.watch
    gain, loss = _tick_values(book, desk)
    values = {
        **SYMBOL_DEFAULTS,
        "select": selected,
        "visible": selected,
        "time": at if selected else 0,
        "digits": instrument.digits,
        "spread": round((quote.ask - quote.bid) / instrument.point) if selected else 0,
        "spread_float": not instrument.spread,
        "ticks_bookdepth": instrument.book_depth,
        "trade_calc_mode": instrument.calc_mode,
        "trade_mode": instrument.trade_mode,
        "trade_stops_level": instrument.stops_level,
        "trade_freeze_level": instrument.freeze_level,
        "trade_exemode": instrument.exemode,
        "swap_mode": instrument.swap_mode,
        "swap_rollover3days": max(instrument.swap_rollover3, 0),
        "margin_hedged_use_leg": instrument.margin_use_leg,
        "expiration_mode": instrument.expiration,
        "filling_mode": 3 if instrument.filling_lies else instrument.filling,
        "order_mode": instrument.order_mode,
        "order_gtc_mode": instrument.gtc_mode,
        "chart_mode": instrument.chart_mode,
        "start_time": moment_s(instrument.starts),
        "expiration_time": moment_s(instrument.expires),
        "point": instrument.point,
        "trade_tick_value": gain,
        "trade_tick_value_profit": gain,
        "trade_tick_value_loss": loss,
        "trade_tick_size": instrument.step,
        "trade_contract_size": instrument.contract_size,
        "trade_face_value": instrument.face_value,
        "trade_accrued_interest": instrument.accrued_interest,
        "trade_liquidity_rate": instrument.liquidity_rate,
        "volume_min": instrument.volume_min,
        "volume_max": instrument.volume_max,
        "volume_step": instrument.volume_step,
        "volume_limit": instrument.volume_limit,
        "swap_long": instrument.swap_long,
        "swap_short": instrument.swap_short,
        "margin_initial": instrument.margin_initial,
        "margin_maintenance": instrument.margin_maintenance,
        "margin_hedged": instrument.contract_size
        if instrument.margin_hedged < 0
        else instrument.margin_hedged,
        "session_open": quote.open,
        "currency_base": instrument.base,
        "currency_profit": instrument.profit,
        "currency_margin": instrument.margin,
        "description": instrument.description,
        "name": instrument.name,
        "path": f"{instrument.path}\\{instrument.name}",
    }
    if selected:
        values |= {
            "bid": quote.bid, "ask": quote.ask, "bidhigh": quote.high, "bidlow": quote.low,
            "askhigh": quote.ask_high, "asklow": quote.ask_low,
            "last": quote.last if traded(instrument) else 0.0,
            "price_change": round((quote.bid / quote.open - 1) * 100, 4) if quote.open else 0.0,
        }  # fmt: skip
    return [values[name] for name, _ in SYMBOL_FIELDS]


def _tick_values(book: Book, desk: Desk) -> tuple[float, float]:
    """One tick of one lot in the account's currency, as a profit and as a loss."""
    instrument, quote = desk.instrument, desk.quote
    if not quote.bid:
        return 0.0, 0.0
    currency, pairs = book.account.currency, book.house.pairs
    try:
        gain = money.profit(instrument, 0, 1.0, quote.bid - instrument.step, quote.bid, currency, pairs)
        loss = -money.profit(instrument, 0, 1.0, quote.bid, quote.bid - instrument.step, currency, pairs)
    except money.NoRate:
        return 0.0, 0.0
    return round(gain, 10), round(loss, 10)
