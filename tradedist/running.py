"""`make run`, `make stop`, `make status`, `make logs`: the whole platform on one machine, under supervisord.

Follows `install` (the environment exists). Starts the stores, prepares the database meanwhile, starts the rest, waits
until every part is well, prints one screen, and stays in the foreground until it is told to stop.
"""

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from io import TextIOWrapper

from tradedist import probes, processes, programs, screen, settings, stores
from tradedist.child import die_with_parent
from tradedist.control import Control
from tradedist.ports import IN_USE, TCP, UDP, holder, trouble
from tradedist.processes import ProcessId
from tradedist.stopping import StopSignals

LAUNCHER = programs.RUN / "launcher.json"
READY = programs.RUN / "ready.json"  # there while every part is up; the tests wait for it
START_LIMIT_S = 180.0
STOP_LIMIT_S = 25.0


class CannotRun(Exception):
    """The platform cannot start; the text says what to change."""


class Stopped(Exception):
    """The user asked to stop while it was starting."""


class Run:
    """One run of the platform, from the lock on its DATA_DIR to the end of its last process."""

    def __init__(self) -> None:
        self.stop_signals = StopSignals()
        self.programs = programs.programs()
        self.control = Control()
        self._lock: TextIOWrapper | None = None
        self._supervisord: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        self.stop_signals.listen()
        self._take_lock()
        ProcessId.own().write(LAUNCHER)
        code = 0
        try:
            READY.unlink(missing_ok=True)
            self._clean()
            self._check_ports()
            self._start()
            ProcessId.own().write(READY)
            screen.show_ready()
            self._watch()
        except CannotRun as error:
            screen.say(f"\n{error}\n")
            code = 1
        except Stopped:
            pass
        finally:
            READY.unlink(missing_ok=True)
            screen.say("Stopping …")
            self._end()
            LAUNCHER.unlink(missing_ok=True)
            screen.say("Stopped. Nothing is left running.")
        return code

    def _take_lock(self) -> None:
        """Held by the kernel for as long as this process lives, however it ends."""
        programs.RUN.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = (programs.RUN / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRun(
                f"It runs already with DATA_DIR={settings.DATA_DIR}. `make status` shows it, `make stop` stops it; "
                "give another DATA_DIR and PORT to run a second one."
            ) from None

    def _clean(self) -> None:
        """What a run left that was killed together with its process manager."""
        if leftovers := processes.of_run(settings.DATA_DIR):
            screen.say(f"Ending {len(leftovers)} processes that an earlier run left behind …")
            processes.end(leftovers, grace_s=10)

    def _check_ports(self) -> None:
        busy: list[str] = []
        taken: dict[int, str] = {}
        for setting, host, port, udp in programs.ports():
            if port in taken:
                busy.append(f"port {port} is given to both {taken[port]} and {setting}")
                continue
            taken[port] = setting
            kinds = [TCP, UDP] if udp else [TCP]
            for wrong in filter(None, (trouble(port, host, kind) for kind in kinds)):
                by = holder(port) if wrong == IN_USE else ""
                busy.append(f"port {port} ({setting}) {wrong}" + (f" by {by}" if by else ""))
                break
        if busy:
            raise CannotRun(
                "\n".join(busy)
                + "\nStop what uses it, or set another port: PORT moves all of them, each setting "
                f"above moves one. For example: make run PORT={settings.PORT + 100}"
            )

    def _start(self) -> None:
        began = time.monotonic()
        for server in stores.valkeys():
            server.prepare()
        programs.write_configuration(self.programs)
        self._start_supervisord()
        screen.say("Preparing the database …")
        self._wait_for([program for program in self.programs if program.store], began)
        self._wait_for_foreign_stores()
        self._prepare()
        screen.say(f"Starting {len(self.programs)} processes …")
        self.control.start_group("platform")
        self._wait_for(self.programs, began)

    def _start_supervisord(self) -> None:
        with (programs.LOGS / "supervisord.out").open("wb") as out:
            self._supervisord = subprocess.Popen(
                [sys.executable, "-m", "tradedist.restarter", str(programs.CONFIGURATION)],
                cwd=settings.BASE_DIR,
                env=os.environ | {processes.MARK: str(settings.DATA_DIR)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for this process, which then stops them in order
                preexec_fn=die_with_parent(os.getpid()),
            )
        until = time.monotonic() + 15
        while not self.control.answers():
            if self._supervisord.poll() is not None or time.monotonic() > until:
                text = (programs.LOGS / "supervisord.out").read_text()[-2000:]
                raise CannotRun(f"The process manager did not start:\n{text}")
            self._pause(0.02)

    def _wait_for_foreign_stores(self) -> None:
        """Servers of the operator's own; they may be starting too."""
        for name, ours, url in (
            ("REDIS_STATE_URL", settings.EMBEDDED_STATE, settings.REDIS_STATE_URL),
            ("REDIS_TICKS_URL", settings.EMBEDDED_TICKS, settings.REDIS_TICKS_URL),
        ):
            until = time.monotonic() + 15
            while not ours and (wrong := probes.valkey(url)()):
                if time.monotonic() > until:
                    raise CannotRun(f"The server in {name} {wrong}. Start it, or correct {name}.")
                self._pause(0.2)

    def _prepare(self) -> None:
        preparing = subprocess.Popen(
            [sys.executable, "-m", "tradedist.prepare"],
            cwd=settings.BASE_DIR,
            env=os.environ | {processes.MARK: str(settings.DATA_DIR)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        output = b""
        while True:
            try:
                output, _ = preparing.communicate(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                self._pause(0)
        if preparing.returncode != 0:
            raise CannotRun(f"The database could not be prepared:\n{output.decode(errors='replace')[-4000:]}")

    def _wait_for(self, wanted: list[programs.Program], began: float) -> None:
        """Until each of them runs and says that it is well."""
        if not wanted:
            return
        waiting = list(wanted)
        with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
            while True:
                states = self.control.states()
                wrong = {
                    program.name: text
                    for program, text in zip(
                        waiting, pool.map(lambda item: item.healthy(), waiting), strict=True
                    )
                    if text or not states[program.name].alive
                }
                waiting = [program for program in waiting if program.name in wrong]
                if not waiting:
                    return
                if time.monotonic() - began > START_LIMIT_S:
                    raise CannotRun(screen.not_well(waiting, wrong))
                self._pause(0.2)

    def _pause(self, seconds: float) -> None:
        if self.stop_signals.wait(seconds):
            raise Stopped

    def _watch(self) -> None:
        """Until told to stop. Says when a process was restarted; brings the process manager itself back."""
        before = self.control.states()
        while not self.stop_signals.wait(1.0):
            assert self._supervisord is not None
            if self._supervisord.poll() is not None:
                screen.say("The process manager ended; starting it and everything again …")
                self._clean()
                try:
                    self._start()
                except Stopped:
                    return
                screen.say("All parts are well again.")
            now = self.control.states()
            for name, state in now.items():
                if name in before and state.pid not in (0, before[name].pid):
                    screen.say(f"{name} was restarted, pid {before[name].pid} → {state.pid}")
            before = {name: state if state.pid else before.get(name, state) for name, state in now.items()}

    def _end(self) -> None:
        """supervisord stops everything in order; whatever is left after that is ended here."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self._supervisord is not None:
            self._supervisord.terminate()
            try:
                self._supervisord.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._supervisord.kill()
                self._supervisord.wait(5)
        processes.end(processes.of_run(settings.DATA_DIR), grace_s=3)


def stop() -> int:
    """Tell the run in the foreground to stop, and wait; end what a killed one left."""
    known = ProcessId.read(LAUNCHER)
    launcher = known.process() if known else None
    if known and launcher is not None:
        launcher.terminate()
        until = time.monotonic() + STOP_LIMIT_S + 15
        while known.process() is not None and time.monotonic() < until:
            time.sleep(0.05)
        if known.process() is None:
            screen.say("Stopped.")
            return 0
        launcher.kill()  # it hangs; what it started is ended below
    leftovers = processes.of_run(settings.DATA_DIR)
    processes.end(leftovers, grace_s=10)
    screen.say(f"Ended {len(leftovers)} processes that were left." if leftovers else "It was not running.")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="tradedist.running", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="start everything, stay in the foreground")
    run.add_argument("--parent", type=int, help="stop when this process ends, however it ends")
    commands.add_parser("stop", help="stop it")
    commands.add_parser("status", help="show each process; exit status 1 when one is not well")
    logs = commands.add_parser("logs", help="follow the logs")
    logs.add_argument("name", nargs="?", default="", help="of one process only")
    options = parser.parse_args()
    os.umask(0o077)  # the files of a run hold passwords and positions: this user's alone
    try:
        match options.command:
            case "run":
                if options.parent:
                    die_with_parent(options.parent)()
                return Run()()
            case "stop":
                return stop()
            case "status":
                return screen.status(programs.programs(), Control())
            case _:
                return screen.logs(programs.programs(), options.name)
    except CannotRun as error:
        screen.say(f"\n{error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
