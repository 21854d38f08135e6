"""One executor process: a Celery worker for the terminal's queue in the main thread, the executor in its own.

Precedes: `executor` and `tasks`. Follows: the supervisor forks a warm parent and calls `main` in the child. Nothing here
is opened before the fork but the listening sockets.
"""

import logging
import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Any

import setproctitle
from celery import Celery
from celery.worker import state as celery_state
from django.conf import settings

from executors import crashpoints, runtime
from executors.credentials import CredentialError, unseal
from executors.errors import EpochPassed
from executors.executor import Executor
from executors.journal_file import JournalUnwritable
from executors.listener import Listener
from executors.locks import TerminalLock, directory_of, note_released
from executors.messages import TerminalConfig
from executors.progress import Progress
from executors.restarts import EXIT_CONFIG, EXIT_JOURNAL, EXIT_LOCKED, EXIT_MOVED
from executors.terminals.factory import open_terminal
from tradedist import celery_consumer, keys
from tradedist.celery_bell import Bell, asks_seldom
from tradedist.wire import Keyring

logger = logging.getLogger(__name__)

SWITCH_S = 0.0005  # a thread that an order waits for gets its turn after this, not after Python's 5 ms
START_LIMIT_S = 20.0
HAND_OVER = signal.SIGUSR2  # Celery has SIGUSR1
FIRST_S = 1.0
STOP_S = 8.0  # to finish the order in hand and publish


def main(
    app: Celery,
    config: TerminalConfig,
    progress: Progress,
    sockets: tuple[socket.socket, socket.socket] | None = None,
    *,
    prove_disk: bool = False,
) -> int:
    """Run the terminal until SIGTERM; the process's exit code. `prove_disk`: the one before could not write."""
    terminal_id = config.terminal_id
    crashpoints.belongs_to(terminal_id)
    setproctitle.setproctitle(f"tradedist executor {terminal_id}")
    directory = directory_of(terminal_id)
    lock = TerminalLock(directory)
    if not lock.take():
        logger.warning("%s is held by another executor", terminal_id)
        return EXIT_LOCKED
    progress.begin(os.getpid(), threading.get_native_id(), START_LIMIT_S)
    try:
        password = unseal(settings.CREDENTIALS_KEY, terminal_id, config.sealed_password)
        terminal = open_terminal(config, password)
    except (CredentialError, ValueError) as error:
        logger.error("%s cannot be opened: %s", terminal_id, error)
        return EXIT_CONFIG
    sys.setswitchinterval(SWITCH_S)
    bell = Bell()
    executor = Executor(config, directory, terminal, progress, prove_disk=prove_disk, store_lost=bell.lost)
    listener = Listener(terminal_id, Keyring({0: settings.WIRE_KEY}), executor.submit, sockets)
    executor.announce(pid=str(os.getpid()), address=listener.address)
    executor.hear(listener)
    runtime.set_current(executor)
    _end_orderly()
    executor.start()
    executor.served.wait(
        FIRST_S
    )  # orders first: Celery is their second wake-up, and takes the processor for a while
    worker = celery_worker(app, terminal_id, bell)
    handing_over = _hand_over_when_asked()
    _end_with(executor)
    try:
        if vars(celery_state)["should_stop"] is None and executor.failed is None:
            worker.start()
        if handing_over.is_set():  # until here orders came by the other ways: Celery takes its time to end
            executor.hand_over()
            executor.join(STOP_S)
    finally:
        executor.stop(STOP_S)
    if isinstance(executor.failed, JournalUnwritable):
        return EXIT_JOURNAL
    if isinstance(executor.failed, EpochPassed):
        note_released(directory, config.epoch)  # over restarts of the supervisor, too
        return EXIT_MOVED
    return 1 if executor.failed else 0


def celery_worker(app: Celery, terminal_id: str, bell: Bell) -> Any:
    """The worker of a terminal's queue; its only one, since its process holds the terminal's lock.

    `bell` tells it of signals, and of a Redis that does not answer the executor's link.
    """
    celery_consumer.alone_at_its_queue(app, keys.unacked(terminal_id))
    asks_seldom(app, bell)
    return app.Worker(
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


def _end_orderly() -> None:
    """Until Celery takes SIGTERM for itself: an executor that fails at once must end with the exit code that says why."""

    def end(_number: int, _frame: FrameType | None) -> None:
        vars(celery_state)["should_stop"] = os.EX_OK

    signal.signal(signal.SIGTERM, end)


def _hand_over_when_asked() -> threading.Event:
    """A successor waits: Celery ends first, then the executor between two orders, and the process with it."""
    asked = threading.Event()

    def hand_over(_number: int, _frame: FrameType | None) -> None:
        asked.set()
        vars(celery_state)["should_stop"] = os.EX_OK  # as Celery's own signal handlers do

    signal.signal(HAND_OVER, hand_over)
    return asked


def _end_with(executor: Executor) -> None:
    """When the executor's thread ends by itself, the process follows: a worker alone would only look alive."""

    def watch() -> None:
        executor.join()
        if not executor.stopped_by_us:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="end-with", daemon=True).start()
