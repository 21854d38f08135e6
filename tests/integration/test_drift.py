"""Drift against a real paper broker: another terminal of the same account, and the broker's desk, trade behind our back."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executors import drift
from executors.account_sync import AccountSync
from executors.drift_sync import DriftSync
from executors.link_events import InstanceFacts
from executors.messages import DriftLog, TerminalUpdate
from executors.terminals.paper import arguments
from executors.terminals.paper import constants as mt5
from executors.terminals.paper.link import Link
from tests.paper import PASSWORD, PaperBroker, running_broker
from tests.rig import Rig

LIMIT_S = 60.0


@pytest.fixture(scope="module")
def broker() -> Iterator[PaperBroker]:
    with running_broker() as running:
        running.freeze("EURUSD")
        running.push("EURUSD", 1.10000, 1.10010)
        yield running


class Hand:
    """Another terminal that is logged in to the account: somebody trades there by hand."""

    def __init__(self, rig: "Watched") -> None:
        self.link = Link(rig.broker.url)
        rig.hands.append(self.link)
        self.link.ask("initialize", rig.login, PASSWORD, rig.config.server, f"by-hand-{rig.login}", 0)

    def send(self, **request: Any) -> list[Any]:
        answer: list[Any] = self.link.ask("order_send", arguments.trade_request((request,), None))
        assert answer[0] == mt5.TRADE_RETCODE_DONE, answer
        return answer


class Watched(Rig):
    """The executor's parts with the account sync, as the executor runs it between orders."""

    def __init__(self, broker: PaperBroker, directory: Path, kind: str = "lab") -> None:
        super().__init__(broker, directory, kind)
        self.updates: list[TerminalUpdate] = []
        self.told: list[str] = []
        self.hands: list[Link] = []
        self.turn()
        self.begin()

    def close(self) -> None:
        for link in self.hands:
            link.close()
        super().close()

    def begin(self, *shown: str | None) -> None:
        self.drift = DriftSync(self.terminal, self.journal, alarm=self.told.append)
        self.account_sync = AccountSync(
            self.terminal, self.journal, InstanceFacts(), drift=self.drift, show=self.updates.append,
            seen=self.resolution.seen, protection_of=self.execution.guard.of,
        )  # fmt: skip
        self.drift.begin(*(shown or (None, None, None, None)))
        self.look()

    def look(self) -> None:
        self.account_sync.run(self.config)

    def codes(self) -> dict[str, int]:
        self.look()
        return self.drift.log.counts

    def comes_to(self, wanted: dict[str, int]) -> None:
        until = time.monotonic() + LIMIT_S
        while self.codes() != wanted:
            assert time.monotonic() < until, self.drift.log
            time.sleep(0.02)

    def stays_quiet(self) -> None:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert self.codes() == {}
            time.sleep(0.02)

    def settled(self, name: str) -> None:
        until = time.monotonic() + LIMIT_S
        while name in self.execution.open or self.journal.get(name) is None:
            assert time.monotonic() < until
            self.turn()

    def ticket(self) -> int:
        (position,) = self.terminal.positions()
        return position.ticket

    def shown(self) -> tuple[str, str, str, str]:
        """As the link writes it to Redis."""
        account = next(item.account for item in reversed(self.updates) if item.account is not None)
        newest = next(item for item in reversed(self.updates) if item.positions is not None)
        lists = [
            "[" + ",".join(item.model_dump_json() for item in items or ()) + "]"
            for items in (newest.positions, newest.pending_orders)
        ]
        return account.model_dump_json(), lists[0], lists[1], self.drift.log.model_dump_json()


