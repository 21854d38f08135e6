"""Pure: may this request be done? The terminal's own checks (`order_check`) in MetaTrader's order; first failure wins.

Precedes: the engine's execution. Follows: the request as parsed. MT5's return codes; 0 means that it may. What only
the server knows (sessions, busy orders, faults) is checked in `engine.py`.
"""

import math
from dataclasses import dataclass

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.broker import model, money
from executors.terminals.paper.broker.exposure import Exposure, Part
from executors.terminals.paper.broker.model import Order, Position, Request
from executors.terminals.paper.broker.personalities import Instrument
from executors.terminals.paper.broker.state import BUY_TYPES, Book, Desk, State

REQUEST, INSTANT, MARKET, EXCHANGE = 0, 1, 2, 3  # SYMBOL_TRADE_EXECUTION_*
ACTIONS = (1, 5, 6, 7, 8, 10)
LIMITS, STOPS, STOP_LIMITS = frozenset({2, 3}), frozenset({4, 5}), frozenset({6, 7})
HEDGE_PROHIBITED = 10046  # the package has no name for it
OK = 0


@dataclass(slots=True)
class Case:
    """A request with what it names."""

    book: Book
    desk: Desk
    request: Request
    position: Position | None = None
    by: Position | None = None
    order: Order | None = None

    @property
    def closing(self) -> bool:
        return self.position is not None and self.request.action == mt5.TRADE_ACTION_DEAL


def resolve(book: Book, request: Request) -> tuple[int, Case | None]:
    """Steps 6 to 8: what is named exists."""
    action = request.action
    if action not in ACTIONS:
        return mt5.TRADE_RETCODE_INVALID, None
    order = position = by = None
    symbol = request.symbol
    if action in (mt5.TRADE_ACTION_MODIFY, mt5.TRADE_ACTION_REMOVE):
        order = book.orders.get(request.order)
        if order is None:
            return book.house.personality.unknown_order, None
        symbol = order.symbol
    elif action == mt5.TRADE_ACTION_CLOSE_BY:
        position, by = book.positions.get(request.position), book.positions.get(request.position_by)
        if position is None or by is None:
            return mt5.TRADE_RETCODE_POSITION_CLOSED, None
        symbol = position.symbol
        if not book.account.hedging or by.symbol != symbol or by.type == position.type:
            return mt5.TRADE_RETCODE_INVALID, None
    elif request.position and action in (mt5.TRADE_ACTION_DEAL, mt5.TRADE_ACTION_SLTP):
        position = book.positions.get(request.position)
        if position is None:
            return mt5.TRADE_RETCODE_POSITION_CLOSED, None
        if symbol and symbol != position.symbol:
            return mt5.TRADE_RETCODE_INVALID, None
        symbol = position.symbol
    elif action == mt5.TRADE_ACTION_SLTP:
        if symbol not in book.house.desks:
            return book.house.personality.unknown_symbol, None
        if not book.account.hedging:
            position = next(iter(book.by_symbol.get(symbol, {}).values()), None)
        if position is None:
            return (
                mt5.TRADE_RETCODE_INVALID if book.account.hedging else mt5.TRADE_RETCODE_POSITION_CLOSED,
                None,
            )
    desk = book.house.desks.get(symbol)
    if desk is None:
        return book.house.personality.unknown_symbol, None
    return OK, Case(book, desk, request, position, by, order)


