"""Pure: when an accepted order's slower wake-ups go, by what its executor has reported meanwhile.

Precedes: fanout, which sleeps and sends. Follows: reports, as this process's hub reads them. Each wake-up that comes while
executors still run a fan-out costs them a turn on the processor, so that it waits for the orders, up to a bound; where
datagrams are lost it does not.
"""

from collections.abc import Iterable

from executors.messages import ExecutionReport
from executors.orders import OrderState

FRAME_S, EACH_FRAME_S = 0.004, 0.0003  # of a lost datagram an order is late by it, and by more in a fan-out
EACH_HEARD_FRAME_S = 0.0015  # instead, once executors of the same fan-out are seen at work: datagrams arrive
MANY_FRAMES = 130
EACH_TASK_S, MANY_TASKS = 0.001, 100  # added to the grace of Celery tasks for each of so many orders
EACH_OPEN_TASK_S, MANY_OPEN_TASKS = 0.004, 250  # and more, while some of them have no outcome yet
MOST_TERMINALS = 10_000


def frames_s(orders: int) -> float:
    """After the datagrams: frames to those that may not have had theirs."""
    return FRAME_S + EACH_FRAME_S * min(orders, MANY_FRAMES)


def last_frames_s(orders: int) -> float:
    """After the datagrams: frames to all that are still unheard of."""
    return FRAME_S + EACH_HEARD_FRAME_S * min(orders, MANY_FRAMES)


def tasks_s(orders: int) -> float:
    """On top of the grace, before any task of these is published."""
    return EACH_TASK_S * min(orders, MANY_TASKS)


def open_tasks_s(orders: int) -> float:
    """For how much longer the tasks wait for orders without an outcome."""
    return EACH_OPEN_TASK_S * min(orders, MANY_OPEN_TASKS)


class Progress:
    """What has been reported of orders whose wake-ups are not all sent. Its owner bounds how many it begins."""

    def __init__(self) -> None:
        self._orders: dict[str, OrderState] = {}
        self._deaf: dict[str, None] = {}  # terminals that datagrams did not reach the last time

    def begin(self, order_ids: Iterable[str]) -> None:
        for order_id in order_ids:
            self._orders.setdefault(order_id, OrderState.QUEUED)

    def end(self, order_ids: Iterable[str]) -> None:
        for order_id in order_ids:
            self._orders.pop(order_id, None)

    def reported(self, report: ExecutionReport) -> None:
        if report.report_seq == 0 or report.order_id not in self._orders:
            return  # accept's own report, or none of ours
        self._orders[report.order_id] = report.state
        if report.woken_by == "udp":
            self._deaf.pop(report.terminal_id, None)
        elif report.woken_by in ("tcp", "celery", "outbox"):
            self._deaf[report.terminal_id] = None
            while len(self._deaf) > MOST_TERMINALS:
                del self._deaf[next(iter(self._deaf))]

    def taken(self, order_id: str) -> bool:
        """An executor has it: no wake-up can tell it anything."""
        return self._orders.get(order_id, OrderState.QUEUED) is not OrderState.QUEUED

    def ended(self, order_id: str) -> bool:
        """It was sent to its broker and answered, or refused: its executor has the time for a task."""
        state = self._orders.get(order_id)
        return state not in (OrderState.QUEUED, OrderState.INTENT)

    def deaf(self, terminal_id: str) -> bool:
        return terminal_id in self._deaf

    def __len__(self) -> int:
        return len(self._orders)
