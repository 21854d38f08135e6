"""Pure: a trade server's clock. MetaTrader writes the server's wall clock as if it were UTC epoch time.

Precedes: the adapter (server → UTC for all of us) and the paper broker (UTC → server). A rule is an IANA zone, or
`NY+7`: New York's clock and so many hours more, as brokers use whose day ends at 17:00 New York time.
"""

import re
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

RULE = re.compile(r"^NY([+-]\d{1,2})$")
FIRST_YEAR, LAST_YEAR = 2000, 2037
HOUR_MS = 3_600_000


class UnknownTimezone(ValueError):
    """The rule names no zone."""


class ServerClock:
    """Converts both ways. In the repeated hour of autumn the later reading is taken, in the skipped one the earlier."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self._utc, self._offset = _transitions(rule)
        self._server = [utc + offset for utc, offset in zip(self._utc, self._offset, strict=True)]
        self._utc_array = np.array(self._utc, dtype=np.int64)
        self._offset_array = np.array(self._offset, dtype=np.int64)

    def offset_ms(self, utc_ms: int) -> int:
        return self._offset[max(bisect_right(self._utc, utc_ms) - 1, 0)]

    def to_server(self, utc_ms: int) -> int:
        """0 means "no time" everywhere in MetaTrader and stays 0."""
        return utc_ms + self.offset_ms(utc_ms) if utc_ms else 0

    def to_utc(self, server_ms: int) -> int:
        if not server_ms:
            return 0
        return server_ms - self._offset[max(bisect_right(self._server, server_ms) - 1, 0)]

    def to_server_array(self, utc_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        index = np.maximum(np.searchsorted(self._utc_array, utc_ms, side="right") - 1, 0)
        return utc_ms + self._offset_array[index]


@cache
def server_clock(rule: str) -> ServerClock:
    return ServerClock(rule)


@cache
def _transitions(rule: str) -> tuple[list[int], list[int]]:
    """Times from which an offset holds, and the offsets, in ms."""
    match = RULE.match(rule)
    name, extra = ("America/New_York", int(match[1]) * HOUR_MS) if match else (rule, 0)
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise UnknownTimezone(
            f"{rule!r} is no time zone; use an IANA name such as Europe/London, or NY+7"
        ) from None

    def offset(at: datetime) -> int:
        found = at.astimezone(zone).utcoffset()
        return int((found or timedelta()).total_seconds()) * 1000 + extra

    start = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
    end = datetime(LAST_YEAR, 12, 31, tzinfo=UTC)
    times, offsets = [_ms(start)], [offset(start)]
    step = timedelta(days=7)
    while start < end:
        after = start + step
        if offset(after) != offset(start):
            low, high = start, after
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) / 2
                low, high = (low, middle) if offset(middle) != offset(start) else (middle, high)
            # zones change on whole minutes
            at = _ms(high) // 60_000 * 60_000
            times.append(at)
            offsets.append(offset(after))
        start = after
    return times, offsets


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
