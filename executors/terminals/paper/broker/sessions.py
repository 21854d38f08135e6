"""Pure: is a symbol's market open at a moment of server time?

Precedes: the engine (10018, and triggers wait) and the live ticks of a desk.
"""

from datetime import UTC, datetime

from executors.terminals.paper.broker.personalities import Instrument

SATURDAY, SUNDAY = 6, 0  # DAY_OF_WEEK_*


def is_open(instrument: Instrument, server_ms: int) -> bool:
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
