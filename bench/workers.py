"""Workers of one alternative: a warm parent that forks one a terminal, as the platform's supervisor does.

`python -m bench.workers MODULE COUNT`, run by `Workers`. Prints one JSON line when the last worker is ready (seconds since
the first fork, proportional memory in MB) and ends, with its children, when its standard input does.
"""

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from bench.lab import Lab, python
from tradedist.child import die_with_parent

READY_WITHIN_S = 120.0


class Workers:
    """A context in which the workers live; `pause` and `resume` take them off the processors."""

    def __init__(self, lab: Lab, module: str, count: int, **environment: str) -> None:
        self._command = python("-m", "bench.workers", module, str(count))
        self._environment = lab.worker_environment() | environment
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
    children = []
    for index in range(count):
        pid = os.fork()
        if pid == 0:
            _work(module, index, writer, reader, parent)
        children.append(pid)
    os.close(writer)
    told = 0
    while told < count:
        got = os.read(reader, count)
        if not got:
            sys.exit(f"only {told} of {count} workers became ready")
        told += len(got)
    ready_s = time.monotonic() - began
    print(json.dumps({"ready_s": ready_s, "memory_mb": sum(map(memory_mb, children)) / count}), flush=True)
    sys.stdin.read()  # until the bench closes it, or ends
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)


def _work(module: Any, index: int, writer: int, reader: int, parent: int) -> NoReturn:
    try:
        die_with_parent(parent, signal.SIGKILL)()
        os.close(reader)
        descriptor = os.open(os.devnull, os.O_RDWR)
        os.dup2(descriptor, 0)
        os.dup2(2, 1)

        def ready() -> None:
            os.write(writer, b".")
            os.close(writer)

        module.serve(index, ready)
    except BaseException:  # noqa: BLE001  whatever it is, this process must not go on as a second parent
        traceback.print_exc()
    finally:
        os._exit(1)


def memory_mb(pid: int) -> float:
    """Proportional: what is shared with the parent counts by its share."""
    for row in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if row.startswith("Pss:"):
            return int(row.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
