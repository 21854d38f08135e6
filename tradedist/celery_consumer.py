"""Celery's consumer, but back at its broker within 50 ms.

Celery waits 2, 4, 6 … 30 seconds between two tries and has no setting for it. A state Redis that was restarted is back
within half a second, so a worker would sleep through several orders' wake-ups.
"""

import logging
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

logger = logging.getLogger(__name__)

FIRST_S, STEP_S, LONGEST_S = 0.05, 0.05, 0.5


class QuickConsumer(Consumer):
    """`worker_consumer` of every worker here."""

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
