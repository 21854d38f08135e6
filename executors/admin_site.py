"""What every page of the admin shares: admins only, each change in the audit log, each published at once.

Precedes: `admin` and `admin_pages`. Follows: Django's admin, which signs in at /login/.
"""

from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.db.models import Model
from django.http import HttpRequest

from executors import audit
from tradedist.addresses import client_address

SECRETS = ("password", "sha256")


class AuditedAdmin(admin.ModelAdmin):
    """Writes an audit entry wherever Django writes its own log, in the same transaction."""

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry:
        self._audit(request, "created", obj, message)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry:
        self._audit(request, "changed", obj, message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for obj in queryset:
            self._audit(request, "deleted", obj, [])
        return super().log_deletions(request, queryset)

    def _audit(self, request: HttpRequest, done: str, obj: Model, message: Any) -> None:
        name = str(obj._meta.verbose_name)
        audit.append(
            request.user,
            f"{name} {done}",
            f"{name} {obj.pk}: {obj}",
            {"fields": changed_fields(message)},
            address=client_address(request),
        )

    def tell_failure(self, request: HttpRequest) -> Any:
        """For `publish_after_commit`: shows on the next page that Redis did not take the change."""
        return partial(messages.warning, request)


def changed_fields(message: Any) -> list[str]:
    """Names of fields, never their values: some of them are secrets."""
    if not isinstance(message, list):
        return []
    return [
        name
        for part in message
        if isinstance(part, dict)
        for said in part.values()
        if isinstance(said, dict)
        for name in said.get("fields", [])
    ]
