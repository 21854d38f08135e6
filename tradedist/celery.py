"""The Celery application: JSON only, one queue per terminal, a queue for the beat's housekeeping.

Celery on Redis may lose a message (it pops first and notes it as unacknowledged later), so that a task is only a
wake-up and a record here: the outbox in RTSS is the truth, and the executor's journal makes a second delivery harmless.
"""

import os

from celery import Celery
from kombu import Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradedist.settings")

from django.conf import settings

from tradedist import keys
from tradedist.nodes import read_nodes

broker, nodes = read_nodes(settings.REDIS_STATE_URL)
app = Celery("tradedist", broker=broker, set_as_current=True)
app.conf.update(
    broker_transport="tradedist.celery_transport:Transport" if nodes else None,
    imports=["executors.tasks"],
    task_serializer="json",
    accept_content=["json"],
    result_accept_content=["json"],
    task_ignore_result=True,
    task_acks_late=True,
    task_default_queue=keys.HOUSEKEEPING_QUEUE,
    task_queues=[Queue(keys.HOUSEKEEPING_QUEUE)],
    task_create_missing_queues=True,
    task_send_sent_event=False,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    worker_consumer="tradedist.celery_consumer:QuickConsumer",
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    event_queue_expires=60,
    event_queue_ttl=30,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_channel_error_retry=True,
    broker_transport_options={
        "nodes": nodes,
        "socket_timeout": 1,  # of each command: what a worker had to say when its broker froze is several
        "socket_connect_timeout": 0.5,
        "socket_keepalive": True,
        # a broker that hangs is noticed 1 to 1.5 seconds after its last answer: BRPOP waits half a second at the server
        "health_check_interval": 0.5,
        # a task of ours waits for an order at most a minute; a message given out twice is harmless
        "visibility_timeout": 120,
    },
    timezone="UTC",
    beat_schedule={
        "flag-overdue": {"task": "executors.tasks.flag_overdue", "schedule": 1.0, "options": {"expires": 10}},
        "snapshot-accounts": {
            "task": "executors.tasks.snapshot_accounts",
            "schedule": 300.0,
            "options": {"expires": 120},
        },
        "clear-sessions": {
            "task": "executors.tasks.clear_sessions",
            "schedule": 21_600.0,
            "options": {"expires": 3600},
        },
        "note-settlements": {
            "task": "executors.tasks.note_settlements",
            "schedule": 30.0,
            "options": {"expires": 30},
        },
        "publish-configuration": {
            "task": "executors.tasks.publish_configuration",
            "schedule": 30.0,
            "options": {"expires": 30},
        },
    },
)
