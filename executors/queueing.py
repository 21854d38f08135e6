"""Pure: in which order an executor runs its legs.

Precedes: execution takes the next leg. Follows: wake-ups by any path put legs in. Legs run in leg_seq order; a missing
number is waited for until a read of the outbox shows that it isn't there. A close overtakes queued opens of other
symbols, and cancels older queued opens that it covers.
"""

from dataclasses import dataclass, field

from executors.messages import CloseSignal, Leg, OpenSignal


def covers(close: CloseSignal, signal: OpenSignal) -> bool:
    """Whether a close means positions of this open. By ticket it means one that exists, never a queued open."""
    return close.position_ticket is None and (close.all is True or close.symbol == signal.symbol)


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

    def take(self) -> tuple[Leg, str, list[tuple[Leg, str]]] | None:
        """The next leg to run, its path, and the queued opens that it supersedes (removed from the queue)."""
        if not self.ready:
            return None
        chosen = 0
        for index, (leg, _) in enumerate(self.ready):
            if isinstance(leg.signal, CloseSignal) and self._may_overtake(index):
                chosen = index
                break
        leg, path = self.ready.pop(chosen)
        superseded: list[tuple[Leg, str]] = []
        if isinstance(leg.signal, CloseSignal):
            older = self.ready[:chosen]
            superseded = [item for item in older if self._covered(leg.signal, item[0])]
            gone = {item[0].order_id for item in superseded}
            self.ready = [item for item in self.ready if item[0].order_id not in gone]
            self._held.difference_update(gone)
        self._held.discard(leg.order_id)
        return leg, path, superseded

    def _may_overtake(self, index: int) -> bool:
        """A close passes only opens; older closes, and whatever else, keep their place before it."""
        return all(isinstance(leg.signal, OpenSignal) for leg, _ in self.ready[:index])

    @staticmethod
    def _covered(close: CloseSignal, leg: Leg) -> bool:
        return isinstance(leg.signal, OpenSignal) and covers(close, leg.signal)
