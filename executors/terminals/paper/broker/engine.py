"""The trade server's answers: a request in; orders, deals and a reply out.

Precedes: fills and the ledger. Follows: sessions (requests) and `rules.py` (what may be done). Everything happens in one
thread; each request is one transaction. What ticks set off is in `triggers.py`.
"""

from collections.abc import Callable
from typing import Any

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.broker import depth, fills, rules
from executors.terminals.paper.broker.model import Deal, Order, Reply, Request
from executors.terminals.paper.broker.rules import EXCHANGE, INSTANT, LIMITS, REQUEST, Case
from executors.terminals.paper.broker.sessions import is_open
from executors.terminals.paper.broker.staging import Staging
from executors.terminals.paper.broker.state import BUY_TYPES, Book, State
from executors.terminals.paper.broker.texts import text_of
from executors.terminals.paper.broker.triggers import EXPERT, Triggers

DONE, PARTLY, PLACED = mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_DONE_PARTIAL, mt5.TRADE_RETCODE_PLACED


class Engine:
    def __init__(self, state: State, clock: Callable[[], int]) -> None:
        self.state = state
        self.clock = clock
        self.request_id = 0
        self.triggers = Triggers(state)

    def refusal(self, retcode: int, case: Case | None = None, *, server: bool = False) -> Reply:
        """Local refusals are all zero; the server's carry a request id and, on price matters, the prices."""
        reply = Reply(retcode, text_of(retcode))
        if server:
            reply.request_id = self._next_request(case)
            if case is not None and retcode in (mt5.TRADE_RETCODE_REQUOTE, mt5.TRADE_RETCODE_PRICE_CHANGED):
                reply.bid, reply.ask = case.desk.quote.bid, case.desk.quote.ask
        return reply

    def _next_request(self, case: Case | None) -> int:
        """Terminals count their requests, or draw numbers: both have been seen."""
        if case is not None and case.book.house.personality.request_ids == "random":
            return self.state.random.randint(1, 2**32 - 1)
        self.request_id += 1
        return self.request_id

    def send(self, book: Book, request: Request, staging: Staging) -> Reply:
        now_ms = self.clock()
        retcode, case = rules.check(self.state, book, request, now_ms)
        if retcode or case is None:
            return self.refusal(retcode)
        if staging.race and (lost := self._race(case, now_ms)):
            self.state.commit(now_ms)
            return self.refusal(lost, case, server=True)
        retcode = self._server_checks(case, now_ms) or staging.retcode
        if retcode:
            return self.refusal(retcode, case, server=True)
        match request.action:
            case mt5.TRADE_ACTION_DEAL:
                reply = self._deal(case, staging, now_ms)
            case mt5.TRADE_ACTION_PENDING:
                reply = self._pending(case, now_ms)
            case mt5.TRADE_ACTION_SLTP:
                reply = self._sltp(case)
            case mt5.TRADE_ACTION_MODIFY:
                reply = self._modify(case, now_ms)
            case mt5.TRADE_ACTION_REMOVE:
                reply = self._remove(case, now_ms)
            case _:
                reply = self._close_by(case, now_ms)
        self.state.commit(now_ms)
        return reply

    def _server_checks(self, case: Case, now_ms: int) -> int:
        book, house = case.book, case.book.house
        if retcode := rules.server_limits(case):
            return retcode
        if limit := house.personality.rate_limit:
            book.sent_ms = [at for at in book.sent_ms if at > now_ms - 1000]
            if len(book.sent_ms) >= limit:
                return mt5.TRADE_RETCODE_TOO_MANY_REQUESTS
            book.sent_ms.append(now_ms)
        removing = case.request.action == mt5.TRADE_ACTION_REMOVE and house.personality.remove_when_closed
        if not removing and not is_open(case.desk.instrument, house.clock.to_server(now_ms)):
            return mt5.TRADE_RETCODE_MARKET_CLOSED
        if case.closing and case.position is not None and self._being_closed(case):
            return mt5.TRADE_RETCODE_CLOSE_ORDER_EXIST
        return 0

    def _being_closed(self, case: Case) -> bool:
        """An earlier close of the same position is accepted and not filled yet."""
        assert case.position is not None
        identifier = case.position.identifier
        return any(
            item.type in (0, 1) and item.position_id == identifier for item in case.book.orders.values()
        )

    def _race(self, case: Case, now_ms: int) -> int:
        """What the request names is executed while it is on its way."""
        if case.order is not None:
            price = case.desk.quote.ask if case.order.type in BUY_TYPES else case.desk.quote.bid
            self.triggers.fill_order(case.book, case.desk, case.order, price, now_ms)
            return mt5.TRADE_RETCODE_ORDER_CHANGED
        if case.position is not None:
            price = case.desk.quote.bid if case.position.type == 0 else case.desk.quote.ask
            self.triggers.close_out(case.book, case.desk, case.position, price, now_ms, 0, "")
            return mt5.TRADE_RETCODE_POSITION_CLOSED
        return 0

    def _order(self, case: Case, now_ms: int, **more: Any) -> Order:
        request = case.request
        values: dict[str, Any] = {
            "login": case.book.account.login,
            "ticket": self.state.next_order(),
            "symbol": case.desk.instrument.name,
            "type": request.type,
            "state": mt5.ORDER_STATE_PLACED,
            "magic": request.magic,
            "position_id": 0,
            "position_by_id": 0,
            "reason": EXPERT,
            "volume_initial": round(request.volume, 8),
            "volume_current": round(request.volume, 8),
            "price_open": request.price,
            "price_current": 0.0,
            "price_stoplimit": request.stoplimit,
            "sl": request.sl,
            "tp": request.tp,
            "type_filling": request.type_filling,
            "type_time": request.type_time,
            "expiration_s": request.expiration,
            "comment": fills.kept_comment(case.book.house.personality, request.comment),
            "setup_ms": now_ms,
            "request": self._next_request(case),
        }
        return Order(**{**values, **more})

    # --- DEAL --------------------------------------------------------------------------------------------------------

    def _deal(self, case: Case, staging: Staging, now_ms: int) -> Reply:
        request, desk = case.request, case.desk
        instrument = desk.instrument
        buy = request.type == 0
        price = self._price(case)
        if price is None:
            return self.refusal(mt5.TRADE_RETCODE_REQUOTE, case, server=True)
        slip = round(staging.slip_points) * instrument.point
        price = round(price + (slip if buy else -slip), instrument.digits)
        stops = {"sl": 0.0, "tp": 0.0} if case.closing else {}
        order = self._order(case, now_ms, price_open=price, type_time=0, expiration_s=0, **stops)
        if staging.late_ms:
            return self._deal_later(case, order, staging, now_ms)
        volume = order.volume_initial
        found = depth.levels(instrument, buy, price, volume)
        if staging.fill_part < 1:
            part = depth.part_of(instrument, volume, staging.fill_part)
            found = [(price, part)] if part else []
        filled = depth.total(found)
        if not filled or (filled < volume and request.type_filling == mt5.ORDER_FILLING_FOK):
            reply = self.refusal(case.book.house.personality.no_liquidity, case)
            reply.request_id = order.request
            return reply
        # a netting account's position may end and turn between two levels: there each fill finds it anew
        target = case.position if case.book.account.hedging else None
        deals = [
            fills.fill(self.state, case.book, desk, order, lots, at, now_ms, target=target)
            for at, lots in found
        ]
        self._finish(case, order, filled, now_ms)
        return self._deal_reply(case, order, deals, found, staging)

    def _price(self, case: Case) -> float | None:
        """What the market order is filled at; None when the price has moved beyond the deviation."""
        request, instrument, quote = case.request, case.desk.instrument, case.desk.quote
        buy = request.type == 0
        price = quote.ask if buy else quote.bid
        if instrument.exemode not in (REQUEST, INSTANT):
            return price
        worse = price - request.price if buy else request.price - price
        if worse > request.deviation * instrument.point + 1e-9:
            return None
        if worse < 0 and not case.book.house.personality.improve:
            return round(request.price, instrument.digits)
        return price

    def _deal_later(self, case: Case, order: Order, staging: Staging, now_ms: int) -> Reply:
        """Accepted; `triggers` fills it when its time has come, or on the first tick after a restart."""
        if case.position is not None:
            order.position_id = case.position.identifier
        self.state.put_order(order)
        self.triggers.late[order.ticket] = (now_ms + staging.late_ms, case.book, case.desk)
        retcode = PLACED if staging.placed else DONE
        quote = case.desk.quote
        return Reply(
            retcode, text_of(retcode), 0, order.ticket, 0.0, 0.0, quote.bid, quote.ask, order.request
        )

    def _finish(self, case: Case, order: Order, filled: float, now_ms: int) -> None:
        """A market order after its fills: done, its rest cancelled, or (RETURN on an exchange) resting."""
        order.volume_current = round(order.volume_initial - filled, 8)
        order.price_current = case.desk.quote.ask if order.type in BUY_TYPES else case.desk.quote.bid
        rests = order.type_filling == mt5.ORDER_FILLING_RETURN and case.desk.instrument.exemode == EXCHANGE
        if order.volume_current and rests:
            order.state = mt5.ORDER_STATE_PARTIAL
        else:
            order.state = mt5.ORDER_STATE_CANCELED if order.volume_current else mt5.ORDER_STATE_FILLED
            order.done_ms = now_ms
        self.state.put_order(order)

    def _deal_reply(
        self, case: Case, order: Order, deals: list[Deal], found: depth.Levels, staging: Staging
    ) -> Reply:
        instrument, quote = case.desk.instrument, case.desk.quote
        retcode = PARTLY if order.volume_current else DONE
        reply = Reply(
            retcode,
            text_of(retcode),
            deals[-1].ticket,
            order.ticket,
            depth.total(found),
            depth.mean(found, instrument.digits),
            quote.bid,
            quote.ask,
            order.request,
        )
        if staging.placed:
            reply.retcode, reply.comment = PLACED, text_of(PLACED)
        if staging.blank or staging.placed:
            reply.deal, reply.price, reply.volume = 0, 0.0, 0.0
        return reply

    # --- The other actions -------------------------------------------------------------------------------------------

    def _pending(self, case: Case, now_ms: int) -> Reply:
        request, quote = case.request, case.desk.quote
        order = self._order(case, now_ms, expiration_s=self._expiration(case, now_ms))
        order.price_current = quote.ask if order.type in BUY_TYPES else quote.bid
        self.state.put_order(order)
        if order.type in LIMITS and case.desk.instrument.exemode == EXCHANGE:
            self.triggers.watch_order(case.book, case.desk, order, now_ms)
        reply = Reply(
            DONE, text_of(DONE), 0, order.ticket, request.volume, 0.0, quote.bid, quote.ask, order.request
        )
        if case.book.house.personality.echo_comment and order.comment:
            reply.comment = order.comment
        return reply

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
        return self._done(case)

    def _modify(self, case: Case, now_ms: int) -> Reply:
        order, request = case.order, case.request
        assert order is not None
        order.price_open, order.sl, order.tp = request.price, request.sl, request.tp
        order.price_stoplimit = request.stoplimit
        order.type_time, order.expiration_s = request.type_time, self._expiration(case, now_ms)
        self.state.put_order(order)
        return self._done(case, order.ticket)

    def _remove(self, case: Case, now_ms: int) -> Reply:
        assert case.order is not None
        self.triggers.end_order(case.book, case.order, mt5.ORDER_STATE_CANCELED, now_ms)
        return self._done(case, case.order.ticket)

    def _done(self, case: Case, order_ticket: int = 0) -> Reply:
        return Reply(DONE, text_of(DONE), order=order_ticket, request_id=self._next_request(case))

    def _close_by(self, case: Case, now_ms: int) -> Reply:
        """One order, two deals: the first at the second's open price with all the profit, the second with none."""
        first, second = case.position, case.by
        assert first is not None
        assert second is not None
        volume = min(first.volume, second.volume)
        tickets, prices = (first.identifier, second.identifier), (first.price_open, second.price_open)
        order = self._order(
            case,
            now_ms,
            volume_initial=volume,
            volume_current=0.0,
            price_open=prices[1],
            comment=f"close #{first.ticket} by #{second.ticket}",
            state=mt5.ORDER_STATE_FILLED,
            done_ms=now_ms,
        )
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
                    profitless=target is second,
                )
            )
        order.type, (order.position_id, order.position_by_id) = mt5.ORDER_TYPE_CLOSE_BY, tickets
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
