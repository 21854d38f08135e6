"""Candles for charts and the API: the feed's own from the tick Redis, older ones from a terminal, joined without a seam.

Precedes: the chart socket, /api/candles, /api/symbols. Follows: charts.state (own candles), charts.terminal_history
(a terminal's). Own candles that are complete win; where own ones are missing or partial the terminal's are taken.
"""

from collections.abc import Iterable

from charts import terminal_history
from charts.market import open_of
from charts.messages import TIMEFRAMES, Candle, SymbolInfo
from charts.resample import base_of, resample
from charts.state import read_symbols, read_tail
from tradedist.clock import now_ms
from tradedist.redis import loop_ticks

LIMIT_MAX = 5_000
OWN_MAX = {1: 12_000, 60: 5_000}  # what the tick Redis keeps
TERMINAL_LONGEST = (
    3_600  # a terminal's longer candles follow its server's clock, ours UTC: they are made from hours
)
WANTED_MAX = 25_000
QUIET_MS = 120_000


class Candles(list[Candle]):
    """Ascending candles. `partial`: there may be more, or better ones, which could not be read; `reason` says why."""

    partial: bool = False
    reason: str = ""


async def fetch(symbol: str, seconds: int, from_ms: int | None, to_ms: int | None, limit: int) -> Candles:
    """The newest `limit` candles with from_ms <= open_ms < to_ms; the forming one too, when it lies there.

    Raises ValueError for a timeframe that there is not, and redis.RedisError when the tick Redis is not there.
    """
    if seconds not in TIMEFRAMES:
        raise ValueError(
            f"there are no candles of {seconds} seconds; choose one of {', '.join(map(str, TIMEFRAMES))}"
        )
    limit = max(1, min(limit, LIMIT_MAX))
    moment = now_ms()
    span = seconds * 1000
    # Opens are multiples of the span: the first one not before from_ms, and the end of the last one before to_ms.
    start = -(-max(from_ms or 0, 0) // span) * span
    end = min(
        -(-(to_ms if to_ms is not None else moment + span) // span) * span,
        open_of(moment, seconds) + 2 * span,
    )
    start = max(start, end - _horizon(limit, seconds))
    answer = Candles()
    if start >= end:
        return answer
    unit = seconds if seconds < 60 else min(seconds, TERMINAL_LONGEST)
    wanted = min(-(-limit * seconds // unit), WANTED_MAX)
    own = await _own(symbol, unit, start, end, wanted)
    if unit < 60:
        answer += own[-limit:]
        return answer  # terminals keep no candles of seconds
    if needed := _needed(own, start, end, wanted, moment, unit):
        read = await terminal_history.read(symbol, unit, start, needed, wanted)
        answer.partial, answer.reason = read.partial, read.reason
        own = merge(own, read.candles)
    answer += [_dated(candle, moment) for candle in resample(own, seconds)][-limit:]
    return answer


async def symbols() -> list[SymbolInfo]:
    """Every symbol that a source has described, by name."""
    return await read_symbols(loop_ticks())


def merge(own: Iterable[Candle], read: Iterable[Candle]) -> list[Candle]:
    """Own complete candles as they are; own partial ones completed, and missing ones filled, from the terminal's."""
    by_open = {candle.open_ms: candle for candle in read}
    for candle in own:
        other = by_open.get(candle.open_ms)
        if other is None or not candle.partial:
            by_open[candle.open_ms] = candle
        elif candle.forming:
            # The terminal saw its beginning, we its end.
            by_open[candle.open_ms] = other.model_copy(
                update={
                    "high": max(candle.high, other.high),
                    "low": min(candle.low, other.low),
                    "close": candle.close,
                    "ticks": max(candle.ticks, other.ticks),
                    "forming": True,
                }
            )
    return [by_open[open_ms] for open_ms in sorted(by_open)]


async def _own(symbol: str, unit: int, start: int, end: int, count: int) -> list[Candle]:
    """The feed's candles, made into candles of `unit`. The first one is marked partial when its start is cut off."""
    base = base_of(unit)
    most = min(count * unit // base, OWN_MAX[base])
    parts = await read_tail(loop_ticks(), symbol, base, start, end, most)
    joined = resample(parts, unit)
    if parts and parts[0].open_ms != joined[0].open_ms:
        joined[0] = joined[0].model_copy(update={"partial": True})
    return joined


def _needed(own: list[Candle], start: int, end: int, wanted: int, moment: int, unit: int) -> int:
    """Up to which open time a terminal has to be asked; 0 when own candles are all there is to want."""
    span = unit * 1000
    partial = [candle.open_ms for candle in own if candle.partial]
    if partial:
        return max(partial)
    if not own:
        return min(end, open_of(moment, unit) + span) - span
    if own[0].open_ms > start and len(own) < wanted:
        return own[0].open_ms - span
    if min(end, moment) - own[-1].open_ms > QUIET_MS + 2 * span:
        return (
            min(end, open_of(moment, unit) + span) - span
        )  # no ticks lately: a resting market, or a silent feed
    return 0


def _horizon(limit: int, seconds: int) -> int:
    """How far back `limit` candles can reach: markets rest, but not two thirds of the time and some weeks."""
    return limit * seconds * 3_000 + 30 * 86_400_000


def _dated(candle: Candle, moment: int) -> Candle:
    forming = candle.open_ms + candle.seconds * 1000 > moment
    return candle if candle.forming == forming else candle.model_copy(update={"forming": forming})
