"""System checks of the configuration that `manage.py check` and every start run.

Follows: settings and the tables. A wrong configuration is told in a sentence before it costs an order.
"""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError

from executors.configuration import build
from executors.credentials import CredentialError, unseal
from executors.models import Terminal


@register()
def check_redis_servers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """One instance for both would evict orders, or never evict ticks."""
    if settings.REDIS_STATE_URL == settings.REDIS_TICKS_URL:
        return [
            Error(
                "REDIS_STATE_URL and REDIS_TICKS_URL name the same server.",
                hint="Give each its own: the state server must never evict, the tick server must.",
                id="executors.E001",
            )
        ]
    return []


@register()
def check_order_ages(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    too_long = [
        name
        for name in ("MARKET_TTL_MS", "PENDING_TTL_MS", "CLOSE_TTL_MS")
        if getattr(settings, name) > settings.MAX_TTL_MS
    ]
    if settings.MAX_TTL_MS > 86_400_000:
        too_long.append("MAX_TTL_MS")
    return [
        Error(
            f"{name} is {getattr(settings, name)} ms, more than MAX_TTL_MS or than a day.",
            hint="Records are kept 48 hours; a signal must not outlive half of that.",
            id="executors.E002",
        )
        for name in too_long
    ]


@register(Tags.database)
def check_terminals(app_configs: Any, databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Every terminal's configuration can be built and its password opened. Runs with `check --database default`."""
    if not databases:
        return []
    found: list[CheckMessage] = []
    try:
        terminals = list(Terminal.objects.active())
    except DatabaseError:
        return []  # before the first migration
    for terminal in terminals:
        try:
            build(terminal)
            if terminal.sealed_password:
                unseal(settings.CREDENTIALS_KEY, terminal.terminal_id, terminal.sealed_password)
        except (ValueError, CredentialError) as error:
            found.append(
                Warning(
                    f"Terminal {terminal.terminal_id} cannot be used: {error}",
                    hint="Open it in the admin and save it again.",
                    obj=terminal,
                    id="executors.W001",
                )
            )
    return found
