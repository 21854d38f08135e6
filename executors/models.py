"""Django's tables: what operators configure, who may see and trade it, and the audit log. No live state.

Precedes: `configuration` publishes terminals to Redis, `grants` answers who may do what. Follows: the admin and the
commands write here. Every change goes through `save()`, so that versions rise and fixed fields stay fixed.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, NoReturn, Self

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from executors.messages import SLUG

slug_validator = RegexValidator(
    SLUG.pattern.removesuffix("$") + r"\Z",  # in Python a `$` would let a newline follow
    "Use 1 to 48 lower-case letters, digits and hyphens, starting and ending with a letter or digit.",
)


def default_host() -> str:
    return settings.HOST_ID


class TerminalQuerySet(models.QuerySet["Terminal"]):
    def delete(self) -> NoReturn:
        raise TypeError("terminals are retired, not deleted: their ids are never used again")

    def active(self) -> Self:
        """Without the retired ones."""
        return self.filter(retired_at=None)


class Terminal(models.Model):
    """One MetaTrader 5 instance bound to one account. Another account is another terminal."""

    class Kind(models.TextChoices):
        METATRADER = "metatrader", "MetaTrader 5 on this host"
        REMOTE = "remote", "MetaTrader 5 through mt5linux"
        PAPER = "paper", "Paper broker"

    class Mode(models.TextChoices):
        ACTIVE = "ACTIVE", "Active"
        REDUCING = "REDUCING", "Reducing (closes only)"
        HALTED = "HALTED", "Halted"

    class Sizing(models.TextChoices):
        MULTIPLIER = "multiplier", "Signal's lots × value"
        FIXED = "fixed", "Value, whatever the signal says"

    FIXED: ClassVar[tuple[str, ...]] = ("terminal_id", "kind", "login", "server")
    """What never changes after creation: orders and journals refer to it."""

    UNPUBLISHED: ClassVar[frozenset[str]] = frozenset(
        {"version", "created_at", "updated_at", "mode", "mode_by_admin", "resumes"}
    )
    """Fields whose change makes no new configuration version (modes are published apart)."""

    terminal_id = models.CharField(
        max_length=48,
        primary_key=True,
        validators=[slug_validator],
        help_text="Names the terminal in every record, queue and journal. Fixed at creation, never used again.",
    )
    label = models.CharField(max_length=80, help_text="For people; may change freely.")
    kind = models.CharField(max_length=12, choices=Kind.choices, help_text="Fixed at creation.")
    login = models.PositiveBigIntegerField(
        validators=[MinValueValidator(1)], help_text="The account's number. Fixed at creation."
    )
    server = models.CharField(max_length=64, help_text="The broker's server name. Fixed at creation.")
    sealed_password = models.TextField(blank=True, editable=False)
    path = models.CharField(
        max_length=255,
        blank=True,
        help_text="metatrader: path of terminal64.exe; remote: host:port; paper: broker URL, empty = this one's.",
    )
    host_id = models.CharField(
        max_length=64,
        default=default_host,
        help_text="The machine (HOST_ID) whose supervisor runs this terminal.",
    )
    epoch = models.PositiveIntegerField(
        default=1, editable=False, help_text="Rises when an operator moves the terminal to another host."
    )
    enabled = models.BooleanField(
        default=True, help_text="Off: no executor runs, and no order is accepted for it."
    )
    retired_at = models.DateTimeField(null=True, blank=True, editable=False)

    server_timezone = models.CharField(
        max_length=40,
        default="UTC",
        help_text="Of the broker's clock: an IANA name such as Europe/Athens, or NY+7.",
    )
    symbol_map = models.JSONField(
        default=dict,
        blank=True,
        help_text='Where prefix and suffix are not enough: {"EURUSD": "EURUSD.pro"}.',
    )
    symbol_prefix = models.CharField(
        max_length=12, blank=True, help_text="Before every symbol at this broker."
    )
    symbol_suffix = models.CharField(max_length=12, blank=True, help_text="After every symbol, such as .m")
    symbols = models.JSONField(
        default=list,
        blank=True,
        help_text='Symbols that may be traded: ["EURUSD"]. Empty = all the broker has.',
    )
    tick_priority = models.PositiveSmallIntegerField(
        default=0,
        validators=[MaxValueValidator(1000)],
        help_text="0 = sends no ticks; 1 = first source of its symbols, 2 = second …",
    )
    deviation_points = models.PositiveIntegerField(
        default=20,
        validators=[MaxValueValidator(100_000)],
        help_text="Slippage allowed on market orders, in points.",
    )
    sizing_method = models.CharField(max_length=12, choices=Sizing.choices, default=Sizing.MULTIPLIER)
    sizing_value = models.DecimalField(
        max_digits=16,
        decimal_places=8,
        default=1,
        validators=[MinValueValidator(Decimal("0.00000001"))],
        help_text="The multiplier, or the fixed lots.",
    )
    max_lots = models.DecimalField(
        max_digits=16,
        decimal_places=8,
        default=0,
        validators=[MinValueValidator(0)],
        help_text="Most lots of one order; larger ones are denied. 0 = no limit.",
    )
    max_positions = models.PositiveIntegerField(
        default=0,
        validators=[MaxValueValidator(100_000)],
        help_text="Most positions open at once. 0 = no limit.",
    )
    orders_per_second = models.PositiveIntegerField(
        default=10, validators=[MaxValueValidator(100_000)], help_text="0 = no limit."
    )

    mode = models.CharField(
        max_length=8,
        choices=Mode.choices,
        default=Mode.ACTIVE,
        editable=False,
        help_text="Changed by the actions.",
    )
    mode_by_admin = models.BooleanField(default=False, editable=False)  # then only an admin loosens it again
    resumes = models.PositiveIntegerField(default=0, editable=False)  # counted: each one releases the breaker
    version = models.PositiveIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TerminalQuerySet.as_manager()

    class Meta:
        ordering = ("terminal_id",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["login", "server"],
                condition=Q(retired_at=None),
                name="one_terminal_per_account",
                violation_error_message="Another terminal has this login and server: orders would be sent twice.",
            ),
            models.CheckConstraint(condition=Q(sizing_value__gt=0), name="sizing_value_above_zero"),
        ]

    def __str__(self) -> str:
        return f"{self.label} ({self.terminal_id})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Raises the version when something that executors read has changed."""
        with transaction.atomic():
            stored = Terminal.objects.select_for_update().filter(pk=self.pk).first()
            if stored is None:
                self.version = 1
            else:
                if changed := [name for name in self.FIXED if getattr(stored, name) != getattr(self, name)]:
                    raise ValidationError(
                        {
                            name: "This never changes after creation. Make another terminal."
                            for name in changed
                        }
                    )
                if stored.retired_at and not self.retired_at:
                    raise ValidationError("A retired terminal stays retired. Make another one.")
                if stored.host_id != self.host_id:  # a move: legs of the old host are told apart by it
                    self.epoch = stored.epoch + 1
                names = [
                    field.attname
                    for field in self._meta.concrete_fields
                    if field.attname not in self.UNPUBLISHED
                ]
                differs = any(getattr(stored, name) != getattr(self, name) for name in names)
                self.version = stored.version + differs
                if kwargs.get("update_fields") is not None:
                    kwargs["update_fields"] = {*kwargs["update_fields"], "version", "updated_at"}
            super().save(*args, **kwargs)

    def clean(self) -> None:
        """The table refuses it as well; here it gets words."""
        same = Terminal.objects.active().filter(login=self.login, server=self.server).exclude(pk=self.pk)
        if self.retired_at is None and same.exists():
            raise ValidationError(
                {"login": "Another terminal has this login and server: orders would be sent twice."}
            )

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("a terminal is retired, not deleted: its id is never used again")

    def retire(self) -> None:
        """Takes it out of use for good; its id and account history keep their meaning."""
        self.retired_at = timezone.now()
        self.enabled = False
        self.save()


