"""`manage.py verify_audit`: recomputes the audit log's hash chain."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from executors import audit
from executors.models import AuditEntry


class Command(BaseCommand):
    help = "Checks that no entry of the audit log was changed, inserted or taken out."

    def handle(self, *args: Any, **options: Any) -> None:
        broken = audit.first_broken()
        if broken is not None:
            raise CommandError(
                f"Entry {broken} does not follow from the one before it: the log was altered there."
            )
        last = AuditEntry.objects.order_by("-position").first()
        if last is None:
            self.stdout.write("The audit log is empty.")
        else:
            self.stdout.write(f"{last.position} entries, unbroken. Newest hash: {last.hash}")
