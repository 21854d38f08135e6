"""`manage.py move_terminal ID --to-host HOST`: moves a terminal to another machine. See docs/operating.md."""

import time
from typing import Any

import redis
from django.core.management.base import BaseCommand, CommandError, CommandParser

from executors import moving
from executors.errors import Refused
from tradedist import keys
from tradedist.redis import state

SERVE_S = 60.0


class Command(BaseCommand):
    help = (
        "Move a terminal to another host: the old one stops its executor and proves it, the epoch rises, the new one "
        "begins with a journal of its own and looks up every order that is not settled."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("terminal_id")
        parser.add_argument("--to-host", required=True, help="HOST_ID of the machine that takes it")
        parser.add_argument(
            "--old-host-is-dead",
            action="store_true",
            help="you state that the old machine is off and stays off: nothing is asked of it",
        )
        parser.add_argument("--user", default="command line", help="who answers for it, for the audit log")

    def handle(self, *args: Any, **options: Any) -> None:
        client = state()
        try:
            moved = moving.move(
                client,
                options["terminal_id"],
                options["to_host"],
                old_host_is_dead=options["old_host_is_dead"],
                by=options["user"],
                say=self.stdout.write,
            )
            self.stdout.write(f"{moved.pk} belongs to host {moved.host_id} now, epoch {moved.epoch}.")
            self._wait(client, moved.pk, moved.host_id)
        except Refused as refused:
            raise CommandError(refused.message) from None
        except redis.RedisError as error:
            raise CommandError(f"The state Redis does not answer: {error}") from None
        finally:
            client.close()

    def _wait(self, client: "redis.Redis", terminal_id: str, host_id: str) -> None:
        until = time.monotonic() + SERVE_S
        while time.monotonic() < until:
            row: Any = client.hgetall(keys.instance(terminal_id))
            if row.get("host") == host_id and row.get("state") == "READY":
                self.stdout.write(
                    f"{terminal_id} is connected on {host_id}. Orders that were not settled are looked up."
                )
                return
            time.sleep(0.2)
        self.stdout.write(
            f"{terminal_id} is not READY on {host_id} yet: its terminal may not run there. The page shows its state."
        )
