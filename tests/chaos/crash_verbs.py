"""What a run of the crash tests wishes for, verb by verb: what is there before it, the wish, and what the broker must have
after it. Precedes: `crash_run`, which sends it and kills. Follows: the broker's ledger, which a killed process cannot touch.
"""

import os
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from executors.crashpoints import POINTS
from executors.messages import ExecutionReport
from executors.orders import OrderState
from executors.terminals.paper.constants import ORDER_STATE_CANCELED, ORDER_STATE_PLACED
from executors.terminals.paper.oracle import Oracle
from tests.chaos import desk

S = OrderState
SETTLES = ("before-settle", "after-settle")  # points that only a settlement by hand passes
# Points that an order passes which fills long after it was placed, when a look finds out.
FILLS = ("before-publish", "after-publish", "before-look", "before-resolve", "after-resolve")
VERBS = ("open", "close", "close-part", "modify", "cancel", "close-by", "pending", "filled")
CHOSEN = tuple(name for name in os.environ.get("CRASH_VERBS", "").split(",") if name) or VERBS

# Pending orders wait in a symbol whose price stands still until a run pushes it: (bid, ask)
SYMBOL = "GBPUSD"
REST, PUSHED = (1.50000, 1.50010), (1.51500, 1.51510)
TRIGGER, FAR = (
    1.51000,
    1.40000,
)  # prices of a buy stop that the push reaches, and of a buy limit that nothing does


