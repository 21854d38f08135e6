"""The embedded servers keep what they promise: durable state over a SIGKILL, bounded ticks, a password."""

import pytest
import redis as redis_py
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.valkey import Valkey
from tradedist import redis
from tradedist.embedded import EmbeddedValkey


def test_settings_point_at_the_private_servers(
    state_redis: "redis_py.Redis", ticks_redis: "redis_py.Redis"
) -> None:
    with redis.state() as state, redis.ticks() as ticks:
        state.set("td:where", "state")
        ticks.set("td:where", "ticks")
    assert state_redis.get("td:where") == "state"
    assert ticks_redis.get("td:where") == "ticks"
    assert "tradedist-test-" in str(settings.DATA_DIR)


def test_starts_empty_after_another_test(
    state_redis: "redis_py.Redis", ticks_redis: "redis_py.Redis"
) -> None:
    assert state_redis.dbsize() == 0
    assert ticks_redis.dbsize() == 0


def test_state_survives_sigkill(state_server: Valkey, state_redis: "redis_py.Redis") -> None:
    for number in range(500):
        state_redis.xadd("td:rtrs", {"n": number})
    state_server.restart()
    assert state_redis.xlen("td:rtrs") == 500
    assert state_redis.config_get("appendfsync")["appendfsync"] == "always"
    assert state_redis.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


def test_ticks_are_bounded_and_evicted(ticks_redis: "redis_py.Redis") -> None:
    assert ticks_redis.config_get("maxmemory-policy")["maxmemory-policy"] == "allkeys-lru"
    for number in range(200):
        ticks_redis.set(f"td:fill:{number}", "x" * 1_000_000)
    assert ticks_redis.info("memory")["used_memory"] <= 1.1 * 64 * 2**20
    assert ticks_redis.info("stats")["evicted_keys"] > 0


def test_refuses_without_the_password(state_server: Valkey) -> None:
    port = state_server.server.port
    stranger = redis_py.Redis(port=port, retry=Retry(NoBackoff(), 0))
    with stranger, pytest.raises(redis_py.AuthenticationError):
        stranger.ping()


def test_configuration_is_readable_by_its_user_only(state_server: Valkey) -> None:
    server: EmbeddedValkey = state_server.server
    assert server.config_path.stat().st_mode & 0o077 == 0
    assert server.directory.stat().st_mode & 0o077 == 0
