"""The supervisor (instance manager): forks executors from a warm parent, keeps them alive, drains the outbox for them.

Precedes: `worker`, in each forked child. Follows: the configuration that was published to Redis. One thread, one loop;
nothing that a child must not inherit is open when it forks, but one Redis client and the metrics' socket, which the child
closes. A new supervisor adopts the executors that outlived the old one.
"""

import gc
import importlib
import json
import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import cast

import redis
from celery import Celery
from django.conf import settings
from pydantic import ValidationError

from executors import worker
from executors.crashpoints import reached
from executors.messages import TerminalConfig, TerminalUpdate
from executors.progress import overdue_ms
from executors.state import read_leg
from executors.wakeup import Wakeup
from tradedist import keys
from tradedist.clock import monotonic_ms, now_ms
from tradedist.redis import state
from tradedist.wire import Keyring

logger = logging.getLogger(__name__)

# Celery imports these only inside a worker; done before the fork they are shared and cost no time at a restart.
WARM = (
    "billiard._ext",
    "billiard.connection",
    "billiard.dummy",
    "billiard.pool",
    "billiard.reduction",
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.app.routes",
    "celery.apps.worker",
    "celery.concurrency.solo",
    "celery.events",
    "celery.events.dispatcher",
    "celery.events.state",
    "celery.fixups.django",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.consumer.delayed_delivery",
    "celery.worker.strategy",
    "encodings.idna",
    "executors.tasks",
    "executors.terminals.factory",
    "kombu.matcher",
    "kombu.mixins",
    "kombu.pidbox",
    "kombu.transport.redis",
    "stringprep",
)
YOUNG_MS = 5_000  # an executor that ends sooner than this after its start has failed to start
FAILURES = 3
BACKOFF_MS = (100, 10_000)
WATCH_MS = 500
ALIVE_MS = 1_000
STOP_MS = 10_000
WAITING_LEGS = 200  # handed to one executor in one drain


@dataclass(slots=True)
class Child:
    """One terminal's executor, forked by us or adopted."""

    config: TerminalConfig
    pid: int = 0
    pidfd: int = -1
    ours: bool = False
    started_ms: float = 0.0
    failures: int = 0  # ended young, in a row
    restarts: int = 0
    next_start_ms: float = 0.0
    given_up_version: int = -1  # stopped after three failures; another configuration version tries again
    told: str = ""

    @property
    def running(self) -> bool:
        return self.pid > 0


