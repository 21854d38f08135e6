"""Faults of others are one line in the log; our own keep their traceback. Through the handler that every process has."""

import logging
import logging.config
import sys
from copy import deepcopy

import pytest
import redis
from celery.beat import SchedulingError
from django.conf import settings
from django.core.exceptions import DisallowedHost, PermissionDenied
from kombu.exceptions import EncodeError, OperationalError

from tradedist.log_lines import ForeignFaults


def written(fault: BaseException, message: str = "Couldn't ack %r", *args: object) -> str:
    """What the console would show of `logger.error(message, exc_info=True)`."""
    record = logging.LogRecord(
        "celery.worker.request",
        logging.ERROR,
        __file__,
        1,
        message,
        args or ("a1",),
        (type(fault), fault, fault.__traceback__),
    )
    assert ForeignFaults().filter(record)
    return logging.Formatter("%(message)s").format(record)


def raised(fault: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise fault from cause
    except type(fault):
        caught = sys.exc_info()[1]
        assert caught is not None
        return caught


def test_the_beat_says_it_without_its_stack() -> None:
    lost = raised(
        SchedulingError("Couldn't apply"), raised(OperationalError("x"), redis.TimeoutError("slow"))
    )
    assert (
        written(lost, "Message Error: %s\n%s", lost, ["a frame"])
        == "Message Error: Couldn't apply: TimeoutError: slow"
    )
    assert "Traceback" in written(raised(SchedulingError("ours"), ValueError("ours")))


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (raised(redis.TimeoutError("timed out")), "Couldn't ack 'a1': TimeoutError: timed out"),
        (
            raised(OperationalError("uncertain"), redis.ConnectionError("refused")),
            "Couldn't ack 'a1': ConnectionError: refused",
        ),
        (raised(DisallowedHost("ack")), "Couldn't ack 'a1'"),  # said already
        (raised(PermissionDenied()), "Couldn't ack 'a1'"),  # says nothing of its own
    ],
)
def test_what_others_did_is_one_line(fault: BaseException, line: str) -> None:
    assert written(fault) == line


@pytest.mark.parametrize(
    "fault", [KeyError("orders"), redis.ResponseError("a script of ours"), EncodeError("a task of ours")]
)
def test_our_own_fault_keeps_its_traceback(fault: BaseException) -> None:
    assert "Traceback" in written(raised(fault))


def test_every_process_writes_through_it(capsys: pytest.CaptureFixture[str]) -> None:
    configuration = deepcopy(settings.LOGGING)
    configuration["loggers"] = {"of-a-test": {"handlers": ["console"], "propagate": False, "level": "INFO"}}
    del configuration["root"]
    logging.config.dictConfig(configuration)
    logger = logging.getLogger("of-a-test")
    logger.error("accept", exc_info=raised(redis.ConnectionError("gone")))
    logger.error("accept", exc_info=raised(ValueError("ours")))
    said = capsys.readouterr().err
    logger.handlers.clear()
    assert "accept: ConnectionError: gone" in said
    assert said.count("Traceback") == 1
