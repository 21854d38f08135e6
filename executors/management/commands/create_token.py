"""`manage.py create_token USER`: makes an API token and prints it, this once."""

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from executors import tokens
from executors.models import ApiToken


class Command(BaseCommand):
    help = "Prints a new API token of a user. Only its hash is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="username")
        parser.add_argument("--name", default="made on the command line", help="what will use it")
        parser.add_argument("--scope", choices=ApiToken.Scope.values, default=ApiToken.Scope.TRADE)
        parser.add_argument("--days", type=int, default=0, help="days until it expires; 0 = never")

    def handle(self, *args: Any, **options: Any) -> None:
        user = get_user_model().objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']!r}. The admin lists them.")
        if not user.is_active:
            raise CommandError(
                f"The user {options['user']!r} is not active. Activate him in the admin first."
            )
        if not 0 <= options["days"] <= 36_500:
            raise CommandError("--days must be from 0 to 36500.")
        expires_at = timezone.now() + timedelta(days=options["days"]) if options["days"] else None
        text, _ = tokens.create(
            user, options["name"][:80], actor="create_token", scope=options["scope"], expires_at=expires_at
        )
        self.stdout.write(text)
