"""What the server does by the clock and not by ticks: pending orders expire, days roll over.

Precedes: the ledger. Follows: the server's loop, a few times a second.
"""

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.broker.broker import Broker
from executors.terminals.paper.broker.model import Order

DAY_S = 86_400


class Housekeeping:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def run(self, now_ms: int) -> None:
        self._expire(now_ms)
        self._broker.state.commit(now_ms)

    def _expire(self, now_ms: int) -> None:
        state = self._broker.state
        for house in state.houses.values():
            server_s = house.clock.to_server(now_ms) // 1000
            for desk in house.desks.values():
                for _, order in list(desk.orders.values()):
                    if self._is_over(order, server_s):
                        order.state, order.done_ms = mt5.ORDER_STATE_EXPIRED, now_ms
                        state.put_order(order)

    def _is_over(self, order: Order, server_s: int) -> bool:
        match order.type_time:
            case mt5.ORDER_TIME_DAY:
                return server_s // DAY_S * DAY_S > order.expiration_s
            case mt5.ORDER_TIME_SPECIFIED:
                return server_s >= order.expiration_s
            case mt5.ORDER_TIME_SPECIFIED_DAY:
                return server_s // DAY_S > order.expiration_s // DAY_S
        return False
