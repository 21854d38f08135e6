"""The processes of a run on this machine: found by a mark in their environment, held by pid and start time.

Precedes: `running`, which must leave nothing behind, also after a run of which parts were killed. Never by name:
another checkout, or a program that only looks alike, is not ours to end.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

MARK = "TRADEDIST_RUN"  # in the environment of each process of a run: its DATA_DIR


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, also after its pid has been given to another."""

    pid: int
    started: float

    @classmethod
    def own(cls) -> Self:
        return cls(os.getpid(), psutil.Process().create_time())

    @classmethod
    def read(cls, path: Path) -> Self | None:
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """By rename, so that no reader finds half of it."""
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"pid": self.pid, "started": self.started}))
        fresh.replace(path)

    def process(self) -> psutil.Process | None:
        """The living process, or None. A pid that was given to another process is not it."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 0.05
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def of_run(data_dir: Path) -> list[psutil.Process]:
    """Every living process of the run that keeps its files in `data_dir`, but not this one."""
    wanted = str(data_dir)
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.environ().get(MARK) != wanted:
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):  # ended meanwhile, or another user's
            continue
    return found


def end(processes: Iterable[psutil.Process], grace_s: float) -> None:
    """SIGTERM, and after the grace SIGKILL. psutil compares start times, so that a reused pid is safe."""
    waiting = list(processes)
    for process in waiting:
        _signal(process, kill=False)
    _, alive = psutil.wait_procs(waiting, timeout=grace_s)
    for process in alive:
        _signal(process, kill=True)
    psutil.wait_procs(alive, timeout=5)


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
            process.resume()  # a frozen process would not hear it
    except psutil.NoSuchProcess:
        return