def verb_of(point: str, seed: int, terminal: str) -> str:
    """Each verb in turn, whichever lane the seed falls to."""
    if point == "after-denial":
        return "open"
    if point in SETTLES:
        return "settle"
    verb = CHOSEN[(seed + seed // 8 + POINTS.index(point)) % len(CHOSEN)]
    if verb == "filled" and point not in FILLS:
        return "pending"
    if verb == "close-by" and desk.PERSONALITIES[terminal] == "net":
        return "close-part"  # a netting account has no opposite positions
    return verb


@dataclass
class Scene:
    """One run's signals. Everything in it follows from the random numbers that it is given."""

    verb: str
    terminal: str
    lots: float | None
    choice: random.Random
    reports: dict[str, ExecutionReport] = field(default_factory=dict)  # newest, by signal_id
    before: list[dict[str, Any]] = field(default_factory=list)  # filled or placed before anything is killed

    def __post_init__(self) -> None:
        match self.verb:
            case "close" | "modify":
                self.before = [self._open()]
            case "close-part":
                self.before = [self._open(lots=0.2)]
            case "close-by":
                symbol = self._symbol()
                self.before = [
                    self._open(lots=0.2, symbol=symbol, side="buy"),
                    self._open(lots=0.1, symbol=symbol, side="sell"),
                ]
            case "filled":
                self.before = [self._pending("stop", TRIGGER)]
            case "cancel" | "settle":
                self.before = [self._pending("limit", FAR)]

    def wish(self) -> dict[str, Any] | None:
        """What is sent when the point is armed; None when something else than a signal sets things going."""
        match self.verb:
            case "open":
                return self._open(lots=self.lots)
            case "close":
                return self._signal("close") | self.choice.choice(
                    [{"all": True}, {"symbol": self.before[0]["symbol"]}]
                )
            case "close-part":
                return self._of("close") | {"fraction": 0.5}
            case "modify":
                away = 1 + self.choice.randint(50, 90) / 1000 * (
                    1 if self.before[0]["side"] == "sell" else -1
                )
                price = self._report(0).price
                assert price is not None, "an open that was filled has a price"
                digits = 2 if self.before[0]["symbol"] == "USDJPY" else 4
                return self._of("modify") | {"stop_loss": round(float(price) * away, digits)}
            case "cancel":
                return self._of("cancel")
            case "close-by":
                long, short = (self._report(place).position_tickets[0] for place in (0, 1))
                return self._signal("close_by") | {"position_ticket": long, "by_position_ticket": short}
            case "pending":
                return self._pending("stop", TRIGGER)
        return None

    def leftover(self) -> dict[str, Any]:
        """Takes away what the wish has left waiting at the broker."""
        return self._signal("cancel") | {"symbol": SYMBOL}

    def judge(self, wish: Mapping[str, Any] | None, broker: Oracle) -> str:
        """What the broker has against what was reported, in a sentence; empty when they agree."""
        login = desk.LOGINS[self.terminal]
        held = {position.ticket: position for position in broker.positions(login)}
        done = wish is not None and self.reports[wish["signal_id"]].state is S.DONE
        match self.verb:
            case "modify":
                assert wish is not None
                # a netting account's position has the ticket of an earlier open: the modify says which it changed
                tickets = {
                    *self._report(0).position_tickets,
                    *self.reports[wish["signal_id"]].position_tickets,
                }
                levels = [held[ticket].sl for ticket in sorted(tickets) if ticket in held]
                if not levels:  # on a netting account an open may have been another one's end
                    netted = desk.PERSONALITIES[self.terminal] == "net" and not done
                    return "" if netted else f"modify: done {done}, the position is gone"
                has = all(abs(level - wish["stop_loss"]) < 1e-9 for level in levels)
                return (
                    ""
                    if has == done
                    else f"modify: done {done}, stop losses {levels}, wished {wish['stop_loss']}"
                )
            case "cancel":
                state = self._order_state(broker, login)
                away = state == ORDER_STATE_CANCELED
                return "" if away == done else f"cancel: done {done}, the order's state is {state}"
            case "close-by":
                lots = [
                    held[ticket].volume if ticket in held else 0.0
                    for place in (0, 1)
                    for ticket in self._report(place).position_tickets
                ]
                long, short = (float(self._report(place).filled_lots) for place in (0, 1))  # as sized there
                rest = (long - short, 0.0) if done else (long, short)
                same = len(lots) == 2 and all(abs(a - b) < 1e-9 for a, b in zip(lots, rest, strict=True))
                return "" if same else f"close_by: done {done}, the positions have {lots} lots"
            case "close-part" if desk.PERSONALITIES[self.terminal] != "net":
                assert wish is not None
                filled = float(self.reports[wish["signal_id"]].filled_lots)
                opened = float(self._report(0).filled_lots)
                left = sum(
                    held[ticket].volume for ticket in self._report(0).position_tickets if ticket in held
                )
                same = abs(opened - filled - left) < 1e-9
                return "" if same else f"close: {filled} of {opened} lots reported closed, {left} left"
            case "settle":
                state = self._order_state(broker, login)
                settled = self._report(0).state is S.MANUAL
                wanted = settled and state == ORDER_STATE_PLACED
                return "" if wanted else f"settle: {self._report(0).state}, the order's state is {state}"
        return ""

    # --- parts ---

    def _report(self, place: int) -> ExecutionReport:
        return self.reports[self.before[place]["signal_id"]]

    def _order_state(self, broker: Oracle, login: int) -> int:
        tickets = self._report(0).order_tickets
        return next((order.state for order in broker.orders(login) if order.ticket in tickets), -1)

    def _signal(self, action: str) -> dict[str, Any]:
        return {
            "signal_id": str(uuid.UUID(int=self.choice.getrandbits(128), version=4)),
            "action": action,
            "targets": {"terminals": [self.terminal]},
        }

    def _of(self, action: str) -> dict[str, Any]:
        return self._signal(action) | {"opened_by": self.before[0]["signal_id"]}

    def _symbol(self) -> str:
        return self.choice.choice(["EURUSD", "USDJPY"])

    def _open(self, *, lots: float | None = None, symbol: str = "", side: str = "") -> dict[str, Any]:
        return self._signal("open") | {
            "symbol": symbol or self._symbol(),
            "side": side or self.choice.choice(["buy", "sell"]),
            "order_type": "market",
            "lots": lots or self.choice.choice([0.1, 0.2, 0.3]),
        }

    def _pending(self, kind: str, price: float) -> dict[str, Any]:
        what = {"symbol": SYMBOL, "side": "buy", "order_type": kind, "lots": 0.1, "price": price}
        return self._signal("open") | what
