"""What the clients wish for: all that a trader can, with prices near enough to the market's to come to something.

Follows: the order socket's reports (which positions there are) and the newest ticks. Precedes: `clients`, which send it.
"""

import json
import random
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.stack import Stack
from tradedist import keys

Signal = dict[str, Any]
DIGITS = {"EURUSD": 4, "USDJPY": 2}  # of the coarsest broker: a price that it does not know is refused
SYMBOLS = tuple(DIGITS)
NEAR, FAR = 0.0002, 0.004  # parts of the price
EXPIRES_MS = 20_000


@dataclass
class Market:
    """Shared by all clients. `wish` follows from the caller's random numbers and from what is known by then."""

    terminals: tuple[str, ...]
    tickets: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=200))  # positions of opens
    opens: deque[Signal] = field(default_factory=lambda: deque(maxlen=50))
    pending: deque[Signal] = field(default_factory=lambda: deque(maxlen=50))
    prices: dict[str, float] = field(default_factory=dict)
    now_ms: int = 0

    def read(self, stack: Stack) -> None:
        """The newest prices, and by when they are. Raises redis.RedisError."""
        with stack.ticks() as client:
            for symbol in SYMBOLS:
                if (text := client.hget(keys.LATEST_TICKS, symbol)) is not None:
                    tick = json.loads(text)
                    self.prices[symbol], self.now_ms = float(tick["bid"]), int(tick["time_ms"])

    def on_report(self, report: dict[str, Any]) -> None:
        if report["state"] == "FILLED" and report["action"] == "open":
            self.tickets.extend((report["terminal_id"], ticket) for ticket in report["position_tickets"])

    def wish(self, choice: random.Random) -> Signal:
        kinds: list[tuple[Callable[[random.Random], Signal], int]] = [
            (self._market_order, 50),
            (self._pending_order, 9),
            (self._close_symbol, 14),
            (self._close_ticket, 6),
            (self._close_part, 5),
            (self._modify, 6),
            (self._cancel, 5),
            (self._close_by, 2),
            (self._protect, 1),
            (self._close_all, 2),
        ]
        kind = choice.choices([item for item, _ in kinds], [weight for _, weight in kinds])[0]
        signal = {"signal_id": str(uuid.UUID(int=choice.getrandbits(128), version=4))} | kind(choice)
        if signal["action"] == "open":
            (self.opens if signal["order_type"] == "market" else self.pending).append(signal)
        return signal

    # --- kinds ---

    def _targets(self, choice: random.Random) -> Signal:
        """Mostly one terminal, sometimes three, sometimes all."""
        draw = choice.random()
        width = 1 if draw < 0.83 else 3 if draw < 0.98 else len(self.terminals)
        return {"targets": {"terminals": choice.sample(self.terminals, width)}}

    def _market_order(self, choice: random.Random) -> Signal:
        side, symbol = choice.choice(["buy", "sell"]), choice.choice(SYMBOLS)
        levels = self._levels(choice, symbol, side, FAR) if choice.random() < 0.1 else {}
        lots = choice.choice([0.1, 0.2, 0.3])
        what = {"action": "open", "symbol": symbol, "side": side, "order_type": "market", "lots": lots}
        return what | levels | self._targets(choice)

    def _pending_order(self, choice: random.Random) -> Signal:
        symbol = choice.choice(SYMBOLS)
        if symbol not in self.prices:
            return self._market_order(choice)
        side, kind = choice.choice(["buy", "sell"]), choice.choice(["limit", "stop"])
        away = choice.choice([NEAR, FAR]) * (1 if (side == "buy") == (kind == "stop") else -1)
        what = {"action": "open", "symbol": symbol, "side": side, "order_type": kind, "lots": 0.1}
        what["price"] = self._price(symbol, away)
        if choice.random() < 0.3:
            what["expires_ms"] = self.now_ms + EXPIRES_MS
        return what | self._targets(choice)

    def _close_symbol(self, choice: random.Random) -> Signal:
        return {"action": "close", "symbol": choice.choice(SYMBOLS)} | self._targets(choice)

    def _close_all(self, choice: random.Random) -> Signal:
        return {"action": "close", "all": True} | self._targets(choice)

    def _close_ticket(self, choice: random.Random) -> Signal:
        if not self.tickets:
            return self._close_symbol(choice)
        terminal_id, ticket = self.tickets.popleft()
        return {"action": "close", "position_ticket": ticket, "targets": {"terminals": [terminal_id]}}

    def _close_part(self, choice: random.Random) -> Signal:
        part = {"fraction": choice.choice([0.3, 0.5])}
        if self.opens and choice.random() < 0.5:
            made = choice.choice(self.opens)
            return {"action": "close", "opened_by": made["signal_id"], "targets": made["targets"]} | part
        return self._close_symbol(choice) | part

    def _modify(self, choice: random.Random) -> Signal:
        if self.pending and choice.random() < 0.4:
            made = choice.choice(self.pending)
            away = choice.choice([NEAR, FAR]) * (1 if made["price"] > self.prices[made["symbol"]] else -1)
            what = {
                "action": "modify",
                "opened_by": made["signal_id"],
                "price": self._price(made["symbol"], away),
            }
            return what | {"targets": made["targets"]}
        if not self.opens:
            return self._market_order(choice)
        made = choice.choice(self.opens)
        levels = self._levels(choice, made["symbol"], made["side"], choice.choice([NEAR, FAR])) or {
            "stop_loss": 0
        }
        return {"action": "modify", "opened_by": made["signal_id"], "targets": made["targets"]} | levels

    def _cancel(self, choice: random.Random) -> Signal:
        if self.pending and choice.random() < 0.5:
            made = choice.choice(self.pending)
            return {"action": "cancel", "opened_by": made["signal_id"], "targets": made["targets"]}
        return {"action": "cancel", "symbol": choice.choice(SYMBOLS)} | self._targets(choice)

    def _close_by(self, choice: random.Random) -> Signal:
        return {"action": "close_by", "symbol": choice.choice(SYMBOLS)} | self._targets(choice)

    def _protect(self, choice: random.Random) -> Signal:
        if not self.opens or not self.prices:
            return self._market_order(choice)
        made = choice.choice(self.opens)
        distance = round(self.prices.get(made["symbol"], 1.0) * FAR / 2, DIGITS[made["symbol"]])
        what = {"action": "protect", "opened_by": made["signal_id"], "trailing": {"distance": distance}}
        return what | {"targets": made["targets"]}

    # --- prices ---

    def _price(self, symbol: str, away: float) -> float:
        return round(self.prices[symbol] * (1 + away), DIGITS[symbol])

    def _levels(self, choice: random.Random, symbol: str, side: str, away: float) -> Signal:
        if symbol not in self.prices:
            return {}
        sign = 1 if side == "buy" else -1
        levels = {
            "stop_loss": self._price(symbol, -sign * away),
            "take_profit": self._price(symbol, sign * away),
        }
        return levels if choice.random() < 0.7 else {"stop_loss": levels["stop_loss"]}


def last_wish(terminals: tuple[str, ...], choice: random.Random) -> Signal:
    """Takes back what waits at the brokers, so that every order comes to an end."""
    signal_id = str(uuid.UUID(int=choice.getrandbits(128), version=4))
    return {"signal_id": signal_id, "action": "cancel", "all": True, "targets": {"terminals": [*terminals]}}
