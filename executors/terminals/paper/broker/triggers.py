"""What a tick sets off: pending orders, stop-loss and take-profit, stop-out; and fills that were put off.

Precedes: fills and the ledger. Follows: the player (each tick of a symbol with positions or orders). What fires is one
transaction each.
"""

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.broker import depth, fills, money, rules
from executors.terminals.paper.broker.model import EXCHANGE as EXCHANGE_ACCOUNT
from executors.terminals.paper.broker.model import Deal, Order, Position, Request
from executors.terminals.paper.broker.rules import LIMITS, STOP_LIMITS, Case
from executors.terminals.paper.broker.state import BUY_TYPES, Book, Desk, State

EXPERT, BY_SL, BY_TP, BY_STOP_OUT = 3, 4, 5, 6  # ORDER_REASON_* and DEAL_REASON_*
NO_MONEY_COMMENT = "no money"


class Triggers:
    def __init__(self, state: State) -> None:
        self.state = state
        self.late: dict[
            int, tuple[int, Book, Desk]
        ] = {}  # by order ticket: when a fill that was put off is due

    def on_tick(self, desk: Desk, at_ms: int) -> None:
        """Pendings, then stop-loss and take-profit, then profits and stop-out."""
        for book, order in list(desk.orders.values()):
            self.watch_order(book, desk, order, at_ms)
        touched: dict[int, Book] = {}
        for book, position in list(desk.positions.values()):
            if not self._watch_position(book, desk, position, at_ms):
                book.profits[position.ticket] = self.state.floating(book, position)
            touched[book.account.login] = book
        if desk.house.personality.margin_at == "current":
            self.state.reprice(desk)
        for book in touched.values():
            if book.margin > 0:
                self._watch_margin(book, at_ms)

    def run_late(self, now_ms: int) -> None:
        """Fills whose time has come, without waiting for a tick."""
        for ticket, (due_ms, book, desk) in list(self.late.items()):
            if due_ms <= now_ms:
                del self.late[ticket]
                if (order := book.orders.get(ticket)) is not None:
                    self.watch_order(book, desk, order, now_ms)

    # --- Orders ------------------------------------------------------------------------------------------------------

    def watch_order(self, book: Book, desk: Desk, order: Order, at_ms: int) -> None:
        quote = desk.quote
        buy = order.type in BUY_TYPES
        market = quote.ask if buy else quote.bid
        seen = quote.last if desk.instrument.by_last else market
        if order.type in (0, 1):  # a market order whose fill was put off, or its rest on an exchange
            hit = order.ticket not in self.late
        elif order.type in LIMITS:
            hit = market <= order.price_open + 1e-9 if buy else market >= order.price_open - 1e-9
        else:
            hit = seen >= order.price_open - 1e-9 if buy else seen <= order.price_open + 1e-9
        if not hit:
            return
        if order.type in STOP_LIMITS:
            self._become_limit(book, desk, order, market, at_ms)
        else:
            self.fill_order(book, desk, order, market, at_ms)
        self.state.commit(at_ms)

    def _become_limit(self, book: Book, desk: Desk, order: Order, market: float, at_ms: int) -> None:
        """A stop-limit that is reached: a limit order of the same ticket, for the next tick to look at."""
        buy = order.type in BUY_TYPES
        order.type = mt5.ORDER_TYPE_BUY_LIMIT if buy else mt5.ORDER_TYPE_SELL_LIMIT
        order.price_open = order.price_stoplimit
        crosses = market <= order.price_open if buy else market >= order.price_open
        if order.type_filling == mt5.ORDER_FILLING_BOC and crosses:
            self.end_order(book, order, mt5.ORDER_STATE_CANCELED, at_ms)
            return
        if order.type_filling != mt5.ORDER_FILLING_BOC:
            order.type_filling = mt5.ORDER_FILLING_RETURN
        self.state.put_order(order)

    def fill_order(self, book: Book, desk: Desk, order: Order, price: float, at_ms: int) -> None:
        """Fills a waiting order at the market; what the market does not give is cancelled, or waits on (RETURN)."""
        target = None
        if order.position_id and order.type in (0, 1) and book.account.hedging:
            target = next(
                (item for item in book.positions.values() if item.identifier == order.position_id), None
            )
            if target is None and not order.volume_initial - order.volume_current:
                self.end_order(book, order, mt5.ORDER_STATE_REJECTED, at_ms)  # what it was to close is gone
                return
        if target is None and not self._affordable(book, desk, order):
            self.end_order(book, order, mt5.ORDER_STATE_REJECTED, at_ms, NO_MONEY_COMMENT)
            return
        limit = order.price_open if order.type in LIMITS else None
        if limit is not None and not book.house.personality.limit_improves:
            price = limit
        wanted = min(order.volume_current, target.volume) if target is not None else order.volume_current
        found = depth.levels(desk.instrument, order.type in BUY_TYPES, price, wanted, limit)
        filled = depth.total(found)
        if filled < wanted and order.type_filling == mt5.ORDER_FILLING_FOK:
            found, filled = [], 0.0
        for at, lots in found:
            fills.fill(self.state, book, desk, order, lots, at, at_ms, target=target)
        order.volume_current = round(order.volume_current - filled, 8)
        order.price_current = price
        if not order.volume_current:
            self.end_order(book, order, mt5.ORDER_STATE_FILLED, at_ms)
        elif order.type_filling in (mt5.ORDER_FILLING_RETURN, mt5.ORDER_FILLING_BOC):
            order.state = mt5.ORDER_STATE_PARTIAL if filled else order.state
            self.state.put_order(order)
        else:
            self.end_order(book, order, mt5.ORDER_STATE_CANCELED, at_ms)

    def end_order(
        self, book: Book, order: Order, state: int, now_ms: int, comment: str | None = None
    ) -> None:
        order.state, order.done_ms = state, now_ms
        if comment is not None:
            order.comment = comment
        self.state.put_order(order)

    def _affordable(self, book: Book, desk: Desk, order: Order) -> bool:
        side = 0 if order.type in BUY_TYPES else 1
        request = Request(mt5.TRADE_ACTION_DEAL, symbol=order.symbol, volume=order.volume_current, type=side)
        free = 0.0
        if book.account.margin_mode == EXCHANGE_ACCOUNT:
            free = self.state.order_margin(book, desk, order)  # bound already
        try:
            return rules.after(self.state, Case(book, desk, request)).margin_free + free >= 0
        except money.NoRate:
            return False

    # --- Positions ---------------------------------------------------------------------------------------------------

    def _watch_position(self, book: Book, desk: Desk, position: Position, at_ms: int) -> bool:
        if not position.sl and not position.tp:
            return False
        buy = position.type == 0
        price = desk.quote.bid if buy else desk.quote.ask
        seen = desk.quote.last if desk.instrument.by_last else price
        stopped = position.sl and (seen <= position.sl + 1e-9 if buy else seen >= position.sl - 1e-9)
        taken = position.tp and (seen >= position.tp - 1e-9 if buy else seen <= position.tp + 1e-9)
        if not stopped and not taken:
            return False
        reason, level, name = (BY_SL, position.sl, "sl") if stopped else (BY_TP, position.tp, "tp")
        text = f"[{name} {level:.{desk.instrument.digits}f}]"
        self.close_out(book, desk, position, price, at_ms, reason, text)
        return True

    def close_out(
        self, book: Book, desk: Desk, position: Position, price: float, at_ms: int, reason: int, text: str
    ) -> Deal:
        """The broker itself ends a position: stop-loss, take-profit, stop-out, or an outside hand."""
        order = Order(
            login=position.login,
            ticket=self.state.next_order(),
            symbol=position.symbol,
            type=1 - position.type,
            state=mt5.ORDER_STATE_FILLED,
            magic=0 if reason == mt5.DEAL_REASON_CLIENT else position.magic,  # a hand leaves none
            position_id=position.identifier,
            position_by_id=0,
            reason=reason,
            volume_initial=position.volume,
            volume_current=0.0,
            price_open=price,
            price_current=price,
            price_stoplimit=0.0,
            sl=0.0,
            tp=0.0,
            type_filling=mt5.ORDER_FILLING_FOK,
            type_time=mt5.ORDER_TIME_GTC,
            expiration_s=0,
            comment=text,
            setup_ms=at_ms,
            done_ms=at_ms,
        )
        deal = fills.fill(self.state, book, desk, order, position.volume, price, at_ms, target=position)
        self.state.put_order(order)
        self.state.commit(at_ms)
        return deal

    # --- Margin ------------------------------------------------------------------------------------------------------

    def margin_level(self, book: Book) -> float:
        """What is compared with the broker's thresholds: percent, or money."""
        equity = self.state.equity(book)
        if book.house.personality.so_mode:
            return equity
        return equity / book.margin * 100 if book.margin else 0.0

    def _watch_margin(self, book: Book, at_ms: int) -> None:
        """Stop-out: orders that bind margin go first, then the worst position, until the level is above."""
        house = book.house.personality
        while book.margin > 0 and house.stop_out:
            level = self.margin_level(book)
            if level > house.stop_out:
                return
            if book.account.margin_mode == EXCHANGE_ACCOUNT and book.orders:
                largest = max(book.orders.values(), key=lambda item: item.volume_current * item.price_open)
                self.end_order(book, largest, mt5.ORDER_STATE_CANCELED, at_ms)
                self.state.commit(at_ms)
                continue
            if not book.positions:
                return
            position = book.positions[min(book.profits, key=lambda item: book.profits[item])]
            desk = book.house.desks[position.symbol]
            price = desk.quote.bid if position.type == 0 else desk.quote.ask
            text = house.stop_out_comment.format(level=level)
            text = text if house.so_mode == 0 else text.replace("%", "")
            self.close_out(book, desk, position, price, at_ms, BY_STOP_OUT, text)
        if house.negative_protection and not book.positions and book.account.balance < 0:
            self.correct(book, at_ms)

    def correct(self, book: Book, at_ms: int) -> None:
        """Negative balance protection: a correction brings the balance to zero."""
        self.state.put_money(
            book, -book.account.balance, mt5.DEAL_TYPE_CORRECTION, "Negative balance protection", at_ms
        )
        self.state.commit(at_ms)
