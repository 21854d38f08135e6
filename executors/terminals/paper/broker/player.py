"""Plays the market: moves every desk's quote to now, tick by tick in time order, and lets the engine react.

Precedes: the engine's triggers. Follows: `market.py` (what is due), or an operator's hand (`push`), who may freeze a feed.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from executors.terminals.paper.broker.market import Feed
from executors.terminals.paper.broker.personalities import Configuration, ConfigurationError
from executors.terminals.paper.broker.recordings import Recording, load, walk
from executors.terminals.paper.broker.sessions import is_open
from executors.terminals.paper.broker.state import Desk, House

MAX_LAG_MS = 60_000  # of a broker that stood still: what is older is history, not played
MAX_PUSHED = 100_000
DAY_MS = 86_400_000


@dataclass(slots=True)
class Track:
    """One feed as it plays."""

    feed: Feed
    next_number: int
    desks: list[Desk]
    frozen_ms: int | None = None
    pushed: list[tuple[int, int, int]] = field(default_factory=list)  # time, bid, ask in points, while frozen


def open_feeds(configuration: Configuration, *, speed: float, seed: int) -> dict[str, Feed]:
    feeds = {}
    for name, spec in configuration.feeds.items():
        recording: Recording
        if spec.recording:
            recording = load(spec.recording)
            if recording.name != name:
                recording = Recording(name, recording.digits, recording.time_ms, recording.bid, recording.ask)
        elif spec.walk:
            recording = walk(name, seed=seed, **spec.walk)
        else:
            raise ConfigurationError(f"feeds.{name} needs a recording or a walk")
        feeds[name] = Feed(recording, speed=speed, seed=seed)
    return feeds


class Player:
    def __init__(
        self,
        feeds: dict[str, Feed],
        houses: dict[str, House],
        now_ms: int,
        on_tick: Callable[[Desk, int], None],
        widened: Callable[[str, int], int] = lambda symbol, at_ms: 0,
    ) -> None:
        self.tracks: dict[str, Track] = {}
        self._on_tick = on_tick
        self._widened = widened  # points on top of a symbol's spread, now
        self._due: list[tuple[int, str]] = []
        self.played = 0  # ticks since the start
        desks: dict[str, list[Desk]] = {name: [] for name in feeds}
        for house in houses.values():
            for desk in house.desks.values():
                desks[desk.instrument.feed].append(desk)
        for name, feed in feeds.items():
            number = feed.count_until(now_ms)
            track = self.tracks[name] = Track(feed, number, desks[name])
            at, bid, ask = feed.tick(number - 1)
            for desk in track.desks:
                self._quote(feed, desk, at, bid, ask)
            heapq.heappush(self._due, (feed.tick(number)[0], name))

    def next_ms(self) -> int:
        """When the next tick is due."""
        return self._due[0][0] if self._due else 2**62

    def advance(self, now_ms: int) -> None:
        """Plays what is due."""
        while self._due and self._due[0][0] <= now_ms:
            at, name = heapq.heappop(self._due)
            track = self.tracks[name]
            if track.frozen_ms is not None:
                continue
            if at < now_ms - MAX_LAG_MS:
                track.next_number = track.feed.count_until(now_ms - MAX_LAG_MS)
                at = track.feed.tick(track.next_number)[0]
                heapq.heappush(self._due, (at, name))
                continue
            _, bid, ask = track.feed.tick(track.next_number)
            track.next_number += 1
            heapq.heappush(self._due, (track.feed.tick(track.next_number)[0], name))
            self._tick(track, at, bid, ask)
            self.played += 1

    def freeze(self, name: str, now_ms: int) -> None:
        """The price stands still from now on, until `resume`; `push` moves it."""
        track = self.tracks[name]
        if track.frozen_ms is None:
            track.frozen_ms = now_ms

    def resume(self, name: str, now_ms: int) -> None:
        """Back to the recording. What was pushed is forgotten, candles too."""
        track = self.tracks[name]
        if track.frozen_ms is not None:
            track.frozen_ms = None
            track.pushed.clear()
            track.next_number = track.feed.count_until(now_ms)
            heapq.heappush(self._due, (track.feed.tick(track.next_number)[0], name))

    def push(self, name: str, bid: float, ask: float, now_ms: int) -> None:
        self.freeze(name, now_ms)
        track = self.tracks[name]
        scale = 10**track.feed.digits
        tick = (now_ms, round(bid * scale), round(ask * scale))
        track.pushed.append(tick)
        del track.pushed[:-MAX_PUSHED]
        self._tick(track, *tick)

    def _tick(self, track: Track, at: int, bid: int, ask: int) -> None:
        for desk in track.desks:
            instrument = desk.instrument
            if not is_open(instrument, desk.house.clock.to_server(at)):
                continue
            self._quote(track.feed, desk, at, bid, ask)
            if desk.positions or desk.orders:
                self._on_tick(desk, at)

    def _quote(self, feed: Feed, desk: Desk, at: int, bid_points: int, ask_points: int) -> None:
        quote = desk.quote
        bid, ask = prices(desk, bid_points, ask_points, feed.point)
        if extra := self._widened(desk.instrument.name, at):
            ask = round(ask + extra * desk.instrument.point, desk.instrument.digits)
        quote.bid, quote.ask, quote.time_ms = bid, ask, at
        quote.last = bid
        day = desk.house.clock.to_server(at) // DAY_MS
        if day != quote.day:
            quote.day = day
            quote.open = quote.high = quote.low = bid
            quote.ask_high = quote.ask_low = ask
            return
        quote.high, quote.low = max(quote.high, bid), min(quote.low, bid)
        quote.ask_high, quote.ask_low = max(quote.ask_high, ask), min(quote.ask_low, ask)


def prices(desk: Desk, bid_points: int, ask_points: int, feed_point: float) -> tuple[float, float]:
    """What this broker makes of a recorded quote: its digits, its grid, its spread."""
    instrument = desk.instrument
    digits = instrument.digits
    if instrument.tick_size:
        bid = round(round(bid_points * feed_point / instrument.tick_size) * instrument.tick_size, digits)
        ask = round(bid + max(instrument.spread * instrument.point, instrument.tick_size), digits)
        return bid, ask
    bid = round(bid_points * feed_point, digits)
    if instrument.spread:
        return bid, round(bid + instrument.spread * instrument.point, digits)
    return bid, round(ask_points * feed_point + instrument.markup * instrument.point, digits)
