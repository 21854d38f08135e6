"""The demo that `make run` starts with: three users, three paper accounts of different brokers, a group, its grants.

Follows: `manage.py seed_demo`. Precedes: the admin, where all of it may be changed; a second seeding makes only what
is missing and changes nothing that is there.
"""

import json
import os
import secrets
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction

from executors import audit
from executors.credentials import seal, unseal
from executors.models import Member, Terminal, TerminalGrant, TerminalGroup
from executors.terminals.paper.broker import personalities
from executors.terminals.paper.broker.broker import Broker, Options
from executors.terminals.paper.broker.ledger import LedgerError
from executors.terminals.paper.link import Link

USERS = {"admin": Member.Role.ADMIN, "trader": Member.Role.TRADER, "viewer": Member.Role.VIEWER}
GROUP = "all"
ACTOR = "seed_demo"
ADMIN = Member.Role.ADMIN


@dataclass(frozen=True, slots=True)
class Account:
    """A paper account, and the terminal that trades it."""

    terminal_id: str
    label: str
    login: int
    personality: str  # of the paper broker: it decides server, symbols' suffix and clock
    currency: str
    balance: float
    leverage: int
    terminal: dict[str, Any] = field(default_factory=dict)


ACCOUNTS = (
    Account("london-1", "London 1", 1_000_001, "ecn", "USD", 100_000, 100,
            {"sizing_value": Decimal("1"), "tick_priority": 1, "max_lots": Decimal("50")}),
    Account("tokyo-2", "Tokyo 2", 1_000_002, "classic", "JPY", 5_000_000, 100,
            {"sizing_value": Decimal("0.5"), "tick_priority": 2, "max_lots": Decimal("20")}),
    Account("zurich-3", "Zurich 3", 1_000_003, "micro", "EUR", 250_000, 200,
            {"sizing_value": Decimal("2"), "max_lots": Decimal("50")}),
)  # fmt: skip


def users_file() -> Path:
    """First passwords, for the operator's eyes; made once, readable by this user alone."""
    return Path(settings.SECRETS_DIR) / "demo-users.json"


def seed() -> list[str]:
    """Makes what is missing; says in sentences what it made. The accounts come last: they need the database's
    passwords, and may be made again at any time."""
    with transaction.atomic():
        done = [*_users(), *_terminals(), *_group()]
    ensure_accounts()
    return done


def _users() -> list[str]:
    model = get_user_model()
    done = []
    for username, role in USERS.items():
        if model.objects.filter(username=username).exists():
            continue
        user = model.objects.create_user(
            username, password=_password(username), is_staff=role == ADMIN, is_superuser=role == ADMIN
        )
        Member.objects.create(user=user, role=role)
        audit.append(ACTOR, "user created", username, {"role": role})
        done.append(f"user {username}")
    return done


def _password(username: str) -> str:
    """From the file, else a fresh one that is put there first: a crash in between locks nobody out."""
    path = users_file()
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    if username not in known:
        known[username] = secrets.token_urlsafe(12)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(known, indent=2) + "\n")
        fresh.replace(path)
    return known[username]


def _terminals() -> list[str]:
    done = []
    for account in ACCOUNTS:
        if Terminal.objects.filter(pk=account.terminal_id).exists():
            continue
        kind = personality(account)
        sealed = seal(settings.CREDENTIALS_KEY, account.terminal_id, secrets.token_urlsafe(12))
        Terminal.objects.create(
            terminal_id=account.terminal_id,
            label=account.label,
            kind=Terminal.Kind.PAPER,
            login=account.login,
            server=kind.server,
            server_timezone=kind.server_timezone,
            symbol_suffix=kind.suffix,
            symbol_prefix=kind.prefix,
            sealed_password=sealed,
            **account.terminal,
        )
        audit.append(ACTOR, "terminal created", f"terminal {account.terminal_id}", {"login": account.login})
        done.append(f"terminal {account.terminal_id}")
    return done


def _group() -> list[str]:
    group, made = TerminalGroup.objects.get_or_create(slug=GROUP, defaults={"label": "Demo desk"})
    if not made:
        return []
    group.terminals.set(Terminal.objects.filter(pk__in=[account.terminal_id for account in ACCOUNTS]))
    for username, level in (("trader", TerminalGrant.Level.TRADE), ("viewer", TerminalGrant.Level.VIEW)):
        user = get_user_model().objects.get(username=username)
        TerminalGrant.objects.get_or_create(user=user, terminal_group=group, defaults={"level": level})
        audit.append(ACTOR, "grant created", f"group {GROUP}", {"user": username, "level": level})
    return [f"group {GROUP}"]


def personality(account: Account) -> personalities.Personality:
    return personalities.load(settings.PAPER_BROKER_DIR).personalities[account.personality]


def ensure_accounts() -> None:
    """Makes the demo terminals' accounts at the paper broker: straight in its ledger while it does not run, else by
    its operator's call."""
    wanted: list[dict[str, Any]] = []
    for account in ACCOUNTS:
        terminal = Terminal.objects.active().filter(pk=account.terminal_id, login=account.login).first()
        if terminal is not None and terminal.sealed_password:
            password = unseal(settings.CREDENTIALS_KEY, terminal.pk, terminal.sealed_password)
            wanted.append(
                {
                    "login": account.login,
                    "password": password,
                    "personality": account.personality,
                    "balance": account.balance,
                    "currency": account.currency,
                    "leverage": account.leverage,
                    "margin_mode": None,
                    "name": account.label,
                }
            )
    try:
        broker = Broker(Options(settings.PAPER_BROKER_DIR, settings.PAPER_BROKER_URL))
    except LedgerError:  # it runs
        link = Link(settings.PAPER_BROKER_URL)
        try:
            for wish in wanted:
                link.ask("admin.ensure_account", *wish.values())
        finally:
            link.close()
        return
    try:
        for wish in wanted:
            broker.op_ensure_account(**wish)
        broker.ledger.sync()
    finally:
        broker.close()
