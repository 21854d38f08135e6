"""Pure: from frames that come twice, late or not at all to one ordered stream of ticks per symbol.

Precedes: charts.pipeline. Follows: verified frames from UDP and TCP (tradedist.wire).
`Sequencer`, one per source: the first copy of each frame, in order; gaps of UDP are filled from TCP or given up.
`Router`, one per symbol: of several sources the best one that is alive, so that no tick counts twice.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from charts.market import SourceTick
from tradedist.wire import WINDOW_BITS, Frame, ReplayWindow

Path = Literal["udp", "tcp"]

PATIENCE_MS = 50  # a gap waits this long for TCP when there is no TCP connection
TCP_PATIENCE_MS = 500  # and this long when there is one: it brings everything, in order
CATCH_UP_MS = 3_000  # after a start: so long the source has to connect by TCP and repeat what we missed
HELD_MAX = 2_048  # frames that wait for one before them
SILENT_MS = 2_000  # a source unheard for so long is not alive
SYMBOL_SILENT_MS = 10_000  # or without a tick of this symbol, while another source has some
SYMBOL_SILENT_TICKS = 3
STANDBY_MS = 3_000  # a standby source's ticks are kept so long, for taking over without a hole
STANDBY_MAX = 256


class Delivered(NamedTuple):
    frame: Frame
    gap: bool  # frames before this one are missing for good


class Position(NamedTuple):
    """How far a source's frames have been applied. Stored with the candles, so that a restart goes on exactly there."""

    boot_id: int
    high: int
    mask: int  # as in ReplayWindow


class Sequencer:
    """One source's frames. `offer` gives what is in turn now; call `expire` while `held` is not zero."""

    def __init__(self, position: Position | None, now_ms: float) -> None:
        self.boot_id = position.boot_id if position else 0
        self.connections = 0  # by TCP; for a moment two, when one is given up and the next one made
        self.duplicates = 0
        self.refused = 0  # of an earlier boot
        self.missed = 0  # frames given up
        self._window = ReplayWindow(position.high, position.mask) if position else ReplayWindow()
        # What was applied, apart from what is held: the two differ while something waits.
        self._applied = ReplayWindow(position.high, position.mask) if position else ReplayWindow()
        self._next = position.high + 1 if position else 1
        self._waiting: dict[int, tuple[Frame, float]] = {}
        self._catch_up_until = now_ms + CATCH_UP_MS
        self._gap = False

    @property
    def tcp_connected(self) -> bool:
        return self.connections > 0

    @property
    def held(self) -> int:
        return len(self._waiting)

    @property
    def position(self) -> Position:
        return Position(self.boot_id, self._applied.high, self._applied.mask)

    @property
    def complete_to(self) -> int:
        """Everything up to this number was seen: from the next one on the source repeats after a reconnect."""
        return self._next - 1

    def offer(self, frame: Frame, path: Path, now_ms: float) -> list[Delivered]:
        if frame.boot_id != self.boot_id:
            if frame.boot_id < self.boot_id:
                self.refused += 1
                return []
            self._start(frame.boot_id, now_ms)
        if path == "udp" and frame.seq - self._next >= WINDOW_BITS and self._expects_tcp(now_ms):
            return []  # so far ahead that it would push out of the window what TCP is about to bring; it brings this too
        if not self._window.accept(frame.seq):
            self.duplicates += 1
            # A copy by TCP still says that nothing before it will come by TCP any more.
            return self._skip_to(frame.seq) if path == "tcp" and frame.seq > self._next else []
        if frame.seq < self._next:
            self._applied.accept(frame.seq)
            return [Delivered(frame, gap=False)]  # given up before, here after all: a late one
        self._waiting[frame.seq] = (frame, now_ms)
        if frame.seq > self._next and path == "tcp":
            return self._skip_to(frame.seq)
        delivered = self._run()
        if len(self._waiting) > HELD_MAX:
            delivered += self._skip_to(min(self._waiting))
        return delivered

    def expire(self, now_ms: float) -> list[Delivered]:
        """Give up what has been waited for long enough."""
        delivered: list[Delivered] = []
        while self._waiting:
            first = min(self._waiting)
            if now_ms - self._waiting[first][1] < self._patience(now_ms):
                break
            delivered += self._skip_to(first)
        return delivered

    def _expects_tcp(self, now_ms: float) -> bool:
        return self.tcp_connected or now_ms < self._catch_up_until

    def _patience(self, now_ms: float) -> float:
        if now_ms < self._catch_up_until:
            return CATCH_UP_MS
        return TCP_PATIENCE_MS if self.tcp_connected else PATIENCE_MS

    def _start(self, boot_id: int, now_ms: float) -> None:
        """The source was started anew: what it saw in between nobody knows."""
        self.boot_id = boot_id
        self._window = ReplayWindow()
        self._applied = ReplayWindow()
        self._waiting.clear()
        self._next = 1
        self._gap = True
        self._catch_up_until = now_ms + CATCH_UP_MS

    def _skip_to(self, seq: int) -> list[Delivered]:
        """Deliver what waits up to `seq`, without what is missing between."""
        delivered: list[Delivered] = []
        while self._next <= seq:
            due = [number for number in self._waiting if number <= seq]
            if not due:
                break
            first = min(due)
            if first > self._next:
                self.missed += first - self._next
                self._gap = True
                self._next = first
            delivered += self._run()
        return delivered

    def _run(self) -> list[Delivered]:
        delivered: list[Delivered] = []
        while (waiting := self._waiting.pop(self._next, None)) is not None:
            delivered.append(Delivered(waiting[0], self._gap))
            self._applied.accept(self._next)
            self._gap = False
            self._next += 1
        return delivered


