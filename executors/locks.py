"""The fence of a terminal on its host: a file lock that the living executor holds and that names its process.

Precedes: nothing of a terminal is opened before its lock is held. Follows: `worker` takes it, the supervisor looks whose
it is. A process is named by pid and start time, since pids are used again.
"""

import contextlib
import fcntl
import os
from pathlib import Path

from django.conf import settings

_SIZE = 64  # written whole: a disk that is full has room for what the file holds already


def directory_of(terminal_id: str) -> Path:
    return Path(settings.DATA_DIR) / "terminals" / terminal_id


def process_start(pid: int) -> int | None:
    """The process's start in clock ticks since boot; with the pid it names one process for good."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


class TerminalLock:
    """Held until `release`, or until the process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)

    def take(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        text = f"{os.getpid()} {process_start(os.getpid())}".encode()
        os.pwrite(self._descriptor, text.ljust(_SIZE) + b"\n", 0)
        return True

    def release(self) -> None:
        os.close(self._descriptor)


def lock_holder(directory: Path) -> int | None:
    """The pid of the living executor that holds the terminal's lock, None when nobody does."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR)
    except OSError:
        return None
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        words = os.pread(descriptor, _SIZE, 0).split()
    finally:
        os.close(descriptor)
    if len(words) != 2:
        return None
    pid, started = int(words[0]), int(words[1])
    return pid if process_start(pid) == started else None


# --- given up by an operator's command: remembered over restarts of the supervisor, until the terminal comes back ---


def note_released(directory: Path, epoch: int) -> None:
    """No executor of this epoch or an earlier one is started here any more. Raises OSError."""
    fresh = directory / "released.new"
    fresh.write_text(str(epoch))
    fresh.replace(directory / "released")


def note_kept(directory: Path) -> None:
    (directory / "released").unlink(missing_ok=True)


def was_released(directory: Path, epoch: int) -> bool:
    try:
        return epoch <= int((directory / "released").read_text())
    except (FileNotFoundError, ValueError):
        return False
