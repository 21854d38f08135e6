"""The executor's line to Redis, in a thread of its own: the executor's thread never waits for Redis.

Precedes: `publishing` (RTSS, RTRS) and `showing` (RTS, RIS). Follows: the journal (reports), the executor (what the terminal
holds). Brings back what Redis has for the executor: waiting legs, configuration, modes, the time. What the supervisor has
read a moment ago (`told`) it does not ask again. When Redis is gone it tries again every 50 ms to 1 s.
"""

import contextlib
import logging
import queue
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import redis
import setproctitle
from django.conf import settings
from pydantic import ValidationError

from executors.alerts import AlertCode, Alerts
from executors.crashpoints import reached
from executors.errors import EpochPassed
from executors.journal_reader import JournalReader
from executors.legs import JournalReport
from executors.link_events import (
    Compared,
    ConfigRead,
    Drained,
    Event,
    InstanceFacts,
    ModesRead,
    SettlementsRead,
    Shown,
)
from executors.messages import TerminalConfig, TerminalUpdate
from executors.publishing import Publishing
from executors.settlement import Answer, Settlement, read_settlement
from executors.showing import Showing
from executors.state import ExecutorStore
from executors.store_clock import StoreClock
from executors.told import Told, news_of
from executors.waking import Wake
from tradedist import keys
from tradedist.clock import monotonic_ms
from tradedist.redis import state

logger = logging.getLogger(__name__)

DRAIN_LIMIT = 500
BACKOFF_S = (0.05, 0.3)  # after a failover the first report should not wait long
FAILED_S = 1.0
ALIVE_MS = 4_000
COMPARE_MS = 1_000
CLOCK_MS = 5_000
OWN_CLOCK_MS = 30_000  # whatever the supervisor says of the time
SPREAD_MS = 50  # the executors of a host do not all look in the same moment
ANSWER_S = 1.0  # a Redis that takes longer counts as gone; Celery's worker goes by that too


@dataclass(slots=True)
class _Due:
    """When each periodic part is due next, in monotonic ms."""

    drain: float = 0.0
    config: float = 0.0
    compare: float = 0.0
    clock: float = 0.0
    alive: float = 0.0

    def first(self) -> float:
        return min(self.drain, self.config, self.compare, self.clock, self.alive)


