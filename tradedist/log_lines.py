"""One line in the log for a fault that is somebody else's: a store that went away, a client that sends rubbish.

Precedes: the console handler, in every process. Follows: logging calls, also those of Django and Celery, which add a whole
traceback to each. Traces of our own faults stay whole.
"""

import logging

import redis
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from kombu.exceptions import KombuError

FOREIGN = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    SuspiciousOperation,  # a Host header or a filter that is not allowed, and its like
    PermissionDenied,
    BadRequest,
)

SCHEDULING = "SchedulingError"  # of celery.beat, which no other process needs to load


class ForeignFaults(logging.Filter):
    """Says in words what a traceback through libraries would say. Lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        fault = record.exc_info[1] if record.exc_info else None
        while isinstance(fault, KombuError) or type(fault).__name__ == SCHEDULING:
            fault = fault.__cause__ or fault.__context__ if fault is not None else None
        if isinstance(fault, FOREIGN):
            said = record.getMessage().partition("\n")[0]  # the beat adds the stack
            if str(fault) not in said:
                said = f"{said}: {type(fault).__name__}: {fault}"
            record.msg, record.args = said, ()
            record.exc_info = record.exc_text = None
        return True
