"""The executor's line to Redis, in a thread of its own: the executor's thread never waits for Redis.

Precedes: RTSS, RTRS, RTS and RIS. Follows: the journal (reports), the executor (what the terminal holds). Brings
back what Redis has for the executor: waiting legs, configuration, modes, the time. When Redis is gone it tries again
every 50 ms to 1 s; the journal keeps what could not be published.
"""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import redis
import setproctitle
from django.conf import settings
from pydantic import ValidationError

from executors.alerts import AlertCode, Alerts
from executors.crashpoints import reached
from executors.errors import EpochPassed
from executors.journal_reader import JournalReader
from executors.legs import JournalReport
from executors.messages import Leg, TerminalConfig, TerminalUpdate
from executors.quick_reports import QuickReports
from executors.settlement import Answer, Settlement, read_settlement
from executors.state import ExecutorStore
from executors.waking import Wake
from tradedist import keys
from tradedist.clock import monotonic_ms, now_ms, now_us
from tradedist.redis import state

logger = logging.getLogger(__name__)

BATCH = 200
DRAIN_LIMIT = 500
BACKOFF_S = (0.05, 0.3)  # after a failover the first report should not wait long
FAILED_S = 1.0
ALIVE_MS = 4_000
ANSWER_S = 1.0  # a Redis that takes longer counts as gone; Celery's worker goes by that too
CLOCK_TRIES, QUICK_US = 3, 20_000


@dataclass(frozen=True, slots=True)
class Drained:
    """A whole read of the outbox, begun after `asked`."""

    legs: list[Leg]
    asked: int
    whole: bool  # False: the outbox holds more than was read


@dataclass(frozen=True, slots=True)
class Foreign:
    """Redis knows another journal of this terminal, or a later position of this one."""

    legs: list[tuple[Leg, str, int]]
    last_seq: int  # given out when `legs` were read, or before


@dataclass(frozen=True, slots=True)
class Compared:
    """Redis and the journal agree on who is ahead; orders may run."""


@dataclass(frozen=True, slots=True)
class ConfigRead:
    config: TerminalConfig


@dataclass(frozen=True, slots=True)
class ModesRead:
    modes: list[str]
    resumed: int  # counts the operators' resumes


@dataclass(frozen=True, slots=True)
class SettlementsRead:
    wishes: list[Settlement]


@dataclass(frozen=True, slots=True)
class Shown:
    """What Redis showed of the terminal when the connection was first made, each part as JSON."""

    account: str | None
    positions: str | None
    pending_orders: str | None
    drift: str | None


Event = EpochPassed | Drained | Foreign | Compared | ConfigRead | ModesRead | SettlementsRead | Shown


@dataclass(slots=True)
class _Due:
    """When each periodic part is due next, in monotonic ms."""

    drain: float = 0.0
    config: float = 0.0
    compare: float = 0.0
    clock: float = 0.0
    alive: float = 0.0


@dataclass(slots=True)
class InstanceFacts:
    """What RIS shows beside the journal's position; written by the executor, read by the link."""

    status: str = "STARTING"
    last_error: str = ""
    own_us: int = 0
    broker_us: int = 0
    config_version: int = 0
    moved_ms: int = 0  # UTC; when its thread last turned
    extra: dict[str, str] = field(default_factory=dict)