class Link(threading.Thread):
    """Start it with `start()`; everything it learns goes to `emit`, in this thread.

    `directory`: where the supervisor leaves its word, None when there is none. `lost` is called when Redis is gone.
    """

    def __init__(
        self,
        *,
        terminal_id: str,
        epoch: int,
        reader: JournalReader,
        journal_id: str,
        facts: InstanceFacts,
        alerts: Alerts,
        emit: Callable[[Event], None],
        lost: Callable[[], None] = lambda: None,
        directory: Path | None = None,
    ) -> None:
        super().__init__(name="link", daemon=True)
        self.terminal_id = terminal_id
        self.epoch = epoch
        self.connected = False
        self._alerts = alerts
        self._facts = facts
        self._emit = emit
        self._lost = lost
        self._store = ExecutorStore(state(ANSWER_S), terminal_id)
        self.clock = StoreClock(self._store)
        self._reports = Publishing(self._store, reader, journal_id, epoch)
        self._showing = Showing(self._store.redis, terminal_id, facts)
        self._wake = Wake()
        self._stopping = threading.Event()
        self._first = True
        self._drain_wish = 0
        self._drain_begun = 0
        self._drain_done = 0
        self._due = _Due()
        self._clock_measured_ms = 0.0
        self._read_ms = 0.0  # when the configuration was asked for
        self._news = b""  # of what was read then
        self._told: Told | None = None
        self._lost_ms = 0.0  # what was said before Redis was gone says nothing of what came back
        if directory is not None:
            with contextlib.suppress(OSError):  # of a full disk: then everything is asked
                self._told = Told(directory)
        self._early_ms = zlib.crc32(terminal_id.encode()) % SPREAD_MS
        self._answers: queue.SimpleQueue[tuple[Settlement, Answer]] = queue.SimpleQueue()

    # --- called by the executor's thread ---

    @property
    def published(self) -> int:
        """The journal's position up to which Redis is known to have its reports; below 0 when it is not known."""
        return self._reports.published

    def written(self, newest: int) -> None:
        """The journal has come so far. What it has leaves with a later report, or when this thread looks."""
        self._reports.written(newest)

    def publish(self, reports: Sequence[JournalReport], newest: int) -> None:
        """Reports that are on disk, up to `newest`: they leave at once if they can, without waiting; else by this thread."""
        self._reports.written(newest)
        if not self._reports.publish_quickly(reports, newest):
            self._wake.set()

    def look_for_answers(self) -> None:
        """What the store said of reports that left at once; cheap when there is nothing to be said."""
        if not self._reports.look_for_answers():
            self._wake.set()

    def answers_due_ms(self) -> float:
        return self._reports.quick.due_ms()

    def notify(self) -> None:
        """The journal has something new."""
        self._wake.set()

    def ask_drain(self) -> int:
        """A read of the outbox that begins after now; its number comes back in Drained.asked (or a higher one)."""
        if self._drain_wish == self._drain_begun:  # else a read is to begin yet
            self._drain_wish += 1
            self._wake.set()
        return self._drain_wish

    def answer(self, wish: Settlement, answer: Answer) -> None:
        """What became of a settlement by hand. Lost with this process: then the wish is read, and answered, again."""
        self._answers.put((wish, answer))
        self._wake.set()

    def adopted(self) -> None:
        """What Foreign brought is in the journal. A crash before this tells of it again."""
        self._reports.adopted()
        self._wake.set()

    def show(self, update: TerminalUpdate) -> None:
        """What the terminal holds now; parts that were not sent yet stay unless replaced."""
        self._showing.leave(update)
        self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """Publish what is there and end."""
        self._stopping.set()
        self._wake.set()
        self.join(timeout_s)

    # --- the thread ---

    def run(self) -> None:
        setproctitle.setthreadtitle(self.name)
        try:
            self._serve()
        finally:
            self._reports.close()
            self._store.redis.close()
            if self._told is not None:
                self._told.close()

    def _serve(self) -> None:
        backoff = BACKOFF_S[0]
        while True:
            stopping = self._stopping.is_set()
            self._wake.clear()
            try:
                self._turn()
                self.connected = True
                backoff = BACKOFF_S[0]
            except redis.RedisError as error:
                if self.connected:
                    logger.warning("the state Redis does not answer: %s", error, extra={"action": "link"})
                    self._lost()
                self.connected = False
                self._reports.stands_at(-1)
                self._showing.forget()
                self._due = _Due()
                self._lost_ms = monotonic_ms()
                if stopping:
                    return
                self._stopping.wait(backoff)
                backoff = min(backoff * 2, BACKOFF_S[1])
                continue
            except EpochPassed as passed:
                self._outlive(passed)
                return
            except Exception:  # the thread must outlive a bad record; it is logged and tried again
                logger.exception("the link failed", extra={"action": "link"})
                self._stopping.wait(FAILED_S)
            if stopping:
                return
            self._rest()

    def _outlive(self, passed: EpochPassed) -> None:
        """No report leaves any more, by any way; the executor's thread ends when it hears of it."""
        self._reports.stands_at(-1)
        self._emit(passed)
        self._alerts.raise_(AlertCode.EXECUTOR_OUTLIVED, self.terminal_id, str(passed))
        with contextlib.suppress(redis.RedisError):  # the log has it
            self._alerts.flush(self._store.redis)

    def _rest(self) -> None:
        """Until there is something to do. To look at what the supervisor has said is all that an idle link does."""
        while True:
            self._hear()
            pause_ms = self._due.first() - monotonic_ms()
            if pause_ms <= 0 or self._wake.wait(min(1.0, pause_ms / 1000)):
                return
            if self._showing.changed() or not self._reports.at_rest():
                return

    def _turn(self) -> None:
        if self._reports.published < 0:
            self._begin()
        answers = self._answers.qsize()  # first: the reports of these are in the journal by now
        if answers or self._stopping.is_set() or not self._reports.quick.under_way():
            self._reports.publish()
        for _ in range(answers):  # after them, so that whoever reads "done" finds the order settled
            self._store.answer(*self._answers.get(), self.epoch)
        self._showing.show()
        self._alerts.flush(self._store.redis)
        self._hear()
        now = monotonic_ms()
        if now >= self._due.clock:
            self._measure_clock(now)
        if now >= self._due.compare:
            self._reports.compare()
            self._due.compare = now + COMPARE_MS
        if now >= self._due.config:
            self._read_config()
            self._due.config = now + settings.CONFIG_POLL_MS
        self._write_alive()
        if now >= self._due.drain or self._drain_wish > self._drain_done:
            asked = self._drain_begun = self._drain_wish
            reached("before-drain")
            legs = self._store.waiting_legs(DRAIN_LIMIT)
            self._drain_done = asked
            self._emit(Drained(legs, asked, whole=len(legs) < DRAIN_LIMIT))
            reached("after-drain")
            self._due.drain = now + settings.OWN_DRAIN_MS
        self._reports.offer(self._store.redis)

    def _hear(self) -> None:
        """What the supervisor has read since need not be asked again; what is news to us is due at once.

        Without its word, or with an old one, everything is due as if there were none: no sooner, no later.
        """
        said = self._told.said(monotonic_ms()) if self._told is not None else None
        if said is None or said.asked_ms < self._lost_ms or self._reports.published < 0:
            return
        due = self._due
        if said.news == self._news:
            due.config = max(due.config, said.asked_ms + settings.CONFIG_POLL_MS - self._early_ms)
        elif said.asked_ms > self._read_ms:
            due.config = 0.0
        if self._reports.as_said(said):
            due.compare = max(due.compare, said.asked_ms + COMPARE_MS)
        if said.waiting == 0:
            due.drain = max(due.drain, said.asked_ms + settings.OWN_DRAIN_MS)
        if self.clock.agrees(said.redis_minus_mono_ms, said.doubt_ms):
            due.clock = max(due.clock, min(said.asked_ms + CLOCK_MS, self._clock_measured_ms + OWN_CLOCK_MS))
        # the life sign: the supervisor shows it for all executors of a host
        due.alive = max(due.alive, said.asked_ms + ALIVE_MS)

    def _begin(self) -> None:
        """The first turn, and the first after Redis was gone."""
        first = self._first
        if first:  # no order runs before deadlines and modes are known
            self._measure_clock(monotonic_ms())
            self._read_config()
        foreign = self._reports.compare_first(first=first)
        if foreign is not None:
            self._emit(foreign)
        if first:
            self._write_alive()  # before any report of this process the store knows whose it is
            self._emit(Shown(*self._store.shown()))
            self._emit(Compared())
        self._first = False

    def _measure_clock(self, now: float) -> None:
        self.clock.measure()
        self._clock_measured_ms = now
        self._due.clock = now + CLOCK_MS

    def _read_config(self) -> None:
        asked_ms = monotonic_ms()
        pipe = self._store.redis.pipeline(transaction=False)
        pipe.hget(keys.CONFIG_VERSIONS, self.terminal_id)
        pipe.hmget(keys.MODES, ["global", f"terminal:{self.terminal_id}", f"resumed:{self.terminal_id}"])
        pipe.hvals(keys.settlements(self.terminal_id))
        version, modes, wishes = pipe.execute()
        self._read_ms, self._news = asked_ms, b""
        self._emit(ModesRead([mode for mode in modes[:2] if mode], int(modes[2] or 0)))
        if wishes:
            found = [read_settlement(text) for text in wishes]
            self._emit(SettlementsRead([wish for wish in found if wish is not None]))
        if version is None or int(version) == self._facts.config_version:
            if not wishes:  # they are asked for until they are answered
                self._news = news_of(version, *modes, 0)
            return
        text = cast(str | None, self._store.redis.hget(keys.CONFIGS, self.terminal_id))
        if text is None:
            return
        try:
            config = TerminalConfig.model_validate_json(text)
        except ValidationError as error:
            self._facts.last_error = f"configuration {version} cannot be read: {error.error_count()} faults"
            logger.error(self._facts.last_error, extra={"action": "config"})
            return
        self._facts.config_version = config.version
        self._emit(ConfigRead(config))

    def _write_alive(self) -> None:
        now = monotonic_ms()
        if self._showing.show_facts(self.clock.offset_ms, alive=now >= self._due.alive):
            self._due.alive = now + ALIVE_MS
