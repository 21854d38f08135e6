"""The paper module and the adapter over a real broker process: open, see, close, and the ledger agrees."""

from decimal import Decimal

from executors.terminals.adapter import ModuleTerminal
from executors.terminals.base import TradeRequest
from tests.paper import PASSWORD, PaperBroker, paper_broker  # noqa: F401


def terminal(broker: PaperBroker, login: int, personality: str = "lab") -> ModuleTerminal:
    from executors.terminals import paper

    made = broker.account(login, personality)
    opened = ModuleTerminal(
        paper, login=login, password=PASSWORD, server=made["server"], path=broker.url,
        server_timezone=made["server_timezone"],
    )  # fmt: skip
    opened.connect()
    return opened


def test_opens_and_closes_a_position_and_the_ledger_holds_together(paper_broker: PaperBroker) -> None:  # noqa: F811
    trader = terminal(paper_broker, 1)
    paper_broker.push("EURUSD", 1.10000, 1.10010)
    lots = Decimal("0.1")
    opened = trader.send(TradeRequest(1, "EURUSD", lots, 0, magic=77, comment="here", type_filling=1)).result
    assert opened is not None
    assert (opened.retcode, opened.volume, opened.price) == (10009, lots, Decimal("1.1001"))
    (position,) = trader.positions()
    assert (position.ticket, position.magic, position.symbol) == (opened.order, 77, "EURUSD")

    paper_broker.push("EURUSD", 1.10110, 1.10120)
    assert trader.positions()[0].profit == Decimal("10.0")
    closed = trader.send(
        TradeRequest(1, "EURUSD", lots, 1, magic=78, position=position.ticket, type_filling=1)
    ).result
    assert closed is not None
    assert closed.retcode == 10009
    assert trader.positions() == ()
    assert trader.account().balance == Decimal("10010.0")
    deals = trader.history_deals(0, position.time_ms + 60_000)
    assert [deal.entry for deal in deals if deal.symbol] == [0, 1]
    paper_broker.check()


def test_what_was_answered_survives_a_kill(paper_broker: PaperBroker) -> None:  # noqa: F811
    trader = terminal(paper_broker, 1)
    sent = trader.send(TradeRequest(1, "EURUSD", Decimal("0.1"), 0, magic=5, type_filling=1)).result
    assert sent is not None
    paper_broker.restart()
    trader.connect()
    assert [position.ticket for position in trader.positions()] == [sent.order]
    paper_broker.check()
