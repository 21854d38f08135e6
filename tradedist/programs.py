"""Which processes the platform has, with what command, on what port, and how each shows that it is well.

Precedes: `running`, which starts them under supervisord with the configuration written here. A systemd unit has
`python -m tradedist.programs NAME` become one of them (deploy/systemd/tradedist@.service).
"""

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tradedist import probes, settings, stores
from tradedist.processes import MARK

LOGS = settings.DATA_DIR / "logs"
RUN = settings.DATA_DIR / "run"
CONFIGURATION = RUN / "supervisord.conf"


@dataclass(frozen=True, slots=True)
class Program:
    """One process. `store`: started before the database is prepared, and stopped after all others."""

    name: str
    command: list[str]
    healthy: Callable[[], str]  # "" when it is well, else what is wrong
    store: bool = False
    # A process that ends sooner than this after its start is restarted with growing delays, else at once.
    start_s: int = 3
    stop_s: int = 10
    # What the kernel sends it when the process manager was killed. The stores end then too, and a process that waits
    # for them until it obeys would wait for ever: what has nothing to finish is killed.
    orphaned: str = "SIGTERM"
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return LOGS / f"{self.name}.log"


def _manage(*arguments: str) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]


def _celery(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "celery", "--quiet", "--app", "tradedist", *arguments]


def programs() -> list[Program]:
    """In the order in which they are shown. What a setting replaces by a server of the operator's is left out."""
    found = [
        Program(server.name, server.command(), probes.valkey(server.url), store=True, start_s=1)
        for server in stores.valkeys()
    ]
    if settings.EMBEDDED_PAPER_BROKER:
        listens = probes.listens(settings.PAPER_BROKER_PORT)
        found.append(Program("paper-broker", _manage("run_paper_broker"), listens))
    flower_options = [
        "--address=127.0.0.1",
        f"--port={settings.FLOWER_PORT}",
        "--max_tasks=10000",
        "--max_workers=1000",
        "--purge_offline_workers=3600",
        "--tasks_columns=name,uuid,state,result,received,started,runtime,worker",
    ]
    found += [
        Program("web", _manage("run_web"), probes.web),
        Program("terminals", _manage("run_terminals"), probes.answers(settings.TERMINALS_METRICS_PORT), stop_s=15),
        Program("feed", _manage("run_feed"), probes.answers(settings.FEED_METRICS_PORT), orphaned="SIGKILL"),
        Program(
            "housekeeping",
            _celery("worker", "--queues=housekeeping", "--pool=solo", "--hostname=housekeeping@%h",
                    "--without-gossip", "--without-mingle", "--heartbeat-interval=30", "--task-events"),
            probes.always,
            orphaned="SIGKILL",
        ),
        Program("beat", _celery("beat", f"--schedule={RUN / 'beat-schedule'}", "--pidfile="), probes.always,
                orphaned="SIGKILL"),
        Program(
            "flower",
            _celery("flower", *flower_options),
            probes.flower,
            orphaned="SIGKILL",
            environment={"FLOWER_BASIC_AUTH": f"{probes.FLOWER_USER}:{settings.FLOWER_PASSWORD}"},
        ),
    ]  # fmt: skip
    return found


def ports() -> list[tuple[str, str, int, bool]]:
    """What a run will listen on: setting, address, port, and whether by UDP too."""
    wanted = [("PORT", settings.HOST, settings.PORT, False)]
    if settings.EMBEDDED_STATE:
        wanted.append(("STATE_PORT", "127.0.0.1", settings.STATE_PORT, False))
    if settings.EMBEDDED_TICKS:
        wanted.append(("TICKS_PORT", "127.0.0.1", settings.TICKS_PORT, False))
    if settings.EMBEDDED_PAPER_BROKER:
        wanted.append(("PAPER_BROKER_PORT", "127.0.0.1", settings.PAPER_BROKER_PORT, False))
    return [
        *wanted,
        ("FLOWER_PORT", "127.0.0.1", settings.FLOWER_PORT, False),
        ("FEED_PORT", "127.0.0.1", settings.FEED_PORT, True),
        ("TERMINALS_METRICS_PORT", "127.0.0.1", settings.TERMINALS_METRICS_PORT, False),
        ("FEED_METRICS_PORT", "127.0.0.1", settings.FEED_METRICS_PORT, False),
        ("SUPERVISOR_PORT", "127.0.0.1", settings.SUPERVISOR_PORT, False),
    ]


def write_configuration(found: list[Program]) -> Path:
    """supervisord's file, readable by this user only: it holds passwords."""
    sections = [
        (
            "[supervisord]\n"
            f"logfile={_plain(LOGS / 'supervisord.log')}\n"
            "logfile_maxbytes=5MB\nlogfile_backups=1\nloglevel=info\nsilent=true\n"
            f"pidfile={_plain(RUN / 'supervisord.pid')}\n"
            f"childlogdir={_plain(LOGS)}\n"
            f"directory={_plain(settings.BASE_DIR)}\n"
            f"identifier=tradedist\n"
            f"environment={_environment({MARK: str(settings.DATA_DIR), 'PYTHONUNBUFFERED': '1'})}\n"
        ),
        (
            "[inet_http_server]\n"
            f"port=127.0.0.1:{settings.SUPERVISOR_PORT}\n"
            f"username=tradedist\npassword={settings.SUPERVISOR_PASSWORD}\n"
        ),
        (
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        ),
    ]
    sections += [_section(program) for program in found]
    # Two groups: within one all stop at once, and the stores stop after everything that writes to them.
    for group, priority, store in (("stores", 1, True), ("platform", 2, False)):
        if members := [program.name for program in found if program.store is store]:
            sections.append(f"[group:{group}]\nprograms={','.join(members)}\npriority={priority}\n")
    RUN.mkdir(mode=0o700, parents=True, exist_ok=True)
    LOGS.mkdir(mode=0o700, parents=True, exist_ok=True)
    CONFIGURATION.touch(mode=0o600)
    CONFIGURATION.write_text("\n".join(sections))
    return CONFIGURATION


def _section(program: Program) -> str:
    child = [sys.executable, "-I", "-S", str(settings.BASE_DIR / "tradedist" / "child.py"), program.orphaned]
    return (
        f"[program:{program.name}]\n"
        f"command={_plain(shlex.join([*child, *program.command]))}\n"
        f"autostart={'true' if program.store else 'false'}\n"
        "autorestart=true\n"
        f"startsecs={program.start_s}\nstartretries=1000000\n"
        f"stopsignal=TERM\nstopwaitsecs={program.stop_s}\nstopasgroup=false\nkillasgroup=true\n"
        f"redirect_stderr=true\nstdout_logfile={_plain(program.log)}\n"
        "stdout_logfile_maxbytes=10MB\nstdout_logfile_backups=2\n"
        f"environment={_environment(program.environment)}\n"
    )


def _plain(value: object) -> str:
    return str(value).replace("%", "%%")


def _environment(values: dict[str, str]) -> str:
    return ",".join(f'{name}="{_plain(value)}"' for name, value in values.items())


def main(name: str) -> None:
    found = {program.name: program for program in programs()}
    if name not in found:
        sys.exit(f"There is no process {name!r} with these settings. There are: {', '.join(found)}.")
    for server in stores.valkeys():
        if server.name == name:
            server.prepare()
    os.environ.update(found[name].environment)
    os.execv(found[name].command[0], found[name].command)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else "")
