"""`manage.py seed_demo`: the demo's users, terminals and paper accounts; makes only what is missing."""

from typing import Any

import redis
from django.core.management.base import BaseCommand

from executors import configuration, demo


class Command(BaseCommand):
    help = "Makes the demo: admin, trader and viewer, three paper terminals. Repeating it changes nothing."

    def handle(self, *args: Any, **options: Any) -> None:
        for what in demo.seed():
            self.stdout.write(f"made {what}")
        try:
            configuration.publish_all()
        except redis.RedisError as error:
            self.stderr.write(
                f"The configuration is not published yet ({error}); the beat does it within 30 seconds."
            )
        self.stdout.write(f"Names and first passwords are in {demo.users_file()}")
