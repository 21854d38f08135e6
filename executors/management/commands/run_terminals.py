"""`manage.py run_terminals`: the supervisor of this host's executors."""

import logging
from typing import Any

import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from executors import crashpoints
from executors.alerts import counts
from executors.supervisor import Supervisor
from executors.warm import OF_KIND, warm_up
from tradedist.celery import app
from tradedist.metrics_port import serve_metrics
from tradedist.redis import state

logger = logging.getLogger(__name__)


class ExecutorsCollector(Collector):
    """What the supervisor knows of its executors, read when Prometheus asks."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._redis = state()  # of the metrics' thread

    def collect(self) -> Any:
        running = GaugeMetricFamily(
            "tradedist_executor_up", "1 while the terminal's executor runs", labels=["terminal"]
        )
        restarts = CounterMetricFamily(
            "tradedist_executor_restarts", "Restarts by this supervisor", labels=["terminal"]
        )
        for terminal_id, child in list(self._supervisor.children.items()):
            running.add_metric([terminal_id], float(child.running))
            restarts.add_metric([terminal_id], child.restarts)
        yield running
        yield restarts
        alerts = CounterMetricFamily(
            "tradedist_alerts", "Alerts raised about this host's terminals", labels=["terminal", "code"]
        )
        try:
            for (terminal_id, code), count in counts(self._redis).items():
                if terminal_id in self._supervisor.children:
                    alerts.add_metric([terminal_id, code], count)
        except redis.RedisError as error:
            logger.warning("alerts could not be counted: %s", error)
        yield alerts


class Command(BaseCommand):
    help = "Run and watch the executors of every enabled terminal that is pinned to this host (HOST_ID)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="only prove that all of the program loads")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["check"]:
            warm_up(app, OF_KIND)
            return
        crashpoints.belongs_to("terminals")
        supervisor = Supervisor(app, settings.HOST_ID)
        REGISTRY.register(ExecutorsCollector(supervisor))
        server, _thread = serve_metrics(settings.TERMINALS_METRICS_PORT, REGISTRY)
        supervisor.children.close_in_child.append(server.socket.close)
        logger.info("supervising the terminals of host %s", settings.HOST_ID)
        supervisor.run()
        server.shutdown()
