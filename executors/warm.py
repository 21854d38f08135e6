"""What the supervisor imports before it forks: shared by all executors, and no time lost when one is started again.

Precedes: every fork. Follows: the supervisor's own start. Nothing here opens a file or a socket, or makes a Celery worker:
a worker made before the fork would share its event loop.
"""

import gc
import importlib

from celery import Celery

# Celery imports these only inside a worker.
MODULES = (
    "billiard._ext",
    "billiard.connection",
    "billiard.dummy",
    "billiard.pool",
    "billiard.reduction",
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.app.routes",
    "celery.apps.worker",
    "celery.concurrency.solo",
    "celery.events",
    "celery.events.dispatcher",
    "celery.events.state",
    "celery.fixups.django",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.consumer.delayed_delivery",
    "celery.worker.strategy",
    "encodings.idna",
    "executors.tasks",
    "executors.terminals.factory",
    "kombu.matcher",
    "kombu.mixins",
    "kombu.pidbox",
    "kombu.transport.redis",
    "stringprep",
)


def warm_up(app: Celery) -> None:
    for name in MODULES:
        importlib.import_module(name)
    for part in ("amqp", "control", "events", "tasks", "log"):
        getattr(app, part)
    app.finalize()
    gc.collect()
    gc.freeze()
