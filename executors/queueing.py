"""Pure: in which order an executor runs its legs.

Precedes: execution takes the next leg. Follows: wake-ups by any path put legs in. Legs run in leg_seq order; a missing
number is waited for until a read of the outbox shows that it isn't there. What is no open overtakes queued opens of
other symbols; a close or cancel takes older queued opens that it covers out of the queue.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from executors.messages import (
    AnySignal,
    CancelSignal,
    CloseBySignal,
    CloseSignal,
    Leg,
    ModifySignal,
    OpenSignal,
    ProtectSignal,
)

Other = ModifySignal | CloseSignal | CancelSignal | CloseBySignal | ProtectSignal
SymbolOf = Callable[[Other], str | None]


def means(signal: AnySignal, opened: OpenSignal) -> bool:
    """Whether the signal is about what this open makes. By ticket it means what exists, never a queued open."""
    if isinstance(signal, OpenSignal):
        return False
    pending_only = isinstance(signal, CancelSignal) or (
        isinstance(signal, ModifySignal) and signal.pending_only
    )
    if pending_only and not opened.pending:
        return False
    if isinstance(signal, CloseBySignal):
        return signal.symbol == opened.symbol
    if signal.opened_by is not None:
        return signal.opened_by == opened.signal_id
    return signal.all is True or (signal.symbol is not None and signal.symbol == opened.symbol)


def covers(signal: AnySignal, opened: OpenSignal) -> bool:
    """Whether the signal makes an older open pointless that is still queued: a whole close of what it would open at
    the market, a cancel of the pending order that it would place."""
    if isinstance(signal, CloseSignal):
        whole = signal.lots is None and signal.fraction is None
        return whole and not opened.pending and means(signal, opened)
    return isinstance(signal, CancelSignal) and means(signal, opened)


@dataclass(slots=True)
class LegQueue:
    """Legs of one epoch waiting to run. `next_seq` is the first number that is neither run nor waved through."""

    next_seq: int
    waiting: dict[int, tuple[Leg, str]] = field(default_factory=dict)  # leg_seq → leg, wake-up path
    ready: list[tuple[Leg, str]] = field(default_factory=list)  # in leg_seq order, without gaps
    _passed: set[int] = field(default_factory=set)  # numbers from next_seq on that need no leg any more
    _held: set[str] = field(default_factory=set)  # order ids of all that is waiting or ready

    def put(self, leg: Leg, path: str) -> bool:
        """Takes a leg that the journal does not know; False when it is here already.

        A number that has passed belongs to a leg that was overtaken before a restart, or was given out again after
        the store was rolled back: it runs before all that is ready.
        """
        seq = leg.leg_seq
        if leg.order_id in self._held:
            self.pass_by(seq)
            return False
        self._held.add(leg.order_id)
        if seq < self.next_seq or seq in self.waiting:
            self.ready.append((leg, path))
            self.ready.sort(key=lambda item: item[0].leg_seq)
            return True
        self.waiting[seq] = (leg, path)
        self._advance()
        return True

    def put_back(self, leg: Leg, path: str) -> None:
        """A leg that was taken and could not be tried: it is the next again."""
        self._held.add(leg.order_id)
        self.ready.insert(0, (leg, path))

    def drop(self, order_id: str) -> None:
        """Forget an order that became known to the journal while it waited here."""
        if order_id not in self._held:
            return
        self._held.discard(order_id)
        self.ready = [item for item in self.ready if item[0].order_id != order_id]
        for seq in [seq for seq, (leg, _) in self.waiting.items() if leg.order_id == order_id]:
            del self.waiting[seq]
            self.pass_by(seq)

    def drop_through(self, seq: int) -> None:
        """Forget everything up to a number: a journal that was lost may have run it."""
        for leg in [leg for leg, _ in (*self.ready, *self.waiting.values()) if leg.leg_seq <= seq]:
            self.drop(leg.order_id)
        if seq >= self.next_seq:
            self.next_seq = seq + 1
            self._advance()

    def pass_by(self, seq: int) -> None:
        """The number came with an order that is known already: it leaves no gap."""
        if seq >= self.next_seq and seq not in self.waiting:
            self._passed.add(seq)
            self._advance()

    def pop_expired(self, now_ms: int) -> list[tuple[Leg, str]]:
        """Takes out what is past its deadline, gap or not."""
        late = [item for item in self.ready if item[0].deadline_ms <= now_ms]
        if not late and not self.waiting:
            return late
        self.ready = [item for item in self.ready if item[0].deadline_ms > now_ms]
        for seq in [seq for seq, (leg, _) in self.waiting.items() if leg.deadline_ms <= now_ms]:
            late.append(self.waiting.pop(seq))
            self._passed.add(seq)
        self._held.difference_update(leg.order_id for leg, _ in late)
        self._advance()
        return late

    def gap(self) -> bool:
        """Whether legs wait for a number that has not come."""
        return bool(self.waiting)

    def newest(self) -> int:
        """The highest number that waits; 0 without a gap. A read of the outbox counts for the gaps below it."""
        return max(self.waiting, default=0)

    def close_gaps(self, outbox_seqs: set[int], *, below: int | None = None) -> None:
        """After a whole read of the outbox: numbers below a waiting leg that are not in it will not come.

        `below`: the highest number that waited when the read was asked for; gaps above it need another read.
        """
        while self.waiting:
            first = min(self.waiting)
            if below is not None and first > below:
                return
            if any(self.next_seq <= seq < first and seq not in self._passed for seq in outbox_seqs):
                return
            self.next_seq = first
            self._advance()

    def _advance(self) -> None:
        while True:
            if self.next_seq in self._passed:
                self._passed.discard(self.next_seq)
            elif (item := self.waiting.pop(self.next_seq, None)) is not None:
                self.ready.append(item)
            else:
                break
            self.next_seq += 1
        if self._passed:
            self._passed = {seq for seq in self._passed if seq >= self.next_seq}

    def take(
        self, symbol_of: SymbolOf = lambda signal: signal.symbol
    ) -> tuple[Leg, str, list[tuple[Leg, str]]] | None:
        """The next leg to run, its path, and the queued opens that it supersedes (removed from the queue).

        `symbol_of`: the canonical symbol that a signal by ticket or by its open is about; None when it is not known.
        """
        if not self.ready:
            return None
        chosen = 0
        for index, (leg, _) in enumerate(self.ready):
            if not isinstance(leg.signal, OpenSignal):
                if self._may_overtake(index, leg.signal, symbol_of):
                    chosen = index
                break  # what is no open is never overtaken
        leg, path = self.ready.pop(chosen)
        self._held.discard(leg.order_id)
        if not chosen:
            return leg, path, []
        older = self.ready[:chosen]
        superseded = [
            item
            for item in older
            if isinstance(item[0].signal, OpenSignal) and covers(leg.signal, item[0].signal)
        ]
        gone = {item[0].order_id for item in superseded}
        self.ready = [item for item in self.ready if item[0].order_id not in gone]
        self._held.difference_update(gone)
        return leg, path, superseded

    def _may_overtake(self, index: int, signal: Other, symbol_of: SymbolOf) -> bool:
        """Past each older open it must be of another symbol, or cover it. On a netting account all opens of a symbol
        make one position, so that even a ticket means them."""
        older = [leg.signal for leg, _ in self.ready[:index] if isinstance(leg.signal, OpenSignal)]
        symbol = symbol_of(signal)
        if symbol is None and not isinstance(signal, CloseBySignal) and signal.opened_by is not None:
            symbol = next((item.symbol for item in older if item.signal_id == signal.opened_by), None)
        return all(covers(signal, item) or (symbol is not None and symbol != item.symbol) for item in older)
