"""The part of the platform that an order passes, on free ports and without trading limits, for the order benches.

Precedes: `orders.py`, `browser.py`. Follows: the same programs as `make run` starts, without what does not touch an order
(feed, beat, Flower, housekeeping). `Lab` must be made before anything reads the settings: it makes the environment.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self, cast

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "bench-password"
PERSONALITY = "net"  # netting: buys and sells by turns leave no positions behind
FIRST_LOGIN = 7_000_000
STARTS_WITHIN_S = 180.0


def terminal_name(index: int) -> str:
    return f"bench-{index}"


class Lab:
    """`terminals` executors on accounts of one broker; as many `accounts` or more of the same kind for the alternatives."""

    def __init__(self, directory: Path, terminals: int, *, accounts: int = 1, **settings: str) -> None:
        from tradedist.ports import free_block  # reads no settings

        self.directory = directory
        self.terminals = terminals
        self.accounts = max(accounts, terminals)
        self.port = free_block(12)
        for name in ("REDIS_STATE_URL", "REDIS_TICKS_URL", "PAPER_BROKER_URL"):
            os.environ.pop(name, None)
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "tradedist.settings",
            "DATA_DIR": str(directory / "data"),
            "PORT": str(self.port),
            "ORDERS_PER_SECOND": "1000000",
            "BREAKER_REJECTIONS": "0",
            "BREAKER_UNKNOWN": "0",
            "PAPER_LATENCY_PERCENT": "0",
            "LOG_LEVEL": "WARNING",
            # a burst of some seconds waits in the queue on a busy machine, and is measured, not expired
            "MARKET_TTL_MS": "60000",
            **settings,
        }
        self._running: list[subprocess.Popen[bytes]] = []
        self._logs: list[IO[bytes]] = []
        self.server = ""  # the broker's, of every account
        self.user: Any = None  # who may trade on all of them
        self.start_s = 0.0  # from the supervisor's start until the last executor was ready

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close()
        if kind is not None:
            print(self._logs_end(), file=sys.stderr)

    def _open(self) -> None:
        from tradedist import programs, stores

        for server in stores.valkeys():
            server.prepare()
        self._programs = {program.name: program for program in programs.programs()}
        for name in ("valkey-state", "valkey-ticks", "paper-broker"):
            self.run(name)
        import django

        django.setup()
        from django.core.management import call_command

        from tradedist.celery import app

        app.set_default()
        call_command("migrate", interactive=False, verbosity=0)
        self._wait(self._stores_answer)
        self._make_terminals()
        began = time.monotonic()
        if self.terminals:
            self.run("terminals")
            self._wait(lambda: len(self.executors()) == self.terminals)
        self.start_s = time.monotonic() - began

    def run(self, name: str) -> "subprocess.Popen[bytes]":
        """One of the platform's programs, by its name."""
        return self.spawn(self._programs[name].command, name)

    def spawn(self, command: list[str], name: str) -> subprocess.Popen[bytes]:
        from tradedist.child import die_with_parent

        log = (self.directory / f"{name}.log").open("wb")
        self._logs.append(log)
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, preexec_fn=die_with_parent(os.getpid())
        )
        self._running.append(process)
        return process

    def close(self) -> None:
        """Processes end in the order opposite to their start: the stores last."""
        for process in reversed(self._running):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        self._end_executors()
        for log in self._logs:
            log.close()

    def _end_executors(self) -> None:
        """They outlive a supervisor that had to be killed, as they should."""
        import django

        django.setup()
        from executors.locks import directory_of, lock_holder

        for index in range(self.terminals):
            pid = lock_holder(directory_of(terminal_name(index)))
            if pid is not None:
                os.kill(pid, signal.SIGKILL)

    # --- what is asked of it ---

    def processes(self) -> dict[str, "subprocess.Popen[bytes]"]:
        """Program name → process."""
        return {
            name: item
            for name, program in self._programs.items()
            for item in self._running
            if item.args == program.command
        }

    def executors(self) -> dict[int, int]:
        """Index of the terminal → pid of its executor, of those that are ready and have an address."""
        from tradedist import keys
        from tradedist.redis import state

        with state() as client:
            pipe = client.pipeline(transaction=False)
            for index in range(self.terminals):
                pipe.hmget(keys.instance(terminal_name(index)), ["pid", "state", "address"])
            rows = pipe.execute()
        return {
            index: int(pid)
            for index, (pid, status, address) in enumerate(rows)
            if status == "READY" and pid and address
        }

    @contextmanager
    def frozen(self) -> Any:
        """The executors stand still meanwhile: what others measure must not pay for their idling."""
        supervisor = next(
            (item for item in self._running if "run_terminals" in cast(list[str], item.args)), None
        )
        pids = list(self.executors().values()) if supervisor else []
        if supervisor:
            supervisor.send_signal(signal.SIGSTOP)  # it would take them for stuck
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            time.sleep(0.3 + 0.01 * len(pids))
            if supervisor:
                supervisor.send_signal(signal.SIGCONT)
                time.sleep(0.2)

    def worker_environment(self) -> dict[str, str]:
        """What a worker of an alternative needs to know."""
        from django.conf import settings

        return dict(os.environ) | {
            "BENCH_REDIS": settings.REDIS_STATE_URL,
            "BENCH_BROKER": settings.PAPER_BROKER_URL,
            "BENCH_SERVER": self.server,
            "BENCH_DIRECTORY": str(self.directory),
        }

    # --- inside ---

    def _stores_answer(self) -> bool:
        import redis

        from executors.terminals.paper.oracle import Operator
        from tradedist.redis import state, ticks

        try:
            for client in (state(), ticks()):
                with client:
                    client.ping()
            from django.conf import settings

            with Operator(settings.PAPER_BROKER_URL):
                return True
        except (redis.RedisError, OSError):
            return False

    def _logs_end(self) -> str:
        """Of every process that said something."""
        texts = {path.name: path.read_text(errors="replace")[-1500:] for path in self.directory.glob("*.log")}
        return "\n".join(f"--- {name}\n{text}" for name, text in texts.items() if text)

    def _make_terminals(self) -> None:
        from django.conf import settings
        from django.contrib.auth import get_user_model
        from django.db import transaction

        from executors import configuration
        from executors.credentials import seal
        from executors.models import Member, Terminal, TerminalGrant, TerminalGroup
        from executors.terminals.paper.oracle import Operator

        with Operator(settings.PAPER_BROKER_URL) as operator, transaction.atomic():
            self.user = get_user_model().objects.create_user("bench")
            Member.objects.create(user=self.user, role=Member.Role.TRADER)
            group = TerminalGroup.objects.create(slug="bench", label="Bench")
            made = []
            for index in range(self.accounts):
                account = operator.ensure_account(FIRST_LOGIN + index, PASSWORD, PERSONALITY, 1_000_000_000.0)
                operator.ensure_account(FIRST_LOGIN + 1000 + index, PASSWORD, PERSONALITY, 1_000_000_000.0)
                self.server = account["server"]
                name = terminal_name(index)
                made.append(
                    Terminal.objects.create(
                        terminal_id=name,
                        label=name,
                        kind=Terminal.Kind.PAPER,
                        login=FIRST_LOGIN + index,
                        server=account["server"],
                        server_timezone=account["server_timezone"],
                        sealed_password=seal(settings.CREDENTIALS_KEY, name, PASSWORD),
                        orders_per_second=1_000_000,
                        max_positions=0,
                        max_lots=0,
                    )
                )
            group.terminals.set(made)
            TerminalGrant.objects.create(
                user=self.user, terminal_group=group, level=TerminalGrant.Level.TRADE
            )
        configuration.publish_all()

    def _wait(self, what: Callable[[], object]) -> None:
        until = time.monotonic() + STARTS_WITHIN_S
        while not what():
            if time.monotonic() > until or any(item.poll() is not None for item in self._running):
                raise RuntimeError(f"the bench's platform did not start:\n{self._logs_end()}")
            time.sleep(0.05)


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]
