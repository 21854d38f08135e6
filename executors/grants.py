"""Who may see and trade which terminals: the one query that every list, socket, order and preview is filtered by.

Precedes: dispatch resolves an order's targets here; REST and the sockets filter by `visible_terminals`. Follows: the
tables, read anew at each call, so that a grant taken away counts at once. What a user may not see does not exist for
him. Synchronous: asynchronous callers wrap these functions.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

from django.contrib.auth import get_user_model
from django.db.models import Q

from executors.errors import Code, Refused
from executors.messages import Targets
from executors.models import ApiToken, GlobalMode, Member, Terminal, TerminalGrant, TerminalGroup

Level = Literal["view", "trade"]


@dataclass(frozen=True, slots=True)
class TerminalRef:
    """A terminal as one user sees it. `level` is what he may do with it."""

    terminal_id: str
    label: str
    kind: str
    login: int
    server: str
    host_id: str
    epoch: int
    enabled: bool
    mode: str
    mode_by_admin: bool
    level: Level
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """What a user is, apart from grants."""

    active: bool
    role: str
    sees_all: bool = False  # an admin who came with a token that only views

    @property
    def admin(self) -> bool:
        return self.active and self.role == Member.Role.ADMIN

    @property
    def may_trade(self) -> bool:
        return self.active and self.role in (Member.Role.ADMIN, Member.Role.TRADER)


NOBODY = Standing(active=False, role=Member.Role.VIEWER)


def standing(user: Any) -> Standing:
    """Read from the table, since the caller's user may have been loaded an hour ago."""
    if user.pk is None:
        return NOBODY
    row = (
        get_user_model()
        .objects.filter(pk=user.pk)
        .values_list("is_active", "is_superuser", "member__role")
        .first()
    )
    if row is None:
        return NOBODY
    active, superuser, role = row
    if getattr(user, "token_scope", None) == ApiToken.Scope.VIEW:  # set by tokens.find_user
        return Standing(
            active=active, role=Member.Role.VIEWER, sees_all=superuser or role == Member.Role.ADMIN
        )
    return Standing(active=active, role=Member.Role.ADMIN if superuser else role or Member.Role.VIEWER)


def may_trade(user: Any) -> bool:
    return standing(user).may_trade


def is_admin(user: Any) -> bool:
    return standing(user).admin


def visible_terminals(user: Any, level: Level = "view") -> dict[str, TerminalRef]:
    """The terminals that the user may view, or trade, by id in order of id. Retired ones are gone."""
    return _visible(user, standing(user), level)


def _visible(user: Any, who: Standing, level: Level) -> dict[str, TerminalRef]:
    if not who.active or (level == "trade" and not who.may_trade):
        return {}
    terminals = Terminal.objects.active()
    tradable: set[str] | None = None  # None = every one
    if who.sees_all:
        tradable = set()
    elif not who.admin:
        viewable, tradable = _granted(user)
        if not who.may_trade:
            tradable = set()
        terminals = terminals.filter(pk__in=tradable if level == "trade" else viewable)
    groups: dict[str, list[str]] = defaultdict(list)
    for slug, terminal_id in TerminalGroup.terminals.through.objects.order_by("terminalgroup_id").values_list(
        "terminalgroup_id", "terminal_id"
    ):
        groups[terminal_id].append(slug)
    return {
        row["terminal_id"]: TerminalRef(
            **row,
            level="trade" if tradable is None or row["terminal_id"] in tradable else "view",
            groups=tuple(groups[row["terminal_id"]]),
        )
        for row in terminals.order_by("pk").values(
            "terminal_id",
            "label",
            "kind",
            "login",
            "server",
            "host_id",
            "epoch",
            "enabled",
            "mode",
            "mode_by_admin",
        )
    }