@pytest.fixture
def rig(broker: PaperBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(drift, "CONFIRM_MS", 100)
    monkeypatch.setattr(drift, "HISTORY_MS", 400)
    made = Watched(broker, tmp_path)
    yield made
    made.close()


BUY = {"action": mt5.TRADE_ACTION_DEAL, "symbol": "EURUSD", "type": mt5.ORDER_TYPE_BUY, "volume": 0.1,
       "type_filling": mt5.ORDER_FILLING_IOC, "price": 1.1001}  # fmt: skip


def test_our_own_trading_is_no_drift(rig: Watched) -> None:
    rig.settled(rig.open())
    rig.stays_quiet()
    rig.settled(rig.close_all())
    rig.stays_quiet()
    assert rig.told == []


def test_every_verb_of_ours_is_no_drift(rig: Watched) -> None:
    def of(name: str) -> str:
        return name.partition(":")[0]

    def done(action: str, **fields: Any) -> None:
        rig.settle(rig.signal(action, **fields))
        rig.stays_quiet()

    waiting = rig.signal("open", order_type="limit", price=1.05)
    rig.until(lambda report: report.state == "PLACED", waiting)
    rig.stays_quiet()
    done("modify", opened_by=of(waiting), price=1.04, stop_loss=1.03)
    done("cancel", opened_by=of(waiting))
    opened = rig.signal("open")
    rig.settle(opened)
    done("modify", opened_by=of(opened), stop_loss=1.05, take_profit=1.2)
    done("protect", opened_by=of(opened), trailing={"distance": 0.02})
    done("close", opened_by=of(opened), fraction=0.5)
    done("open", side="sell")
    done("close_by", symbol="EURUSD")
    done("close", all=True)
    assert rig.positions() == ()


def test_netting_of_ours_is_no_drift_and_a_hand_in_it_is(
    broker: PaperBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "HISTORY_MS", 400)
    rig = Watched(broker, tmp_path, "net")
    try:
        # more of it, the other way round twice, more and less of that, and stops that an open brings along
        for side, lots in (
            ("buy", 0.2),
            ("buy", 0.1),
            ("sell", 0.5),
            ("buy", 0.4),
            ("buy", 0.1),
            ("sell", 0.1),
        ):
            rig.settle(rig.signal("open", side=side, lots=lots))
            rig.stays_quiet()
        rig.settle(rig.signal("open", side="buy", lots=0.1, stop_loss=1.05))
        rig.stays_quiet()
        Hand(rig).send(**BUY | {"volume": 0.05})
        rig.comes_to({"LOTS_CHANGED": 1})
    finally:
        rig.close()


def test_a_position_by_hand(rig: Watched) -> None:
    Hand(rig).send(**BUY)
    rig.comes_to({"POSITION_NOT_OURS": 1})
    (event,) = rig.drift.log.events
    assert (event.ticket, event.symbol) == (rig.ticket(), "EURUSD")
    assert rig.updates[-1].drift == rig.drift.log
    rig.look()
    shown = [update.drift is not None for update in rig.updates]
    assert (shown[0], shown[-2:]) == (True, [True, False])  # at first, and when it has grown
    assert len(rig.told) == 1
    assert not rig.execution.open
    assert not rig.execution.queue.ready


def test_stops_changed_by_hand(rig: Watched) -> None:
    rig.settled(rig.open())
    rig.look()
    Hand(rig).send(action=mt5.TRADE_ACTION_SLTP, symbol="EURUSD", position=rig.ticket(), sl=1.05, tp=1.2)
    rig.comes_to({"STOPS_CHANGED": 1})
    assert "1.05 / 1.2" in rig.drift.log.events[0].message


def test_a_part_closed_by_hand_and_the_rest_by_the_brokers_desk(rig: Watched) -> None:
    rig.settled(rig.open())
    rig.look()
    ticket = rig.ticket()
    sell = BUY | {"type": mt5.ORDER_TYPE_SELL, "volume": 0.04, "position": ticket, "price": 1.1}
    Hand(rig).send(**sell)
    rig.comes_to({"LOTS_CHANGED": 1})
    rig.broker.oracle.call("close_position", rig.login, ticket)
    rig.comes_to({"LOTS_CHANGED": 1, "POSITION_CLOSED": 1})


def test_stop_loss_and_deposit_are_the_brokers_own_doing(rig: Watched) -> None:
    hand = Hand(rig)
    rig.settled(rig.open())
    rig.look()
    hand.send(action=mt5.TRADE_ACTION_SLTP, symbol="EURUSD", position=rig.ticket(), sl=1.09, tp=0.0)
    rig.comes_to({"STOPS_CHANGED": 1})
    rig.broker.push("EURUSD", 1.08990, 1.09000)
    try:
        rig.broker.oracle.call("deposit", rig.login, 50.0)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert rig.codes() == {"STOPS_CHANGED": 1}
        assert rig.terminal.positions() == ()
    finally:
        rig.broker.push("EURUSD", 1.10000, 1.10010)


def test_pending_orders_by_hand(rig: Watched) -> None:
    hand = Hand(rig)
    placed = hand.send(
        action=mt5.TRADE_ACTION_PENDING, symbol="EURUSD", type=mt5.ORDER_TYPE_BUY_LIMIT, volume=0.1, price=1.05,
        type_filling=mt5.ORDER_FILLING_RETURN,
    )  # fmt: skip
    rig.comes_to({"ORDER_NOT_OURS": 1})
    hand.send(action=mt5.TRADE_ACTION_MODIFY, order=placed[2], price=1.04, symbol="EURUSD")
    rig.comes_to({"ORDER_NOT_OURS": 1, "ORDER_CHANGED": 1})
    hand.send(action=mt5.TRADE_ACTION_REMOVE, order=placed[2])
    rig.comes_to({"ORDER_NOT_OURS": 1, "ORDER_CHANGED": 1, "ORDER_REMOVED": 1})


def test_what_happened_while_the_executor_was_away_is_found(rig: Watched) -> None:
    """The next one compares with what Redis showed; the log goes on counting."""
    Hand(rig).send(**BUY)
    rig.comes_to({"POSITION_NOT_OURS": 1})
    shown = rig.shown()
    rig.broker.oracle.call("close_position", rig.login, rig.ticket())
    rig.begin(*shown)
    rig.comes_to({"POSITION_NOT_OURS": 1, "POSITION_CLOSED": 1})


def test_what_redis_shows_that_is_not_ours_to_read_is_not_compared_with(rig: Watched) -> None:
    rig.begin("{", "[{}]", "7", '{"counts": 3}')
    rig.stays_quiet()
    assert rig.drift.log == DriftLog()
