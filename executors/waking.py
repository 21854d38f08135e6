"""What the executor's threads wait at: as `queue.Queue` and `threading.Event`, without a lock in Python for each wait.

Precedes: the executor's inbox, the link's turns. An order passes here; in a process that has slept a Condition costs it a
tenth of a millisecond.
"""

import contextlib
import queue
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    def __init__(self, limit: int) -> None:
        self._items: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._limit = limit

    def put(self, item: T) -> None:
        """Raises queue.Full at the limit, which several who put at once may exceed by one each."""
        if self._items.qsize() >= self._limit:
            raise queue.Full
        self._items.put(item)

    def tell(self, item: T) -> None:
        """What is few and must not be lost, whatever the limit."""
        self._items.put(item)

    def empty(self) -> bool:
        """For the one thread that takes: raising and catching queue.Empty costs an order more."""
        return self._items.empty()

    def get(self, timeout_s: float) -> T:
        """Raises queue.Empty."""
        return self._items.get(timeout=timeout_s) if timeout_s > 0 else self._items.get_nowait()


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
