"""What `make run`, `make status` and `make logs` print.

Follows `running` and `control`: takes what they know and says it in one screen.
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from tradedist import probes, programs, settings
from tradedist.control import Control, State
from tradedist.programs import Program

DEMO_USERS = settings.SECRETS_DIR / "demo-users.json"  # written by `manage.py seed_demo`
WIDTH = 78
ABSENT = State("ABSENT", 0, 0)


def say(text: str) -> None:
    """To the terminal, if it is still there: a closed one must not keep the run from stopping in order."""
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  it stays open until the end


def page_address() -> str:
    host = "localhost" if settings.HOST in ("127.0.0.1", "0.0.0.0", "::", "::1") else settings.HOST
    return f"http://{host}:{settings.PORT}"


def demo_users() -> dict[str, str]:
    """Names and first passwords; empty when the demo was not seeded."""
    try:
        users: dict[str, str] = json.loads(DEMO_USERS.read_text())
    except FileNotFoundError:
        return {}
    return users


def show_ready() -> None:
    page = page_address()
    line = "─" * WIDTH
    users = demo_users()
    rows = [
        ("Page", page),
        *((f"  {name}", f"password {password}") for name, password in users.items()),
        ("Admin", f"{page}/admin/   as admin"),
        ("API docs", f"{page}/api/docs"),
        ("Metrics", f"{page}/metrics"),
        ("Health", f"{page}/api/health"),
        ("Flower", f"http://localhost:{settings.FLOWER_PORT}"),
        (f"  {probes.FLOWER_USER}", f"password {settings.FLOWER_PASSWORD}"),
        ("Logs", f"make logs   make logs NAME=web   {programs.LOGS}"),
        ("Stop", "Ctrl-C here, or make stop elsewhere; make status shows each process"),
    ]
    say(line)
    say(" Tradedist is running.")
    say(line)
    for name, value in rows:
        say(f" {name:<10} {value}")
    say(line)


def not_well(waiting: list[Program], wrong: dict[str, str]) -> str:
    """Why the start was given up, with the last lines of each log concerned."""
    parts = []
    for program in waiting:
        try:
            tail = program.log.read_text(errors="replace").splitlines()[-15:]
        except FileNotFoundError:
            tail = []
        told = "".join(f"\n    {line}" for line in tail)
        parts.append(f"{program.name} is not well: {wrong[program.name] or 'it does not stay up'}{told}")
    return "\n".join(parts)


def status(found: list[Program], control: Control) -> int:
    """One line a process; 0 when every one of them is well."""
    states = control.states()
    if not states:
        say(f"It is not running with DATA_DIR={settings.DATA_DIR}.")
        return 1
    with ThreadPoolExecutor(max_workers=len(found)) as pool:
        troubles = list(pool.map(lambda program: program.healthy(), found))
    failed = False
    say(f"{'process':<14} {'state':<10} {'pid':>7} {'up':>9}  health")
    for program, trouble in zip(found, troubles, strict=True):
        state = states.get(program.name, ABSENT)
        well = state.alive and not trouble
        failed |= not well
        say(
            f"{program.name:<14} {state.name:<10} {state.pid or '':>7} {_span(state.uptime_s):>9}  {trouble or 'ok'}"
        )
    say(f"page {page_address()}")
    return 1 if failed else 0


def _span(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


def logs(found: list[Program], name: str) -> int:
    """Becomes `tail -F`, which also follows the log after it was rotated."""
    names = [program.name for program in found]
    if name and name not in names:
        say(f"There is no process {name!r}. There are: {', '.join(names)}.")
        return 1
    files = [str(program.log) for program in found if name in ("", program.name) and program.log.exists()]
    if not files:
        say(f"There are no logs in {programs.LOGS} yet: make run")
        return 1
    os.execvp("tail", ["tail", "-n", "20" if not name else "200", "-F", *files])
