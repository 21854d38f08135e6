"""A terminal's Celery worker as `executors.worker` makes it, with a task that notes what it does; for test_celery_worker.

`python -m tests.integration.tradedist.worker_probe NOTES` with REDIS_STATE_URL in the environment.
"""

import logging
import sys
import threading
import time
from pathlib import Path

import redis
from celery import Celery, shared_task
from django.conf import settings

from executors.link import ANSWER_S
from tradedist.celery_bell import Bell
from tradedist.redis import state

TERMINAL = "probe"
TASK = "tests.probe"


@shared_task(name=TASK)
def probe(text: str, seconds: float = 0.0) -> str:
    note(f"{text} begun")
    time.sleep(seconds)
    note(f"{text} done")
    return text


def note(text: str) -> None:
    with NOTES.open("a") as notes:
        notes.write(f"{time.time():.3f} {text}\n")


def watch(bell: Bell) -> None:
    """As an executor's link does: asks now and then, and says when there is no answer any more."""
    client, answered = state(ANSWER_S), True
    while True:
        time.sleep(settings.CONFIG_POLL_MS / 1000)
        try:
            client.ping()
            answered = True
        except redis.RedisError:
            if answered:
                bell.lost()
            answered = False


def main(app: Celery) -> None:
    from executors.worker import celery_worker

    logging.basicConfig(level="INFO")
    bell = Bell()
    threading.Thread(target=watch, args=(bell,), daemon=True).start()
    celery_worker(app, TERMINAL, bell).start()


if __name__ == "__main__":
    from tradedist.celery import app

    NOTES = Path(sys.argv[1])
    main(app)
