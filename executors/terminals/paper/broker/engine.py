"""The trade server: requests in, orders and deals out; and what each tick triggers.

Precedes: fills and the ledger. Follows: sessions (requests), the market (ticks). Everything happens in one thread; each
request and each trigger is one transaction.
"""

from collections.abc import Callable
from dataclasses import dataclass

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.broker import fills, money, rules
from executors.terminals.paper.broker.model import Deal, Order, Position, Reply, Request
from executors.terminals.paper.broker.rules import BUYS, EXCHANGE, INSTANT, LIMITS, REQUEST, STOP_LIMITS, Case
from executors.terminals.paper.broker.sessions import is_open
from executors.terminals.paper.broker.state import Book, Desk, State
from executors.terminals.paper.broker.texts import text_of

EXPERT, BY_SL, BY_TP, BY_STOP_OUT = 3, 4, 5, 6  # ORDER_REASON_* and DEAL_REASON_*
DONE, PARTLY = mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_DONE_PARTIAL


@dataclass(slots=True)
class Staging:
    """How one request is to be executed, where a fault or the broker's character bends it."""

    retcode: int = 0  # refuse with this
    fill_part: float = 1.0  # of the volume, IOC and RETURN; FOK is refused below 1
    slip_points: float = 0.0  # against the client
    blank: bool = False  # 10009 without deal, price and volume
    placed: bool = False  # 10008: the deal is told of later only


