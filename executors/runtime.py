"""Which executor this process runs. Set once by `worker`, read by the Celery tasks; None in every other process."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from executors.executor import Executor

_current: "Executor | None" = None


def set_current(executor: "Executor") -> None:
    global _current
    _current = executor


def current() -> "Executor":
    """Raises RuntimeError outside an executor process: a task went to the wrong queue."""
    if _current is None:
        raise RuntimeError("this process runs no executor: the task belongs on a terminal's queue")
    return _current
