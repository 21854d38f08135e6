"""The file under an executor's journal: opened or refused, committed to, kept in shape.

Precedes: journal writes orders into it. Follows: the executor's own thread, which alone writes. WAL with synchronous=FULL: a
commit that returned is on disk.
"""

import contextlib
import secrets
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from executors import journal_trades
from executors.journal_schema import SCHEMA, SCHEMA_VERSION

UNWRITABLE = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
)
ROOM_BYTES = 1024 * 1024  # what must be free before an executor begins
FOLD_AFTER = 10  # commits; each writes some ten pages
LOG_BYTES = 512 * 1024  # that the log has at least, for twice as many


class JournalError(Exception):
    """The journal cannot be used: another terminal's, another installation's, or damaged."""


class JournalUnwritable(JournalError):
    """The disk under the journal is full, read-only or broken: nothing may be sent."""


class Transaction:
    """The commit that is under way; one within it is part of it. A generator's context manager costs an order more."""

    def __init__(self, begin: Callable[[], None], end: Callable[[BaseException | None], None]) -> None:
        self._begin = begin
        self._end = end
        self.depth = 0

    def __enter__(self) -> None:
        if not self.depth:
            self._begin()
        self.depth += 1

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.depth -= 1
        if not self.depth:
            self._end(error)


class JournalFile:
    """Opened and written by one thread."""

    def __init__(self, path: Path, *, installation: str, terminal_id: str) -> None:
        """Opens or makes the file. Raises JournalError when it belongs to something else or is damaged."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._transaction = Transaction(self._begin, self._end)
        self._commits = 0  # since the log was folded
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5)
        except sqlite3.OperationalError as error:
            raise JournalUnwritable(f"{path} cannot be opened: {error}") from error
        try:
            self._db.execute("PRAGMA auto_vacuum=INCREMENTAL")  # of a file that is made now
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA foreign_keys=ON")
            self._db.execute("PRAGMA wal_autocheckpoint=4000")
            self._db.execute("PRAGMA journal_size_limit=33554432")
            self._db.executescript(SCHEMA + journal_trades.INDEX)
        except sqlite3.DatabaseError as error:
            self._db.close()
            if _unwritable(error):
                raise JournalUnwritable(f"{path} cannot be written: {error}") from error
            raise JournalError(f"{path} cannot be opened as a journal: {error}") from error
        self.fresh = self._meta("journal_id") is None
        with self._transaction:
            for key, value in {
                "journal_id": secrets.token_hex(8),
                "installation": installation,
                "terminal_id": terminal_id,
                "schema_version": SCHEMA_VERSION,
            }.items():
                self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))
        for key, wanted in (
            ("installation", installation),
            ("terminal_id", terminal_id),
            ("schema_version", SCHEMA_VERSION),
        ):
            if (found := self._meta(key)) != wanted:
                self._db.close()
                raise JournalError(f"{path} has {key} {found}, wanted {wanted}: it is another journal")
        self.journal_id = str(self._meta("journal_id"))

    def close(self) -> None:
        self._db.close()

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Everything that is written within is one commit."""
        return self._transaction

    def prove_room(self) -> None:
        """Raises JournalUnwritable unless the disk has room for what the next orders will need."""
        free = shutil.disk_usage(self.path.parent).free
        if free < ROOM_BYTES:
            raise JournalUnwritable(f"{free // 1024} kB are free under {self.path.parent}")

    def prove_writable(self) -> None:
        """By writing: a quota or a broken disk shows no other way. Raises JournalUnwritable."""
        with self._transaction:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('room', ?)", ("x" * 16_384,))
        with self._transaction:
            self._db.execute("DELETE FROM meta WHERE key = 'room'")

    def fold(self) -> None:
        """For idle moments: the log's pages go into the file, so that the next commits write over room that is there.

        A log that grows with each commit costs the disk a change of its size besides, and an order waits for that. May
        raise JournalUnwritable.
        """
        if self._commits < FOLD_AFTER:
            return
        try:
            if self._log_bytes() < LOG_BYTES:
                with self._transaction:
                    self._db.execute("INSERT OR REPLACE INTO meta VALUES ('room', ?)", ("x" * LOG_BYTES,))
                with self._transaction:
                    self._db.execute("DELETE FROM meta WHERE key = 'room'")
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.OperationalError as error:
            if _unwritable(error):
                raise JournalUnwritable(f"{self.path} cannot be written: {error}") from error
            raise
        self._commits = 0

    def _log_bytes(self) -> int:
        return self.path.with_name(f"{self.path.name}-wal").stat().st_size

    def _size(self) -> int:
        """Bytes in use; free pages are used again."""
        pages, free, size = (
            int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _begin(self) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self._undo(error)
            raise

    def _end(self, error: BaseException | None) -> None:
        if error is not None:
            self._undo(error)
            return
        try:
            self._db.execute("COMMIT")
        except BaseException as failure:
            self._undo(failure)
            raise
        self._commits += 1
        self._committed()

    def _undo(self, error: BaseException) -> None:
        """Nothing of the commit is there. Raises JournalUnwritable when that is the disk's fault."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._rolled_back()
        if isinstance(error, sqlite3.OperationalError) and _unwritable(error):
            raise JournalUnwritable(f"{self.path} cannot be written: {error}") from error

    def _committed(self) -> None:
        """What was written is on disk."""

    def _rolled_back(self) -> None:
        """What was written is not there."""

    def _meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None


def _unwritable(error: sqlite3.Error) -> bool:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in UNWRITABLE
