"""`manage.py publish_config`: publishes every terminal's configuration and the modes to Redis, now, and has every web
process read users and grants anew: for changes that were made past the platform, in the database itself."""

from typing import Any

import redis
from django.core.management.base import BaseCommand, CommandError

from executors.configuration import publish_access, publish_all


class Command(BaseCommand):
    help = "Publishes configurations and modes to Redis; what is there already stays as it is."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            publish_access(anyway=True)
            published = publish_all()
        except redis.RedisError as error:
            raise CommandError(
                f"The state Redis does not answer: {error}. Start it, or correct REDIS_STATE_URL."
            ) from None
        self.stdout.write(f"{published.changed} changes published")
        if published.failed:
            raise CommandError(
                f"These cannot be published: {', '.join(published.failed)}. Save them in the admin."
            )
