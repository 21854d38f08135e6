"""`manage.py settle_order ORDER_ID`: settles by hand an order that stays open. See docs/operating.md."""

from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import uuid4

import redis
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from executors import settlement_desk as desk
from executors.errors import Refused
from executors.settlement import TRUTHS, Settlement
from tradedist.clock import now_ms
from tradedist.redis import state

WAIT_S = 5.0


class Command(BaseCommand):
    help = "Settles an order by hand: what became of it was seen elsewhere. Its executor has the last word."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("order_id", help="signal_id:terminal_id, as the admin shows it")
        parser.add_argument("--user", required=True, help="username of the admin who answers for it")
        parser.add_argument("--outcome", required=True, choices=[name.replace("_", "-") for name in TRUTHS])
        parser.add_argument("--lots", default="0", help="filled lots of the whole order")
        parser.add_argument("--price", default="0", help="their average price, if known")
        parser.add_argument("--evidence", required=True, help="where the outcome was seen")
        parser.add_argument("--reason", required=True, help="why it is settled by hand")
        parser.add_argument(
            "--executor-is-dead",
            metavar="TERMINAL",
            default="",
            help="you state that this terminal's executor and its host are gone for good: nothing is asked of it",
        )
        parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")

    def handle(self, *args: Any, **options: Any) -> None:
        client = state()
        try:
            self._settle(client, options)
        except Refused as refused:
            raise CommandError(refused.message) from None
        except redis.RedisError as error:
            raise CommandError(f"The state Redis does not answer: {error}") from None
        finally:
            client.close()

    def _settle(self, client: "redis.Redis", options: dict[str, Any]) -> None:
        user = get_user_model().objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']!r}. The admin lists them.")
        order = desk.find(client, options["order_id"])
        if order is None:
            raise CommandError("There is no such order. The admin's list of signals has the ids.")
        terminal_id = order.report.terminal_id
        dead = options["executor_is_dead"]
        if dead and dead != terminal_id:
            raise CommandError(f"The order is on {terminal_id}, not on {dead}.")
        try:
            lots, price = Decimal(options["lots"]), Decimal(options["price"])
        except InvalidOperation:
            raise CommandError("--lots and --price must be numbers, such as 0.10.") from None
        wish = desk.read_wish(
            {
                "settlement_id": str(uuid4()),
                "order_id": order.report.order_id,
                "terminal_id": terminal_id,
                "truth": options["outcome"].replace("-", "_"),
                "filled_lots": lots,
                "price": price,
                "evidence": options["evidence"],
                "reason": options["reason"],
                "by": user.get_username(),
                "report_seq": order.report.report_seq,
                "asked_ms": now_ms(),
                "forced": bool(dead),
            }
        )
        self.stdout.write(f"{order.report.order_id} is {order.report.state}: {order.report.message}")
        self.stdout.write(wish.sentence)
        if not options["yes"] and input("Type the terminal's id to confirm: ").strip() != terminal_id:
            raise CommandError("Not confirmed: nothing was changed.")
        if dead:
            desk.force(client, user, wish)
            self.stdout.write("Settled. Should that executor come back, its journal has the last word.")
        else:
            desk.ask(client, user, wish)
            self._tell(client, wish)

    def _tell(self, client: "redis.Redis", wish: Settlement) -> None:
        answer = desk.wait(client, wish, WAIT_S)
        if answer is None:
            self.stdout.write(
                "Asked. The executor has not answered yet: it does when it runs again, and the audit log shows it."
            )
        elif answer.done:
            self.stdout.write(answer.message)
        else:
            raise CommandError(answer.message)
