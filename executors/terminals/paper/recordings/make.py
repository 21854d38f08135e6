"""Makes the compact recordings of this directory from the CSV files they come from: `python make.py SOURCE_DIR`.

Precedes: `broker/recordings.py`, which loads them. Prices are kept as whole points and differences, so that the
compressed files stay small and exact. README.md says where the prices come from.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
MINUTES = 14_400  # ten days of a market that never closes: enough for a chart, small enough to ship


def rows(path: Path, limit: int | None = None) -> list[list[float]]:
    with path.open(newline="") as lines:
        reader = csv.reader(lines)
        next(reader)
        return [[float(cell) for cell in row] for _, row in zip(range(limit or 10**9), reader, strict=False)]


def deltas(values: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.diff(values, prepend=0).astype(np.int32)


def ticks(source: Path, name: str, digits: int) -> None:
    """Ticks: milliseconds from the first one, bid and spread in points."""
    table = np.array(rows(source))
    time_ms = (table[:, 0] - table[0, 0]).astype(np.int64)
    bid = np.rint(table[:, 1] * 10**digits).astype(np.int64)
    ask = np.rint(table[:, 2] * 10**digits).astype(np.int64)
    np.savez_compressed(
        HERE / f"{name}.npz",
        kind="ticks",
        digits=digits,
        time_ms=deltas(time_ms),
        bid=deltas(bid),
        spread=(ask - bid).astype(np.uint16),
    )


def minutes(source: Path, name: str, digits: int, *, spread: int | None) -> None:
    """Minute candles of the bid in points, and the spread at each open. Closed hours are left out."""
    table = np.array(rows(source, MINUTES))
    points = np.rint(table[:, 1:5] * 10**digits).astype(np.int64)
    opens, highs, lows, closes = points.T
    asks = np.rint(table[:, 5] * 10**digits).astype(np.int64) if spread is None else opens + spread
    np.savez_compressed(
        HERE / f"{name}.npz",
        kind="minutes",
        digits=digits,
        open=deltas(opens),
        high=(highs - opens).astype(np.int32),
        low=(opens - lows).astype(np.int32),
        close=(closes - opens).astype(np.int32),
        spread=np.maximum(asks - opens, 1).astype(np.uint16),
    )


def main(source: Path) -> None:
    ticks(source / "eurusd-ticks-2019-01-01.csv", "EURUSD", 5)
    ticks(source / "usdjpy-ticks-2019-01-01.csv", "USDJPY", 3)
    minutes(source / "gbpusd-m1-2012-02.csv", "GBPUSD", 5, spread=None)
    minutes(source / "btcusd-m1-2022-01.csv", "BTCUSD", 2, spread=500)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
