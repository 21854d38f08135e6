"""Moves stop losses as prices move: trailing stops and break-even, armed per position and kept in the journal.

Precedes: the terminal, by SLTP requests. Follows: execution arms what opens and protect signals wish; the executor's
thread calls `see` with each reading of the positions and `step` between orders, never within one. A move whose answer
is lost needs no looking up: the next reading shows the stop loss as it is, and the rule is applied to that. A move sets
both levels: a position whose levels an order is changing, or has just changed, is left alone.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from executors import retcodes, sending
from executors.errors import TerminalUnavailable
from executors.journal import Journal
from executors.lagging import LaggingHoldings
from executors.legs import LegRow
from executors.messages import OpenSignal, ProtectSignal
from executors.orders import SETTLED, OrderState, Outcome
from executors.protection import Protection, even_reached, next_stop, turned
from executors.specs import Specs
from executors.terminals.base import Position, Terminal, Tick, TradeRequest
from executors.wishes import SLTP

logger = logging.getLogger(__name__)

GONE_MS = 10_000  # a position that is missing for so long is gone, however its list lags
BEHIND_MS = 20  # until a list is read again that lags behind an answer
PAUSE_MS, LONGEST_PAUSE_MS = 1_000, 60_000  # after a refusal; doubles
HALTED = "The terminal is halted: its stop losses are not moved."

Key = tuple[str, int]  # (order_id of the open, position_ticket; 0: those it will have)


class Guard:
    """One terminal's. `belongs`: whether a position is what an open made. `asked`: positions whose levels an order has
    asked to change, without an answer yet. Times are monotonic ms."""

    def __init__(
        self,
        terminal: Terminal,
        journal: Journal,
        specs: Specs,
        *,
        belongs: Callable[[LegRow, Position], bool],
        asked: Callable[[], set[int]],
        holdings: LaggingHoldings,
        monotonic_ms: Callable[[], float],
    ) -> None:
        self._terminal = terminal
        self._journal = journal
        self._specs = specs
        self._belongs = belongs
        self._asked = asked
        self._holdings = holdings
        self._now = monotonic_ms
        self._armed: dict[Key, Protection] = {
            (order_id, ticket): Protection.model_validate_json(text)
            for order_id, ticket, text in journal.protections()
        }
        self._keys: dict[int, Key] = {key[1]: key for key in self._armed if key[1]}
        self._held: dict[int, Position] = {}
        self._judged: dict[
            str, tuple[Decimal, Decimal]
        ] = {}  # symbol → the prices at which all stays as it is
        self._joined: set[Key] = set()  # (open, position) of templates that have been applied to it
        self._missing_ms: dict[Key, float] = {}
        self._paused: dict[int, tuple[float, float]] = {}  # position_ticket → until when, how long
        self._turn = 0  # which position is looked at first: none starves
        self._halted = False

    # --- arming; each within the commit of the order that asks for it ---

    def follow(self, row: LegRow) -> None:
        """An open that wishes protection: kept with its first INTENT, dropped when it ends without a fill."""
        signal = row.leg.signal
        if not isinstance(signal, OpenSignal):
            return
        if not self._armed and signal.trailing is None and signal.break_even is None:
            return
        key = (row.order_id, 0)
        if row.state is OrderState.INTENT and len(row.requests) == 1 and Protection.of(signal).armed:
            if row.requests[0].outcome is Outcome.PENDING:
                self._put(key, Protection.of(signal))
        elif key in self._armed and row.state in SETTLED and not row.filled_lots:
            self._drop(key)

    def adopt(self, row: LegRow) -> None:
        """An open that was given up as NOT_EXECUTED and shows up late: its wish holds again."""
        signal = row.leg.signal
        if isinstance(signal, OpenSignal) and Protection.of(signal).armed:
            self._put((row.order_id, 0), Protection.of(signal))

    def arm(self, signal: ProtectSignal, *, positions: dict[int, str], opens: list[str]) -> None:
        """`positions`: position_ticket → the open it came from, empty when it is not ours. `opens`: orders that may
        still make positions."""
        for ticket, order_id in positions.items():
            template = self._armed.get((order_id, 0)) if order_id else None
            key = self._keys.get(ticket, (order_id, ticket))
            self._merge(key, signal, template or Protection())
            self._paused.pop(ticket, None)
        for order_id in opens:
            self._merge((order_id, 0), signal, Protection())

    def _merge(self, key: Key, signal: ProtectSignal, otherwise: Protection) -> None:
        merged = self._armed.get(key, otherwise).merged(signal)
        # one that removes all is kept while its open may still make positions: they shall have none
        if merged.armed or key[1] == 0 or (key[0], 0) in self._armed:
            self._put(key, merged)
        elif key in self._armed:
            self._drop(key)

    # --- what is there ---

    def of(self, ticket: int) -> Protection | None:
        """What is armed for a position, for people."""
        found = self._keys.get(ticket)
        return self._armed[found] if found is not None and self._armed[found].armed else None

    @property
    def active(self) -> bool:
        return bool(self._armed)

    def see(self, positions: tuple[Position, ...]) -> None:
        """Positions as the terminal has them now: new ones are armed, what is gone is cleared."""
        if not self._armed:
            return
        held = {item.ticket: item for item in positions}
        if {ticket: _matters(item) for ticket, item in held.items()} != {
            ticket: _matters(item) for ticket, item in self._held.items()
        }:
            self._judged.clear()
        self._held = held
        now = self._now()
        self._drop_turned(positions)
        for key in [key for key in self._armed if key[1] == 0]:
            self._bind(key, positions, now)
        for key in [key for key in self._armed if key[1]]:
            if key[1] in self._held:
                self._missing_ms.pop(key, None)
            elif now - self._missing_ms.setdefault(key, now) >= GONE_MS:
                self._drop(key)
                self._paused.pop(key[1], None)

    def _drop_turned(self, positions: tuple[Position, ...]) -> None:
        """A netting account's position that was turned over, by the side that it has or by the new ticket that it got,
        is another trade's: what was armed for it ends here. New ones' side is kept."""
        renamed = {item.identifier for item in positions if item.ticket != item.identifier}
        for key in [key for key in self._armed if key[1]]:
            position, armed = self._held.get(key[1]), self._armed[key]
            if (position is None and key[1] in renamed) or (position is not None and turned(armed, position)):
                self._drop(key)
                self._paused.pop(key[1], None)
            elif position is not None and armed.side is None:
                self._put(key, armed.model_copy(update={"side": position.type}))

    def _bind(self, key: Key, positions: tuple[Position, ...], now: float) -> None:
        row = self._journal.get(key[0])
        if row is None:
            self._drop(key)
            return
        mine = [item for item in positions if self._belongs(row, item)]
        for item in mine:
            if item.ticket not in self._keys:
                self._put((key[0], item.ticket), self._armed[key].model_copy(update={"side": item.type}))
            elif (bound := self._keys[item.ticket])[0] != key[0] and (
                key[0],
                item.ticket,
            ) not in self._joined:
                # a netting account's position, of several opens: the newest wish counts
                wish = self._armed[key]
                self._put(
                    bound,
                    self._armed[bound].model_copy(
                        update={
                            "trailing": wish.trailing or self._armed[bound].trailing,
                            "break_even": wish.break_even or self._armed[bound].break_even,
                        }
                    ),
                )
            self._joined.add((key[0], item.ticket))
        if row.state not in SETTLED:
            self._missing_ms.pop(key, None)
        elif now - self._missing_ms.setdefault(key, now) >= GONE_MS:
            self._drop(key)  # every position that it made has had time to show up

    # --- moving ---

    def step(self, *, halted: bool = False) -> bool:
        """At most one stop loss is moved; True when one was. Raises TerminalError."""
        if self._halted and not halted:
            self._paused.clear()
            self._judged.clear()
        self._halted = halted
        tickets = [key[1] for key, item in self._armed.items() if key[1] in self._held and item.armed]
        ticks: dict[str, Tick | None] = {}
        waiting: set[str] = set()  # symbols of positions that are tried again later, whatever the price
        asked = self._asked() if tickets else set()
        for index in range(len(tickets)):
            ticket = tickets[(self._turn + index) % len(tickets)]
            position = self._held.get(ticket)
            if position is None:
                continue  # gone by a newer look, which a move before it in this step has taken
            if ticket in asked or self._is_paused(ticket):
                waiting.add(position.symbol)
                continue
            if position.symbol not in ticks:
                ticks[position.symbol] = self._terminal.tick(position.symbol)
            tick = ticks[position.symbol]
            if tick is not None and self._judged.get(position.symbol) == (tick.bid, tick.ask):
                continue
            if self._move(self._keys[ticket], position, ticks[position.symbol]):
                self._turn = (self._turn + index + 1) % len(tickets)
                return True
            if self._is_paused(ticket):
                waiting.add(position.symbol)
        self._judged |= {
            symbol: (tick.bid, tick.ask)
            for symbol, tick in ticks.items()
            if tick is not None and symbol not in waiting
        }
        return False

    def _move(self, key: Key, known: Position, tick: Tick | None) -> bool:
        if self._wanted(key, known, tick) is None:
            return False
        if self._halted:
            self._failed(key, HALTED)
            return False
        # the trader may have moved it since: the decision is made on what is there now
        self._held = {item.ticket: item for item in self._terminal.positions()}
        position = self._held.get(key[1])
        if position is None or turned(self._armed[key], position):
            return False
        if self._holdings.is_behind(position):
            self._paused[key[1]] = (self._now() + BEHIND_MS, 0.0)
            return False
        if (level := self._wanted(key, position, tick)) is None:
            return False
        request = TradeRequest(action=SLTP, symbol=position.symbol, position=key[1], sl=level, tp=position.tp)
        reply = sending.send(self._terminal, request)
        verdict = retcodes.judge(request, reply)
        if verdict.outcome in (Outcome.DONE, Outcome.UNKNOWN):
            self._holdings.changed(request)
        if verdict.outcome is Outcome.DONE:
            self._held[key[1]] = replace(position, sl=level)
            self._paused.pop(key[1], None)
            self._done(key, self._held[key[1]])
        else:
            self._failed(key, verdict.message)
            if reply.result is None and verdict.retriable:
                raise TerminalUnavailable("order_send", reply.error)
        return True

    def _wanted(self, key: Key, position: Position, tick: Tick | None) -> Decimal | None:
        spec = self._specs.get(position.symbol, self._now())
        if spec is None or tick is None:
            return None
        return next_stop(self._armed[key], position, tick, spec)

    def _done(self, key: Key, position: Position) -> None:
        armed = self._armed[key]
        reached = even_reached(armed, position)
        changed = armed.model_copy(
            update={
                "moves": armed.moves + 1,
                "error": "",
                "break_even": None if reached else armed.break_even,
            }
        )
        self._put(key, changed)

    def _failed(self, key: Key, message: str) -> None:
        _, before = self._paused.get(key[1], (0.0, 0.0))
        pause = min(max(before * 2, PAUSE_MS), LONGEST_PAUSE_MS)
        self._paused[key[1]] = (self._now() + pause, pause)
        if self._armed[key].error != message:
            logger.warning("stop loss of position %s: %s", key[1], message, extra={"action": "protect"})
            self._put(key, self._armed[key].model_copy(update={"error": message}))

    # --- small parts ---

    def _is_paused(self, ticket: int) -> bool:
        return self._paused.get(ticket, (0.0, 0.0))[0] > self._now()

    def _put(self, key: Key, protection: Protection) -> None:
        self._journal.protect(*key, protection.model_dump_json())
        self._armed[key] = protection
        self._judged.clear()
        if key[1]:
            self._keys[key[1]] = key

    def _drop(self, key: Key) -> None:
        self._journal.protect(*key, None)
        self._armed.pop(key, None)
        self._keys.pop(key[1], None)
        if not key[1]:
            self._joined = {item for item in self._joined if item[0] != key[0]}
        self._missing_ms.pop(key, None)


def _matters(position: Position) -> tuple[Decimal, Decimal, Decimal]:
    return position.sl, position.tp, position.price_open
