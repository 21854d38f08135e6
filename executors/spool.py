"""The web process's spool: accepted signals on its own disk until every order has reached an executor's journal.

Precedes: `reaccept`, which gives them to a store that lost them. Follows: dispatch keeps each signal here while the store
records it. One SQLite file a process, named by a slot whose lock the process holds; a file whose process is gone is
taken over by the next. A thread writes, many signals to one commit, so that nobody waits longer than for the store.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import queue
import sqlite3
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from executors.messages import SIGNAL, Signal
from tradedist.clock import monotonic_ms

logger = logging.getLogger(__name__)

SLOTS = 256
LINGER_S = 0.05  # what nobody waits for is written with the next signal, or after this
ADOPT_S = 5.0  # between two looks for files whose process is gone
SAY_AGAIN_MS = 60_000
CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A signal as it was accepted. `accepted_ms` 0: whether the store recorded it is not known here."""

    signal: Signal
    user_id: int
    username: str
    source: str
    ttl_ms: int
    received_ms: float
    targets: tuple[tuple[str, int], ...]  # terminal_id, epoch
    store_life: str = ""  # the store's replication id when it was kept, "" when not known
    accepted_ms: int = 0
    deadline_ms: int = 0
    seqs: tuple[int, ...] = ()  # leg numbers, in the order of targets
    inherited: bool = field(default=False, compare=False)  # from a process that is gone: it may have answered
    at_ms: float = field(default_factory=monotonic_ms, compare=False)

    @property
    def signal_id(self) -> str:
        return self.signal.signal_id

    def to_json(self) -> str:
        rest = json.dumps(
            {
                "user_id": self.user_id,
                "username": self.username,
                "source": self.source,
                "ttl_ms": self.ttl_ms,
                "received_ms": self.received_ms,
                "targets": self.targets,
                "store_life": self.store_life,
                "accepted_ms": self.accepted_ms,
                "deadline_ms": self.deadline_ms,
                "seqs": self.seqs,
            }
        )
        return f'{{"signal":{self.signal.model_dump_json(exclude_none=True)},{rest[1:]}'

    @classmethod
    def from_json(cls, text: str) -> "Kept":
        """Raises ValueError, KeyError or TypeError for what is no such record."""
        row: dict[str, Any] = json.loads(text)
        row["signal"] = SIGNAL.validate_python(row["signal"])
        row["targets"] = tuple((str(terminal), int(epoch)) for terminal, epoch in row["targets"])
        row["seqs"] = tuple(row["seqs"])
        return cls(**row, inherited=True)


@dataclass(frozen=True, slots=True)
class _Op:
    signal_id: str
    kept: Kept | None  # None: delete
    done: "asyncio.Future[bool] | None" = None


