"""A program over mt5forge: connect, candles, market and pending orders, break-even, trailing, closing. Prints JSON."""

import json
import os
import sys
from typing import Any

from mt5forge import MT5Connector, MT5Credentials, OrderType, RiskConfig, Timeframe
from mt5forge.connection.health import BrokerHealthMonitor
from mt5forge.market.data_feed import MarketDataFeed
from mt5forge.market.market_hours import MarketHours
from mt5forge.orders.order_builder import OrderModification, OrderRequest, PendingOrderRequest
from mt5forge.orders.order_manager import OrderManager
from mt5forge.orders.order_validator import OrderValidator
from mt5forge.positions.portfolio_manager import PortfolioManager
from mt5forge.positions.position_tracker import PositionTracker
from mt5forge.risk.risk_manager import RiskManager
from mt5forge.trade.partial_close import PartialCloseManager
from mt5forge.trade.tp_sl_manager import TpSlManager
from mt5forge.trade.trailing_stop import TrailingStopManager


class AlwaysOpen(MarketHours):
    def is_open(self, *_: Any, **__: Any) -> bool:
        return True


def main() -> None:
    connector = MT5Connector()
    connector.initialize()
    connector.login(
        MT5Credentials(int(os.environ["MT5_LOGIN"]), os.environ["MT5_PASSWORD"], os.environ["MT5_SERVER"])
    )
    feed = MarketDataFeed(connector)
    candles = feed.get_candles("GBPUSD", Timeframe.M5, 50)
    host, port = os.environ["PAPER_BROKER_URL"].removeprefix("tcp://").split(":")
    monitor = BrokerHealthMonitor(connector, internet_host=host, internet_port=int(port))
    # its own idea of market hours is the wall clock's; the paper market never closes
    validator = OrderValidator(market_hours=AlwaysOpen())
    manager = OrderManager(connector, RiskManager(RiskConfig()), validator=validator)
    bought = manager.place_market_order(
        OrderRequest("EURUSD", OrderType.BUY, 0.04, sl=1.08, tp=1.13, magic=9)
    )
    tracker = PositionTracker(connector)
    position = tracker.get_by_ticket(bought.ticket or 0)
    moved = manager.modify_order(bought.ticket or 0, OrderModification(sl=1.09, tp=1.12))
    part = PartialCloseManager(manager).close_partial(bought.ticket or 0, 0.01)
    rest = tracker.get_by_ticket(bought.ticket or 0)
    pending = manager.place_pending_order(
        PendingOrderRequest("GBPUSD", OrderType.BUY_LIMIT, 0.02, sl=0.9, tp=2.9, price=1.0, magic=9)
    )
    snapshot = PortfolioManager(tracker).snapshot()
    trailing = TrailingStopManager(TpSlManager(manager, tracker), tracker)
    trailing.enable(bought.ticket or 0, trail_pips=50, activation_pips=-100)
    trailed = trailing.update_once()
    closed = manager.close_order(bought.ticket or 0)
    out: dict[str, Any] = {
        "candles": len(candles),
        "spread": feed.get_symbol_info("EURUSD").spread,
        "healthy": monitor.check_once().value,
        "bought": [bought.success, bought.executed_lot, bought.executed_price, bought.error_message],
        "position": position is not None and [position.lot, position.magic],
        "steps": [moved, part, *trailed.values(), closed],
        "rest": rest is not None and rest.lot,
        "pending": [pending.success, pending.error_message],
        "portfolio": str(snapshot),
        "left": len(tracker.get_all()),
    }
    connector.shutdown()
    json.dump(out, sys.stdout)


main()
