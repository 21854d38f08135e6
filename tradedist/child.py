"""Makes a child process die with its parent. Standard library only: each process of `make run` passes through here.

`python child.py SIGNAL COMMAND…` arranges it and becomes the command; the parent's pid is in
TRADEDIST_SUPERVISORD_PID.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PARENT = "TRADEDIST_SUPERVISORD_PID"
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int, number: int = signal.SIGTERM) -> Callable[[], None]:
    """A function for the child, between fork and exec: the kernel signals it when `parent` ends, however it ends.

    The kernel watches the thread that forked, so that only a main thread may start such a child.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None  # elsewhere only an orderly end reaches the children
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the kernel knew
            os._exit(128 + number)

    return arrange


def main(arguments: list[str]) -> None:
    name, *command = arguments
    die_with_parent(int(os.environ[PARENT]), signal.Signals[name])()
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
