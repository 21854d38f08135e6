"""Older candles from a terminal, by a Celery task on its queue, kept for an hour in the tick Redis.

Precedes: candle_query. Follows: `executors.tasks.read_candles`, which pushes the answer to a list of its own. The best
tick source is asked first, the next one when it does not answer; all together at most 3 s, then we say what is missing.
"""

import asyncio
import json
import logging
import uuid
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

import kombu.exceptions
import redis.exceptions
from celery import current_app

from charts.market import open_of
from charts.messages import Candle
from charts.state import extend_cache, read_cache, read_heartbeat
from executors.messages import TerminalConfig
from tradedist import keys
from tradedist.clock import monotonic_ms, now_ms
from tradedist.redis import loop_state, loop_ticks

logger = logging.getLogger(__name__)

WAIT_MS = 3_000  # for all terminals together
ONE_WAIT_MS = 1_200  # for one, before the next is asked
TERMINALS_TRIED = 3
AT_ONCE = 4  # requests to terminals, of one process
ASK_MAX = 5_000  # candles in one answer
ASKS_MAX = 5  # for one read
CLOSED_AFTER_MS = 2_000  # a terminal may still amend the candle that just ended
CACHE_S = 3_600
FORMING_MS = 10_000  # a terminal's forming candle is good for so long
SILENT_MS = 5_000  # after no terminal answered, or none had more: not asked again for so long
CONFIGS_MS = 2_000
REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class Read:
    candles: list[Candle]
    partial: bool = False
    reason: str = ""


class NoAnswer(Exception):
    """No terminal answered in time; the text says why, for people."""


@dataclass(slots=True)
class _Place:
    """What one symbol and timeframe remembers here. The lock makes equal requests wait for the first one's answer."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    newest_asked: float = float("-inf")
    newest: tuple[
        Candle, ...
    ] = ()  # as of then: what a terminal may still change, at the end the forming one
    bottom_asked: float = float("-inf")  # a terminal had nothing older than the cache
    failed: tuple[float, str] = (float("-inf"), "")


class _Desk:
    """The state of one event loop."""

    def __init__(self) -> None:
        self.places: OrderedDict[tuple[str, int], _Place] = OrderedDict()
        self.at_once = asyncio.Semaphore(AT_ONCE)
        self.configs: tuple[float, list[TerminalConfig]] | None = None
        self.unanswered: dict[str, float] = {}

    def place(self, symbol: str, seconds: int) -> _Place:
        place = self.places.pop((symbol, seconds), None) or _Place()
        self.places[(symbol, seconds)] = place
        while len(self.places) > REMEMBERED:
            self.places.popitem(last=False)
        return place


_desks: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Desk]" = weakref.WeakKeyDictionary()


async def read(symbol: str, seconds: int, from_ms: int, to_ms: int, count: int) -> Read:
    """The newest `count` candles with from_ms <= open_ms <= to_ms; the forming one too. `seconds` 60 to 3600."""
    desk = _desks.setdefault(asyncio.get_running_loop(), _Desk())
    place = desk.place(symbol, seconds)
    async with place.lock:
        asked = 0
        while True:
            span, candles = await read_cache(loop_ticks(), symbol, seconds, from_ms, to_ms, count)
            step = _next(place, span, candles, seconds, from_ms, to_ms, count)
            if step is None:
                break
            problem = place.failed[1] if monotonic_ms() - place.failed[0] < SILENT_MS else ""
            if not problem and asked == ASKS_MAX:
                problem = "There are more candles than one request brings; ask again for the older ones."
            if problem:
                return Read(candles, partial=True, reason=problem)
            asked += 1
            try:
                async with desk.at_once:
                    rows = await _ask(desk, symbol, seconds, step.to_ms, step.most)
            except NoAnswer as error:
                place.failed = (monotonic_ms(), str(error))
                continue
            if not step.cached:
                return Read([row for row in rows if from_ms <= row.open_ms][-count:])
            await _keep(place, symbol, seconds, span, rows, step)
        if span is not None:
            candles += [one for one in place.newest if max(span[1], from_ms - 1) < one.open_ms <= to_ms]
        return Read(candles[-count:])


class _Step(NamedTuple):
    """What to ask a terminal for."""

    to_ms: int
    most: int
    cached: bool = True  # the answer joins the cache


def _next(
    place: _Place,
    span: tuple[int, int] | None,
    candles: list[Candle],
    seconds: int,
    from_ms: int,
    to_ms: int,
    count: int,
) -> _Step | None:
    """The next step towards what is wanted; None when the cache has all that can be had."""
    width = seconds * 1000
    closed_to = _closed_to(seconds)
    whole = min(count, ASK_MAX)
    lately = monotonic_ms() - SILENT_MS
    if span is None:
        return None if place.bottom_asked > lately else _Step(to_ms, whole)
    if to_ms < span[0] - ASK_MAX * width:
        return _Step(to_ms, whole, cached=False)  # far away: not worth filling in what lies between
    if span[1] < min(to_ms, closed_to):
        missing = (min(to_ms, closed_to) - span[1]) // width + 2
        return _Step(to_ms, min(missing, whole))
    if to_ms > closed_to and monotonic_ms() - place.newest_asked > FORMING_MS:
        return _Step(to_ms, min(3, whole))
    there = len(candles) + sum(span[1] < one.open_ms <= to_ms for one in place.newest)
    if there >= count or span[0] <= from_ms or place.bottom_asked > lately:
        return None
    return _Step(span[0], min(count - there + max(0, (span[0] - to_ms) // width) + 1, ASK_MAX))


def _closed_to(seconds: int) -> int:
    """The open time of the newest candle that a terminal will not change any more."""
    return open_of(now_ms() - CLOSED_AFTER_MS, seconds) - seconds * 1000


async def _keep(
    place: _Place, symbol: str, seconds: int, span: tuple[int, int] | None, rows: list[Candle], step: _Step
) -> None:
    """Put an answer into the cache, joined to its span when it reaches it."""
    width = seconds * 1000
    closed_to = _closed_to(seconds)
    if step.to_ms > closed_to:
        place.newest_asked = monotonic_ms()
        place.newest = tuple(row for row in rows if row.open_ms > closed_to)
    if len(rows) < step.most:
        place.bottom_asked = monotonic_ms()
    closed = [row for row in rows if row.open_ms <= closed_to]
    if not closed:
        return
    first, last = closed[0].open_ms, min(step.to_ms, closed_to)
    joins = span is not None and first <= span[1] + width and last >= span[0] - width
    if span is not None and joins:
        first, last = min(first, span[0]), max(last, span[1])
    await extend_cache(
        loop_ticks(), symbol, seconds, closed, (first, last), replace=not joins, expires_s=CACHE_S
    )


async def _ask(desk: _Desk, symbol: str, seconds: int, to_ms: int, count: int) -> list[Candle]:
    """One answer of the best terminal that answers. Raises NoAnswer."""
    terminals = await _terminals(desk, symbol)
    if not terminals:
        raise NoAnswer("No terminal is configured to give candles of this symbol.")
    until = monotonic_ms() + WAIT_MS
    for place, terminal_id in enumerate(terminals[:TERMINALS_TRIED]):
        left = until - monotonic_ms()
        if left < 50:
            break
        last = place == min(len(terminals), TERMINALS_TRIED) - 1
        request_id = uuid.uuid4().hex
        try:
            await asyncio.to_thread(_send, terminal_id, request_id, symbol, seconds, to_ms, count)
        except (kombu.exceptions.KombuError, OSError, redis.exceptions.RedisError) as error:
            raise NoAnswer("The queue to the terminals does not answer.") from error
        wait_s = (left if last else min(left, ONE_WAIT_MS)) / 1000
        answer = await _pop(keys.candle_reply(request_id), wait_s)
        if answer is not None:
            desk.unanswered.pop(terminal_id, None)
            return _parse(answer, symbol, seconds)
        desk.unanswered[terminal_id] = monotonic_ms()
        logger.info("terminal %s gave no candles of %s in time", terminal_id, symbol)
    raise NoAnswer("No terminal gave its older candles in time; what is shown is our own.")


async def _pop(key: str, wait_s: float) -> str | None:
    """The answer in the list, or None. In short steps: a blocking read must end before the client's own limit."""
    until = monotonic_ms() + wait_s * 1000
    while (left := until - monotonic_ms()) > 0:
        found = await loop_ticks().blpop([key], timeout=max(0.05, min(left / 1000, 1.0)))
        if found is not None:
            return str(found[1])
    return None


