"""`python -m executors.terminals.paper PROGRAM ARGS…`: runs a script, a module or an installed command on the paper broker.

PROGRAM is a file, `-m MODULE`, or the name of a command or module. Its children inherit the stand-in through PYTHONPATH.
PAPER_BROKER_URL names the broker; PAPER_LOGIN and PAPER_PASSWORD are what a bare `initialize()` is logged in to.
"""

import os
import runpy
import shutil
import sys
from pathlib import Path

from executors.terminals import paper
from executors.terminals.paper.places import ROOT, STANDIN


def run(arguments: list[str]) -> None:
    paper.install()
    inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    wanted = [part for part in (STANDIN, ROOT) if part not in inherited]
    os.environ["PYTHONPATH"] = os.pathsep.join([*wanted, *inherited])
    program, *rest = arguments
    if program == "-m":
        if not rest:
            raise SystemExit("name the module after -m")
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    sys.argv = arguments
    script = program if Path(program).is_file() else _command(program)
    if script is None:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
        return
    sys.path.insert(0, str(Path(script).resolve().parent))
    runpy.run_path(script, run_name="__main__")


def _command(name: str) -> str | None:
    """An installed command that is a Python script: beside this interpreter, or on PATH."""
    for found in (str(Path(sys.executable).parent / name), shutil.which(name)):
        if found and Path(found).is_file():
            with Path(found).open("rb") as file:
                first = file.readline(200)
            if first.startswith(b"#!") and b"python" in first:
                return found
    return None


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(
            "usage: python -m executors.terminals.paper PROGRAM ARGS…   (a file, -m MODULE, or a command)"
        )
    run(sys.argv[1:])
