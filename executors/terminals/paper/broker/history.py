"""Candles and ticks of a symbol's past, as numpy bytes in MetaTrader's layouts, times on the server's clock.

Precedes: sessions (`copy_rates_*`, `copy_ticks_*`). Follows: `market.py`, and what was pushed by hand since a freeze.
"""

import numpy as np
from numpy.typing import NDArray

from executors.terminals.paper.broker.market import (
    HISTORY_START_MS,
    HOUR_MS,
    MINUTE_MS,
    Candles,
    Ticks,
    candles_of,
    grouped,
    joined,
)
from executors.terminals.paper.broker.player import Track
from executors.terminals.paper.broker.state import Desk
from executors.terminals.paper.broker.views import TRADE_FLAGS, traded
from executors.terminals.paper.dtypes import RATES, TICKS

Ints = NDArray[np.int64]
DAY = 1440
WEEK, MONTH = 32769, 49153  # TIMEFRAME_W1, _MN1
FLAG_BID, FLAG_ASK = 2, 4
FLAG_HISTORY = 0x80  # has no name: ticks of the history carry it where the bid has changed (134, 130, and 4 have been seen)
MAX_TICKS = 500_000  # of one answer, so that a broker for many does not stand still for one
LONGEST = {WEEK: 7 * DAY, MONTH: 31 * DAY}


def minutes_of(timeframe: int) -> int | None:
    """Length of a timeframe in minutes, a month at its longest; None when there is no such timeframe."""
    if timeframe in LONGEST:
        return LONGEST[timeframe]
    if timeframe in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30):
        return timeframe
    hours = timeframe - 16384
    return hours * 60 if hours in (1, 2, 3, 4, 6, 8, 12, 24) else None


