"""Moving a terminal to another host: only when the executor it leaves is proven dead, or an operator answers for it.

Precedes: the configuration is published, and the new host begins with a journal of its own: it looks up whatever is not
settled. Follows: `manage.py move_terminal`. Two executors of one account would be two orders for one; so no automatic.
"""

from collections.abc import Callable

import redis
from django.db import transaction

from executors import audit, configuration, operators
from executors.errors import Code, Refused
from executors.models import Terminal
from tradedist import keys
from tradedist.clock import now_ms

FRESH_MS = 5_000
RELEASE_S = 30.0


def move(
    client: "redis.Redis",
    terminal_id: str,
    to_host: str,
    *,
    old_host_is_dead: bool,
    by: str,
    say: Callable[[str], None],
) -> Terminal:
    """Raises Refused, with nothing changed, or redis.RedisError before anything is changed."""
    terminal = Terminal.objects.active().filter(pk=terminal_id).first()
    if terminal is None:
        raise Refused(Code.UNKNOWN_TERMINAL, f"There is no terminal {terminal_id!r}.", 404)
    old_host = terminal.host_id
    if to_host == old_host:
        raise Refused(Code.INVALID, f"{terminal_id} is on host {old_host} already.")
    if not _beats(client, to_host):
        raise Refused(
            Code.UNAVAILABLE,
            f"No supervisor of host {to_host} is running. Start `terminals` there with HOST_ID={to_host}, then repeat.",
        )
    if old_host_is_dead:
        if _beats(client, old_host):
            raise Refused(
                Code.INVALID,
                f"The supervisor of host {old_host} is alive. Repeat without --old-host-is-dead: it will stop the executor.",
            )
        proof = "stated by the operator"
    else:
        proof = _release(client, terminal_id, old_host, say)
    try:
        trouble: list[str] = []
        with transaction.atomic():
            moved = Terminal.objects.select_for_update().get(pk=terminal_id)
            if moved.host_id != old_host:
                raise Refused(Code.INVALID, f"{terminal_id} was moved to {moved.host_id} meanwhile.")
            moved.host_id = to_host  # its epoch rises with it
            moved.save()
            audit.append(
                by,
                "terminal moved",
                f"terminal {terminal_id}",
                {"from": old_host, "to": to_host, "epoch": moved.epoch, "old executor": proof},
            )
            configuration.publish_after_commit([terminal_id], trouble.append)
    except BaseException:
        if not old_host_is_dead:
            operators.ask(client, old_host, "keep", [terminal_id])
        raise
    for sentence in trouble:
        say(sentence)
    return moved


def _release(client: "redis.Redis", terminal_id: str, old_host: str, say: Callable[[str], None]) -> str:
    """Has the old host stop the executor and prove it. Raises Refused; the terminal then stays where it is."""
    silent = (
        f"No supervisor of host {old_host} answered, so that nobody can say that its executor has ended. Start it, and"
        " repeat; or, if that machine is off for good, repeat with --old-host-is-dead: you answer for it."
    )
    if not _beats(client, old_host):
        raise Refused(Code.UNAVAILABLE, silent)
    command = operators.ask(client, old_host, "release", [terminal_id])
    answer = None
    for answer in operators.answers(client, command, silence_s=RELEASE_S):
        say(answer.text)
    if answer is not None and answer.done and not answer.failed:
        return answer.text
    operators.withdraw(client, old_host, command)
    operators.ask(client, old_host, "keep", [terminal_id])
    if answer is None:
        raise Refused(Code.UNAVAILABLE, silent)
    raise Refused(Code.UNAVAILABLE, f"{answer.text} The terminal stays on {old_host}.")


def _beats(client: "redis.Redis", host_id: str) -> bool:
    at = client.hget(keys.HEARTBEATS, f"terminals:{host_id}")
    return at is not None and abs(now_ms() - int(str(at))) < FRESH_MS
