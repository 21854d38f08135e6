"""API tokens: made once and shown once, kept as a hash, looked up at each use.

Precedes: REST and the sockets ask `token_user` whose token it is. Follows: the admin and `manage.py create_token`.
A token of scope `view` marks its user, and `grants` then lets him only look.
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from executors import audit
from executors.models import ApiToken

MARK = "td_"  # so that a leaked token is recognised
MAX_LENGTH = 100
NOTE_USE_EVERY = timedelta(minutes=1)


def create(
    user: Any,
    name: str,
    *,
    actor: audit.Actor,
    scope: str = ApiToken.Scope.TRADE,
    expires_at: datetime | None = None,
) -> tuple[str, ApiToken]:
    """The token's text, which is not kept, and its record."""
    token = ApiToken(user=user, name=name, scope=scope, expires_at=expires_at)
    text = fill(token)
    with transaction.atomic():
        token.save()
        note_creation(token, actor=actor)
    return text, token


def fill(token: ApiToken) -> str:
    """Gives a record that is not saved yet its hash; the text is what the user gets to see."""
    text = MARK + secrets.token_urlsafe(32)
    token.sha256 = fingerprint(text)
    return text


def note_creation(token: ApiToken, *, actor: audit.Actor) -> None:
    about = {"scope": token.scope, "token": token.pk}
    audit.append(actor, "token created", f"{token.name} of {token.user.get_username()}", about)


def revoke(token: ApiToken, *, actor: audit.Actor) -> None:
    if token.revoked_at is None:
        token.revoked_at = timezone.now()
        token.save(update_fields=["revoked_at"])
        audit.append(
            actor, "token revoked", f"{token.name} of {token.user.get_username()}", {"token": token.pk}
        )


def fingerprint(text: str) -> str:
    """The text has 256 random bits, so that a plain hash is as good as a slow one."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def find_user(text: str) -> Any | None:
    """The active user of a valid token, marked with its scope; None otherwise."""
    if not text.startswith(MARK) or len(text) > MAX_LENGTH:
        return None
    token = ApiToken.objects.select_related("user").filter(sha256=fingerprint(text)).first()
    now = timezone.now()
    if token is None or not token.valid(now) or not token.user.is_active:
        return None
    if token.last_used_at is None or now - token.last_used_at > NOTE_USE_EVERY:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=now)
        ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)
    user: Any = token.user
    user.token_scope = token.scope
    return user


async def token_user(text: str) -> Any | None:
    return await sync_to_async(find_user)(text)
