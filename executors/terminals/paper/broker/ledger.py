"""The broker's ledger: one append-only file, a transaction a line with its checksum; and reading it back.

Precedes: nothing is answered before `sync` returned. Follows: every change that the engine makes. A line is
`crc32 JSON`; a torn last line (the machine lost power while it was written) was never answered and is cut off.
"""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

FILE = "ledger.jsonl"
COMPACT_ABOVE = 64 * 1024 * 1024  # bytes; some 200,000 orders


class LedgerError(RuntimeError):
    """The file cannot be used."""


def line_of(transaction: Any) -> bytes:
    body = json.dumps(transaction, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(body), body)


def parse_line(line: bytes) -> Any | None:
    """The transaction; None when the line is torn."""
    if len(line) < 10 or not line.endswith(b"\n"):
        return None
    body = line[9:-1]
    try:
        if int(line[:8], 16) != zlib.crc32(body):
            return None
        return json.loads(body)
    except ValueError:
        return None


def read(path: Path) -> Iterator[tuple[int, Any]]:
    """Every whole transaction with the offset after it. Raises for a broken line that is not the last."""
    offset = 0
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            transaction = parse_line(line)
            if transaction is None:
                if file.read(1):
                    raise LedgerError(f"{path} is damaged at byte {offset}; restore it from a copy")
                return
            offset += len(line)
            yield offset, transaction


class Ledger:
    """The one writer. `append` collects, `sync` makes durable what was collected."""

    def __init__(self, directory: Path) -> None:
        import fcntl  # not on Windows, where ledgers can be read and module contracts be run

        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / FILE
        self._lock: BinaryIO = (directory / "lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise LedgerError(
                f"another paper broker uses {directory}; stop it or choose another directory"
            ) from None
        self._buffer: list[bytes] = []
        self._fd = -1

    def replay(self) -> Iterator[Any]:
        """Yields what is there, cuts off a torn end, and opens the file for writing."""
        end = 0
        for end, transaction in read(self.path):  # noqa: B007 - the last offset is used below
            yield transaction
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._fd, end)
        os.lseek(self._fd, end, os.SEEK_SET)
        os.fsync(self._fd)
        self._sync_directory()

    def needs_compaction(self, last_size: int) -> bool:
        """Has it become long, and twice as long as the last rewriting has left it?"""
        return self.path.stat().st_size > max(COMPACT_ABOVE, 2 * last_size)

    def rewrite(self, transactions: list[Any]) -> None:
        """The same state in fewer lines: written beside it and put in its place in one step."""
        fresh = self.path.with_suffix(".new")
        lines = [line_of(transaction) for transaction in transactions]
        size = sum(map(len, lines))
        lines.append(line_of([0, [["m", "compacted", size]]]))
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb", closefd=False) as file:
            file.writelines(lines)
        os.fsync(descriptor)
        fresh.replace(self.path)
        os.close(self._fd)
        self._fd = descriptor
        self._sync_directory()

    def _sync_directory(self) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    @property
    def dirty(self) -> bool:
        return bool(self._buffer)

    def append(self, transaction: Any) -> None:
        self._buffer.append(line_of(transaction))

    def sync(self) -> None:
        """Group commit: one write and one fdatasync for all that was appended since the last."""
        if not self._buffer:
            return
        block = b"".join(self._buffer)
        self._buffer.clear()
        view = memoryview(block)
        while view:
            view = view[os.write(self._fd, view) :]
        os.fdatasync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            self.sync()
            os.close(self._fd)
            self._fd = -1
        self._lock.close()