class TerminalGroup(models.Model):
    """Terminals that are granted and traded together."""

    slug = models.CharField(
        max_length=48,
        primary_key=True,
        validators=[slug_validator],
        help_text="Names the group in signals; fixed at creation.",
    )
    label = models.CharField(max_length=80)
    terminals = models.ManyToManyField(Terminal, blank=True, related_name="terminal_groups")

    class Meta:
        ordering = ("slug",)

    def __str__(self) -> str:
        return f"{self.label} ({self.slug})"


class TerminalGrant(models.Model):
    """Lets a user, or a group of users, view or trade a terminal, or a group of terminals."""

    class Level(models.TextChoices):
        VIEW = "view", "View"
        TRADE = "trade", "Trade (and view)"

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="terminal_grants",
    )
    user_group = models.ForeignKey(
        Group,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="terminal_grants",
        verbose_name="group of users",
    )
    terminal = models.ForeignKey(
        Terminal, null=True, blank=True, on_delete=models.PROTECT, related_name="grants"
    )
    terminal_group = models.ForeignKey(
        TerminalGroup, null=True, blank=True, on_delete=models.CASCADE, related_name="grants"
    )
    level = models.CharField(max_length=5, choices=Level.choices)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("pk",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(user=None, user_group__isnull=False) | Q(user__isnull=False, user_group=None),
                name="grant_to_user_or_group",
                violation_error_message="Choose either a user or a group of users.",
            ),
            models.CheckConstraint(
                condition=Q(terminal=None, terminal_group__isnull=False)
                | Q(terminal__isnull=False, terminal_group=None),
                name="grant_of_terminal_or_group",
                violation_error_message="Choose either a terminal or a group of terminals.",
            ),
            *(
                models.UniqueConstraint(
                    fields=[who, what],
                    name=f"one_grant_of_{what}_to_{who}",
                    violation_error_message="This grant exists; change its level instead.",
                )
                for who in ("user", "user_group")
                for what in ("terminal", "terminal_group")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.user_group} may {self.level} {self.terminal or self.terminal_group}"


