"""Labelled places at which a test may kill the process: `CRASH_POINT=<label>[:<nth time>]` in its environment.

Unarmed, a point costs one comparison. Used by the crash tests only; production never sets the variable.
"""

import os
import signal

_label, _, _nth = os.environ.get("CRASH_POINT", "").partition(":")
_left = int(_nth or 1)


def reached(label: str) -> None:
    """Dies here by SIGKILL if the environment says so: no cleanup runs, as in a power cut of the process."""
    global _left
    if _label and label == _label:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