def opening(minute: Ints, timeframe: int) -> Ints:
    """Open times (server minutes) of the candles that hold these minutes."""
    if timeframe == WEEK:
        days = minute // DAY
        return ((days - 3) // 7 * 7 + 3) * DAY  # weeks start on Sunday; day 3 of the epoch was one
    if timeframe == MONTH:
        months = (minute // DAY).astype("datetime64[D]").astype("datetime64[M]")
        return months.astype("datetime64[D]").astype(np.int64) * DAY
    length = minutes_of(timeframe)
    assert length is not None
    return minute // length * length


def candles(desk: Desk, track: Track, timeframe: int, first_s: int, last_s: int, now_ms: int) -> Candles:
    """Candles with first ≤ open time ≤ last (server seconds), the forming one included; prices in points."""
    clock = desk.house.clock
    length = minutes_of(timeframe)
    assert length is not None
    low = int(opening(np.array([first_s // 60], dtype=np.int64), timeframe)[0]) * 60_000
    high = int(opening(np.array([last_s // 60], dtype=np.int64), timeframe)[0] + length) * 60_000
    begin = max(clock.to_utc(low) - 2 * 3_600_000, HISTORY_START_MS) // MINUTE_MS
    end = min(clock.to_utc(high) + 2 * 3_600_000, now_ms + MINUTE_MS) // MINUTE_MS
    whole_hours = length % 60 == 0 and not desk.instrument.sessions and not clock.offset_ms(now_ms) % HOUR_MS
    found = _hours(track, begin, end, now_ms) if whole_hours else _minutes(track, begin, end, now_ms)
    server = clock.to_server_array(found.minute * MINUTE_MS) // MINUTE_MS
    found = _take(found, _tradable(desk, server), server)
    found = grouped(found, opening(found.minute, timeframe))
    inside = (found.minute * 60 >= first_s) & (found.minute * 60 <= last_s)
    return _take(found, inside, found.minute)


def _take(source: Candles, mask: NDArray[np.bool_], minute: Ints) -> Candles:
    return Candles(
        minute[mask], source.open[mask], source.high[mask], source.low[mask], source.close[mask],
        source.volume[mask], source.spread[mask],
    )  # fmt: skip


def _hours(track: Track, begin: int, end: int, now_ms: int) -> Candles:
    """Whole hours as far as they are over, then minutes: sixty times less to add up."""
    until = now_ms if track.frozen_ms is None else min(track.frozen_ms, now_ms)
    first = -(-begin // 60)
    last = max(first, min(end * MINUTE_MS, until) // HOUR_MS)
    head = _minutes(track, begin, min(first * 60, end), now_ms) if begin % 60 else None
    found = track.feed.hours(first, last)
    if head is not None:
        found = joined(head, found)
    return joined(found, _minutes(track, last * 60, end, now_ms)) if last * 60 < end else found


def _minutes(track: Track, begin: int, end: int, now_ms: int) -> Candles:
    """UTC minutes; the newest from its ticks up to now."""
    until = now_ms if track.frozen_ms is None else min(track.frozen_ms, now_ms)
    whole_end = max(begin, min(end, until // MINUTE_MS))
    found = track.feed.minutes(begin, whole_end)
    if whole_end < end:
        tail = ticks_between(track, max(whole_end, begin) * MINUTE_MS, now_ms)
        found = joined(found, candles_of(tail))
        keep = found.minute < end
        found = _take(found, keep, found.minute)
    return found


def ticks_between(track: Track, first_ms: int, last_ms: int) -> Ticks:
    """Quotes with first ≤ time ≤ last, UTC; `last` must not lie in the future."""
    until = last_ms if track.frozen_ms is None else min(track.frozen_ms, last_ms)
    first = track.feed.count_until(max(first_ms, HISTORY_START_MS) - 1)
    played = track.feed.ticks(first, min(track.feed.count_until(until), first + MAX_TICKS))
    pushed = [tick for tick in track.pushed if first_ms <= tick[0] <= last_ms]
    if not pushed:
        return played
    time_ms, bid, ask = (np.array(column, dtype=np.int64) for column in zip(*pushed, strict=True))
    return Ticks(
        np.concatenate([played.time_ms, time_ms]),
        np.concatenate([played.bid, bid]),
        np.concatenate([played.ask, ask]),
    )


def _tradable(desk: Desk, server_minute: Ints) -> NDArray[np.bool_]:
    """Which minutes the symbol's market was open."""
    instrument = desk.instrument
    is_open = np.ones(len(server_minute), dtype=np.bool_)
    day = server_minute // DAY
    weekday = (day + 4) % 7  # the epoch's first day was a Thursday
    if instrument.closed_weekends:
        is_open &= (weekday != 0) & (weekday != 6)
    for holiday in instrument.holidays:
        is_open &= day != int(np.datetime64(holiday, "D").astype(np.int64))
    if instrument.sessions:
        inside = np.zeros(len(server_minute), dtype=np.bool_)
        clock = server_minute % DAY
        for on, start, stop in instrument.sessions:
            inside |= (weekday == on) & (clock >= _clock(start)) & (clock < (_clock(stop) or DAY))
        is_open &= inside
    return is_open


def _clock(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def rates_rows(desk: Desk, found: Candles, feed_point: float) -> NDArray[np.void]:
    instrument = desk.instrument
    rows = np.zeros(len(found), dtype=RATES)
    rows["time"] = found.minute * 60
    for name in ("open", "high", "low", "close"):
        rows[name] = _prices(desk, getattr(found, name), feed_point)
    rows["tick_volume"] = found.volume
    recorded = np.rint(found.spread * feed_point / instrument.point).astype(np.int32) + instrument.markup
    rows["spread"] = instrument.spread or recorded
    return rows


def _prices(desk: Desk, points: Ints, feed_point: float) -> NDArray[np.float64]:
    instrument = desk.instrument
    values = points * feed_point
    if instrument.tick_size:
        values = np.rint(values / instrument.tick_size) * instrument.tick_size
    rounded: NDArray[np.float64] = np.round(values, instrument.digits)
    return rounded


def ticks_rows(desk: Desk, found: Ticks, feed_point: float) -> NDArray[np.void]:
    clock, instrument = desk.house.clock, desk.instrument
    server = clock.to_server_array(found.time_ms)
    mask = _tradable(desk, server // MINUTE_MS)
    bid = _prices(desk, found.bid[mask], feed_point)
    if instrument.spread or instrument.tick_size:
        gap = max(instrument.spread * instrument.point, instrument.tick_size)
        ask = np.round(bid + gap, instrument.digits)
    else:
        ask = np.round(found.ask[mask] * feed_point + instrument.markup * instrument.point, instrument.digits)
    rows = np.zeros(len(bid), dtype=TICKS)
    rows["time_msc"] = server[mask]
    rows["time"] = server[mask] // 1000
    rows["bid"], rows["ask"] = bid, ask
    changed_bid = np.diff(bid, prepend=0.0) != 0
    changed_ask = np.diff(ask, prepend=0.0) != 0
    repeated = ~(changed_bid | changed_ask)  # the server sent both once more
    rows["flags"] = (FLAG_BID | FLAG_HISTORY) * (changed_bid | repeated) + FLAG_ASK * (changed_ask | repeated)
    if traded(instrument):  # each quote is also a sale of the smallest volume into the bid
        rows["last"], rows["volume"], rows["volume_real"] = (
            bid,
            int(instrument.volume_min),
            instrument.volume_min,
        )
        rows["flags"] += TRADE_FLAGS
    return rows