class Supervisor:
    """`run` returns when a signal asked for it. `metrics` hears of changes."""

    def __init__(
        self, app: Celery, host_id: str, *, on_change: Callable[["Supervisor"], None] | None = None
    ) -> None:
        self.app = app
        self.host_id = host_id
        self.children: dict[str, Child] = {}
        self.close_in_child: list[Callable[[], None]] = []
        self._on_change = on_change
        self._redis = state()
        self._wakeup = Wakeup(Keyring({0: settings.WIRE_KEY}), boot_id=now_ms())
        self._addresses: dict[str, str] = {}
        self._selector = selectors.DefaultSelector()
        self._stop = False
        self._versions: dict[str, str] = {}
        self._redis_up = True
        self._due_drain = self._due_watch = self._due_alive = 0.0
        self._signal_reader, self._signal_writer = socket.socketpair()

    # --- the loop ---

    def run(self) -> None:
        self._catch_signals()
        self._warm_up()
        self._selector.register(self._signal_reader, selectors.EVENT_READ)
        self._configure(_kept_configs())
        while not self._stop:
            self._turn()
        self._stop_all()

    def _turn(self) -> None:
        now = monotonic_ms()
        if now >= self._due_drain:
            self._due_drain = now + settings.OUTBOX_DRAIN_MS
            self._read_redis()
        if now >= self._due_watch:
            self._due_watch = now + WATCH_MS
            self._kill_stuck()
        self._start_due()
        if now >= self._due_alive:
            self._due_alive = now + ALIVE_MS
            self._show()
        self._wait_until(min(self._due_drain, self._due_watch, self._due_alive, self._next_start()))

    def _wait_until(self, at_ms: float) -> None:
        for key, _ in self._selector.select(max(0.0, (at_ms - monotonic_ms()) / 1000)):
            if key.fileobj is self._signal_reader:
                self._signal_reader.recv(64)
            else:
                self._ended(self.children[key.data])

    def _next_start(self) -> float:
        waiting = [child.next_start_ms for child in self.children.values() if self._wanted(child)]
        return min(waiting, default=float("inf"))

    def _catch_signals(self) -> None:
        self._signal_writer.setblocking(False)
        signal.set_wakeup_fd(self._signal_writer.fileno())

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stop = True

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, stop)

    def _warm_up(self) -> None:
        for name in WARM:
            importlib.import_module(name)
        for part in ("amqp", "control", "events", "tasks", "log"):
            getattr(self.app, part)
        self.app.finalize()
        gc.collect()
        gc.freeze()

    # --- configuration and outbox ---

    def _read_redis(self) -> None:
        """One pipelined call: configuration versions, addresses, and every waiting leg."""
        ids = list(self.children)
        try:
            pipe = self._redis.pipeline(transaction=False)
            pipe.hgetall(keys.CONFIG_VERSIONS)
            for terminal_id in ids:
                pipe.hget(keys.instance(terminal_id), "address")
                pipe.zrange(keys.outbox(terminal_id), 0, WAITING_LEGS - 1)
            answers = pipe.execute()
            versions = cast(dict[str, str], answers[0])
            waiting: list[str] = []
            for index, terminal_id in enumerate(ids):
                address, order_ids = answers[1 + index * 2], answers[2 + index * 2]
                if address:
                    self._addresses[terminal_id] = address
                waiting += order_ids
            if versions != self._versions:
                self._configure(self._published_configs())
                self._versions = versions
            if waiting:
                self._hand_over(waiting)
            if not self._redis_up:
                logger.info("the state Redis answers again")
            self._redis_up = True
        except redis.RedisError as error:
            if self._redis_up:
                logger.warning("the state Redis does not answer: %s", error)
            self._redis_up = False

    def _hand_over(self, order_ids: list[str]) -> None:
        reached("before-hand-over")
        pipe = self._redis.pipeline(transaction=False)
        for order_id in order_ids:
            pipe.hget(keys.order(order_id), "leg")
        found = [(read_leg(text), text) for text in pipe.execute() if text]
        legs = [(leg, text) for leg, text in found if leg is not None]
        self._wakeup.send(legs, self._addresses, tcp=False)

    def _published_configs(self) -> list[TerminalConfig]:
        found = []
        for terminal_id, text in cast(dict[str, str], self._redis.hgetall(keys.CONFIGS)).items():
            try:
                found.append(TerminalConfig.model_validate_json(text))
            except ValidationError as error:
                logger.error("the configuration of %s cannot be read: %s", terminal_id, error)
        _keep_configs(found)
        return found

    def _configure(self, configs: list[TerminalConfig]) -> None:
        ours = {
            config.terminal_id: config
            for config in configs
            if config.host_id == self.host_id and config.enabled
        }
        for terminal_id, config in ours.items():
            if terminal_id in self.children:
                self.children[terminal_id].config = config
            else:
                self.children[terminal_id] = Child(config)
                self._adopt(self.children[terminal_id])
        for terminal_id in set(self.children) - set(ours):
            child = self.children[terminal_id]
            if child.running:
                logger.info("%s is not wanted any more: stopping its executor", terminal_id)
                self._signal(child, signal.SIGTERM)
            else:
                del self.children[terminal_id]
            if terminal_id in self.children:
                child.config = child.config.model_copy(update={"enabled": False})

    # --- children ---

    def _wanted(self, child: Child) -> bool:
        return child.config.enabled and not child.running and child.given_up_version != child.config.version

    def _start_due(self) -> None:
        for child in list(self.children.values()):
            if self._wanted(child) and monotonic_ms() >= child.next_start_ms and not self._adopt(child):
                self._fork(child)

    def _adopt(self, child: Child) -> bool:
        """Take over a living executor of an earlier supervisor."""
        pid = worker.lock_holder(worker.directory_of(child.config.terminal_id))
        if pid is None:
            return False
        logger.info("adopting the executor of %s, pid %s", child.config.terminal_id, pid)
        self._watch(child, pid, ours=False)
        return True

    def _fork(self, child: Child) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        reached("before-fork")
        pid = os.fork()
        if pid == 0:
            self._be_executor(child.config)
        reached("after-fork")
        self._watch(child, pid, ours=True)
        logger.info("started the executor of %s, pid %s", child.config.terminal_id, pid)

    def _be_executor(self, config: TerminalConfig) -> None:
        """In the child: drop what is the parent's, run, and never return into its loop."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.setpgid(0, 0)  # Ctrl-C reaches the foreground group; executors are stopped in order instead
            for close in self.close_in_child:
                close()
            self._signal_reader.close()
            self._signal_writer.close()
            self._selector.close()
            self._wakeup.close()
            for other in self.children.values():
                if other.pidfd >= 0:
                    os.close(other.pidfd)
            self._redis.close()
            self._redis.connection_pool.reset()
            code = worker.main(self.app, config)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # whatever it is, this process must not go on as a second supervisor
            logger.exception("the executor of %s ended", config.terminal_id)
        finally:
            try:
                logging.shutdown()
                sys.stdout.flush()
                sys.stderr.flush()
            except OSError:
                code = code or 1  # whoever read our output is gone; there is nobody to tell
            finally:
                os._exit(code)

    def _watch(self, child: Child, pid: int, *, ours: bool) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return  # it ended between the look and now; it will be started
        child.pid, child.pidfd, child.ours = pid, pidfd, ours
        child.started_ms = monotonic_ms()
        self._selector.register(pidfd, selectors.EVENT_READ, data=child.config.terminal_id)

    def _ended(self, child: Child) -> None:
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        code: int | None = None
        if child.ours:
            _, status = os.waitpid(child.pid, 0)
            code = os.waitstatus_to_exitcode(status)
        terminal_id = child.config.terminal_id
        logger.warning("the executor of %s ended, pid %s, exit %s", terminal_id, child.pid, code)
        child.pid, child.pidfd = 0, -1
        if not child.config.enabled:
            del self.children[terminal_id]
            return
        child.restarts += 1
        now = monotonic_ms()
        if code == worker.EXIT_LOCKED:
            child.next_start_ms = now + BACKOFF_MS[0]  # the holder will be adopted, or has ended
        elif child.ours and code != -signal.SIGKILL and now - child.started_ms < YOUNG_MS:
            child.failures += 1
            child.next_start_ms = now + min(BACKOFF_MS[0] * 2**child.failures, BACKOFF_MS[1])
            if child.failures >= FAILURES:
                child.given_up_version = child.config.version
                self._tell(
                    child, "FAILED", f"the executor failed to start {FAILURES} times, last with exit {code}"
                )
        else:
            child.failures = 0
            # killed twice within a moment: something hunts it; do not become a fork storm
            child.next_start_ms = now + (BACKOFF_MS[0] if now - child.started_ms < 1_000 else 0)
            self._tell(child, "STARTING", "")
        if self._on_change:
            self._on_change(self)

    def _kill_stuck(self) -> None:
        for child in self.children.values():
            path = worker.directory_of(child.config.terminal_id) / "progress"
            if child.running and monotonic_ms() - child.started_ms > WATCH_MS and overdue_ms(path) > 0:
                if overdue_ms(path) > monotonic_ms() - child.started_ms:
                    continue  # the mark is of the process before
                logger.error(
                    "the executor of %s is stuck in a call: killing pid %s",
                    child.config.terminal_id,
                    child.pid,
                )
                self._signal(child, signal.SIGKILL)

    def _signal(self, child: Child, number: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(child.pidfd, number)
        except ProcessLookupError:
            logger.info("pid %s had ended already", child.pid)

    def _stop_all(self) -> None:
        """Stop every executor in order; what does not end in time is killed."""
        running = [child for child in self.children.values() if child.running]
        for child in running:
            self._signal(child, signal.SIGTERM)
        deadline = monotonic_ms() + STOP_MS
        left = {child.pidfd: child for child in running}
        while left and monotonic_ms() < deadline:
            for key, _ in self._selector.select(0.1):
                if key.fd in left:
                    child = left.pop(key.fd)
                    self._selector.unregister(key.fd)
                    if child.ours:
                        os.waitpid(child.pid, 0)
        for child in left.values():
            logger.warning("the executor of %s did not stop: killing it", child.config.terminal_id)
            self._signal(child, signal.SIGKILL)

    # --- telling ---

    def _show(self) -> None:
        """RIS: our own heartbeat, and each executor's pid and restarts, in one call."""
        if not self._redis_up:
            return
        try:
            pipe = self._redis.pipeline(transaction=False)
            pipe.hset(keys.HEARTBEATS, f"terminals:{self.host_id}", now_ms())
            for terminal_id, child in self.children.items():
                pipe.hset(keys.instance(terminal_id), mapping={"restarts": child.restarts, "pid": child.pid})
                if child.told and not child.running:
                    pipe.hset(keys.instance(terminal_id), mapping={"state": child.told.split(":")[0]})
            pipe.execute()
        except redis.RedisError as error:
            logger.warning("the instance state could not be shown: %s", error)

    def _tell(self, child: Child, status: str, error: str) -> None:
        if error:
            logger.error("ALARM %s: %s", child.config.terminal_id, error, extra={"action": "alarm"})
        child.told = status
        update = TerminalUpdate.model_validate(
            {
                "terminal_id": child.config.terminal_id,
                "status": status,
                "last_error": error,
                "time_ms": now_ms(),
            }
        )
        try:
            pipe = self._redis.pipeline(transaction=False)
            pipe.hset(keys.instance(child.config.terminal_id), mapping={"state": status, "last_error": error})
            pipe.publish(keys.RTS_CHANGES, update.model_dump_json(exclude_none=True))
            pipe.execute()
        except redis.RedisError as problem:
            logger.warning("the instance state could not be shown: %s", problem)


# --- the configuration as last published, for a start without Redis ---


def _kept() -> Path:
    return Path(settings.DATA_DIR) / "terminals" / "configs.json"


def _keep_configs(configs: list[TerminalConfig]) -> None:
    path = _kept()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps([config.model_dump(mode="json") for config in configs]))
    fresh.replace(path)


def _kept_configs() -> list[TerminalConfig]:
    try:
        return [TerminalConfig.model_validate(item) for item in json.loads(_kept().read_text())]
    except FileNotFoundError:
        return []
    except (ValueError, OSError) as error:
        logger.error("the kept configuration cannot be read, Redis will bring it: %s", error)
        return []
