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

    def put(self, leg: Leg, path: str) -> bool:
        """Takes a leg that the journal does not know; False when it is waiting here already.

        A number that has passed belongs to a leg that was overtaken before a restart, or was given out again after
        the store was rolled back: it runs before all that is ready.
        """
        seq = leg.leg_seq
        if seq < self.next_seq:
            if any(other.order_id == leg.order_id for other, _ in self.ready):
                return False
            self.ready.append((leg, path))
            self.ready.sort(key=lambda item: item[0].leg_seq)
            return True
        if seq in self.waiting:
            return False
        self.waiting[seq] = (leg, path)
        self._advance()
        return True

    def pop_expired(self, now_ms: int) -> list[tuple[Leg, str]]:
        """Takes out what is past its deadline, gap or not."""
        late = [item for item in self.ready if item[0].deadline_ms <= now_ms]
        self.ready = [item for item in self.ready if item[0].deadline_ms > now_ms]
        for seq in [seq for seq, (leg, _) in self.waiting.items() if leg.deadline_ms <= now_ms]:
            late.append(self.waiting.pop(seq))
        return late

    def gap(self) -> bool:
        """Whether legs wait for a number that has not come."""
        return bool(self.waiting)

    def close_gaps(self, outbox_seqs: set[int]) -> None:
        """After a whole read of the outbox: numbers below a waiting leg that are not in it will not come."""
        while self.waiting:
            missing = [seq for seq in range(self.next_seq, min(self.waiting)) if seq in outbox_seqs]
            if missing:
                return
            self.next_seq = min(self.waiting)
            self._advance()

    def _advance(self) -> None:
        while (item := self.waiting.pop(self.next_seq, None)) is not None:
            self.ready.append(item)
            self.next_seq += 1

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
            gone = {item[0].leg_seq for item in superseded}
            self.ready = [item for item in self.ready if item[0].leg_seq not in gone]
        return leg, path, superseded

    def _may_overtake(self, index: int) -> bool:
        """A close passes only opens; older closes, and whatever else, keep their place before it."""
        return all(isinstance(leg.signal, OpenSignal) for leg, _ in self.ready[:index])

    @staticmethod
    def _covered(close: CloseSignal, leg: Leg) -> bool:
        return isinstance(leg.signal, OpenSignal) and covers(close, leg.signal)
