"""What one socket has yet to be sent: order events in full, everything else as the latest value only.

Follows: the hub's callbacks put messages in, all on one event loop. Precedes: the socket's writer takes them out.
Nothing here waits or sends, so that a slow client can never hold up the reader that feeds all of them.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol, Self

MAX_EVENTS = 2_000
MAX_EVENT_BYTES = 192 * 1024  # with the 64 KiB that the transport may hold: 256 KiB a socket
TRY_AGAIN_LATER = 1013


class Latency(Protocol):
    """A histogram of seconds."""

    def observe(self, amount: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Stamp:
    """When the source made the message, and where its age is counted once it is sent."""

    source_ms: float
    histogram: Latency


class Latest(Protocol):
    """A message of which only the newest state matters. Shared between sockets: merging makes a new one."""

    @property
    def body(self) -> str: ...

    @property
    def stamp(self) -> Stamp | None: ...

    def merge(self, newer: Self) -> Self: ...


@dataclass(frozen=True, slots=True)
class Item:
    """One message to send: a JSON object as text, without its `n`."""

    body: str
    stamp: Stamp | None = None


class Mailbox:
    """Bounded. When order events overflow, `closing` and `overflowed` are set and nothing more is taken."""

    def __init__(self, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events: deque[Item] = deque()
        self._event_bytes = 0
        self._latest: dict[Hashable, Latest] = {}
        self._held: deque[Item] | None = None
        self.closing: tuple[int, str] | None = None
        self.overflowed = False

    def put(self, item: Item) -> None:
        """An event that must arrive, in order. While held, live events wait behind what is being caught up."""
        self._add(self._events if self._held is None else self._held, item)

    def put_ahead(self, item: Item) -> None:
        """An event that goes ahead of the held ones: a part of what is being caught up, or an answer."""
        self._add(self._events, item)

    def _add(self, queue: deque[Item], item: Item) -> None:
        if self.closing:
            return
        # One message may be larger than the bound by itself; nothing is added on top of a full box.
        if len(queue) >= self._max_events or self._event_bytes > self._max_bytes:
            self.overflowed = True
            self.close(
                TRY_AGAIN_LATER, "this connection reads too slowly; connect again with your last cursor"
            )
            return
        queue.append(item)
        self._event_bytes += len(item.body)

    def put_latest(self, key: Hashable, value: Latest) -> None:
        if self.closing:
            return
        known = self._latest.get(key)
        self._latest[key] = value if known is None else known.merge(value)

    def forget(self, key: Hashable) -> None:
        self._latest.pop(key, None)

    def hold(self) -> None:
        """Live events wait from now on; `release` lets them go."""
        if self._held is None:
            self._held = deque()

    def release(self) -> None:
        if self._held is not None:
            self._events.extend(self._held)
            self._held = None

    def close(self, code: int, reason: str) -> None:
        """The first reason stands."""
        if self.closing is None:
            self.closing = (code, reason)

    def take_event(self) -> Item | None:
        if not self._events:
            return None
        item = self._events.popleft()
        self._event_bytes -= len(item.body)
        return item

    def take_latest(self) -> list[Latest]:
        """All of them, in the order in which they first came. Nothing while events are held: a state that
        arrives during a catch-up belongs after it."""
        if self._held is not None or not self._latest:
            return []
        values = list(self._latest.values())
        self._latest.clear()
        return values

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    @property
    def has_latest(self) -> bool:
        return bool(self._latest) and self._held is None


class Pace:
    """How often states are flushed: every 20 ms, 50 ms while the event loop runs late."""

    NORMAL_S = 0.020
    LOADED_S = 0.050
    LATE_S = 0.015  # a timer that fires this late means load
    CALM_S = 1.0  # this long without lateness ends it

    def __init__(self) -> None:
        self._loaded_until = 0.0

    def late(self, lateness_s: float, now_s: float) -> None:
        """A timer fired `lateness_s` after its time."""
        if lateness_s > self.LATE_S:
            self._loaded_until = now_s + self.CALM_S

    def interval_s(self, now_s: float) -> float:
        return self.LOADED_S if now_s < self._loaded_until else self.NORMAL_S
