"""`manage.py run_paper_broker`: the paper broker, configured by the settings. No database is opened."""

import logging.config

from django.conf import settings
from django.core.management.base import BaseCommand

from executors.terminals.paper.broker.broker import Options
from executors.terminals.paper.broker.server import run


class Command(BaseCommand):
    help = "Run the paper broker: simulated accounts on a recorded market"
    requires_system_checks = []

    def handle(self, *args: object, **options: object) -> None:
        logging.config.dictConfig(settings.LOGGING)
        run(
            Options(
                directory=settings.PAPER_BROKER_DIR,
                url=settings.PAPER_BROKER_URL,
                speed=settings.PAPER_SPEED_PERCENT / 100,
                seed=settings.PAPER_SEED,
                latency_scale=settings.PAPER_LATENCY_PERCENT / 100,
            )
        )