def _send(terminal_id: str, request_id: str, symbol: str, seconds: int, to_ms: int, count: int) -> None:
    current_app.send_task(
        "executors.tasks.read_candles",
        args=[request_id, symbol, seconds, to_ms, count],
        queue=keys.terminal_queue(terminal_id),
        ignore_result=True,
        expires=WAIT_MS / 1000 + 1,
        retry=False,
    )


async def _terminals(desk: _Desk, symbol: str) -> list[str]:
    """The terminals to ask, best first: those that send ticks, now, by priority; lately silent ones last."""
    if desk.configs is None or monotonic_ms() - desk.configs[0] > CONFIGS_MS:
        try:
            rows = await loop_state().hvals(keys.CONFIGS)
        except (redis.exceptions.RedisError, OSError) as error:
            raise NoAnswer("The configuration of the terminals can't be read now.") from error
        desk.configs = (monotonic_ms(), [TerminalConfig.model_validate_json(row) for row in rows])
    heartbeat = await read_heartbeat(loop_ticks()) or {}
    sources = heartbeat.get("sources", {})
    moment = monotonic_ms()
    desk.unanswered = {name: at for name, at in desk.unanswered.items() if moment - at < SILENT_MS}
    ranked = [
        (config.terminal_id in desk.unanswered, not alive, config.tick_priority, config.terminal_id)
        for config in desk.configs[1]
        if config.enabled and config.tick_priority > 0 and (not config.symbols or symbol in config.symbols)
        for alive in [bool(sources.get(config.terminal_id, {}).get("alive"))]
    ]
    return [terminal_id for *_, terminal_id in sorted(ranked)]


def _parse(answer: str, symbol: str, seconds: int) -> list[Candle]:
    """Ascending candles of the answer. One that is not to be read counts as none."""
    closed_to = _closed_to(seconds)
    try:
        candles = [
            Candle(
                symbol=symbol,
                seconds=seconds,
                open_ms=open_ms,
                open=first,
                high=high,
                low=low,
                close=close,
                ticks=ticks,
                forming=open_ms > closed_to,
            )
            for open_ms, first, high, low, close, ticks in json.loads(answer)
        ]
    except (ValueError, TypeError) as error:
        logger.error("a terminal's candles of %s can't be read: %s", symbol, error)
        raise NoAnswer("A terminal's answer could not be read.") from error
    return sorted(candles, key=lambda candle: candle.open_ms)
