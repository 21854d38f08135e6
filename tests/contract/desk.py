"""A hand on one account of a paper broker: prices by hand, requests as dicts. For the contract of the server's rules."""

from typing import Any

from executors.terminals import paper as mt5
from tests.paper import PASSWORD, PaperBroker

DONE, PARTLY = 10009, 10010
FAR = 2**31 - 1
LOGIN = 500  # of the module's own cases
BASE = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0, "type_filling": 1}
PEND = {"action": 5, "symbol": "EURUSD", "volume": 0.1, "type": 2, "price": 1.09, "type_filling": 2}
CONFIGURATION = """
[personalities.lab.only."EURUSD.day"]
like = "EURUSD"
gtc_mode = 1
[personalities.lab.only."EURUSD.leg"]
like = "EURUSD"
margin_use_leg = true
[personalities.lab.only."EURUSD.free"]
like = "EURUSD"
margin_hedged = 0.0
[personalities.lab.only."EURUSD.fee"]
like = "EURUSD"
commission = 3.5
[personalities.lab.only."EURUSD.ask"]
like = "EURUSD"
exemode = 0
filling = 1
[personalities.lab.only."EURUSD.plain"]
like = "EURUSD"
sltp_at_open = false
[personalities.lab]
symbols = ["EURUSD", "USDJPY", "GBPUSD", "EURJPY", "XAUUSD", "BTCUSD", "EURUSD.close", "EURUSD.long", "EURUSD.short",
  "EURUSD.off", "EURUSD.gtc", "EURUSD.far", "EURUSD.thin", "EURUSD.mkt", "EURUSD.step", "EURUSD.day", "EURUSD.leg",
  "EURUSD.free", "EURUSD.fee", "EURUSD.ask", "EURUSD.plain"]
[personalities.usa.all]
closed_weekends = false
[personalities.capped]
server = "PaperCapped-Test"
company = "Paper Capped"
currency = "USD"
leverage = 100
margin_mode = 2
limit_orders = 2
limit_positions = 2
rate_limit = 4
comment_mode = "replace"
symbols = ["EURUSD"]
[personalities.papers]
server = "PaperPapers-Test"
company = "Paper Papers"
currency = "USD"
leverage = 1
margin_mode = 2
symbols = ["BOND", "OPTION", "PLEDGE"]
[personalities.papers.all]
feed = "ACME"
base = "USD"
profit = "USD"
digits = 2
contract_size = 1.0
[personalities.papers.only.BOND]
calc_mode = 37
face_value = 1000.0
[personalities.papers.only.OPTION]
calc_mode = 34
margin_initial = 100.0
[personalities.papers.only.PLEDGE]
calc_mode = 64
liquidity_rate = 0.5
[personalities.moneyso]
server = "PaperMoney-Test"
company = "Paper Money"
currency = "USD"
leverage = 100
margin_mode = 2
so_mode = 1
stop_out = 300.0
negative_protection = true
symbols = ["EURUSD"]
"""


class Desk:
    """An account of a test's own, logged in, and prices by hand."""

    last_login = 2000

    def __init__(self, broker: PaperBroker) -> None:
        self.broker = broker

    def open(self, personality: str = "lab", balance: float = 10_000.0, **more: Any) -> None:
        Desk.last_login += 1
        self.broker.account(Desk.last_login, personality, balance, **more)
        assert mt5.initialize(self.broker.url, login=Desk.last_login, password=PASSWORD)

    def leave(self) -> None:
        mt5.shutdown()

    def price(self, bid: float, ask: float, feed: str = "EURUSD") -> None:
        self.broker.push(feed, bid, ask)

    def send(self, **request: Any) -> Any:
        result = mt5.order_send(request)
        assert result is not None, mt5.last_error()
        return result

    def deal(self, side: int, lots: float = 0.1, symbol: str = "EURUSD", **more: Any) -> Any:
        return self.send(
            **{"action": 1, "symbol": symbol, "volume": lots, "type": side, "type_filling": 1, **more}
        )

    def pending(self, kind: int, price: float, lots: float = 0.1, symbol: str = "EURUSD", **more: Any) -> Any:
        return self.send(
            **{
                "action": 5,
                "symbol": symbol,
                "volume": lots,
                "type": kind,
                "price": price,
                "type_filling": 2,
                **more,
            }
        )

    def trades(self) -> list[Any]:
        return [deal for deal in mt5.history_deals_get(0, FAR) if deal.type in (0, 1)]


def deal(**more: Any) -> dict[str, Any]:
    return {
        "action": 1,
        "symbol": "EURUSD",
        "volume": 0.1,
        "type": 0,
        "price": 1.1001,
        "type_filling": 1,
        **more,
    }
