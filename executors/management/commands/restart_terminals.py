"""`manage.py restart_terminals`: replaces executors one by one after a change of the program, without a lost order."""

from typing import Any

import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from executors import operators
from tradedist.redis import state

SILENCE_S = (
    100.0  # a call to a broker may take long; nothing said for so long is a supervisor that is not there
)


class Command(BaseCommand):
    help = (
        "Load the program anew and replace this host's executors one by one, each between two orders. Orders that "
        "arrive meanwhile wait for the successor. Stops at the first one that does not serve again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("terminals", nargs="*", help="terminal ids; all of the host when none is given")
        parser.add_argument(
            "--host", default=settings.HOST_ID, help="HOST_ID of the machine (default: this one)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        client = state()
        try:
            command = operators.ask(client, options["host"], "restart", options["terminals"])
            answer = None
            for answer in operators.answers(client, command, silence_s=SILENCE_S):
                self.stdout.write(answer.text)
                if answer.failed:
                    raise CommandError("Not all executors were replaced.")
        except redis.RedisError as error:
            raise CommandError(f"The state Redis does not answer: {error}") from error
        if answer is None or not answer.done:
            raise CommandError(
                f"No supervisor of host {options['host']} answered. Is `terminals` running there, with this HOST_ID?"
            )
