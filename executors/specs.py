"""The symbols' specifications as last read, so that an order does not ask the terminal for what changes once a month.

Precedes: admission and requests read from here. Follows: the terminal; the executor's account sync refreshes what is used.
A limit or trade mode that changed within the last seconds is refused by the broker itself.
"""

from dataclasses import dataclass

from executors.terminals.base import SymbolSpec, Terminal

FRESH_MS = 10_000.0  # read again by the sync after this
OLD_MS = 30_000.0  # not used any more after this
FORGET_MS = 3_600_000.0  # not refreshed any more when no order used it for so long


@dataclass(slots=True)
class _Known:
    spec: SymbolSpec
    read_ms: float
    used_ms: float


class Specs:
    """One thread's. Times are monotonic ms."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._known: dict[str, _Known] = {}

    def get(self, symbol: str, now_ms: float) -> SymbolSpec | None:
        """None when the broker has no such symbol. May raise TerminalError when it has to be read."""
        known = self._known.get(symbol)
        if known is not None and now_ms - known.read_ms < OLD_MS:
            known.used_ms = now_ms
            return known.spec
        return self._read(symbol, now_ms, now_ms)

    def refresh(self, now_ms: float) -> None:
        """Reads again what has aged, at most one symbol a call."""
        for symbol, known in list(self._known.items()):
            if now_ms - known.used_ms > FORGET_MS:
                del self._known[symbol]
            elif now_ms - known.read_ms >= FRESH_MS:
                self._read(symbol, now_ms, known.used_ms)
                return

    def forget(self) -> None:
        """After a reconnect nothing that was read before counts."""
        self._known.clear()

    def _read(self, symbol: str, now_ms: float, used_ms: float) -> SymbolSpec | None:
        spec = self._terminal.spec(symbol)
        if spec is None:
            self._known.pop(symbol, None)
        else:
            self._known[symbol] = _Known(spec, now_ms, used_ms)
        return spec
