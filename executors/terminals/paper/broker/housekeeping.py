"""What the server does by the clock and not by ticks: pending orders expire, days roll over with swap, late fills come.

Precedes: the ledger. Follows: the server's loop, a few times a second. Each house has its own midnight.
"""

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.broker import fills, money
from executors.terminals.paper.broker.broker import Broker
from executors.terminals.paper.broker.model import Order, Position
from executors.terminals.paper.broker.personalities import Instrument
from executors.terminals.paper.broker.sessions import has_expired
from executors.terminals.paper.broker.state import Book, Desk, House

DAY_S = 86_400
DAYS_OF_YEAR = 360  # as interest is counted
REOPENING = (mt5.SYMBOL_SWAP_MODE_REOPEN_CURRENT, mt5.SYMBOL_SWAP_MODE_REOPEN_BID)
WEEKEND = (mt5.DAY_OF_WEEK_SATURDAY, mt5.DAY_OF_WEEK_SUNDAY)
DAILY, DAILY_NO_STOPS = mt5.SYMBOL_ORDERS_DAILY, mt5.SYMBOL_ORDERS_DAILY_NO_STOPS


class Housekeeping:
    def __init__(self, broker: Broker) -> None:
        self._state = broker.state
        self._triggers = broker.engine.triggers

    def run(self, now_ms: int) -> None:
        for key, house in self._state.houses.items():
            server_s = house.clock.to_server(now_ms) // 1000
            self._expire(house, server_s, now_ms)
            self._roll(key, house, server_s // DAY_S, now_ms)
        self._state.commit(now_ms)

    # --- Expiry ------------------------------------------------------------------------------------------------------

    def _expire(self, house: House, server_s: int, now_ms: int) -> None:
        comment = house.personality.expiry_comment or None
        for desk in house.desks.values():
            ended = has_expired(desk.instrument, server_s * 1000)
            for book, order in list(desk.orders.values()):
                if ended or _is_over(order, server_s):
                    self._triggers.end_order(book, order, mt5.ORDER_STATE_EXPIRED, now_ms, comment)
            if ended:
                self._settle(desk, now_ms)

    def _settle(self, desk: Desk, now_ms: int) -> None:
        """A contract that has ended: its positions are closed at the last price."""
        for book, position in list(desk.positions.values()):
            price = desk.quote.bid if position.type == 0 else desk.quote.ask
            self._triggers.close_out(
                book, desk, position, price, now_ms, mt5.DEAL_REASON_CLIENT, "expiration"
            )

    # --- The end of the server's day ---------------------------------------------------------------------------------

    def _roll(self, key: str, house: House, today: int, now_ms: int) -> None:
        """Swap for every night that has passed, also while the broker was down."""
        mark = f"day:{key}"
        last = self._state.marks.get(mark)
        if last == today:
            return
        for day in range(last if last is not None else today, today):
            weekday = (day + 4) % 7  # the epoch began on a Thursday
            for desk in house.desks.values():
                self._charge(desk, weekday, now_ms)
                self._clear(desk, now_ms)
        self._state.put_mark(mark, today)
        self._state.commit(now_ms)

    def _charge(self, desk: Desk, weekday: int, now_ms: int) -> None:
        """`weekday`: of the day that ended."""
        nights = swap_nights(desk.instrument, weekday)
        if not nights or not desk.instrument.swap_mode:
            return
        for book, position in list(desk.positions.values()):
            if desk.instrument.swap_mode in REOPENING:
                self._reopen(book, desk, position, nights, now_ms)
                continue
            amount = swap_of(book, desk, position) * nights
            if charged := book.money(amount):
                position.swap = book.money(position.swap + charged)
                self._state.put_position(position)

    def _reopen(self, book: Book, desk: Desk, position: Position, nights: int, now_ms: int) -> None:
        """The position is closed at the current price and opened again, swap points away: new ticket, same identifier."""
        instrument, quote = desk.instrument, desk.quote
        bid_only = instrument.swap_mode == mt5.SYMBOL_SWAP_MODE_REOPEN_BID
        price = quote.bid if position.type == 0 or bid_only else quote.ask
        points = (
            (instrument.swap_long if position.type == 0 else instrument.swap_short)
            * nights
            * instrument.point
        )
        again = round(price - points if position.type == 0 else price + points, instrument.digits)
        sl, tp, volume, comment = position.sl, position.tp, position.volume, position.comment
        opened, magic, identifier = position.time_ms, position.magic, position.identifier
        reason = mt5.DEAL_REASON_ROLLOVER
        self._triggers.close_out(book, desk, position, price, now_ms, reason, "rollover")
        order = Order(
            login=position.login,
            ticket=self._state.next_order(),
            symbol=position.symbol,
            type=position.type,
            state=mt5.ORDER_STATE_FILLED,
            magic=magic,
            position_id=identifier,
            position_by_id=0,
            reason=reason,
            volume_initial=volume,
            volume_current=0.0,
            price_open=again,
            price_current=price,
            price_stoplimit=0.0,
            sl=sl,
            tp=tp,
            type_filling=0,
            type_time=0,
            expiration_s=0,
            comment=comment,
            setup_ms=now_ms,
            done_ms=now_ms,
        )
        fills.fill(self._state, book, desk, order, volume, again, now_ms, identifier=identifier)
        book.positions[order.ticket].time_ms = opened
        self._state.put_position(book.positions[order.ticket])
        self._state.put_order(order)
        self._state.commit(now_ms)

    def _clear(self, desk: Desk, now_ms: int) -> None:
        """Symbols whose orders, or orders and stop levels, live one day."""
        mode = desk.instrument.gtc_mode
        if mode not in (DAILY, DAILY_NO_STOPS):
            return
        for book, order in list(desk.orders.values()):
            self._triggers.end_order(book, order, mt5.ORDER_STATE_CANCELED, now_ms)
        if mode == DAILY:
            for _, position in list(desk.positions.values()):
                if position.sl or position.tp:
                    position.sl = position.tp = 0.0
                    self._state.put_position(position)


def _is_over(order: Order, server_s: int) -> bool:
    match order.type_time:
        case mt5.ORDER_TIME_DAY:
            return server_s // DAY_S * DAY_S > order.expiration_s
        case mt5.ORDER_TIME_SPECIFIED:
            return server_s >= order.expiration_s
        case mt5.ORDER_TIME_SPECIFIED_DAY:
            return server_s // DAY_S > order.expiration_s // DAY_S
    return False


def swap_nights(instrument: Instrument, weekday: int) -> int:
    """How many nights are charged at the end of that day: three on one weekday, none at weekends; or always one."""
    if instrument.swap_rollover3 < 0:
        return 1
    if weekday in WEEKEND:
        return 0
    return 3 if weekday == instrument.swap_rollover3 else 1


def swap_of(book: Book, desk: Desk, position: Position) -> float:
    """One night's swap in the account's currency, not rounded."""
    instrument, account, pairs = desk.instrument, book.account, book.house.pairs
    rate = instrument.swap_long if position.type == 0 else instrument.swap_short
    price = desk.quote.bid if position.type == 0 else desk.quote.ask
    lots = position.volume
    match instrument.swap_mode:
        case mt5.SYMBOL_SWAP_MODE_POINTS:
            amount, currency = lots * rate * instrument.point * instrument.contract_size, instrument.profit
        case mt5.SYMBOL_SWAP_MODE_CURRENCY_SYMBOL:
            amount, currency = lots * rate, instrument.base
        case mt5.SYMBOL_SWAP_MODE_CURRENCY_MARGIN:
            amount, currency = lots * rate, instrument.margin
        case mt5.SYMBOL_SWAP_MODE_CURRENCY_DEPOSIT:
            amount, currency = lots * rate, account.currency
        case mt5.SYMBOL_SWAP_MODE_INTEREST_CURRENT | mt5.SYMBOL_SWAP_MODE_INTEREST_OPEN:
            current = instrument.swap_mode == mt5.SYMBOL_SWAP_MODE_INTEREST_CURRENT
            worth = (price if current else position.price_open) * instrument.contract_size * lots
            amount, currency = worth * rate / 100 / DAYS_OF_YEAR, instrument.profit
        case _:
            return 0.0
    try:
        return money.convert(amount, currency, account.currency, pairs)
    except money.NoRate:
        return 0.0
