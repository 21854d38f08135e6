"""The supervisor (instance manager): keeps this host's executors alive, drains the outbox for them, obeys operators.

Precedes: `children` (processes), `instances` (what is shown), `rolling` (restarts one by one). Follows: the configuration
that was published to Redis. One thread, one loop; nothing that a child must not inherit is open when it forks, but one
Redis client and the metrics' socket, which the child closes. A new supervisor adopts the executors that outlived the old.
"""

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from types import FrameType
from typing import cast

import redis
from celery import Celery
from django.conf import settings
from pydantic import ValidationError

from executors import kept_configs, operators
from executors.alerts import AlertCode, Alerts
from executors.children import EARS, Child, Children, reap_orphans
from executors.crashpoints import reached
from executors.instances import Instances
from executors.locks import TerminalLock, directory_of, note_kept, note_released
from executors.messages import TerminalConfig
from executors.operators import Answers, Command
from executors.restarts import EXIT_JOURNAL, EXIT_MOVED, FAILURES, Ended
from executors.rolling import Rolling
from executors.state import read_leg
from executors.told import modes_of
from executors.wakeup import Wakeup
from executors.warm import warm_up
from tradedist import keys
from tradedist.clock import monotonic_ms, now_ms
from tradedist.redis import state
from tradedist.wire import Keyring

logger = logging.getLogger(__name__)

WATCH_MS = 250
ALIVE_MS = 1_000
STOP_MS = 10_000
ROLL_MS = 10
WAITING_LEGS = 200  # handed to one executor in one drain
RELEASE_LIMIT_MS = 15_000
FRESH_LIMIT_MS = 60_000
NEXT_VERSION = "TRADEDIST_RESTART"  # what this program leaves to its next version


