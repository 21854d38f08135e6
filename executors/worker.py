"""One executor process: a Celery worker for the terminal's queue in the main thread, the executor in its own.

Precedes: `executor` and `tasks`. Follows: the supervisor forks a warm parent and calls `main` in the child. Nothing here
is opened before the fork.
"""

import contextlib
import fcntl
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from celery import Celery
from django.conf import settings

from executors import crashpoints, runtime
from executors.credentials import CredentialError, unseal
from executors.executor import Executor
from executors.listener import Listener
from executors.messages import TerminalConfig
from executors.terminals.factory import open_terminal
from tradedist import keys
from tradedist.wire import Keyring

logger = logging.getLogger(__name__)

SWITCH_S = 0.0005  # a thread that an order waits for gets its turn after this, not after Python's 5 ms
STOP_S = 8.0  # to finish the order in hand and publish

EXIT_LOCKED = 75  # another executor holds the terminal: no failed restart
EXIT_CONFIG = 78  # the configuration cannot be used


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
    """The fence of a terminal on this host: held by the living executor, naming it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)

    def take(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        text = f"{os.getpid()} {process_start(os.getpid())}\n".encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)
        return True


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
        words = os.pread(descriptor, 64, 0).split()
    finally:
        os.close(descriptor)
    if len(words) != 2:
        return None
    pid, started = int(words[0]), int(words[1])
    return pid if process_start(pid) == started else None


def main(app: Celery, config: TerminalConfig) -> int:
    """Run the terminal until SIGTERM; the process's exit code."""
    terminal_id = config.terminal_id
    crashpoints.belongs_to(terminal_id)
    directory = directory_of(terminal_id)
    lock = TerminalLock(directory)
    if not lock.take():
        logger.warning("%s is held by another executor", terminal_id)
        return EXIT_LOCKED
    try:
        password = unseal(settings.CREDENTIALS_KEY, terminal_id, config.sealed_password)
        terminal = open_terminal(config, password)
    except (CredentialError, ValueError) as error:
        logger.error("%s cannot be opened: %s", terminal_id, error)
        return EXIT_CONFIG
    sys.setswitchinterval(SWITCH_S)
    executor = Executor(config, directory, terminal)
    listener = Listener(terminal_id, Keyring({0: settings.WIRE_KEY}), executor.submit)
    executor.announce(pid=str(os.getpid()), address=listener.address)
    runtime.set_current(executor)
    executor.start()
    listener.start()
    worker = app.Worker(
        hostname=f"{terminal_id}@{settings.HOST_ID}",
        queues=[keys.terminal_queue(terminal_id)],
        pool="solo",
        concurrency=1,
        task_events=True,
        without_gossip=True,
        without_mingle=True,
        heartbeat_interval=30,
        loglevel=settings.LOG_LEVEL,
        optimization="fair",
    )
    _end_with(executor)
    try:
        worker.start()
    finally:
        listener.stop()
        executor.stop(STOP_S)
    return 1 if executor.failed else 0


def _end_with(executor: Executor) -> None:
    """When the executor's thread ends by itself, the process follows: a worker alone would only look alive."""

    def watch() -> None:
        executor.join()
        if not executor.stopped_by_us:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="end-with", daemon=True).start()