def _granted(user: Any) -> tuple[set[str], set[str]]:
    """Ids that may be viewed, and of these the ones that may be traded."""
    viewable: set[str] = set()
    tradable: set[str] = set()
    for terminal_id, grouped_id, level in (
        TerminalGrant.objects.filter(Q(user_id=user.pk) | Q(user_group__user=user.pk))
        .order_by()
        .values_list("terminal_id", "terminal_group__terminals", "level")
    ):
        granted: str | None = terminal_id or grouped_id
        if granted is None:  # an empty group
            continue
        viewable.add(granted)
        if level == TerminalGrant.Level.TRADE:
            tradable.add(granted)
    return viewable, tradable


def resolve_targets(user: Any, targets: Targets, *, cancels: bool = False) -> list[tuple[str, int]]:
    """The (terminal_id, epoch) that an order of this user goes to, without doubles, in order of id.

    Raises Refused: TRADING_HALTED while all terminals are halted and it is no cancel, FORBIDDEN for who may not trade,
    UNKNOWN_TERMINAL and UNKNOWN_GROUP for what he may not see, NO_TERMINALS when nothing is left. A group means those of
    its terminals that he may trade.
    """
    who = standing(user)
    if not who.may_trade:
        raise Refused(Code.FORBIDDEN, "Your role only lets you look. Ask an admin for the trader role.", 403)
    if not cancels and GlobalMode.objects.filter(mode=Terminal.Mode.HALTED).exists():
        raise Refused(
            Code.TRADING_HALTED,
            "All terminals are halted: only cancels pass. An admin resumes them; then send a new signal.",
        )
    visible = _visible(user, who, "view")
    chosen: set[str] = set()
    for terminal_id in targets.terminals:
        if not _tradable(visible, terminal_id).enabled:
            raise Refused(
                Code.NO_TERMINALS,
                f"{terminal_id} is switched off. Enable it in the admin, or leave it out.",
                422,
            )
        chosen.add(terminal_id)
    for slug in targets.groups:
        ready = {ref.terminal_id for ref in _members(visible, slug) if ref.level == "trade" and ref.enabled}
        if not ready:
            raise Refused(
                Code.NO_TERMINALS, f"No terminal of the group {slug} is enabled and yours to trade.", 422
            )
        chosen |= ready
    return [(terminal_id, visible[terminal_id].epoch) for terminal_id in sorted(chosen)]


def resolve_switch(user: Any, targets: Targets) -> list[str]:
    """The terminals that a switch of modes names: as for an order, but switched off ones count too."""
    who = standing(user)
    if not who.may_trade:
        raise Refused(Code.FORBIDDEN, "Your role only lets you look. Ask an admin for the trader role.", 403)
    visible = _visible(user, who, "view")
    chosen: set[str] = set()
    for terminal_id in targets.terminals:
        chosen.add(_tradable(visible, terminal_id).terminal_id)
    for slug in targets.groups:
        chosen |= {ref.terminal_id for ref in _members(visible, slug) if ref.level == "trade"}
    if not chosen:
        raise Refused(Code.NO_TERMINALS, "None of these terminals is yours to trade.", 422)
    return sorted(chosen)


def _tradable(visible: dict[str, TerminalRef], terminal_id: str) -> TerminalRef:
    ref = visible.get(terminal_id)
    if ref is None:
        raise Refused(
            Code.UNKNOWN_TERMINAL,
            f"There is no terminal {terminal_id!r}. GET /api/terminals lists yours.",
            404,
        )
    if ref.level != "trade":
        raise Refused(
            Code.FORBIDDEN,
            f"You may view {terminal_id} but not trade it. Ask an admin for a trade grant.",
            403,
        )
    return ref


def _members(visible: dict[str, TerminalRef], slug: str) -> list[TerminalRef]:
    members = [ref for ref in visible.values() if slug in ref.groups]
    if not members:
        raise Refused(Code.UNKNOWN_GROUP, f"There is no group {slug!r}. GET /api/me lists yours.", 404)
    return members
