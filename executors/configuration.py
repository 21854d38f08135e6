"""Publishes terminals and modes to Redis, where executors read them within half a second.

Precedes: supervisor and executors compare versions and take a new configuration over. Follows: whoever saves a
terminal calls `publish_after_commit`; the beat and the start call `publish_all`, which repairs what a failed publish
or a rolled back Redis left behind. The only writer of CONFIGS, CONFIG_VERSIONS, MODES and ACCESS_VERSION.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast
from uuid import uuid4

import redis
from django.db import transaction
from pydantic import ValidationError

from executors.messages import RiskLimits, Sizing, TerminalConfig
from executors.models import AuditEntry, GlobalMode, Terminal
from tradedist import keys
from tradedist.redis import state

logger = logging.getLogger(__name__)

GLOBAL = "global"
STRICTNESS = {"ACTIVE": 0, "REDUCING": 1, "HALTED": 2}

# KEYS configs, versions, instance  ARGV terminal_id, version, configuration, channel, epoch. Two web processes may publish
# at once: the higher version stays. The same version is written again, which repairs a lost body. From here on an executor
# of an earlier epoch publishes nothing any more.
_PUBLISH = """
if tonumber(ARGV[5]) > tonumber(redis.call('HGET', KEYS[3], 'epoch') or '1') then
  redis.call('HSET', KEYS[3], 'epoch', ARGV[5])
end
if tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0') > tonumber(ARGV[2]) then return 0 end
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old == ARGV[3] and redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('PUBLISH', ARGV[4], ARGV[1])
return 1
"""


def terminal_mode(terminal_id: str) -> str:
    """The field of MODES that holds the terminal's mode."""
    return f"terminal:{terminal_id}"


def resumes(terminal_id: str) -> str:
    """The field of MODES that counts the operators' resumes: a higher count releases the executor's breaker."""
    return f"resumed:{terminal_id}"


def strictest(*modes: str | None) -> str:
    """What holds when several modes apply. A missing or strange one counts as REDUCING: it cannot be read."""
    known = [mode if mode in STRICTNESS else "REDUCING" for mode in modes if mode is not None]
    return max(known, key=STRICTNESS.__getitem__, default="ACTIVE")


def build(terminal: Terminal) -> TerminalConfig:
    """Raises pydantic.ValidationError when a field does not fit; the admin's form shows it."""
    return TerminalConfig(
        terminal_id=terminal.terminal_id,
        version=terminal.version,
        label=terminal.label,
        kind=terminal.kind,
        enabled=terminal.enabled and terminal.retired_at is None,
        host_id=terminal.host_id,
        epoch=terminal.epoch,
        login=terminal.login,
        server=terminal.server,
        sealed_password=terminal.sealed_password,
        path=terminal.path,
        server_timezone=terminal.server_timezone,
        symbol_map=terminal.symbol_map,
        symbol_prefix=terminal.symbol_prefix,
        symbol_suffix=terminal.symbol_suffix,
        symbols=terminal.symbols,
        tick_priority=terminal.tick_priority,
        deviation_points=terminal.deviation_points,
        sizing=Sizing(method=terminal.sizing_method, value=terminal.sizing_value),
        limits=RiskLimits(
            max_lots=terminal.max_lots,
            max_positions=terminal.max_positions,
            orders_per_second=terminal.orders_per_second,
        ),
    )


@dataclass(frozen=True, slots=True)
class Published:
    """`changed` configurations and modes were not what Redis held; `failed` ones cannot be built."""

    changed: int
    failed: tuple[str, ...] = ()


def publish_after_commit(terminal_ids: Iterable[str], on_failure: Callable[[str], None]) -> None:
    """Publishes when the transaction has committed. A Redis that does not answer is told to `on_failure`, in a
    sentence for people; the beat publishes then."""
    wanted = list(terminal_ids)

    def publish() -> None:
        try:
            publish_terminals(Terminal.objects.filter(pk__in=wanted))
        except redis.RedisError as error:
            logger.warning("configuration not published: %s", error, extra={"action": "publish"})
            on_failure(
                "Saved, but Redis did not take the change: executors go on with what they have. It is published "
                "again every 30 seconds until it succeeds."
            )

    transaction.on_commit(publish)


def publish_terminals(terminals: Iterable[Terminal], client: "redis.Redis | None" = None) -> Published:
    """Configuration and mode of these terminals and the global mode. Repeating it changes nothing."""
    client = client or state()
    script = client.register_script(_PUBLISH)
    failed: list[str] = []
    modes = {GLOBAL: global_mode()}
    changed = 0
    for terminal in terminals:
        modes[terminal_mode(terminal.terminal_id)] = terminal.mode
        modes[resumes(terminal.terminal_id)] = str(terminal.resumes)
        try:
            config = build(terminal)
        except ValidationError:
            logger.exception("a configuration cannot be built", extra={"terminal": terminal.terminal_id})
            failed.append(terminal.terminal_id)
            continue
        answer = script(
            keys=[keys.CONFIGS, keys.CONFIG_VERSIONS, keys.instance(terminal.terminal_id)],
            args=[
                terminal.terminal_id,
                config.version,
                config.model_dump_json(),
                keys.CONFIG_CHANGES,
                config.epoch,
            ],
        )
        changed += int(str(answer))
    return Published(changed + _publish_modes(client, modes), tuple(failed))


def publish_all(client: "redis.Redis | None" = None) -> Published:
    """Every terminal, retired ones too (as switched off). Raises redis.RedisError."""
    return publish_terminals(Terminal.objects.all(), client)


def _publish_modes(client: "redis.Redis", modes: dict[str, str]) -> int:
    held: Any = client.hmget(keys.MODES, list(modes))
    fresh = {name: mode for (name, mode), old in zip(modes.items(), held, strict=True) if mode != old}
    if fresh:
        pipe = client.pipeline(transaction=True)
        pipe.hset(keys.MODES, mapping=cast(Any, fresh))
        pipe.publish(keys.CONFIG_CHANGES, "*")
        pipe.execute()
    return len(fresh)


def global_mode() -> str:
    return GlobalMode.objects.values_list("mode", flat=True).first() or Terminal.Mode.ACTIVE


def access_changed() -> None:
    """Makes every web process read users and grants anew for the next order. Without Redis there is no next order;
    should it be away only from here, `publish_access` repairs it."""
    try:
        _new_access_version(state(), _last_entry())
    except redis.RedisError as error:
        logger.warning("the access version could not be set: %s", error)


def publish_access(client: "redis.Redis | None" = None, *, anyway: bool = False) -> bool:
    """A new access version if the one in Redis is of another audit entry than the last: missed, rolled back, or the
    database was restored. `anyway`: for changes that have no entry, made past the platform. Raises redis.RedisError."""
    client = client or state()
    last = _last_entry()
    held = str(client.get(keys.ACCESS_VERSION) or "0").partition(".")[0]
    if fresh := anyway or held != str(last):
        _new_access_version(client, last)
    return fresh


def _last_entry() -> int:
    """Whatever changes access has an audit entry."""
    return AuditEntry.objects.order_by("-position").values_list("position", flat=True).first() or 0


def _new_access_version(client: "redis.Redis", last: int) -> None:
    """Never one that was there before: what was read under an older version does not become valid again."""
    pipe = client.pipeline(transaction=True)
    pipe.set(keys.ACCESS_VERSION, f"{last}.{uuid4().hex}")
    pipe.publish(keys.CONFIG_CHANGES, "access")  # the sockets look again
    pipe.execute()
