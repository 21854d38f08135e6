"""The executors of one host as processes: forked from this one, adopted from an earlier supervisor, watched until they end.

Precedes: `worker.main` in each forked child. Follows: the supervisor says which terminals are wanted. A child's listening
sockets are opened here and outlive it: what arrives while it is started again waits in them.
"""

import contextlib
import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from celery import Celery

from executors import listener, worker
from executors.crashpoints import reached
from executors.locks import directory_of, lock_holder, was_released
from executors.messages import TerminalConfig
from executors.progress import Phase, Progress, Sample
from executors.restarts import EXIT_JOURNAL, Ended, judge_end
from executors.told import Said, Told, news_of, standing_of
from executors.watchdog import Watchdog
from tradedist.clock import monotonic_ms

logger = logging.getLogger(__name__)

START_LIMIT_S = 20.0  # from the fork to the first turn, reading a long journal included
EARS = "TRADEDIST_EARS"  # listening sockets handed to this program's next version: terminal=tcp,udp;…


@dataclass(slots=True)
class Child:
    """One terminal's executor, forked by us or adopted."""

    config: TerminalConfig
    progress: Progress | None = None
    told: Told | None = None  # what the supervisor leaves for its link
    sockets: tuple[socket.socket, socket.socket] | None = None
    pid: int = 0
    pidfd: int = -1
    ours: bool = False  # a child process of this one
    forked: bool = False  # by this program, not by its version before
    started_ms: float = 0.0
    failures: int = 0
    restarts: int = 0
    next_start_ms: float = 0.0
    given_up: bool = False  # stopped after failed starts
    given_up_version: int = -1
    expected: bool = False  # we asked it to end
    held: bool = False  # an operator has it stopped: to be moved to another host
    served_until_ms: float = 0.0  # of the process before: its last move
    unwritable: bool = False  # its journal could not be written when it ended
    error: str = ""
    stuck: str = ""
    alarmed: bool = True  # an alert about its start may be open, perhaps of a supervisor before
    watchdog: Watchdog = field(default_factory=Watchdog)
    _said_of: tuple[tuple[str | int | None, ...], tuple[str | None, ...]] | None = None
    _said: tuple[bytes, bytes] = (b"", b"")  # the digests of that

    @property
    def terminal_id(self) -> str:
        return self.config.terminal_id

    @property
    def running(self) -> bool:
        return self.pid > 0

    @property
    def wanted(self) -> bool:
        return self.config.enabled and not self.running and not self.given_up and not self.held

    def sample(self) -> Sample | None:
        """None when nothing of the running process is known yet."""
        if self.progress is None:
            return None
        sample = self.progress.read()
        return sample if self.running and sample.pid == self.pid else None

    @property
    def serving(self) -> bool:
        sample = self.sample()
        return sample is not None and sample.phase is Phase.SERVING

    def tell(
        self,
        asked_ms: float,
        clock: tuple[float, float],
        waiting: int,
        news: tuple[str | int | None, ...],
        standing: tuple[str | None, ...],
    ) -> None:
        """What Redis has for it, as its link would read it. `clock`: Redis's minus the monotonic one, and the doubt of that."""
        if self.told is None or self.progress is None:
            return
        if (news, standing) != self._said_of:
            journal_id, position, epoch = standing
            self._said = (news_of(*news), standing_of(journal_id or "", int(position or 0), int(epoch or 1)))
            self._said_of = (news, standing)
        self.told.tell(Said(asked_ms, *clock, waiting, *self._said))

    def signal(self, number: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            logger.info("pid %s had ended already", self.pid)


class Children(dict[str, Child]):
    """By terminal_id. `selector` is woken by ends; `on_end(child, exit code, what follows)` hears of each."""

    def __init__(
        self,
        app: Celery,
        selector: selectors.BaseSelector,
        on_end: Callable[[Child, int | None, Ended], None],
    ) -> None:
        super().__init__()
        self.close_in_child: list[Callable[[], None]] = []
        self._app = app
        self._selector = selector
        self._on_end = on_end
        self._inherited = _inherited_sockets()

    @property
    def live(self) -> Iterator[Child]:
        return (child for child in self.values() if child.running)

    # --- beginning ---

    def add(self, config: TerminalConfig) -> Child:
        child = self[config.terminal_id] = Child(
            config, sockets=self._inherited.pop(config.terminal_id, None)
        )
        child.held = was_released(directory_of(config.terminal_id), config.epoch)
        self.adopt(child)
        return child

    def start_due(self) -> None:
        for child in list(self.values()):
            if child.wanted and monotonic_ms() >= child.next_start_ms and not self.adopt(child):
                self._fork(child)

    def next_start_ms(self) -> float:
        return min((child.next_start_ms for child in self.values() if child.wanted), default=float("inf"))

    def adopt(self, child: Child) -> bool:
        """Take over a living executor of an earlier supervisor, or of this process before it became this program."""
        pid = lock_holder(directory_of(child.terminal_id))
        if pid is None:
            return False
        logger.info("adopting the executor of %s, pid %s", child.terminal_id, pid)
        with contextlib.suppress(OSError):  # of a full disk: it is watched without
            child.progress = child.progress or Progress(directory_of(child.terminal_id) / "progress")
            child.told = child.told or Told(directory_of(child.terminal_id))
        self._watch(child, pid, ours=_parent_of(pid) == os.getpid())
        child.forked = False
        return True

    def _fork(self, child: Child) -> None:
        try:
            child.progress = child.progress or Progress(directory_of(child.terminal_id) / "progress")
            child.told = child.told or Told(directory_of(child.terminal_id))
            child.sockets = child.sockets or listener.bind()
        except OSError as error:
            child.error = f"The executor cannot be started: {error}"
            logger.error("%s: %s", child.terminal_id, child.error)
            child.next_start_ms = monotonic_ms() + 2_000
            return
        with contextlib.suppress(OSError):  # a log on a full disk must not keep a terminal from its executor
            sys.stdout.flush()
            sys.stderr.flush()
        reached("before-fork")
        child.progress.begin(0, 0, START_LIMIT_S)
        pid = os.fork()
        if pid == 0:
            self._be_executor(child)
        reached("after-fork")
        self._watch(child, pid, ours=True)
        child.forked = True
        logger.info("started the executor of %s, pid %s", child.terminal_id, pid)

    def _be_executor(self, child: Child) -> None:
        """In the child: drop what is the parent's, run, and never return into its loop."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.setpgid(0, 0)  # Ctrl-C reaches the foreground group; executors are stopped in order instead
            for close in self.close_in_child:
                close()
            self._selector.close()
            for other in self.values():
                if other.pidfd >= 0:
                    os.close(other.pidfd)
                if other is not child and other.sockets is not None:
                    for ear in other.sockets:
                        ear.close()
            assert child.progress is not None
            code = worker.main(
                self._app, child.config, child.progress, child.sockets, prove_disk=child.unwritable
            )
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # whatever it is, this process must not go on as a second supervisor
            logger.exception("the executor of %s ended", child.terminal_id)
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
        child.expected, child.stuck = False, ""
        child.watchdog = Watchdog()
        self._selector.register(pidfd, selectors.EVENT_READ, data=child)

    # --- ending ---

    def ended(self, child: Child) -> None:
        """The selector saw its end."""
        code = self._reap(child)
        sample = child.progress.read() if child.progress is not None else None
        lived_ms = monotonic_ms() - child.started_ms
        ran = sample is None or (sample.pid == child.pid and sample.phase > Phase.STARTING)
        logger.warning("the executor of %s ended, pid %s, exit %s", child.terminal_id, child.pid, code)
        if sample is not None:
            child.served_until_ms = sample.at_ms
        verdict = judge_end(
            failures=child.failures,
            code=code,
            ours=child.ours,
            ran=ran,
            lived_ms=lived_ms,
            expected=child.expected,
        )
        child.unwritable = code == EXIT_JOURNAL
        child.held = child.held or was_released(directory_of(child.terminal_id), child.config.epoch)
        child.pid, child.pidfd, child.stuck = 0, -1, ""
        child.failures = verdict.failures
        child.next_start_ms = monotonic_ms() + verdict.pause_ms
        if child.config.enabled:
            child.restarts += 1
        self._on_end(child, code, verdict)
        if not child.config.enabled:
            self.forget(child)

    def _reap(self, child: Child) -> int | None:
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        if not child.ours:
            return None
        _, status = os.waitpid(child.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def forget(self, child: Child) -> None:
        """Not wanted here any more, and it does not run."""
        self.pop(child.terminal_id, None)
        for ear in child.sockets or ():
            ear.close()
        if child.progress is not None:
            child.progress.close()
        if child.told is not None:
            child.told.close()

    def stop_all(self, limit_ms: float) -> None:
        """Stop every executor in order; what does not end in time is killed."""
        left = {child.pidfd: child for child in self.live}
        for child in left.values():
            child.signal(signal.SIGTERM)
            child.signal(signal.SIGCONT)
        deadline = monotonic_ms() + limit_ms
        while left and monotonic_ms() < deadline:
            for key, _ in self._selector.select(0.1):
                if key.fd in left:
                    self._reap(left.pop(key.fd))
        for child in left.values():
            logger.warning("the executor of %s did not stop: killing it", child.terminal_id)
            child.signal(signal.SIGKILL)

    # --- becoming the next version of this program ---

    def ears(self) -> str:
        """Makes the listening sockets survive an exec; what the environment has to say of them."""
        for child in self.values():
            for ear in child.sockets or ():
                ear.set_inheritable(True)
        return ";".join(
            f"{child.terminal_id}={child.sockets[0].fileno()},{child.sockets[1].fileno()}"
            for child in self.values()
            if child.sockets is not None
        )

    def locked(self) -> bool:
        """Whether every child holds its lock, by which a successor of this program finds it."""
        return all(lock_holder(directory_of(child.terminal_id)) == child.pid for child in self.live)


def _inherited_sockets() -> dict[str, tuple[socket.socket, socket.socket]]:
    found = {}
    for part in filter(None, os.environ.pop(EARS, "").split(";")):
        terminal_id, _, numbers = part.partition("=")
        tcp, udp = (socket.socket(fileno=int(number)) for number in numbers.split(","))
        tcp.set_inheritable(False)
        udp.set_inheritable(False)
        found[terminal_id] = (tcp, udp)
    return found


def reap_orphans() -> None:
    """Children of this process from before an exec that ended meanwhile; called before any child is known."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _parent_of(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])
