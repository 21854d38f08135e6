"""The trade server's clock: New York + 7 hours, IANA zones, both directions, over the changes of summer time."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.terminals.servertime import UnknownTimezone, server_clock


def ms(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("rule", "utc", "hours"),
    [
        ("NY+7", ms(2026, 1, 15), 2),
        ("NY+7", ms(2026, 7, 15), 3),
        ("NY+7", ms(2026, 3, 8, 6, 59), 2),  # New York goes to summer time at 7:00 UTC
        ("NY+7", ms(2026, 3, 8, 7, 0), 3),
        ("NY+7", ms(2026, 3, 20), 3),  # Europe has not changed yet
        ("Europe/Helsinki", ms(2026, 3, 20), 2),
        ("Europe/Moscow", ms(2026, 7, 15), 3),
        ("UTC", ms(2026, 7, 15), 0),
        ("NY-0", ms(2026, 1, 15), -5),
    ],
)
def test_offsets(rule: str, utc: int, hours: int) -> None:
    clock = server_clock(rule)
    assert clock.offset_ms(utc) == hours * 3_600_000
    assert clock.to_server(utc) - utc == hours * 3_600_000
    assert clock.to_server_array(np.array([utc]))[0] == clock.to_server(utc)


def test_no_time_stays_no_time() -> None:
    assert server_clock("NY+7").to_server(0) == server_clock("NY+7").to_utc(0) == 0


@pytest.mark.parametrize("rule", ["Mars/Olympus", "NY+x", "", "../etc/passwd"])
def test_unknown_zones_are_named(rule: str) -> None:
    with pytest.raises(UnknownTimezone, match="is no time zone"):
        server_clock(rule)


@given(
    st.integers(ms(2015, 1, 1), ms(2035, 1, 1)), st.sampled_from(["NY+7", "Europe/Helsinki", "Asia/Kolkata"])
)
def test_there_and_back(utc: int, rule: str) -> None:
    """But for the hour that autumn repeats, whose later reading is taken."""
    clock = server_clock(rule)
    back = clock.to_utc(clock.to_server(utc))
    assert back in (utc, utc + 3_600_000)
    assert clock.to_server(back) == clock.to_server(utc)
