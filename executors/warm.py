"""What the supervisor imports before it forks: shared by all executors, and no time lost when one is started again.

Precedes: every fork. Follows: the supervisor's own start. Nothing here opens a file or a socket, or makes a Celery worker:
a worker made before the fork would share its event loop.
"""

import gc
import importlib
from collections.abc import Iterable

from celery import Celery, signals

from executors.credentials import seal, unseal

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
    "tradedist.celery_transport",
)


# What a terminal of each kind brings along; the official package is there on Windows only, where nothing is forked.
OF_KIND = {"paper": ("executors.terminals.paper",), "remote": ("executors.terminals.remote",)}


def warm_up(app: Celery, kinds: Iterable[str] = ()) -> None:
    """`kinds`: of the terminals that will be forked."""
    for name in (*MODULES, *(name for kind in kinds for name in OF_KIND.get(kind, ()))):
        importlib.import_module(name)
    unseal("warm", "warm", seal("warm", "warm", "warm"))  # OpenSSL reads its configuration at the first use
    for part in ("amqp", "control", "events", "tasks", "log"):
        getattr(app, part)
    app.finalize()
    _django_is_ready(app)
    gc.collect()
    gc.freeze()


def _django_is_ready(app: Celery) -> None:
    """Celery would set Django up again in each executor and check all its models, which no executor uses.

    Of what executors share it would write to 4 MB in each.
    """
    for fixup in vars(app)["_fixups"]:
        signals.import_modules.disconnect(fixup.on_import_modules, sender=app)
