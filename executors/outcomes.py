"""The newest report of each order that this process has seen, for Celery tasks that wait for it.

Precedes: `tasks.execute_order` waits in the worker's main thread. Follows: the executor's thread reports.
"""

import threading
import time
from collections import OrderedDict

from executors.messages import ExecutionReport
from executors.orders import OrderState

KEPT = 2_000  # for a task that comes later than its order's end
UNDER_WAY = (OrderState.QUEUED, OrderState.INTENT)


class Outcomes:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._latest: OrderedDict[str, ExecutionReport] = OrderedDict()
        self._closed = False
        self._waiting = 0

    def __contains__(self, order_id: str) -> bool:
        return order_id in self._latest

    def put(self, report: ExecutionReport) -> None:
        if report.state in UNDER_WAY and report.order_id not in self._latest:
            return  # nobody is told of it, and its outcome follows
        with self._changed:
            self._latest[report.order_id] = report
            self._latest.move_to_end(report.order_id)
            while len(self._latest) > KEPT:
                self._latest.popitem(last=False)
            if self._waiting:
                self._changed.notify_all()

    def wait(self, order_id: str, timeout_s: float) -> ExecutionReport | None:
        """The order's newest report once it has left QUEUED and INTENT; None when that takes longer."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                report = self._latest.get(order_id)
                if report is not None and report.state not in UNDER_WAY:
                    return report
                left = deadline - time.monotonic()
                if left <= 0 or self._closed:
                    return None
                self._waiting += 1
                try:
                    self._changed.wait(left)
                finally:
                    self._waiting -= 1

    def close(self) -> None:
        """The executor ends: nobody waits any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