class Engine:
    def __init__(self, state: State, clock: Callable[[], int]) -> None:
        self.state = state
        self.clock = clock
        self.request_id = 0

    # --- Requests ----------------------------------------------------------------------------------------------------

    def refusal(self, retcode: int, case: Case | None = None, *, server: bool = False) -> Reply:
        """Local refusals are all zero; the server's carry a request id and, on price matters, the prices."""
        reply = Reply(retcode, text_of(retcode))
        if server:
            self.request_id += 1
            reply.request_id = self.request_id
            if case is not None and retcode in (mt5.TRADE_RETCODE_REQUOTE, mt5.TRADE_RETCODE_PRICE_CHANGED):
                reply.bid, reply.ask = case.desk.quote.bid, case.desk.quote.ask
        return reply

    def send(self, book: Book, request: Request, switches: rules.Switches, staging: Staging) -> Reply:
        now_ms = self.clock()
        retcode, case = rules.check(self.state, book, request, switches, now_ms)
        if retcode or case is None:
            return self.refusal(retcode)
        if retcode := self._server_checks(case, now_ms):
            return self.refusal(retcode, case, server=True)
        if staging.retcode:
            return self.refusal(staging.retcode, case, server=True)
        match request.action:
            case mt5.TRADE_ACTION_DEAL:
                reply = self._deal(case, staging, now_ms)
            case mt5.TRADE_ACTION_PENDING:
                reply = self._pending(case, staging, now_ms)
            case mt5.TRADE_ACTION_SLTP:
                reply = self._sltp(case)
            case mt5.TRADE_ACTION_MODIFY:
                reply = self._modify(case)
            case mt5.TRADE_ACTION_REMOVE:
                reply = self._remove(case, now_ms)
            case _:
                reply = self._close_by(case, now_ms)
        if reply.retcode in (DONE, PARTLY, mt5.TRADE_RETCODE_PLACED):
            fills.settle(self.state, book)
        self.state.commit(now_ms)
        return reply

    def _server_checks(self, case: Case, now_ms: int) -> int:
        book, house = case.book, case.book.house
        if limit := house.personality.rate_limit:
            book.sent_ms = [at for at in book.sent_ms if at > now_ms - 1000]
            if len(book.sent_ms) >= limit:
                return mt5.TRADE_RETCODE_TOO_MANY_REQUESTS
            book.sent_ms.append(now_ms)
        if case.request.action == mt5.TRADE_ACTION_REMOVE:
            return 0
        opened = is_open(case.desk.instrument, house.clock.to_server(now_ms))
        return 0 if opened else mt5.TRADE_RETCODE_MARKET_CLOSED

    def _order(self, case: Case, now_ms: int, **more: object) -> Order:
        request = case.request
        self.request_id += 1
        comment = fills.kept_comment(case.book.house.personality, request.comment)
        values = {
            "login": case.book.account.login, "ticket": self.state.next_order(), "symbol": case.desk.instrument.name,
            "type": request.type, "state": mt5.ORDER_STATE_PLACED, "magic": request.magic, "position_id": 0,
            "position_by_id": 0, "reason": EXPERT, "volume_initial": request.volume,
            "volume_current": request.volume, "price_open": request.price, "price_current": 0.0,
            "price_stoplimit": request.stoplimit, "sl": request.sl, "tp": request.tp,
            "type_filling": request.type_filling, "type_time": request.type_time,
            "expiration_s": request.expiration, "comment": comment, "setup_ms": now_ms, "request": self.request_id,
        }  # fmt: skip
        return Order(**{**values, **more})  # type: ignore[arg-type]

    def _deal(self, case: Case, staging: Staging, now_ms: int) -> Reply:
        request, desk = case.request, case.desk
        instrument, quote = desk.instrument, desk.quote
        buy = request.type == 0
        price = quote.ask if buy else quote.bid
        if instrument.exemode in (REQUEST, INSTANT):
            worse = price - request.price if buy else request.price - price
            if worse > request.deviation * instrument.point + 1e-9:
                return self.refusal(mt5.TRADE_RETCODE_REQUOTE, case, server=True)
            if worse < 0 and not case.book.house.personality.improve:
                price = round(request.price, instrument.digits)
        slip = round(staging.slip_points) * instrument.point
        price = round(price + (slip if buy else -slip), instrument.digits)
        volume = round(request.volume, 8)
        order = self._order(case, now_ms, price_open=price, sl=0.0 if case.closing else request.sl,
                            tp=0.0 if case.closing else request.tp)  # fmt: skip
        levels = self._levels(case, price, volume, staging)
        filled = round(sum(lots for _, lots in levels), 8)
        if filled < volume - 1e-9 and (request.type_filling == mt5.ORDER_FILLING_FOK or not filled):
            reply = self.refusal(mt5.TRADE_RETCODE_REJECT, case)
            reply.request_id = order.request
            return reply
        deal = None
        for at, lots in levels:
            deal = fills.fill(self.state, case.book, desk, order, lots, at, now_ms, target=case.position)
        self._finish(case, order, filled, now_ms)
        assert deal is not None
        mean = sum(at * lots for at, lots in levels) / filled
        whole = filled >= volume - 1e-9
        reply = Reply(
            DONE if whole else PARTLY, text_of(DONE if whole else PARTLY), deal.ticket, order.ticket, filled,
            round(mean, instrument.digits), quote.bid, quote.ask, order.request,
        )  # fmt: skip
        if staging.placed:
            reply.retcode, reply.comment = mt5.TRADE_RETCODE_PLACED, text_of(mt5.TRADE_RETCODE_PLACED)
        if staging.blank or staging.placed:
            reply.deal, reply.price, reply.volume = 0, 0.0, 0.0
        return reply

    def _levels(self, case: Case, price: float, volume: float, staging: Staging) -> list[tuple[float, float]]:
        """(price, lots) that the market gives, best first."""
        instrument = case.desk.instrument
        if staging.fill_part < 1:
            step = instrument.volume_step
            part = round(int(volume * staging.fill_part / step + 1e-9) * step, 8)
            return [(price, part)] if part else []
        if not instrument.book_depth or instrument.book_lots >= volume:
            return [(price, volume)]
        levels = []
        left = volume
        away = instrument.step if case.request.type in BUYS else -instrument.step
        for depth in range(instrument.book_depth):
            lots = round(min(left, instrument.book_lots), 8)
            levels.append((round(price + depth * away, instrument.digits), lots))
            left = round(left - lots, 8)
            if left <= 0:
                break
        return levels

    def _finish(self, case: Case, order: Order, filled: float, now_ms: int) -> None:
        """A market order after its fills: done, its rest cancelled, or (RETURN on an exchange) resting."""
        order.volume_current = round(order.volume_initial - filled, 8)
        order.price_current = case.desk.quote.ask if order.type in BUYS else case.desk.quote.bid
        rests = order.type_filling == mt5.ORDER_FILLING_RETURN and case.desk.instrument.exemode == EXCHANGE
        if order.volume_current and rests:
            order.state = mt5.ORDER_STATE_PARTIAL
        else:
            order.state = mt5.ORDER_STATE_FILLED if not order.volume_current else mt5.ORDER_STATE_CANCELED
            order.done_ms = now_ms
        self.state.put_order(order)

    def _pending(self, case: Case, staging: Staging, now_ms: int) -> Reply:
        request, quote = case.request, case.desk.quote
        filling = mt5.ORDER_FILLING_RETURN if request.type_filling == 2 else request.type_filling
        expiration = self._expiration(case, now_ms)
        order = self._order(case, now_ms, type_filling=filling, expiration_s=expiration)
        order.price_current = quote.ask if order.type in BUYS else quote.bid
        self.state.put_order(order)
        if order.type in LIMITS and case.desk.instrument.exemode == EXCHANGE:
            self._trigger_order(case.book, case.desk, order, now_ms)
        return Reply(
            DONE, text_of(DONE), 0, order.ticket, request.volume, 0.0, quote.bid, quote.ask, order.request
        )

    def _expiration(self, case: Case, now_ms: int) -> int:
        request = case.request
        server_s = case.book.house.clock.to_server(now_ms) // 1000
        if request.type_time == mt5.ORDER_TIME_DAY:
            return server_s // 86_400 * 86_400  # midnight at the start of the day, as recorded
        return request.expiration if request.type_time else 0

    def _sltp(self, case: Case) -> Reply:
        assert case.position is not None
        case.position.sl, case.position.tp = case.request.sl, case.request.tp
        self.state.put_position(case.position)
        return self._done()

    def _modify(self, case: Case) -> Reply:
        order, request = case.order, case.request
        assert order is not None
        order.price_open, order.sl, order.tp = request.price, request.sl, request.tp
        order.price_stoplimit = request.stoplimit
        order.type_time, order.expiration_s = request.type_time, self._expiration(case, self.clock())
        self.state.put_order(order)
        reply = self._done()
        reply.order = order.ticket
        return reply

    def _remove(self, case: Case, now_ms: int) -> Reply:
        assert case.order is not None
        self._end_order(case.order, mt5.ORDER_STATE_CANCELED, now_ms)
        reply = self._done()
        reply.order = case.order.ticket
        return reply

    def _close_by(self, case: Case, now_ms: int) -> Reply:
        first, second = case.position, case.by
        assert first is not None
        assert second is not None
        volume = min(first.volume, second.volume)
        prices = first.price_open, second.price_open
        order = self._order(
            case, now_ms, type=mt5.ORDER_TYPE_CLOSE_BY, position_id=first.identifier,
            position_by_id=second.identifier, volume_initial=volume, volume_current=0.0, price_open=prices[1],
            comment=f"close #{first.ticket} by #{second.ticket}"[:31], state=mt5.ORDER_STATE_FILLED, done_ms=now_ms,
        )  # fmt: skip
        deals = []
        for target, price in ((first, prices[1]), (second, prices[0])):
            order.type = 1 - target.type  # the side of this deal
            deals.append(
                fills.fill(
                    self.state,
                    case.book,
                    case.desk,
                    order,
                    volume,
                    price,
                    now_ms,
                    target=target,
                    entry=mt5.DEAL_ENTRY_OUT_BY,
                )
            )
            if target is second:
                self._void_profit(case.book, deals[-1])
        order.type, order.position_id = mt5.ORDER_TYPE_CLOSE_BY, first.identifier
        self.state.put_order(order)
        quote = case.desk.quote
        return Reply(
            DONE,
            text_of(DONE),
            deals[0].ticket,
            order.ticket,
            volume,
            prices[1],
            quote.bid,
            quote.ask,
            order.request,
        )

    def _void_profit(self, book: Book, deal: Deal) -> None:
        """The second deal of a close-by carries no profit: the first has all of it."""
        account = book.account
        account.balance = book.money(account.balance - deal.profit)
        deal.profit = 0.0
        self.state.put_deal(deal)
        self.state.put_balance(book)

    def _done(self) -> Reply:
        self.request_id += 1
        return Reply(DONE, text_of(DONE), request_id=self.request_id)

    def _end_order(self, order: Order, state: int, now_ms: int, comment: str | None = None) -> None:
        order.state, order.done_ms = state, now_ms
        if comment is not None:
            order.comment = comment
        self.state.put_order(order)

    # --- Ticks -------------------------------------------------------------------------------------------------------

    def on_tick(self, desk: Desk, at_ms: int) -> None:
        """Pendings, then stop-loss and take-profit, then profits and stop-out; what fires is one transaction each."""
        if desk.orders or desk.positions:
            if not is_open(desk.instrument, desk.house.clock.to_server(at_ms)):
                return
            for book, order in list(desk.orders.values()):
                self._watch_order(book, desk, order, at_ms)
            touched: dict[int, Book] = {}
            for book, position in list(desk.positions.values()):
                if not self._watch_position(book, desk, position, at_ms):
                    book.profits[position.ticket] = self.state.floating(book, position)
                touched[book.account.login] = book
            for book in touched.values():
                self._watch_margin(book, at_ms)

    def _watch_order(self, book: Book, desk: Desk, order: Order, at_ms: int) -> None:
        quote = desk.quote
        buy = order.type in BUYS
        market = quote.ask if buy else quote.bid
        if order.type in (0, 1):  # the rest of a market order that waits for more lots
            hit = True
        elif order.type in LIMITS:
            hit = market <= order.price_open if buy else market >= order.price_open
        else:
            hit = market >= order.price_open if buy else market <= order.price_open
        if not hit:
            return
        if order.type in STOP_LIMITS:
            order.type = mt5.ORDER_TYPE_BUY_LIMIT if buy else mt5.ORDER_TYPE_SELL_LIMIT
            order.price_open = order.price_stoplimit
            order.type_filling = mt5.ORDER_FILLING_RETURN
            self.state.put_order(order)
            self.state.commit(at_ms)
            return
        self._trigger_order(book, desk, order, at_ms)
        self.state.commit(at_ms)

    def _trigger_order(self, book: Book, desk: Desk, order: Order, at_ms: int) -> None:
        """Fills a pending order at the market: at its price or better for limits, at the market for stops."""
        quote = desk.quote
        buy = order.type in BUYS
        price = quote.ask if buy else quote.bid
        if order.type in LIMITS and (price > order.price_open if buy else price < order.price_open):
            return
        if not self._affordable(book, desk, order, price):
            self._end_order(order, mt5.ORDER_STATE_REJECTED, at_ms, "no money")
            return
        instrument = desk.instrument
        lots = order.volume_current
        if instrument.book_depth:
            lots = min(lots, instrument.book_lots)
        fills.fill(self.state, book, desk, order, lots, price, at_ms)
        order.volume_current = round(order.volume_current - lots, 8)
        order.price_current = price
        if order.volume_current and order.type_filling in (1, 2):
            order.state = mt5.ORDER_STATE_PARTIAL
            self.state.put_order(order)
        else:
            self._end_order(order, mt5.ORDER_STATE_FILLED, at_ms)
        fills.settle(self.state, book)

    def _affordable(self, book: Book, desk: Desk, order: Order, price: float) -> bool:
        side = 0 if order.type in BUYS else 1
        request = Request(mt5.TRADE_ACTION_DEAL, symbol=order.symbol, volume=order.volume_current, type=side)
        try:
            return rules.after(self.state, Case(book, desk, request)).margin_free >= 0
        except money.NoRate:
            return False

    def _watch_position(self, book: Book, desk: Desk, position: Position, at_ms: int) -> bool:
        price = desk.quote.bid if position.type == 0 else desk.quote.ask
        buy = position.type == 0
        if position.sl and (price <= position.sl if buy else price >= position.sl):
            reason, level, name = BY_SL, position.sl, "sl"
        elif position.tp and (price >= position.tp if buy else price <= position.tp):
            reason, level, name = BY_TP, position.tp, "tp"
        else:
            return False
        text = f"[{name} {level:.{desk.instrument.digits}f}]"
        self.close_out(book, desk, position, price, at_ms, reason, text)
        return True

    def close_out(
        self, book: Book, desk: Desk, position: Position, price: float, at_ms: int, reason: int, text: str
    ) -> None:
        """The broker itself ends a position: stop-loss, take-profit, stop-out, or an outside hand."""
        order = Order(
            position.login, self.state.next_order(), position.symbol, 1 - position.type, mt5.ORDER_STATE_FILLED,
            position.magic, position.identifier, 0, reason, position.volume, 0.0, price, price, 0.0, 0.0, 0.0,
            mt5.ORDER_FILLING_FOK, 0, 0, text, at_ms, at_ms,
        )  # fmt: skip
        fills.fill(self.state, book, desk, order, position.volume, price, at_ms, target=position)
        self.state.put_order(order)
        fills.settle(self.state, book)
        self.state.commit(at_ms)

    def _watch_margin(self, book: Book, at_ms: int) -> None:
        house = book.house.personality
        while book.positions and book.margin > 0:
            equity = self.state.equity(book)
            if house.so_mode == 0:
                level = equity / book.margin * 100
                if level > house.stop_out or not house.stop_out:
                    return
                text = f"[so {level:.2f}%]"
            else:
                if equity > house.stop_out:
                    return
                text = f"[so {equity:.2f}]"
            ticket = min(book.profits, key=lambda item: book.profits[item])
            position = book.positions[ticket]
            desk = house_desk(book, position)
            price = desk.quote.bid if position.type == 0 else desk.quote.ask
            self.close_out(book, desk, position, price, at_ms, BY_STOP_OUT, text)


def house_desk(book: Book, position: Position) -> Desk:
    return book.house.desks[position.symbol]