def check(state: State, book: Book, request: Request, now_ms: int) -> tuple[int, Case | None]:
    """What the terminal itself refuses, after its switches (`session.py`). Retcode 0 and the case, or a retcode."""
    retcode, case = resolve(book, request)
    if case is None:
        return retcode, None
    if not case.desk.quote.bid or not book.sees(case.desk.instrument.name, now_ms):
        return mt5.TRADE_RETCODE_PRICE_OFF, None
    retcode = (
        _trade_mode(case)
        or _order_type(case)
        or _volume(case)
        or _filling(case)
        or _expiration(case, book.house.clock.to_server(now_ms) // 1000)
        or _price(case)
        or _stops(case)
        or _frozen(case)
        or _changes(case)
        or _limits(case)
        or _funds(state, case)
    )
    return retcode, case


def _netted_close(case: Case) -> bool:
    """On a netting account an opposite deal no larger than the position closes it, whether or not it is named."""
    book, request = case.book, case.request
    if book.account.hedging or request.action != mt5.TRADE_ACTION_DEAL:
        return False
    held = next(iter(book.by_symbol.get(case.desk.instrument.name, {}).values()), None)
    return held is not None and held.type != request.type and request.volume <= held.volume + 1e-9


def _trade_mode(case: Case) -> int:
    mode = case.desk.instrument.trade_mode
    if mode == mt5.SYMBOL_TRADE_MODE_DISABLED:
        return mt5.TRADE_RETCODE_TRADE_DISABLED
    if not opens(case) or mode == mt5.SYMBOL_TRADE_MODE_FULL:
        return OK
    buy = case.request.type in BUY_TYPES
    if mode == mt5.SYMBOL_TRADE_MODE_CLOSEONLY:
        return mt5.TRADE_RETCODE_CLOSE_ONLY
    if mode == mt5.SYMBOL_TRADE_MODE_LONGONLY and not buy:
        return mt5.TRADE_RETCODE_LONG_ONLY
    if mode == mt5.SYMBOL_TRADE_MODE_SHORTONLY and buy:
        return mt5.TRADE_RETCODE_SHORT_ONLY
    return OK


def _order_type(case: Case) -> int:
    request, allowed = case.request, case.desk.instrument.order_mode
    if request.action == mt5.TRADE_ACTION_DEAL:
        if request.type not in (0, 1):
            return case.book.house.personality.wrong_type
        if not allowed & model.MAY_MARKET:
            return mt5.TRADE_RETCODE_INVALID_ORDER
        if case.position is not None and case.book.account.hedging and request.type == case.position.type:
            return mt5.TRADE_RETCODE_INVALID
    elif request.action == mt5.TRADE_ACTION_PENDING:
        if not 2 <= request.type <= 7:
            return case.book.house.personality.wrong_type
        if not allowed & (1 << (request.type // 2)):
            return mt5.TRADE_RETCODE_INVALID_ORDER
    elif request.action == mt5.TRADE_ACTION_CLOSE_BY and not allowed & model.MAY_CLOSE_BY:
        return mt5.TRADE_RETCODE_INVALID_ORDER
    if request.action in (1, 5, 6, 7) and not case.closing:
        barred = (request.sl and not allowed & model.MAY_SL) or (request.tp and not allowed & model.MAY_TP)
        if barred:
            return case.book.house.personality.barred_stops
    return OK


def _volume(case: Case) -> int:
    request, instrument = case.request, case.desk.instrument
    if request.action not in (mt5.TRADE_ACTION_DEAL, mt5.TRADE_ACTION_PENDING):
        return OK
    steps = request.volume / instrument.volume_step
    if (
        not request.volume > 0  # false for nan too
        or request.volume < instrument.volume_min - 1e-9
        or request.volume > instrument.volume_max + 1e-9
        or abs(steps - round(steps)) > 1e-6
    ):
        return mt5.TRADE_RETCODE_INVALID_VOLUME
    held = case.position if case.closing and case.book.account.hedging else None
    if held is not None and request.volume > held.volume + 1e-9:
        return mt5.TRADE_RETCODE_INVALID_CLOSE_VOLUME
    return OK


def _filling(case: Case) -> int:
    request, instrument = case.request, case.desk.instrument
    policy, mask, mode = request.type_filling, instrument.filling, instrument.exemode
    allowed = policy in (mt5.ORDER_FILLING_FOK, mt5.ORDER_FILLING_IOC) and bool(mask & (1 << policy))
    if request.action == mt5.TRADE_ACTION_DEAL:
        if mode in (REQUEST, INSTANT):
            allowed = policy in (mt5.ORDER_FILLING_FOK, mt5.ORDER_FILLING_IOC, mt5.ORDER_FILLING_RETURN)
        elif mode == EXCHANGE:
            allowed = allowed or policy == mt5.ORDER_FILLING_RETURN
        return OK if allowed else mt5.TRADE_RETCODE_INVALID_FILL
    if request.action == mt5.TRADE_ACTION_PENDING:
        if policy == mt5.ORDER_FILLING_BOC:
            allowed = bool(mask & model.FILL_BOC) and request.type in LIMITS | STOP_LIMITS
        else:
            kept = case.book.house.personality.pending_filling
            allowed = kept == "any" or (kept == "mask" and (allowed or mode in (REQUEST, INSTANT)))
        return OK if allowed or policy == mt5.ORDER_FILLING_RETURN else mt5.TRADE_RETCODE_INVALID_FILL
    return OK


def _expiration(case: Case, server_s: int) -> int:
    request = case.request
    if request.action not in (mt5.TRADE_ACTION_PENDING, mt5.TRADE_ACTION_MODIFY):
        return OK
    kind = request.type_time
    if not 0 <= kind <= 3 or not case.desk.instrument.expiration & (1 << kind):
        return mt5.TRADE_RETCODE_INVALID_EXPIRATION
    if kind == mt5.ORDER_TIME_SPECIFIED and request.expiration <= server_s:
        return mt5.TRADE_RETCODE_INVALID_EXPIRATION
    if kind == mt5.ORDER_TIME_SPECIFIED_DAY and request.expiration // 86_400 < server_s // 86_400:
        return mt5.TRADE_RETCODE_INVALID_EXPIRATION
    return OK


def off_grid(price: float, instrument: Instrument) -> bool:
    if not math.isfinite(price):
        return True
    steps = price / instrument.step
    return abs(steps - round(steps)) > 1e-4


def _price(case: Case) -> int:
    request, instrument, quote = case.request, case.desk.instrument, case.desk.quote
    if request.action == mt5.TRADE_ACTION_DEAL:
        # beyond the deviation is the server's matter: 10004
        needed = instrument.exemode in (REQUEST, INSTANT)
        sound = 0 < request.price < math.inf
        return mt5.TRADE_RETCODE_INVALID_PRICE if needed and not sound else OK
    if request.action == mt5.TRADE_ACTION_PENDING:
        kind = request.type
    elif request.action == mt5.TRADE_ACTION_MODIFY and case.order is not None:
        kind = case.order.type
    else:
        return OK
    price, limit = request.price, request.stoplimit
    if not price > 0 or off_grid(price, instrument):
        return mt5.TRADE_RETCODE_INVALID_PRICE
    gap = instrument.stops_level * instrument.point - 1e-9
    buy = kind in BUY_TYPES
    market = quote.ask if buy else quote.bid
    if kind in LIMITS:
        if instrument.exemode == EXCHANGE and request.type_filling != mt5.ORDER_FILLING_BOC:
            return OK  # marketable: it simply fills
        distance = market - price if buy else price - market
        if distance <= 0 or distance < gap:
            crossing = request.type_filling == mt5.ORDER_FILLING_BOC
            return case.book.house.personality.boc_crossing if crossing else mt5.TRADE_RETCODE_INVALID_PRICE
        return OK
    distance = price - market if buy else market - price
    if distance < gap or distance < -1e-9:
        return mt5.TRADE_RETCODE_INVALID_PRICE
    if kind in STOP_LIMITS:
        below = price - limit if buy else limit - price
        if not limit > 0 or off_grid(limit, instrument) or below <= 0 or below < gap:
            return mt5.TRADE_RETCODE_INVALID_PRICE
    return OK


def _stops(case: Case) -> int:
    request, instrument, quote = case.request, case.desk.instrument, case.desk.quote
    action = request.action
    if action not in (1, 5, 6, 7) or case.closing or not (request.sl or request.tp):
        return OK
    if action == mt5.TRADE_ACTION_DEAL and not instrument.sltp_at_open:
        return mt5.TRADE_RETCODE_INVALID_STOPS
    if action in (mt5.TRADE_ACTION_PENDING, mt5.TRADE_ACTION_MODIFY):
        kind = request.type if case.order is None else case.order.type
        buy = kind in BUY_TYPES
        reference = request.stoplimit if kind in STOP_LIMITS else request.price
    else:
        buy = (request.type if case.position is None else case.position.type) == 0
        reference = quote.bid if buy else quote.ask
    return stops_fit(instrument, buy, reference, request.sl, request.tp)


def stops_fit(instrument: Instrument, buy: bool, reference: float, sl: float, tp: float) -> int:
    gap = instrument.stops_level * instrument.point - 1e-9
    for level, below in ((sl, buy), (tp, not buy)):
        if not level:
            continue
        distance = reference - level if below else level - reference
        if not level > 0 or off_grid(level, instrument) or distance < gap or distance < 1e-9:
            return mt5.TRADE_RETCODE_INVALID_STOPS
    return OK


def _frozen(case: Case) -> int:
    instrument, quote, request = case.desk.instrument, case.desk.quote, case.request
    band = instrument.freeze_level * instrument.point - 1e-9
    if instrument.freeze_level <= 0:
        return OK
    if case.order is not None:
        market = quote.ask if case.order.type in BUY_TYPES else quote.bid
        return mt5.TRADE_RETCODE_FROZEN if abs(case.order.price_open - market) < band else OK
    held = [item for item in (case.position, case.by) if item is not None]
    if request.action in (1, 6, 10):
        for position in held:
            market = quote.bid if position.type == 0 else quote.ask
            if any(level and abs(level - market) < band for level in (position.sl, position.tp)):
                return mt5.TRADE_RETCODE_FROZEN
    return OK


def _changes(case: Case) -> int:
    request = case.request
    if request.action == mt5.TRADE_ACTION_SLTP and (position := case.position) is not None:
        same = (position.sl, position.tp) == (request.sl, request.tp)
        return mt5.TRADE_RETCODE_NO_CHANGES if same else OK
    if request.action == mt5.TRADE_ACTION_MODIFY and (order := case.order) is not None:
        known = (order.price_open, order.sl, order.tp, order.price_stoplimit, order.type_time)
        asked = (request.price, request.sl, request.tp, request.stoplimit, request.type_time)
        timed = request.type_time in (mt5.ORDER_TIME_SPECIFIED, mt5.ORDER_TIME_SPECIFIED_DAY)
        if known == asked and (not timed or order.expiration_s == request.expiration):
            return mt5.TRADE_RETCODE_NO_CHANGES
    return OK


def opens(case: Case) -> bool:
    """Would it add to a position, or may it later?"""
    action = case.request.action
    if action == mt5.TRADE_ACTION_DEAL:
        return not case.closing and not _netted_close(case)
    return action == mt5.TRADE_ACTION_PENDING


def _limits(case: Case) -> int:
    request, book = case.request, case.book
    instrument, symbol = case.desk.instrument, case.desk.instrument.name
    most = book.house.personality.limit_orders
    if request.action == mt5.TRADE_ACTION_PENDING and 0 < most <= len(book.orders):
        return mt5.TRADE_RETCODE_LIMIT_ORDERS
    if not instrument.volume_limit or not opens(case):
        return OK
    side = 0 if request.type in BUY_TYPES else 1
    against = 0.0 if book.account.hedging else -1.0
    held = sum(
        item.volume * (1.0 if item.type == side else against)
        for item in book.by_symbol.get(symbol, {}).values()
    )
    waiting = sum(
        item.volume_current
        for item in book.orders.values()
        if item.symbol == symbol and (item.type in BUY_TYPES) == (side == 0)
    )
    too_much = held + waiting + request.volume > instrument.volume_limit + 1e-9
    return mt5.TRADE_RETCODE_LIMIT_VOLUME if too_much else OK


def server_limits(case: Case) -> int:
    """What only the server knows of an account: position count, no opposite positions, first in first out."""
    request, book, house = case.request, case.book, case.book.house.personality
    group = book.by_symbol.get(case.desk.instrument.name, {}).values()
    if case.closing and house.fifo_close and book.account.hedging:
        oldest = min(group, key=lambda item: (item.time_ms, item.ticket))
        return OK if oldest is case.position else mt5.TRADE_RETCODE_FIFO_CLOSE
    if not opens(case):
        return OK
    if request.action == mt5.TRADE_ACTION_DEAL and 0 < house.limit_positions <= len(book.positions):
        return mt5.TRADE_RETCODE_LIMIT_POSITIONS
    side = 0 if request.type in BUY_TYPES else 1
    if house.no_hedging and book.account.hedging and any(item.type != side for item in group):
        return HEDGE_PROHIBITED
    return OK


@dataclass(slots=True)
class After:
    """The account as it would be."""

    margin: float
    equity: float
    margin_free: float


def after(state: State, case: Case) -> After:
    """Margin and equity after the request at current prices; unchanged for what opens nothing."""
    book, request, symbol = case.book, case.request, case.desk.instrument.name
    exposure = book.exposures[symbol].sums() if symbol in book.exposures else Exposure()
    if request.action == mt5.TRADE_ACTION_DEAL:
        _try(state, case, exposure)
    others = sum(margin for name, margin in book.margins.items() if name != symbol)
    margin = others + state.symbol_margin(book, symbol, exposure)
    if request.action == mt5.TRADE_ACTION_PENDING and book.account.margin_mode == model.EXCHANGE:
        side = 0 if request.type in BUY_TYPES else 1
        margin += state.part_of(book, symbol, side, request.volume, request.price).margin
    equity = state.equity(book)
    counted = equity
    if not book.house.personality.margin_free_profit:
        counted = min(equity, book.account.balance + book.account.credit)
    return After(book.money(margin), equity, book.money(counted - margin))


def _try(state: State, case: Case, exposure: Exposure) -> None:
    """Does the market order to a copy of the symbol's sums."""
    book, request, symbol = case.book, case.request, case.desk.instrument.name
    price = case.desk.quote.ask if request.type == 0 else case.desk.quote.bid

    def part(side: int, lots: float, at: float) -> Part:
        return state.part_of(book, symbol, side, lots, at)

    held = case.position
    if held is None and not book.account.hedging:
        held = next(iter(book.by_symbol.get(symbol, {}).values()), None)
    if held is None or held.type == request.type:
        exposure.add(part(request.type, request.volume, price), 1)
        return
    exposure.add(book.exposures[symbol].parts[held.ticket], -1)
    left = round(held.volume - request.volume, 8)
    if left > 0:
        exposure.add(part(held.type, left, held.price_open), 1)
    elif left < 0:
        exposure.add(part(request.type, -left, price), 1)


def _funds(state: State, case: Case) -> int:
    pending = (
        case.request.action == mt5.TRADE_ACTION_PENDING and case.book.account.margin_mode == model.EXCHANGE
    )
    if not pending and (case.request.action != mt5.TRADE_ACTION_DEAL or not opens(case)):
        return OK
    request, instrument, account = case.request, case.desk.instrument, case.book.account
    side = 0 if request.type in BUY_TYPES else 1
    price = request.price or case.desk.quote.ask
    try:
        money.margin(
            instrument, side, request.volume, price, account.leverage, account.currency, case.book.house.pairs
        )
    except money.NoRate:
        return mt5.TRADE_RETCODE_PRICE_OFF
    return mt5.TRADE_RETCODE_NO_MONEY if after(state, case).margin_free < 0 else OK
