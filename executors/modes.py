"""The kill switch: halts, reduces and resumes terminals, one or all, with an audit entry for each act.

Precedes: `configuration` publishes the modes, executors obey within half a second. Follows: the API's POST /api/modes
and the admin's actions. What an admin has halted only an admin resumes.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from executors import audit, configuration, grants
from executors.configuration import STRICTNESS
from executors.errors import Code, Refused
from executors.models import GlobalMode, Terminal

MAX_REASON = 200


@dataclass(slots=True)
class Switched:
    """What was set. `trouble` is a sentence when Redis did not take it (yet)."""

    terminal_ids: list[str] = field(default_factory=list)
    trouble: str = ""

    def note(self, sentence: str) -> None:
        self.trouble = sentence


def switch_all(user: Any, mode: str, *, reason: str = "", address: str = "") -> Switched:
    """The global mode. Terminals keep their own; the stricter of the two holds."""
    if not grants.is_admin(user):
        raise Refused(
            Code.FORBIDDEN, "Only an admin switches all terminals. Name yours in targets instead.", 403
        )
    switched = Switched()
    with transaction.atomic():
        row, _ = GlobalMode.objects.select_for_update().get_or_create(only=True)
        before, row.mode = row.mode, mode
        row.save()
        audit.append(
            user, f"mode {mode}", "all terminals", {"before": before, "reason": reason}, address=address
        )
        configuration.publish_after_commit([], switched.note)
    return switched


def switch_terminals(
    user: Any, terminal_ids: Collection[str], mode: str, *, reason: str = "", address: str = ""
) -> Switched:
    """All of them or none. Raises Refused for terminals that the user may not trade, or not loosen."""
    admin = grants.is_admin(user)
    allowed = grants.visible_terminals(user, "trade")
    if missing := sorted(set(terminal_ids) - set(allowed)):
        raise Refused(Code.UNKNOWN_TERMINAL, f"There is no terminal {missing[0]!r} that you may trade.", 404)
    switched = Switched(sorted(set(terminal_ids)))
    with transaction.atomic():
        for terminal in Terminal.objects.select_for_update().filter(pk__in=switched.terminal_ids):
            if not admin and terminal.mode_by_admin and STRICTNESS[mode] < STRICTNESS[terminal.mode]:
                raise Refused(
                    Code.FORBIDDEN,
                    f"{terminal.terminal_id} was set to {terminal.mode} by an admin; ask him to resume it.",
                    403,
                )
            before, terminal.mode = terminal.mode, mode
            terminal.mode_by_admin = admin and mode != Terminal.Mode.ACTIVE
            terminal.resumes += mode == Terminal.Mode.ACTIVE  # also releases the executor's breaker
            terminal.save()
            audit.append(
                user,
                f"mode {mode}",
                f"terminal {terminal.terminal_id}",
                {"before": before, "reason": reason},
                address=address,
            )
        configuration.publish_after_commit(switched.terminal_ids, switched.note)
    return switched
