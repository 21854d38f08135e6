"""Celery's consumer, but back at its broker within 50 ms, and with what it had taken before given out again.

Celery waits 2, 4, 6 … 30 seconds between two tries and has no setting for it. A state Redis that was restarted is back
within half a second, so a worker would sleep through several orders' wake-ups. What a killed worker had taken, Celery
gives out again only after the visibility timeout, under a lock that the killed worker may hold for five minutes.
"""

import logging
from typing import Any

import redis
from celery import Celery, bootsteps, signals
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown, reserved_requests

logger = logging.getLogger(__name__)

LOOK_S = 1.0  # after a task's end
SELDOM_S = 30.0  # whatever ended it
FIRST_S, STEP_S, LONGEST_S = 0.05, 0.05, 0.5


class NoLostAcknowledgement(bootsteps.StartStopStep):
    """A worker that may hold one message, and could not acknowledge it, would never ask for another one.

    Celery logs "Couldn't ack" and goes on; when the broker then answers again on the same connection (it was frozen, not
    killed) nothing ever ends the wait. In a solo worker no task is at work when a timer runs: a message that is held
    then is such a one, and a new connection has it given out again. It looks when a task has ended, and now and then.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._parent: Any = None
        self._timers: list[Any] = []

    def start(self, parent: Any) -> None:
        self._parent = parent
        self._timers = [parent.timer.call_repeatedly(SELDOM_S, self._look, (parent,))]
        signals.task_postrun.connect(self._task_ended)

    def stop(self, parent: Any) -> None:
        signals.task_postrun.disconnect(self._task_ended)
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _task_ended(self, **_: Any) -> None:
        """In a burst one look at its end; its acknowledgement follows in this thread."""
        for timer in self._timers[1:]:
            timer.cancel()
        self._timers[1:] = [self._parent.timer.call_after(LOOK_S, self._look, (self._parent,))]

    def _look(self, parent: Any) -> None:
        consumer = parent.task_consumer
        if consumer is not None and not (consumer.channel.qos.can_consume() or reserved_requests):
            raise redis.exceptions.ConnectionError("a task could not be acknowledged: connecting anew")


class QuickConsumer(Consumer):
    """`worker_consumer` of every worker here."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]  # made by celery as it is loaded
        default_steps = [
            *Consumer.Blueprint.default_steps,
            "tradedist.celery_consumer:NoLostAcknowledgement",
        ]

    def ensure_connected(self, conn: Any) -> Any:
        """Tries until it succeeds, or the worker is told to stop."""

        def said(error: Exception, interval: float) -> None:
            if interval >= LONGEST_S or self.broker_connection_retry_attempt == 0:
                logger.warning("the broker at %s does not answer: %s", conn.as_uri(), error)
            self.broker_connection_retry_attempt += 1

        connected = conn.ensure_connection(
            said,
            None,
            interval_start=FIRST_S,
            interval_step=STEP_S,
            interval_max=LONGEST_S,
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        self.broker_connection_retry_attempt = 0
        return connected


class GiveOutAgain(bootsteps.StartStopStep):
    """At each connection to the broker: the tasks that this worker's queue had lost to it are back in the queue."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def start(self, parent: Any) -> None:
        channel = parent.connection.default_channel
        with channel.conn_or_acquire() as client:
            tags = client.hkeys(channel.unacked_key)
            for tag in tags:
                channel.qos.restore_by_tag(tag.decode() if isinstance(tag, bytes) else tag, client)
        if tags:
            logger.info("%s tasks that were taken and not ended are given out again", len(tags))


def alone_at_its_queue(app: Celery, unacked: str) -> None:
    """For a worker that nobody shares its queue with, before it is made: its taken tasks are noted under its own names."""
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "unacked_key": unacked,
        "unacked_index_key": f"{unacked}.index",
        "unacked_mutex_key": f"{unacked}.mutex",
    }
    app.steps["consumer"].add(GiveOutAgain)
