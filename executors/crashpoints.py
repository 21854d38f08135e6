"""Labelled places at which the crash tests kill the process that comes by, by SIGKILL: no cleanup runs.

Armed only by `CRASH_POINTS_FILE` in the environment, which no deployment sets. The file's first line names a point; the
process that reaches it takes the line away and dies. A process with a name looks into that file with `.NAME` appended
instead, so that one run can crash several at once. Unarmed, a point costs one comparison.
"""

import os
import signal
from pathlib import Path

POINTS = (
    # the web process
    "accept-before-store",
    "accept-after-store",
    "wake-before-datagrams",
    "wake-after-frames",
    "celery-before-publish",
    "celery-after-publish",
    # the executor: a leg arrives
    "leg-heard",
    "leg-arrived",
    "leg-taken",
    "task-received",
    "task-answered",
    # the executor: a request
    "before-intent",
    "after-intent",
    "after-send",
    "after-result",
    # the executor: an end without a request
    "after-denial",
    # the executor: an operator settles an order by hand
    "before-settle",
    "after-settle",
    # the executor: publishing
    "before-publish",
    "after-publish",
    "before-drain",
    "after-drain",
    # the executor: after a crash
    "before-recover",
    "after-recover",
    "before-look",
    "before-resolve",
    "after-resolve",
    # the supervisor
    "before-fork",
    "after-fork",
    "before-hand-over",
)

_file = os.environ.get("CRASH_POINTS_FILE")


def belongs_to(name: str) -> None:
    """This process, and what it forks, is armed by a file of its own."""
    global _file
    if _file is not None:
        _file = f"{os.environ['CRASH_POINTS_FILE']}.{name}"


def reached(label: str) -> None:
    """Dies here if a test has asked for it."""
    if _file is not None:
        _die_if_named(label, Path(_file))


def _die_if_named(label: str, path: Path) -> None:
    try:
        named, _, rest = path.read_text().partition("\n")
    except FileNotFoundError:
        return
    if named != label:
        return
    if rest:
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.write_text(rest)
        fresh.replace(path)
    else:
        path.unlink(missing_ok=True)
    os.kill(os.getpid(), signal.SIGKILL)
