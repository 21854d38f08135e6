"""Workers of one alternative: a warm parent that forks one a terminal, as the platform's supervisor does.

`python -m bench.workers MODULE COUNT`, run by `Workers`. Prints one JSON line when the last worker is ready (seconds since
the first fork, proportional memory in MB), forks a worker that was killed anew at once, and ends, with its children, when its
standard input does.
"""

import gc
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from bench.lab import Lab, python
from bench.processes import pss_mb
from tradedist.child import die_with_parent

READY_WITHIN_S = 120.0


class Workers:
    """A context in which the workers live; `pause` and `resume` take them off the processors."""

    def __init__(self, lab: Lab, module: str, count: int, **environment: str) -> None:
        self._command = python("-m", "bench.workers", module, str(count))
        self._pids = lab.directory / f"pids-{module}{environment.get('BENCH_EVENTS', '')}-{count}"
        self._pids.mkdir(exist_ok=True)
        self._environment = lab.worker_environment() | environment | {"BENCH_PIDS": str(self._pids)}
        events = environment.get("BENCH_EVENTS", "")
        self._log = (lab.directory / f"workers-{module}{events}-{count}.log").open("wb")
        self.ready_s = 0.0
        self.memory_mb = 0.0  # of one

    def __enter__(self) -> Self:
        """They begin to start; `wait` returns when all are ready."""
        self._parent = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            preexec_fn=die_with_parent(os.getpid(), signal.SIGKILL),  # stopped or not
        )
        return self

    def wait(self) -> None:
        assert self._parent.stdout is not None
        said = self._parent.stdout.readline()
        if not said:
            raise RuntimeError(f"workers did not start:\n{Path(self._log.name).read_text()[-3000:]}")
        facts = json.loads(said)
        self.ready_s, self.memory_mb = facts["ready_s"], facts["memory_mb"]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resume()
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.close()
        self._parent.wait(30)
        self._parent.stdout.close()
        self._log.close()

    def pid(self, index: int) -> int:
        """Of the worker that serves this terminal now."""
        return int((self._pids / str(index)).read_text())

    def pause(self) -> None:
        os.killpg(self._parent.pid, signal.SIGSTOP)

    def resume(self) -> None:
        if self._parent.poll() is None:
            os.killpg(self._parent.pid, signal.SIGCONT)


# --- In the workers' parent process ---


def main(name: str, count: int) -> None:
    module = importlib.import_module(f"bench.alternatives.{name}")
    for late in module.WARM:
        importlib.import_module(late)
    gc.collect()
    gc.freeze()
    reader, writer = os.pipe()
    parent = os.getpid()
    began = time.monotonic()

    def fork(index: int, ready: int) -> int:
        pid = os.fork()
        if pid == 0:
            _work(module, index, ready, reader, parent)
        return pid

    children = {fork(index, writer): index for index in range(count)}
    os.close(writer)
    told = 0
    while told < count:
        got = os.read(reader, count)
        if not got:
            sys.exit(f"only {told} of {count} workers became ready")
        told += len(got)
    ready_s = time.monotonic() - began
    print(json.dumps({"ready_s": ready_s, "memory_mb": sum(map(pss_mb, children)) / count}), flush=True)
    nobody = os.open(os.devnull, os.O_WRONLY)  # waits for a later worker to say that it is ready
    _keep_alive(children, lambda index: fork(index, nobody))
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)


def _keep_alive(children: dict[int, int], fork: Callable[[int], int]) -> None:
    """Until the bench closes this process's standard input, or ends. A killed worker is forked anew at once."""
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)

        def watch(pid: int) -> None:
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)

        for pid in children:
            watch(pid)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    return
                selector.unregister(key.fd)
                os.close(key.fd)
                os.waitpid(key.data, 0)
                index = children.pop(key.data)
                pid = fork(index)
                children[pid] = index
                watch(pid)


def _work(module: Any, index: int, writer: int, reader: int, parent: int) -> NoReturn:
    try:
        die_with_parent(parent, signal.SIGKILL)()
        os.close(reader)
        descriptor = os.open(os.devnull, os.O_RDWR)
        os.dup2(descriptor, 0)
        os.dup2(2, 1)
        (Path(os.environ["BENCH_PIDS"]) / str(index)).write_text(str(os.getpid()))

        def ready() -> None:
            os.write(writer, b".")
            os.close(writer)

        module.serve(index, ready)
    finally:  # whatever it is, this process must not go on as a second parent
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
