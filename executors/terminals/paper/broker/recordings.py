"""Loads the shipped recordings, and makes seeded random walks for symbols that have none.

Precedes: `market.py`, which plays them. A recording is a list of ticks in whole points; time starts above 0.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DIRECTORY = Path(__file__).resolve().parent.parent / "recordings"
Ints = NDArray[np.int64]
STEP_MS = 5_000  # minute candles are walked in steps of this
PATH_STEPS = 12


@dataclass(frozen=True)
class Recording:
    """Ticks of one symbol: ms since its start, ascending; bid and ask in points of `digits` decimals."""

    name: str
    digits: int
    time_ms: Ints
    bid: Ints
    ask: Ints


def load(name: str) -> Recording:
    with np.load(DIRECTORY / f"{name}.npz") as file:
        digits = int(file["digits"])
        if str(file["kind"]) == "ticks":
            time_ms = np.cumsum(file["time_ms"], dtype=np.int64) + 1
            bid = np.cumsum(file["bid"], dtype=np.int64)
            return Recording(name, digits, time_ms, bid, bid + file["spread"])
        opens = np.cumsum(file["open"], dtype=np.int64)
        spread = file["spread"].astype(np.int64)
        bid = candle_path(opens, opens + file["high"], opens - file["low"], opens + file["close"])
        time_ms = np.arange(len(bid), dtype=np.int64) * STEP_MS + 1
        return Recording(name, digits, time_ms, bid, bid + np.repeat(spread, PATH_STEPS))


def candle_path(opens: Ints, highs: Ints, lows: Ints, closes: Ints) -> Ints:
    """Each minute in twelve ticks: open at 0 s, high at 20 s, low at 40 s, close at 55 s, straight lines between."""
    rise = np.linspace(opens, highs, 5, axis=1)[:, :4]
    fall = np.linspace(highs, lows, 5, axis=1)[:, :4]
    rest = np.linspace(lows, closes, 4, axis=1)
    path: Ints = np.rint(np.concatenate([rise, fall, rest], axis=1)).astype(np.int64).ravel()
    return path


def walk(
    name: str, digits: int, start: float, step: float, spread: int, seed: int, hours: float = 4
) -> Recording:
    """A random walk about `start`, drawn back to it; about one tick a second, steps of `step` points."""
    rng = np.random.default_rng(stable_seed(seed, name))
    count = int(hours * 3600)
    time_ms = np.cumsum(rng.integers(300, 1700, count), dtype=np.int64)
    noise = rng.normal(0, step, count)
    centre = start * 10**digits
    price = np.empty(count)
    level = centre
    for index in range(count):
        level += noise[index] + (centre - level) * 0.0005
        price[index] = level
    bid = np.maximum(np.rint(price).astype(np.int64), 1)
    return Recording(name, digits, time_ms, bid, bid + spread + rng.integers(0, max(spread // 2, 1), count))


def stable_seed(seed: int, name: str) -> int:
    """The same on every machine and Python, unlike `hash`."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{name}".encode()).digest()[:8], "big")