@dataclass(slots=True)
class _Candidate:
    priority: int
    last_tick_ms: float  # when it came
    ticks_since: int = 0  # while another source was active
    kept: deque[tuple[float, SourceTick]] = field(default_factory=lambda: deque(maxlen=STANDBY_MAX))


class Router:
    """One symbol's sources. `route` gives the ticks that count, in order of arrival."""

    __slots__ = ("_candidates", "_newest_ms", "active", "switches")

    def __init__(self) -> None:
        self.active = ""
        self.switches = 0
        self._candidates: dict[str, _Candidate] = {}
        self._newest_ms = 0  # the newest tick that counted

    def route(
        self, source: str, priority: int, tick: SourceTick, heard: dict[str, float], now_ms: float
    ) -> list[SourceTick]:
        """`heard`: when each source was last heard, by any frame."""
        candidate = self._candidates.get(source)
        if candidate is None:
            candidate = self._candidates[source] = _Candidate(priority, now_ms)
        candidate.priority = priority
        candidate.last_tick_ms = now_ms
        if source == self.active:
            if tick.time_ms > self._newest_ms:
                self._newest_ms = tick.time_ms
            return [tick]
        active = self._candidates.get(self.active)
        if active is None:
            self.active = source
            self._newest_ms = max(self._newest_ms, tick.time_ms)
            return [tick]
        candidate.kept.append((now_ms, tick))
        candidate.ticks_since += 1
        better = (priority, source) < (active.priority, self.active)
        if better or self._gone(active, candidate, heard, now_ms):
            return self._take_over(source, candidate, now_ms)
        return []

    def expire(self, heard: dict[str, float], now_ms: float) -> list[SourceTick]:
        """Fail over although nothing came just now. Call a few times a second."""
        active = self._candidates.get(self.active)
        if active is None or len(self._candidates) < 2 or now_ms - heard.get(self.active, 0) <= SILENT_MS:
            return []
        alive = [
            (candidate.priority, source)
            for source, candidate in self._candidates.items()
            if source != self.active and now_ms - heard.get(source, 0) <= SILENT_MS
        ]
        if not alive:
            return []
        source = min(alive)[1]
        return self._take_over(source, self._candidates[source], now_ms)

    def snapshot(self) -> list[str | int]:
        active = self._candidates.get(self.active)
        return [self.active, active.priority if active else 0, self._newest_ms]

    def restore(self, active: str, priority: int, newest_ms: int, now_ms: float) -> None:
        """The source that counted goes on counting; it has the usual time to be heard."""
        self.active = active
        self._newest_ms = newest_ms
        if active:
            self._candidates[active] = _Candidate(priority, now_ms)

    def _gone(
        self, active: _Candidate, candidate: _Candidate, heard: dict[str, float], now_ms: float
    ) -> bool:
        if now_ms - heard.get(self.active, 0) > SILENT_MS:
            return True
        return (
            now_ms - active.last_tick_ms > SYMBOL_SILENT_MS and candidate.ticks_since >= SYMBOL_SILENT_TICKS
        )

    def _take_over(self, source: str, candidate: _Candidate, now_ms: float) -> list[SourceTick]:
        """What the source sent while it stood by, as far as it is newer than what counted already."""
        self.active = source
        self.switches += 1
        ticks = [
            tick
            for came_ms, tick in candidate.kept
            if tick.time_ms > self._newest_ms and now_ms - came_ms <= STANDBY_MS
        ]
        for other in self._candidates.values():
            other.kept.clear()
            other.ticks_since = 0
        if ticks:
            self._newest_ms = max(tick.time_ms for tick in ticks)
        return ticks
