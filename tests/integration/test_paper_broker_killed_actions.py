"""The paper broker under kill -9 while orders of every action come in and stops trigger: what it said is in its ledger.

Pending orders, their changes and removals, stop levels, closes by, and what ticks set off: each answer that a client had, and
each deal that it read, must be there after the last kill; and the ledger is sound.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from typing import Any

from executors.terminals.paper.broker.model import Request
from executors.terminals.paper.link import Link, LinkError
from executors.terminals.paper.oracle import Records
from tests.paper import PASSWORD, PaperBroker, running_broker
from tests.waiting import Watched

CLIENTS = 4
KILLS = 5
PATIENCE_S = 20.0
DONE, CANCELED, CLOSE_BY, OUT, OUT_BY = 10009, 2, 8, 1, 3
BY_STOP = (4, 5)
FAR = 2**31 - 1
KINDS = {"open", "pending", "modify", "remove", "sltp", "triggered", "read", "close_by"}
Fact = tuple[str, Callable[[Records], bool]]


class Client(Watched):
    """Does everything that an account can; notes what must be true from each answer on."""

    def __init__(self, broker: PaperBroker, login: int) -> None:
        super().__init__()
        self.broker = broker
        self.login = login
        self.facts: list[Fact] = []
        self.stopping = False
        self._magic = login * 1_000_000
        self._link: Link | None = None

    def work(self) -> None:
        try:
            while not self.stopping:
                try:
                    self._round()
                except LinkError:
                    self._connect()
        finally:
            if self._link is not None:
                self._link.close()

    def _connect(self) -> Link:
        limit = time.monotonic() + PATIENCE_S
        while True:
            if self._link is not None:
                self._link.close()
            try:
                self._link = Link(self.broker.url)
                self._link.ask("login", self.login, PASSWORD, "", f"client-{self.login}")
                return self._link
            except (OSError, LinkError):
                if time.monotonic() > limit:
                    raise
                time.sleep(0.02)

    def _ask(self, method: str, *arguments: Any) -> Any:
        return (self._link or self._connect()).ask(method, *arguments)

    def _send(self, action: int, **fields: Any) -> tuple[int, int]:
        """The answer's code and order ticket."""
        self._magic += 1
        row = astuple(Request(action=action, magic=self._magic, **fields))
        code, _, order, *_ = self._ask("order_send", list(row))
        return code, order

    def _open(self, side: int) -> int:
        code, order = self._send(1, symbol="EURUSD", volume=0.1, type=side, type_filling=1)
        assert code == DONE, code
        self._know("open", lambda records: records.orders[order].state == 4)
        return order

    def _know(self, name: str, fact: Callable[[Records], bool]) -> None:
        self.facts.append((name, fact))

    def _round(self) -> None:
        _, bid, *_ = self._ask("symbol_tick", "EURUSD")
        self._pending(bid)
        self._stopped(bid)
        self._closed_by()

    def _pending(self, bid: float) -> None:
        first, second = round(bid - 0.02, 5), round(bid - 0.03, 5)
        code, order = self._send(5, symbol="EURUSD", volume=0.1, type=2, price=first, type_filling=2)
        assert code == DONE, code
        self._know("pending", lambda records: order in records.orders)
        assert self._send(7, order=order, price=second)[0] == DONE
        self._know("modify", lambda records: records.orders[order].price_open == second)
        assert self._send(8, order=order)[0] == DONE
        self._know("remove", lambda records: records.orders[order].state == CANCELED)

    def _stopped(self, bid: float) -> None:
        position = self._open(0)
        sl, tp = round(bid - 0.00005, 5), round(bid + 0.00015, 5)
        code, _ = self._send(6, position=position, sl=sl, tp=tp)
        if code == DONE:  # else the price has moved across one, or the position is gone
            self._know(
                "sltp",
                lambda records: (
                    records.positions[position].sl == sl
                    if position in records.positions
                    else any(
                        deal.position_id == position and deal.entry == OUT for deal in records.deals.values()
                    )
                ),
            )
        for deal in self._ask("history_deals", 0, FAR, None, None)[-20:]:
            ticket, reason = deal[0], deal[8]
            self._know("read" if reason not in BY_STOP else "triggered", partial(booked, ticket))

    def _closed_by(self) -> None:
        position, other = self._open(0), self._open(1)
        code, order = self._send(10, position=position, position_by=other)
        assert code == DONE, code

        def both(records: Records) -> bool:
            deals = [deal for deal in records.deals.values() if deal.order == order]
            gone = {position, other}.isdisjoint(records.positions)
            return (
                records.orders[order].type == CLOSE_BY
                and gone
                and [deal.entry for deal in deals] == [OUT_BY] * 2
            )

        self._know("close_by", both)


def booked(deal_ticket: int, records: Records) -> bool:
    return deal_ticket in records.deals


def counts(clients: list[Client]) -> Counter[str]:
    return Counter(name for client in clients for name, _ in list(client.facts))


def shake(broker: PaperBroker, seconds: float) -> None:
    """Moves the price to and fro, across the stops."""
    limit, number = time.monotonic() + seconds, 0
    middle = broker.oracle.call("quotes", "lab")["EURUSD"][
        0
    ]  # after a restart the recording's, not far from the last
    while time.monotonic() < limit:
        number += 1
        bid = middle + (number % 2) * 0.0003
        broker.push("EURUSD", round(bid, 5), round(bid + 0.0001, 5))
        time.sleep(0.005)


def test_answers_of_every_action_and_triggered_stops_survive_kills() -> None:
    with running_broker() as broker:
        clients = [Client(broker, 10 + number) for number in range(CLIENTS)]
        for client in clients:
            broker.account(client.login, "lab", 1_000_000.0)
        shake(broker, 0.02)
        for client in clients:
            client.start()
        chance = random.Random(7)
        for _ in range(KILLS):
            shake(broker, chance.uniform(0.1, 0.5))
            broker.restart()
        limit = time.monotonic() + PATIENCE_S
        while any(client.at_work for client in clients) and time.monotonic() < limit:
            if len(enough := counts(clients)) == len(KINDS) and min(enough.values()) >= 5:
                break
            shake(broker, 0.05)
        for client in clients:
            client.stopping = True
        for client in clients:
            client.join(PATIENCE_S)
        records = broker.records()
        for client in clients:
            for name, fact in client.facts:
                assert fact(records), (client.login, name)
        assert set(counts(clients)) == KINDS
        assert min(counts(clients).values()) >= 5, counts(clients)
        broker.check()