class Member(models.Model):
    """A user's role. Without one a user is a viewer; what he sees is a matter of grants."""

    class Role(models.TextChoices):
        ADMIN = "admin", "Admin: configures, sees and trades everything"
        TRADER = "trader", "Trader: trades what he is granted"
        VIEWER = "viewer", "Viewer: only looks"

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="member")
    role = models.CharField(max_length=6, choices=Role.choices, default=Role.VIEWER)

    class Meta:
        verbose_name = "role"
        verbose_name_plural = "roles"

    def __str__(self) -> str:
        return f"{self.user}: {self.role}"


class ApiToken(models.Model):
    """A program's key to the API. Only its hash is kept; the token itself is shown once."""

    class Scope(models.TextChoices):
        VIEW = "view", "View only"
        TRADE = "trade", "View and trade, as far as the user may"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(
        max_length=80, help_text="What uses it, so that it can be told apart and revoked."
    )
    scope = models.CharField(max_length=5, choices=Scope.choices, default=Scope.TRADE)
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ("-created_at",)
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"

    def valid(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


class GlobalMode(models.Model):
    """The one row that holds the mode of the whole installation."""

    only = models.BooleanField(primary_key=True, default=True, editable=False)
    mode = models.CharField(max_length=8, choices=Terminal.Mode.choices, default=Terminal.Mode.ACTIVE)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(only=True), name="one_global_mode"),
        ]
        verbose_name_plural = "global mode"

    def __str__(self) -> str:
        return self.mode


class SignalRecord(models.Model):
    """No table: signals live in Redis. It gives the admin a place to show them."""

    signal_id = models.UUIDField(primary_key=True)

    class Meta:
        managed = False
        default_permissions = ()
        verbose_name = "signal"

    def __str__(self) -> str:
        return str(self.signal_id)


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    def update(self, **kwargs: Any) -> NoReturn:
        raise TypeError("the audit log is append-only")

    def delete(self) -> NoReturn:
        raise TypeError("the audit log is append-only")


class AuditEntry(models.Model):
    """Who did what, when. Each entry's hash covers the one before it; `audit.append` is the only writer."""

    position = models.PositiveBigIntegerField(primary_key=True)  # from 1 without gaps
    time = models.DateTimeField()
    username = models.CharField(max_length=150, db_index=True)  # text: it stays when the user goes
    action = models.CharField(max_length=60, db_index=True)
    target = models.CharField(max_length=160)
    detail = models.JSONField(default=dict)
    address = models.CharField(max_length=45, blank=True)
    previous = models.CharField(max_length=64, unique=True)  # two entries cannot follow the same one
    hash = models.CharField(max_length=64, unique=True)

    objects = AuditQuerySet.as_manager()

    class Meta:
        ordering = ("-position",)
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.position} {self.username} {self.action} {self.target}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("the audit log is append-only")
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("the audit log is append-only")
