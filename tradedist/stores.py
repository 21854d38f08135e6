"""Which embedded Valkey servers this installation has.

Precedes: `programs`, which runs them. A server of the operator's own, named in REDIS_STATE_URL or REDIS_TICKS_URL,
takes the embedded one's place.
"""

from tradedist import settings
from tradedist.embedded import EmbeddedValkey


def valkeys() -> list[EmbeddedValkey]:
    """The embedded servers that no setting replaces."""
    state = EmbeddedValkey(
        name="valkey-state",
        directory=settings.DATA_DIR / "valkey-state",
        port=settings.STATE_PORT,
        password=settings.REDIS_PASSWORD,
        durable=True,
        maxmemory_mb=settings.STATE_MAXMEMORY_MB,
    )
    ticks = EmbeddedValkey(
        name="valkey-ticks",
        directory=settings.DATA_DIR / "valkey-ticks",
        port=settings.TICKS_PORT,
        password=settings.REDIS_PASSWORD,
        durable=False,
        maxmemory_mb=settings.TICKS_MAXMEMORY_MB,
    )
    return [state] * settings.EMBEDDED_STATE + [ticks] * settings.EMBEDDED_TICKS
