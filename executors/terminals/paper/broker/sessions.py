"""Pure: is a symbol's market open at a moment of server time?

Precedes: the engine (10018, and triggers wait) and the live ticks of a desk.
"""

from datetime import UTC, datetime
from functools import cache

from executors.terminals.paper.broker.personalities import Instrument

SATURDAY, SUNDAY = 6, 0  # DAY_OF_WEEK_*


@cache
def moment_s(text: str) -> int:
    """ "2026-12-18 18:00" on the server's clock as MetaTrader writes it; 0 for ''."""
    return int(datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp()) if text else 0


def has_expired(instrument: Instrument, server_ms: int) -> bool:
    return bool(instrument.expires) and server_ms >= moment_s(instrument.expires) * 1000


def is_open(instrument: Instrument, server_ms: int) -> bool:
    if instrument.starts and server_ms < moment_s(instrument.starts) * 1000:
        return False
    if has_expired(instrument, server_ms):
        return False
    if not (instrument.closed_weekends or instrument.sessions or instrument.holidays):
        return True
    at = datetime.fromtimestamp(server_ms / 1000, UTC)
    day = at.isoweekday() % 7
    if instrument.closed_weekends and day in (SATURDAY, SUNDAY):
        return False
    if at.strftime("%Y-%m-%d") in instrument.holidays:
        return False
    if not instrument.sessions:
        return True
    now = at.strftime("%H:%M")
    return any(
        day == on and start <= now < (end if end != "00:00" else "24:00")
        for on, start, end in instrument.sessions
    )
