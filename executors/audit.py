"""The audit log's only writer, and its check. Entries form a chain: each hash covers the hash before.

Follows: the admin, the API's mode switch, tokens, sign-ins and commands append here, in the transaction of the change
itself. `manage.py verify_audit` recomputes the chain.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import IntegrityError, transaction
from django.utils import timezone

from executors.configuration import access_changed
from executors.models import AuditEntry

ATTEMPTS = 20
FIRST = "0" * 64  # what the first entry follows

Actor = AbstractBaseUser | AnonymousUser | str


def append(
    actor: Actor, action: str, target: str, detail: Mapping[str, Any] | None = None, *, address: str = ""
) -> AuditEntry:
    """Two writers at once both want to follow the same entry; the second one tries again behind the first."""
    username = actor if isinstance(actor, str) else actor.get_username()
    transaction.on_commit(access_changed)  # whatever is worth an entry may change who may do what
    for attempt in range(ATTEMPTS):
        last = AuditEntry.objects.order_by("-position").first()
        entry = AuditEntry(
            position=last.position + 1 if last else 1,
            time=timezone.now(),
            username=username[:150],
            action=action[:60],
            target=target[:160],
            detail=dict(detail or {}),
            address=address[:45],
            previous=last.hash if last else FIRST,
        )
        entry.hash = digest(entry)
        try:
            with transaction.atomic():
                entry.save()
        except IntegrityError:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            return entry
    raise AssertionError("unreachable")


def digest(entry: AuditEntry) -> str:
    time: datetime = entry.time.astimezone(UTC)
    body = [
        entry.position,
        time.isoformat(timespec="microseconds"),
        entry.username,
        entry.action,
        entry.target,
        entry.detail,
        entry.address,
        entry.previous,
    ]
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def first_broken() -> int | None:
    """The position of the first entry that does not follow from the one before it; None when the chain holds.

    Entries cut off at the end leave no trace here: keep the newest hash elsewhere to notice that.
    """
    previous = FIRST
    entries = AuditEntry.objects.order_by("position").iterator(chunk_size=1000)
    for position, entry in enumerate(entries, 1):
        if entry.position != position or entry.previous != previous or entry.hash != digest(entry):
            return entry.position
        previous = entry.hash
    return None
