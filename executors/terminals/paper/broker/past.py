"""The candles and ticks that a terminal asks for: `copy_rates_*` and `copy_ticks_*`.

Precedes: `session.py`. Follows: `history.py`, which makes them.
"""

from executors.terminals.paper.broker import history, views
from executors.terminals.paper.broker.broker import Broker
from executors.terminals.paper.broker.market import HISTORY_START_MS
from executors.terminals.paper.broker.player import Track
from executors.terminals.paper.broker.state import Desk
from executors.terminals.paper.broker.terminal import FAILED, INVALID, Refusal, TerminalCalls
from executors.terminals.paper.dtypes import RATES

FAR_S = 2**31 - 1
INFO_TICKS, TRADE_TICKS = 1, 2  # bits; of COPY_TICKS_ALL, -1, both are set


class PastCalls(TerminalCalls):
    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self._warm: set[str] = set()  # symbols whose history is downloaded

    def _track(self, desk: Desk) -> Track:
        """Where a desk's past is. A cold history fails once a symbol, as a terminal's does while it downloads."""
        symbol = desk.instrument.name
        if desk.house.personality.cold_history and symbol not in self._warm:
            self._warm.add(symbol)
            raise Refusal(*FAILED)
        return self._broker.player.tracks[desk.instrument.feed]

    def _server_s(self, desk: Desk) -> int:
        return desk.house.clock.to_server(self._broker.now_ms()) // 1000

    def _odd(self) -> tuple[int, str]:
        """last_error of a count, place or timeframe that cannot be."""
        return self._pair(self._account().house.personality.odd_history)

    def _length(self, timeframe: int) -> int:
        length = history.minutes_of(timeframe)
        if length is None:
            raise Refusal(*self._odd())
        return length * 60

    def _last_rates(self, desk: Desk, timeframe: int, until_s: int, count: int) -> bytes:
        length = self._length(timeframe)
        if count <= 0:
            raise Refusal(*self._odd())
        if count >= desk.house.personality.max_bars:
            raise Refusal(*INVALID)
        now_ms = self._broker.now_ms()
        until_s = min(until_s, self._server_s(desk))
        span = length * (count + 5)
        track = self._track(desk)
        while True:
            found = history.candles(desk, track, timeframe, max(until_s - span, 1), until_s, now_ms)
            if len(found) >= count or until_s - span < HISTORY_START_MS // 1000:
                break
            span *= 2
        rows = history.rates_rows(desk, found, track.feed.point)[-count:]
        if not len(rows):
            raise Refusal(*FAILED)
        return rows.tobytes()

    def do_rates_from(self, symbol: str, timeframe: int, date_s: int, count: int) -> bytes:
        return self._last_rates(
            self._desk(symbol, self._unknown_history()), timeframe, date_s or FAR_S, count
        )

    def do_rates_pos(self, symbol: str, timeframe: int, start: int, count: int) -> bytes:
        desk = self._desk(symbol, self._unknown_history())
        if start < 0 or count <= 0:
            raise Refusal(*self._odd())
        if start + count >= desk.house.personality.max_bars:
            raise Refusal(*INVALID)
        rows = self._last_rates(desk, timeframe, FAR_S, count + start)
        return rows[: len(rows) - start * RATES.itemsize]

    def do_rates_range(self, symbol: str, timeframe: int, first_s: int, last_s: int) -> bytes:
        desk = self._desk(symbol, self._unknown_history())
        length = self._length(timeframe)
        last_s = min(last_s or FAR_S, self._server_s(desk))
        first_s = max(first_s, HISTORY_START_MS // 1000)
        if (last_s - first_s) // length >= desk.house.personality.max_bars:
            raise Refusal(*INVALID)
        if last_s < first_s:
            if desk.house.personality.reversed_range == "none":
                raise Refusal(*INVALID)
            return b""
        track = self._track(desk)
        found = history.candles(desk, track, timeframe, first_s, last_s, self._broker.now_ms())
        return history.rates_rows(desk, found, track.feed.point).tobytes()

    def _ticks(self, desk: Desk, first_s: int, last_s: int, count: int) -> bytes:
        clock, now_ms = desk.house.clock, self._broker.now_ms()
        first_ms = max(clock.to_utc(first_s * 1000), HISTORY_START_MS)
        last_ms = min(clock.to_utc(last_s * 1000), now_ms)
        if last_ms < first_ms:
            if desk.house.personality.reversed_range == "none":
                raise Refusal(*INVALID)
            return b""
        track = self._track(desk)
        number = track.feed.count_until(first_ms - 1) + count + 1
        if count and track.frozen_ms is None:
            last_ms = min(last_ms, track.feed.tick(number)[0])  # no more than are wanted
        found = history.ticks_between(track, first_ms, last_ms)
        rows = history.ticks_rows(desk, found, track.feed.point)
        return (rows[:count] if count else rows).tobytes()

    def _any_ticks(self, desk: Desk, flags: int) -> bool:
        """Whether the symbol has ticks of the kinds that are asked for."""
        kinds = flags & (INFO_TICKS | TRADE_TICKS)
        named = flags in (-1, INFO_TICKS, TRADE_TICKS)
        if not kinds or (not named and desk.house.personality.tick_flags == "named"):
            raise Refusal(*INVALID)
        return kinds != TRADE_TICKS or views.traded(desk.instrument)

    def do_ticks_from(self, symbol: str, date_s: int, count: int, flags: int) -> bytes:
        desk = self._desk(symbol, self._unknown_history())
        if count <= 0:
            raise Refusal(*self._odd())
        if not self._any_ticks(desk, flags):
            return b""
        return self._ticks(desk, date_s, FAR_S, min(count, history.MAX_TICKS))

    def do_ticks_range(self, symbol: str, first_s: int, last_s: int, flags: int) -> bytes:
        desk = self._desk(symbol, self._unknown_history())
        if not self._any_ticks(desk, flags):
            return b""
        return self._ticks(desk, first_s, last_s or FAR_S, 0)
