"""What the executor's threads wait at: as `queue.Queue` and `threading.Event`, without a lock in Python for each wait.

Precedes: the executor's inbox, the link's turns. In a process that has slept a Condition costs a tenth of a millisecond.
"""

import contextlib
import queue
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Ear(Protocol):
    """Sockets at which the taking thread waits; what it hears it puts into the inbox."""

    def listen(self, timeout_s: float, there_is_more: Callable[[], bool]) -> None: ...

    def wake(self) -> None:
        """From any thread, after it has put something."""


class Inbox(Generic[T]):
    def __init__(self, limit: int) -> None:
        self._items: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._limit = limit
        self.ear: Ear | None = None  # where the taking thread waits, if not here

    def put(self, item: T) -> None:
        """Raises queue.Full at the limit, which several who put at once may exceed by one each."""
        if self._items.qsize() >= self._limit:
            raise queue.Full
        self._items.put(item)
        if self.ear is not None:
            self.ear.wake()

    def tell(self, item: T) -> None:
        """What is few and must not be lost, whatever the limit."""
        self._items.put(item)
        if self.ear is not None:
            self.ear.wake()

    # --- the one thread that takes ---

    def empty(self) -> bool:
        """Raising and catching queue.Empty costs an order more."""
        return self._items.empty()

    def take(self) -> T:
        """What is there. Raises queue.Empty."""
        return self._items.get_nowait()

    def get(self, timeout_s: float) -> T:
        """Raises queue.Empty. What is heard meanwhile, and puts nothing here, ends no wait."""
        if self.ear is None:
            return self._items.get(timeout=timeout_s) if timeout_s > 0 else self.take()
        until = time.monotonic() + timeout_s
        while True:
            self.ear.listen(timeout_s, self._is_there)
            if timeout_s <= 0 or self._is_there():
                return self.take()
            timeout_s = until - time.monotonic()

    def look(self) -> None:
        """What has come by the ear is put here, without waiting."""
        if self.ear is not None:
            self.ear.listen(0.0, self._is_there)

    def _is_there(self) -> bool:
        return not self._items.empty()


class Wake:
    def __init__(self) -> None:
        self._set: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        if self._set.empty():
            self._set.put(None)

    def is_set(self) -> bool:
        return not self._set.empty()

    def clear(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:  # two at once may both have set it
                self._set.get_nowait()

    def wait(self, timeout_s: float) -> bool:
        """Until it is set; False when it was not. Ends its being so, which is why only one thread waits."""
        try:
            self._set.get(timeout=timeout_s)
        except queue.Empty:
            return False
        return True
