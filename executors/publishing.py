"""The journal's reports on their way to Redis: who is ahead of whom, what was taken, what must go again.

Precedes: RTRS and RTSS. Follows: the journal, which has every report on disk first. Two threads publish, never both at
once: the executor's by `quick_reports`, the link's by reading the journal, whatever did not go the other way.
"""

import logging
import threading
from collections.abc import Sequence

import redis

from executors.crashpoints import reached
from executors.journal_reader import JournalReader
from executors.legs import JournalReport
from executors.link_events import Foreign
from executors.quick_reports import QuickReports
from executors.state import ExecutorStore
from executors.told import Said, standing_of

logger = logging.getLogger(__name__)

BATCH = 200


class Publishing:
    """`publish_quickly` and `look_for_answers` are the executor's thread's, all else is the link's."""

    def __init__(self, store: ExecutorStore, reader: JournalReader, journal_id: str, epoch: int) -> None:
        self.published = -1  # -1: not compared with Redis since the connection was made
        # the store must learn that the journal is ours now
        self.claim = False
        self._adopting = False  # a foreign journal was told of; nothing is published before it is adopted
        self._store = store
        self._reader = reader
        self._journal_id = journal_id
        self._epoch = epoch
        # of what `published` says: another one each time that the store turns out to have less
        self._life = 0
        # held while reports are on their way to the store, or it is compared
        self._lock = threading.RLock()
        self._newest = 0  # position in the journal, as far as its writer has said
        self._standing = (-1, b"")  # the digest of the position that was published
        self.quick = QuickReports(store.terminal_id, journal_id, epoch)

    # --- the executor's thread ---

    def written(self, newest: int) -> None:
        """The journal has come so far."""
        self._newest = newest

    def publish_quickly(self, reports: Sequence[JournalReport], newest: int) -> bool:
        """Without waiting. False: the link must do it, or the rest of it."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self.published < 0 or self._adopting or self.claim:
                return False
            reached("before-publish")
            sent = self.quick.send(reports, self.published, self._life)
            reached("after-publish")
            return sent and max(self.published, self.quick.sent_through(self._life)) >= newest
        finally:
            self._lock.release()

    def look_for_answers(self) -> bool:
        """What the store said of reports that left at once; False when some of them were not taken."""
        if not self.quick.looks() or not self._lock.acquire(blocking=False):
            return True
        try:
            answered, taken = self.quick.answered()
            if answered is not None and answered[1] == self._life:
                self.published = max(self.published, answered[0])
        finally:
            self._lock.release()
        return taken

    def adopted(self) -> None:
        """What Foreign brought is in the journal. A crash before this tells of it again."""
        self._adopting = False

    # --- the link's thread ---

    def at_rest(self) -> bool:
        """The store has all that is written, and the next report has a way."""
        return self.published >= self._newest and not self.claim and self.quick.at_rest(self._life)

    def compare_first(self, *, first: bool) -> Foreign | None:
        """Who is ahead, this journal or Redis? On the first connection a foreign journal is told once."""
        journal_id, position = self._store.published(self._epoch)
        own = self._reader.position()
        foreign = (journal_id not in ("", self._journal_id)) or (
            journal_id == self._journal_id and position > own
        )
        told = None
        if foreign and first:
            logger.error(
                "Redis knows journal %s at %s, ours is %s at %s", journal_id, position, self._journal_id, own
            )
            # first, so that a leg accepted meanwhile counts as a later one
            last_seq = self._store.last_leg_seq()
            legs = self._store.unsettled_legs()
            self._adopting = self.claim = True
            told = Foreign(legs, last_seq)
        elif not journal_id:
            # before the first order runs the store knows whose journal has run it, should its disk be lost
            self._store.publish(self._journal_id, self._epoch, [], after=0)
        self.stands_at(0 if foreign or not journal_id else position)
        return told

    def stands_at(self, position: int) -> None:
        """What the store is known to have is less than it was, or anew. What was sent before proves nothing any more."""
        with self._lock:
            self._life += 1
            self.published = position

    def as_said(self, said: Said) -> bool:
        """Whether the store has what it is known to have had, and nobody else's."""
        if self._standing[0] != self.published:
            self._standing = self.published, standing_of(self._journal_id, self.published, self._epoch)
        return said.standing == self._standing[1] and not self._adopting

    def compare(self) -> None:
        """A store that was rolled back shows an older position: what it lost is published again."""
        if self._adopting:
            return
        with self._lock:
            journal_id, position = self._store.published(self._epoch)
            if journal_id != self._journal_id and self.published > 0:
                position = 0
            if position >= self.published:
                return
            logger.warning("Redis was rolled back from %s to %s: publishing again", self.published, position)
            self.stands_at(position)
        self.publish()

    def publish(self) -> None:
        if self._adopting:
            return
        with self._lock:
            if self.claim:
                self._store.publish(self._journal_id, self._epoch, [], after=0)
                self.claim = False
            while reports := self._reader.reports_after(self.published, BATCH):
                reached("before-publish")
                taken = self._store.publish(self._journal_id, self._epoch, reports, after=self.published)
                reached("after-publish")
                if taken < 0:
                    position = -1 - taken
                    logger.warning(
                        "Redis was rolled back from %s to %s: publishing again", self.published, position
                    )
                    self.stands_at(position)
                    continue
                self.published = reports[-1].position
                if len(reports) < BATCH:
                    return

    def offer(self, client: "redis.Redis") -> None:
        """A line for the executor's own thread, when it has none of this life."""
        self.quick.offer(client, self._life)

    def close(self) -> None:
        self.quick.close()
        self._reader.close()
