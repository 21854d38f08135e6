"""A terminal's Celery worker as `executors.worker` makes it, with a task that notes what it does; for test_celery_worker.

`python -m tests.integration.tradedist.worker_probe NOTES` with REDIS_STATE_URL in the environment.
"""

import logging
import sys
import time
from pathlib import Path

from celery import Celery, shared_task

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


def main(app: Celery) -> None:
    from executors.worker import celery_worker

    logging.basicConfig(level="INFO")
    celery_worker(app, TERMINAL).start()


if __name__ == "__main__":
    from tradedist.celery import app

    NOTES = Path(sys.argv[1])
    main(app)