class Link(threading.Thread):
    """Start it with `start()`; everything it learns goes to `emit`, in this thread."""

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
    ) -> None:
        super().__init__(name="link", daemon=True)
        self.terminal_id = terminal_id
        self.epoch = epoch
        self.offset_ms = 0  # Redis time minus ours
        self.offset_us = 0  # the same, for spans that are shown
        self.connected = False
        self._redis_minus_mono = now_ms() - monotonic_ms()
        self._doubt_ms = 0  # of the clock's measurement
        self._alerts = alerts
        self._shown_facts: dict[Any, Any] = {}
        self._reader = reader
        self._journal_id = journal_id
        self._facts = facts
        self._emit = emit
        self._lost = lost
        self._store = ExecutorStore(state(ANSWER_S), terminal_id)
        self._wake = Wake()
        self._stopping = threading.Event()
        self._published = -1  # -1: not compared with Redis since the connection was made
        # of what `_published` says: another one each time that the store turns out to have less
        self._life = 0
        # held while reports are on their way to the store, or it is compared
        self._publishing = threading.RLock()
        self._quick = QuickReports(terminal_id, journal_id, epoch)
        self._first = True
        self._claim = False  # the store must learn that the journal is ours now
        self._adopting = False  # a foreign journal was told of; nothing is published before it is adopted
        self._drain_wish = 0
        self._drain_begun = 0
        self._drain_done = 0
        self._due = _Due()
        self._update: TerminalUpdate | None = None
        self._update_lock = threading.Lock()
        self._answers: queue.SimpleQueue[tuple[Settlement, Answer]] = queue.SimpleQueue()

    # --- called by the executor's thread ---

    @property
    def published(self) -> int:
        """The journal's position up to which Redis is known to have its reports; below 0 when it is not known."""
        return self._published

    def publish(self, reports: Sequence[JournalReport], newest: int) -> None:
        """Reports that are on disk, up to `newest`: they leave at once if they can, without waiting; else by this thread."""
        if not (self._publishing.acquire(blocking=False) and self._publish_quickly(reports, newest)):
            self._wake.set()

    def _publish_quickly(self, reports: Sequence[JournalReport], newest: int) -> bool:
        try:
            if self._published < 0 or self._adopting or self._claim:
                return False
            reached("before-publish")
            sent = self._quick.send(reports, self._published, self._life)
            reached("after-publish")
            return sent and max(self._published, self._quick.sent_through(self._life)) >= newest
        finally:
            self._publishing.release()

    def look_for_answers(self) -> None:
        """What the store said of reports that left at once; cheap when there is nothing to be said."""
        if not self._quick.looks() or not self._publishing.acquire(blocking=False):
            return
        try:
            reached, taken = self._quick.answered()
            if reached is not None and reached[1] == self._life:
                self._published = max(self._published, reached[0])
        finally:
            self._publishing.release()
        if not taken:
            self._wake.set()

    def answers_due_ms(self) -> float:
        return self._quick.due_ms()

    def redis_ms(self) -> int:
        """Redis's time now; setting this machine's clock does not move it."""
        return round(monotonic_ms() + self._redis_minus_mono)

    def skew_ms(self) -> int:
        """How far this machine's clock is from Redis's for sure; 0 when the measurement cannot tell."""
        skew = self.redis_ms() - now_ms()
        certain = max(0, abs(skew) - self._doubt_ms)
        return certain if skew > 0 else -certain

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
        self._adopting = False
        self._wake.set()

    def show(self, update: TerminalUpdate) -> None:
        """What the terminal holds now; parts that were not sent yet stay unless replaced."""
        with self._update_lock:
            old = self._update
            if old is not None:
                kept = {
                    name: getattr(old, name) for name in ("account", "positions", "pending_orders", "drift")
                }
                missing = {name: value for name, value in kept.items() if getattr(update, name) is None}
                update = update.model_copy(update=missing)
            self._update = update
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
            self._quick.close()
            self._store.redis.close()
            self._reader.close()

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
                self._stands_at(-1)
                self._shown_facts = {}
                self._due = _Due()
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
            self._wake.wait(self._pause_s())

    def _outlive(self, passed: EpochPassed) -> None:
        """No report leaves any more, by any way; the executor's thread ends when it hears of it."""
        self._stands_at(-1)
        self._emit(passed)
        self._alerts.raise_(AlertCode.EXECUTOR_OUTLIVED, self.terminal_id, str(passed))
        with contextlib.suppress(redis.RedisError):  # the log has it
            self._alerts.flush(self._store.redis)

    def _pause_s(self) -> float:
        due = min(self._due.drain, self._due.config, self._due.compare, self._due.clock, self._due.alive)
        return max(0.001, min(1.0, (due - monotonic_ms()) / 1000))

    def _turn(self) -> None:
        now = monotonic_ms()
        if self._published < 0:
            if self._first:  # no order runs before deadlines and modes are known
                self._measure_clock()
                self._read_config()
            self._compare_first()
        answers = self._answers.qsize()  # first: the reports of these are in the journal by now
        if answers or self._stopping.is_set() or not self._quick.under_way():
            self._publish()
        for _ in range(answers):  # after them, so that whoever reads "done" finds the order settled
            self._store.answer(*self._answers.get(), self.epoch)
        self._show()
        self._alerts.flush(self._store.redis)
        if now >= self._due.clock:
            self._measure_clock()
            self._due.clock = now + 5_000
        if now >= self._due.compare:
            self._compare()
            self._due.compare = now + 1_000
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
        self._quick.offer(self._store.redis, self._life)

    def _compare_first(self) -> None:
        """Who is ahead, this journal or Redis? On the first connection a foreign journal is told once."""
        journal_id, position = self._store.published(self.epoch)
        own = self._reader.position()
        foreign = (journal_id not in ("", self._journal_id)) or (
            journal_id == self._journal_id and position > own
        )
        if foreign and self._first:
            logger.error(
                "Redis knows journal %s at %s, ours is %s at %s", journal_id, position, self._journal_id, own
            )
            last_seq = (
                self._store.last_leg_seq()
            )  # first, so that a leg accepted meanwhile counts as a later one
            legs = self._store.unsettled_legs()
            self._adopting = self._claim = True
            self._emit(Foreign(legs, last_seq))
        elif not journal_id:
            # before the first order runs the store knows whose journal has run it, should its disk be lost
            self._store.publish(self._journal_id, self.epoch, [], after=0)
        if self._first:
            self._write_alive()  # before any report of this process the store knows whose it is
            self._emit(Shown(*self._store.shown()))
            self._emit(Compared())
        self._first = False
        self._stands_at(0 if foreign or not journal_id else position)

    def _stands_at(self, position: int) -> None:
        """What the store is known to have is less than it was, or anew. What was sent before proves nothing any more."""
        with self._publishing:
            self._life += 1
            self._published = position

    def _compare(self) -> None:
        """A store that was rolled back shows an older position: what it lost is published again."""
        if self._adopting:
            return
        with self._publishing:
            journal_id, position = self._store.published(self.epoch)
            if journal_id != self._journal_id and self._published > 0:
                position = 0
            if position >= self._published:
                return
            logger.warning("Redis was rolled back from %s to %s: publishing again", self._published, position)
            self._stands_at(position)
        self._publish()

    def _publish(self) -> None:
        if self._adopting:
            return
        with self._publishing:
            if self._claim:
                self._store.publish(self._journal_id, self.epoch, [], after=0)
                self._claim = False
            while reports := self._reader.reports_after(self._published, BATCH):
                reached("before-publish")
                taken = self._store.publish(self._journal_id, self.epoch, reports, after=self._published)
                reached("after-publish")
                if taken < 0:
                    position = -1 - taken
                    logger.warning(
                        "Redis was rolled back from %s to %s: publishing again", self._published, position
                    )
                    self._stands_at(position)
                    continue
                self._published = reports[-1].position
                if len(reports) < BATCH:
                    return

    def _show(self) -> None:
        with self._update_lock:
            update, self._update = self._update, None
        if update is None:
            return
        try:
            pipe = self._store.redis.pipeline(transaction=False)
            if update.account is not None:
                pipe.set(keys.account(self.terminal_id), update.account.model_dump_json())
            if update.drift is not None:
                pipe.set(keys.drift(self.terminal_id), update.drift.model_dump_json())
            for name, items in (
                (keys.positions(self.terminal_id), update.positions),
                (keys.pending_orders(self.terminal_id), update.pending_orders),
            ):
                if items is not None:
                    pipe.set(name, "[" + ",".join(item.model_dump_json() for item in items) + "]")
            pipe.publish(keys.RTS_CHANGES, update.model_dump_json(exclude_none=True))
            pipe.execute()
        except redis.RedisError:
            with self._update_lock:
                if self._update is None:
                    self._update = update
            raise

    def _measure_clock(self) -> None:
        """The quickest of a few questions counts: a slow answer is an uncertain one."""
        took, offset = 0, 0
        for attempt in range(CLOCK_TRIES):
            mono_us, before = round(monotonic_ms() * 1000), now_us()
            theirs = self._store.time_us()
            now_took = round(monotonic_ms() * 1000) - mono_us
            if attempt == 0 or now_took < took:
                took, offset = now_took, theirs - before - now_took // 2
                self._redis_minus_mono = (theirs - mono_us - now_took // 2) / 1000
            if took < QUICK_US:
                break
        self._doubt_ms = took // 1000
        self.offset_ms = round(offset / 1000)
        # what may be the way to Redis alone is no offset: one machine's two processes have one clock
        self.offset_us = offset if abs(offset) > took // 2 else 0

    def _read_config(self) -> None:
        pipe = self._store.redis.pipeline(transaction=False)
        pipe.hget(keys.CONFIG_VERSIONS, self.terminal_id)
        pipe.hmget(keys.MODES, ["global", f"terminal:{self.terminal_id}", f"resumed:{self.terminal_id}"])
        pipe.hvals(keys.settlements(self.terminal_id))
        version, modes, wishes = pipe.execute()
        self._emit(ModesRead([mode for mode in modes[:2] if mode], int(modes[2] or 0)))
        if wishes:
            found = [read_settlement(text) for text in wishes]
            self._emit(SettlementsRead([wish for wish in found if wish is not None]))
        if version is None or int(version) == self._facts.config_version:
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
        """What changed at once; the life sign rarely, since the supervisor shows it for all executors of a machine."""
        facts = self._facts
        shown: dict[Any, Any] = {
            "state": facts.status,
            "config_version": facts.config_version,
            "last_error": facts.last_error,
            "latency_us": facts.own_us,
            "broker_us": facts.broker_us,
        } | facts.extra
        now = monotonic_ms()
        if shown == self._shown_facts and now < self._due.alive:
            return
        changed = {} if shown == self._shown_facts else shown
        seen = (facts.moved_ms or now_ms()) + self.offset_ms
        self._store.redis.hset(keys.instance(self.terminal_id), mapping=changed | {"seen_ms": seen})
        self._shown_facts = shown
        self._due.alive = now + ALIVE_MS
