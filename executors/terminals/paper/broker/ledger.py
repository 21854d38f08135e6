"""The broker's ledger: one append-only file, a transaction a line with its checksum; and reading it back.

Precedes: nothing is answered before `sync` returned. Follows: every change that the engine makes. A line is
`crc32 JSON`; a torn last line (the machine lost power while it was written) was never answered and is cut off, as are the
zeros that a running broker keeps ahead of its last line.
"""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

FILE = "ledger.jsonl"
COMPACT = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make an encoder for each call
RESERVE = 256 * 1024  # bytes of zeros ahead: a file that does not grow is flushed in half the time
COMPACT_ABOVE = 64 * 1024 * 1024  # bytes; some 200,000 orders


class LedgerError(RuntimeError):
    """The file cannot be used."""


def line_of(transaction: Any) -> bytes:
    body = COMPACT(transaction).encode()
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
                # zeros: not all of a block came to the disk, so it was never answered, and nothing follows it
                if b"\0" not in line and file.read(1):
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
        self._end = 0  # of what is written
        self._reserved = 0  # of the zeros behind it

    def replay(self) -> Iterator[Any]:
        """Yields what is there, cuts off a torn end, and opens the file for writing."""
        end = 0
        for end, transaction in read(self.path):  # noqa: B007 - the last offset is used below
            yield transaction
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._fd, end)
        self._end = self._reserved = end
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
        self._end = self._reserved = os.fstat(descriptor).st_size
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
        if self._end + len(block) > self._reserved:
            self._reserve(len(block))
        self._write(block)
        self._end += len(block)
        os.fdatasync(self._fd)

    def _write(self, block: bytes) -> None:
        view, at = memoryview(block), self._end
        while view:
            written = os.pwrite(self._fd, view, at)
            view, at = view[written:], at + written

    def _reserve(self, length: int) -> None:
        """Zeros for what comes, and for some time after it. A full disk is noticed here, before anything is promised."""
        self._write(bytes(length + RESERVE))
        self._reserved = self._end + length + RESERVE
        os.fsync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            self.sync()
            os.ftruncate(self._fd, self._end)
            os.close(self._fd)
            self._fd = -1
        self._lock.close()