class Spool:
    """One an event loop, whose methods are called in that loop. Nothing here raises for a disk that fails:
    `keep` answers False, which the sender is told as degraded durability."""

    def __init__(self, directory: Path, *, max_orders: int) -> None:
        self.entries: dict[str, Kept] = {}
        self.store_life = ""
        self._directory = directory
        self._max_orders = max_orders
        self._orders = 0
        self._ops: queue.SimpleQueue[_Op | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._changed = asyncio.Event()
        self._said_ms = -SAY_AGAIN_MS * 2.0

    # --- in the loop ---

    def start(self) -> None:
        """Reads what earlier processes left. Called by itself with the first signal."""
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
            self._thread.start()

    def keep(self, entry: Kept) -> "asyncio.Future[bool]":
        """Begins to write; True when it is on disk. A signal that is here already stays as it is."""
        self.start()
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if entry.signal_id in self.entries:
            done.set_result(True)
        elif self._orders + len(entry.targets) > self._max_orders:
            done.set_result(False)
            if monotonic_ms() - self._said_ms > SAY_AGAIN_MS:
                self._said_ms = monotonic_ms()
                logger.error("the spool holds %s orders: further ones are not kept in it", self._orders)
        else:
            self._hold(entry)
            self._ops.put(_Op(entry.signal_id, entry, done))
        return done

    def confirm(self, entry: Kept) -> None:
        """The store has recorded it, as `entry` says. On disk a moment later."""
        if entry.signal_id in self.entries:
            self._hold(entry)
            self._ops.put(_Op(entry.signal_id, entry))

    def drop(self, entry: Kept) -> None:
        """It needs no keeping. Another wish that came with the same id meanwhile stays."""
        if self.entries.get(entry.signal_id) is entry:
            del self.entries[entry.signal_id]
            self._orders -= len(entry.targets)
            self._ops.put(_Op(entry.signal_id, None))

    async def some(self) -> None:
        """Returns when there is something in it."""
        while not self.entries:
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Writes what is under way and gives the file up, for the next process."""
        if self._thread is not None:
            self._ops.put(None)
            await asyncio.to_thread(self._thread.join, CLOSE_S)

    def _hold(self, entry: Kept) -> None:
        if (old := self.entries.get(entry.signal_id)) is not None:
            self._orders -= len(old.targets)
        self.entries[entry.signal_id] = entry
        self._orders += len(entry.targets)
        self._changed.set()

    def _inherit(self, found: list[Kept]) -> None:
        for entry in found:
            if entry.signal_id not in self.entries:
                self._hold(entry)

    # --- in the thread ---

    def _run(self) -> None:
        slot: _Slot | None = None
        due = 0.0
        ending = False
        while not ending:
            try:
                if monotonic_ms() >= due:
                    due = monotonic_ms() + ADOPT_S * 1000
                    found: list[Kept] = []
                    if slot is None:
                        slot = _Slot.take(self._directory)
                        found = slot.read()
                    found += slot.adopt_others()
                    if found:
                        logger.info("the spool holds %s signals of processes that are gone", len(found))
                        self._tell(self._inherit, found)
            except (OSError, sqlite3.Error):
                logger.exception("the spool cannot be read: accepted signals are in the store alone")
            ops, ending = self._wait(max(0.0, (due - monotonic_ms()) / 1000))
            written = False
            try:
                if slot is not None and ops:
                    slot.write({op.signal_id: op.kept for op in ops})
                written = slot is not None
            except sqlite3.Error:
                logger.exception("the spool cannot be written: accepted signals are in the store alone")
            if waiting := [op.done for op in ops if op.done is not None]:
                self._tell(_resolve, waiting, written)
            if self._loop is None or self._loop.is_closed():
                ending = True
        if slot is not None:
            slot.close()

    def _wait(self, timeout_s: float) -> tuple[list[_Op], bool]:
        """What is to be written now, and whether the end was asked for."""
        ops: list[_Op] = []
        until: float | None = monotonic_ms() + timeout_s * 1000
        while True:
            try:
                left_s = max(0.0, (until - monotonic_ms()) / 1000) if until is not None else 0.0
                op = self._ops.get(timeout=left_s) if left_s > 0 else self._ops.get_nowait()
            except queue.Empty:
                return ops, False
            if op is None:
                return ops, True
            if not ops:
                until = monotonic_ms() + LINGER_S * 1000
            ops.append(op)
            if op.done is not None:
                until = None  # somebody waits: only what is there already goes with it

    def _tell(self, what: Any, *about: Any) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to be told
            self._loop.call_soon_threadsafe(what, *about)


def _resolve(waiting: list["asyncio.Future[bool]"], written: bool) -> None:
    for done in waiting:
        if not done.done():
            done.set_result(written)


class _Slot:
    """One numbered file and its lock. The lock file stays, so that nobody locks one that is being deleted."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=2, check_same_thread=False)
            path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS signals (signal_id TEXT PRIMARY KEY, kept TEXT NOT NULL) STRICT"
            )
        except sqlite3.DatabaseError:
            os.close(lock)
            raise

    @classmethod
    def take(cls, directory: Path) -> "_Slot":
        """The first that no living process holds."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(SLOTS):
            lock = _locked(directory / f"{number}.lock")
            if lock is None:
                continue
            path = directory / f"{number}.sqlite3"
            try:
                return cls(path, lock)
            except sqlite3.OperationalError:  # a full disk, no right to write: the file may be sound
                raise
            except sqlite3.DatabaseError:
                _set_aside(path)
        raise OSError(f"{directory}: all {SLOTS} places are taken")

    def read(self) -> list[Kept]:
        found = []
        for signal_id, text in self._db.execute("SELECT signal_id, kept FROM signals"):
            try:
                found.append(Kept.from_json(text))
            except (ValueError, KeyError, TypeError) as error:
                logger.error("%s: %s cannot be read: %s", self.path, signal_id, error)
        return found

    def write(self, rows: dict[str, Kept | None], *, over: bool = True) -> None:
        """Returns when it is on disk. `over`: what is there of the same id is replaced."""
        insert = f"INSERT OR {'REPLACE' if over else 'IGNORE'} INTO signals VALUES (?, ?)"
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for signal_id, kept in rows.items():
                if kept is None:
                    self._db.execute("DELETE FROM signals WHERE signal_id = ?", (signal_id,))
                else:
                    self._db.execute(insert, (signal_id, kept.to_json()))
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def adopt_others(self) -> list[Kept]:
        """Moves what processes left that are gone, from their files into this one."""
        found: list[Kept] = []
        for path in sorted(self.path.parent.glob("*.sqlite3")):
            if path == self.path or (lock := _locked(path.with_suffix(".lock"))) is None:
                continue
            if not path.exists():  # another process was first
                os.close(lock)
                continue
            try:
                with contextlib.closing(_Slot(path, lock)) as other:
                    theirs = other.read()
                    self.write({entry.signal_id: entry for entry in theirs}, over=False)
                    for end in ("", "-wal", "-shm"):
                        Path(f"{path}{end}").unlink(missing_ok=True)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                _set_aside(path)
            else:
                found += theirs
        return found

    def close(self) -> None:
        self._db.close()
        os.close(self._lock)


def _locked(path: Path) -> int | None:
    """The open descriptor of a lock that was free."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _set_aside(path: Path) -> None:
    """A file that is no database of ours any more is kept for who wants to look, and is in nobody's way."""
    logger.error("%s is damaged and is set aside; the store still has what was accepted", path)
    path.replace(path.with_suffix(".damaged"))


def confirmed(entry: Kept, accepted_ms: int, deadline_ms: int, seqs: tuple[int, ...]) -> Kept:
    return replace(entry, accepted_ms=accepted_ms, deadline_ms=deadline_ms, seqs=seqs)