class Supervisor:
    """`run` returns when a signal asked for it."""

    def __init__(self, app: Celery, host_id: str) -> None:
        self.app = app
        self.host_id = host_id
        self._redis = state()
        self._alerts = Alerts()
        self._answers = Answers(self._redis)
        self._selector = selectors.DefaultSelector()
        self.children = Children(app, self._selector, self._ended)
        self.instances = Instances(self._redis, host_id, self._alerts)
        self._wakeup = Wakeup(Keyring({0: settings.WIRE_KEY}), boot_id=now_ms())
        self._addresses: dict[str, str] = {}
        self._stop = False
        self._versions: dict[str, str] = {}
        self._resumed: dict[str, str] | None = None  # None: not read yet
        self._waited: frozenset[str] = frozenset()  # orders that the last look found in outboxes
        self._redis_up = True
        self._due_drain = self._due_watch = self._due_alive = 0.0
        self._rolling: Rolling | None = None
        self._proof: tuple[Command, subprocess.Popen[bytes], float] | None = None
        self._becoming: Command | None = None
        self._releasing: dict[str, tuple[Command, float]] = {}
        self._signal_reader, self._signal_writer = socket.socketpair()
        self.children.close_in_child += [
            self._signal_reader.close,
            self._signal_writer.close,
            self._wakeup.close,
            self._redis.close,
            self._redis.connection_pool.reset,
        ]

    # --- the loop ---

    def run(self) -> None:
        self._catch_signals()
        reap_orphans()
        kept = kept_configs.kept()
        warm_up(self.app, {config.kind for config in kept} or {"paper"})
        self._selector.register(self._signal_reader, selectors.EVENT_READ)
        self._configure(kept)
        self._go_on_after_exec()
        while not self._stop:
            self._turn()
        self.children.stop_all(STOP_MS)

    def _turn(self) -> None:
        now = monotonic_ms()
        if now >= self._due_drain:
            self._due_drain = now + settings.OUTBOX_DRAIN_MS
            self._with_redis(self._read_redis)
        if now >= self._due_watch:
            self._due_watch = now + WATCH_MS
            self.instances.watch(self.children.live)
            self._obey()
            self._with_redis(self._tell)
        self.children.start_due()
        if self._rolling is not None and self._rolling.turn():
            self._rolling = None
        if now >= self._due_alive:
            self._due_alive = now + ALIVE_MS
            self._with_redis(lambda: self.instances.show(self.children.values()))
        due = min(self._due_drain, self._due_watch, self._due_alive, self.children.next_start_ms())
        self._wait_until(min(due, now + ROLL_MS) if self._rolling is not None else due)

    def _wait_until(self, at_ms: float) -> None:
        for key, _ in self._selector.select(max(0.0, (at_ms - monotonic_ms()) / 1000)):
            if key.fileobj is self._signal_reader:
                self._signal_reader.recv(64)
            else:
                self.children.ended(cast(Child, key.data))

    def _catch_signals(self) -> None:
        self._signal_writer.setblocking(False)
        signal.set_wakeup_fd(self._signal_writer.fileno())

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stop = True

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, stop)

    def _with_redis(self, do: Callable[[], None]) -> None:
        """What Redis does not take now is tried in a later turn."""
        try:
            do()
        except redis.RedisError as error:
            if self._redis_up:
                logger.warning("the state Redis does not answer: %s", error)
            self._redis_up = False
            return
        if not self._redis_up:
            logger.info("the state Redis answers again")
        self._redis_up = True

    # --- configuration and outbox ---

    def _read_redis(self) -> None:
        """One pipelined call for what every executor would ask, the outboxes, and operators' commands."""
        ids = list(self.children)
        asked_ms = monotonic_ms()
        pipe = self._redis.pipeline(transaction=False)
        pipe.time()
        pipe.hgetall(keys.CONFIG_VERSIONS)
        pipe.hgetall(keys.MODES)
        pipe.lpop(keys.host_commands(self.host_id), operators.TAKEN_AT_ONCE)
        for terminal_id in ids:
            pipe.hmget(keys.instance(terminal_id), ["address", "journal_id", "position", "epoch"])
            pipe.zrange(keys.outbox(terminal_id), 0, WAITING_LEGS - 1)
            pipe.hlen(keys.settlements(terminal_id))
        (seconds, micros), versions, modes, commands, *rows = pipe.execute()
        took_ms = monotonic_ms() - asked_ms
        redis_ms = seconds * 1000 + micros / 1000
        self.instances.offset_ms = round(redis_ms) - now_ms()
        clock = (redis_ms - asked_ms - took_ms / 2, took_ms / 2)
        waiting: list[str] = []
        for index, terminal_id in enumerate(ids):
            row, order_ids, wishes = rows[index * 3 : index * 3 + 3]
            if row[0]:
                self._addresses[terminal_id] = row[0]
            waiting += order_ids
            news = (versions.get(terminal_id), *modes_of(modes, terminal_id), wishes)
            self.children[terminal_id].tell(asked_ms, clock, len(order_ids), news, tuple(row[1:]))
        if versions != self._versions:
            self._configure(self._published_configs())
            self._versions = versions
        self._notice_resumes(modes)
        for command in operators.parse(commands or []):
            self._take(command)
        # what waits since the last look: younger ones are on their way, and their executors at work
        if late := [order_id for order_id in waiting if order_id in self._waited]:
            self._hand_over(late)
        self._waited = frozenset(waiting)

    def _hand_over(self, order_ids: list[str]) -> None:
        reached("before-hand-over")
        pipe = self._redis.pipeline(transaction=False)
        for order_id in order_ids:
            pipe.hget(keys.order(order_id), "leg")
        found = [(read_leg(text), text) for text in pipe.execute() if text]
        legs = [(leg, text) for leg, text in found if leg is not None]
        self._wakeup.datagrams(legs, self._addresses)

    def _published_configs(self) -> list[TerminalConfig]:
        found = []
        for terminal_id, text in cast(dict[str, str], self._redis.hgetall(keys.CONFIGS)).items():
            try:
                found.append(TerminalConfig.model_validate_json(text))
            except ValidationError as error:
                logger.error("the configuration of %s cannot be read: %s", terminal_id, error)
        kept_configs.keep(found)
        return found

    def _configure(self, configs: list[TerminalConfig]) -> None:
        ours = {
            config.terminal_id: config
            for config in configs
            if config.host_id == self.host_id and config.enabled
        }
        for terminal_id, config in ours.items():
            child = self.children.get(terminal_id) or self.children.add(config)
            if config.epoch > child.config.epoch:
                child.held = False  # it was moved away and has come back
            child.config = config
            if child.given_up and child.given_up_version != config.version:
                self._try_again(child)
        for terminal_id in set(self.children) - set(ours):
            child = self.children[terminal_id]
            child.config = child.config.model_copy(update={"enabled": False})
            if child.running:
                logger.info("%s is not wanted any more: stopping its executor", terminal_id)
                child.signal(signal.SIGTERM)
            else:
                self.children.forget(child)

    def _notice_resumes(self, modes: dict[str, str]) -> None:
        """An operator's resume also starts what was given up."""
        resumed = {name: count for name, count in modes.items() if name.startswith("resumed:")}
        for name, count in resumed.items():
            child = self.children.get(name.removeprefix("resumed:"))
            known = self._resumed is None or count == self._resumed.get(name, "0")
            if child is not None and child.given_up and not known:
                self._try_again(child)
        self._resumed = resumed

    # --- ends ---

    def _ended(self, child: Child, code: int | None, follows: Ended) -> None:
        if code == EXIT_MOVED:
            logger.error("%s was moved: its row belongs to the host that has it", child.terminal_id)
        elif not child.config.enabled or child.held:
            self.instances.tell(child, "STOPPED", "")
        elif follows.stop:
            child.given_up, child.given_up_version = True, child.config.version
            text = (
                f"The executor failed to start {FAILURES} times in a row, last with exit status {code}; its log says why."
                " It is started again when the terminal is resumed or saved in the admin."
            )
            self.instances.alarm(child, AlertCode.EXECUTOR_FAILED, text)
        elif code == EXIT_JOURNAL:
            text = (
                "The journal cannot be written: the disk is full or broken. No order is sent until it can be; it is"
                " tried every two seconds."
            )
            self.instances.alarm(child, AlertCode.JOURNAL_UNWRITABLE, text)
        elif follows.failures == 0:
            self.instances.tell(child, "STARTING", "")

    def _try_again(self, child: Child) -> None:
        logger.info("%s is tried again", child.terminal_id)
        child.given_up, child.failures, child.next_start_ms = False, 0, 0.0
        self.instances.tell(child, "STARTING", "")

    # --- telling ---

    def _tell(self) -> None:
        self.instances.flush()
        self._answers.flush()

    # --- operators ---

    def _take(self, command: Command) -> None:
        match command.command:
            case "restart" if (
                self._rolling is not None or self._proof is not None or self._becoming is not None
            ):
                self._answers.say(command.id, "A restart is under way already.", done=True, failed=True)
            case "restart":
                self._answers.say(command.id, f"{self.host_id}: loading the program anew.")
                proof = subprocess.Popen(
                    [sys.executable, "manage.py", "run_terminals", "--check"], cwd=settings.BASE_DIR
                )
                self._proof = (command, proof, monotonic_ms() + FRESH_LIMIT_MS)
            case "release":
                for terminal_id in command.terminals:
                    child = self.children.get(terminal_id)
                    if child is not None:
                        child.held = child.expected = True
                        if child.running:
                            child.signal(signal.SIGTERM)
                            child.signal(signal.SIGCONT)
                    self._releasing[terminal_id] = (command, monotonic_ms() + RELEASE_LIMIT_MS)
            case "keep":
                for terminal_id in command.terminals:
                    self._releasing.pop(terminal_id, None)
                    note_kept(directory_of(terminal_id))
                    if (child := self.children.get(terminal_id)) is not None:
                        child.held = False
                self._answers.say(command.id, "The terminal stays here.", done=True)

    def _obey(self) -> None:
        """What takes longer than one turn goes on here."""
        if self._proof is not None:
            self._look_at_proof(*self._proof)
        if self._becoming is not None and self.children.locked():
            self._become_next(self._becoming)
        for terminal_id, (command, until_ms) in list(self._releasing.items()):
            child = self.children.get(terminal_id)
            if child is not None and child.running:
                if (
                    monotonic_ms() > until_ms
                ):  # it may hang in a call; killed, what it sent is looked up later
                    child.signal(signal.SIGKILL)
                continue
            del self._releasing[terminal_id]
            self._prove_released(command, terminal_id)

    def _prove_released(self, command: Command, terminal_id: str) -> None:
        """Nobody on this host holds the terminal: this process could take its lock."""
        lock = TerminalLock(directory_of(terminal_id))
        free, text = (
            lock.take(),
            f"{self.host_id}: the executor of {terminal_id} has ended, its lock is free.",
        )
        try:
            if free and (child := self.children.get(terminal_id)) is not None:
                note_released(directory_of(terminal_id), child.config.epoch)
        except OSError as error:
            free, text = False, f"{self.host_id}: the release could not be written down: {error}."
        else:
            if not free:
                text = f"{self.host_id}: another process holds the lock of {terminal_id}."
        finally:
            lock.release()
        self._answers.say(command.id, text, done=True, failed=not free, released=free)

    # --- becoming the next version of this program ---

    def _look_at_proof(self, command: Command, proof: "subprocess.Popen[bytes]", until_ms: float) -> None:
        code = proof.poll()
        if code is None and monotonic_ms() < until_ms:
            return
        self._proof = None
        if code == 0:
            self._becoming = command
            return
        proof.kill()
        proof.wait()
        text = "The program does not load: nothing was restarted. The log of `terminals` says why."
        self._alerts.raise_(AlertCode.RESTART_STOPPED, next(iter(self.children), ""), text)
        self._answers.say(command.id, text, done=True, failed=True)

    def _become_next(self, command: Command) -> None:
        """Same process, new program: executors stay its children, their listening sockets stay open."""
        logger.info("becoming the next version of this program")
        self._with_redis(self._tell)
        restarts = {child.terminal_id: child.restarts for child in self.children.values()}
        os.environ[EARS] = self.children.ears()
        os.environ[NEXT_VERSION] = operators.to_environment(command, restarts)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def _go_on_after_exec(self) -> None:
        left = os.environ.pop(NEXT_VERSION, "")
        if not left:
            return
        command, restarts = operators.from_environment(left)
        for terminal_id, count in restarts.items():
            if (child := self.children.get(terminal_id)) is not None:
                child.restarts = count
        self._rolling = Rolling(command, self.children, self._answers.say, self._alerts)
