"""Reports that leave by the executor's own thread as soon as they are on disk: sent without waiting, answered for later.

Precedes: RTSS and RTRS, by the same script as the link's. Follows: the journal's commits. The link opens the line, and
publishes from the journal whatever did not go this way or was not taken: a report that goes twice changes nothing.
"""

import logging
import math
from collections import deque
from collections.abc import Sequence

import redis

from executors.legs import JournalReport
from executors.state import PUBLISH, publish_call
from tradedist.bare_redis import BareRedis
from tradedist.clock import monotonic_ms

logger = logging.getLogger(__name__)

MOST_UNANSWERED = 500
LOOK_MS = 100.0  # between looks for an answer, when nothing else has the executor turn
UNDER_WAY_MS = 250.0  # after this the link publishes what was not answered
SILENT_MS = 5_000.0  # after this the line is hung up: its server, or the way to it, is gone
OPEN_AGAIN_MS = 1_000.0


class QuickReports:
    """`offer` is the link's; all else happens in the executor's thread, `under_way` in either.

    A `life` is the time through which the store has not lost what it once had: what was sent in an earlier one proves
    nothing.
    """

    def __init__(self, terminal_id: str, journal_id: str, epoch: int) -> None:
        self._terminal_id = terminal_id
        self._journal_id = journal_id
        self._epoch = epoch
        self._sha = ""
        self._offered: tuple[BareRedis, int] | None = None  # and the life in which it was opened
        self._line: BareRedis | None = None
        self._line_life = 0
        self._unanswered: deque[tuple[int, int, float]] = deque()  # position, life, when it was sent
        self._waiting_since_ms = math.inf  # of the first of them
        self._looked_ms = 0.0  # for an answer
        self._sent = (0, 0)  # position and life of the last one
        self._due_open_ms = 0.0

    # --- the link's thread ---

    def offer(self, client: "redis.Redis", life: int) -> None:
        """Opens a line when there is none of this life: another one may lead to a server that is no primary any more."""
        offered = self._offered
        if (offered is not None and offered[1] == life) or (
            self._line is not None and self._line_life == life
        ):
            return
        if monotonic_ms() < self._due_open_ms:
            return
        self._due_open_ms = monotonic_ms() + OPEN_AGAIN_MS
        line: BareRedis | None = None
        try:
            line = BareRedis(client)
            self._sha = line.ask("SCRIPT", "LOAD", PUBLISH).decode()
        except redis.RedisError as error:  # reports go by the link meanwhile
            logger.info("no line for quick reports: %s", error)
            if line is not None:
                line.close()
            return
        self._offered = line, life
        if offered is not None:
            offered[0].close()

    def under_way(self) -> bool:
        """Whether reports were sent a moment ago that may be answered yet."""
        since = self._waiting_since_ms
        return since < math.inf and monotonic_ms() - since < UNDER_WAY_MS

    def at_rest(self, life: int) -> bool:
        """Nothing is unanswered, and there is a line for the next report."""
        offered = self._offered
        has_line = (
            self._line_life == life if self._line is not None else offered is not None and offered[1] == life
        )
        return has_line and self._waiting_since_ms == math.inf

    # --- the executor's thread ---

    def due_ms(self) -> float:
        """When to look for answers at the latest. From look to look: a store that hangs must not keep the thread turning."""
        return max(self._waiting_since_ms, self._looked_ms) + LOOK_MS

    def looks(self) -> bool:
        """Whether there is anything to look for; counts as a look, even if the link is in the way of it."""
        self._looked_ms = monotonic_ms()
        return self._waiting_since_ms < math.inf

    def sent_through(self, life: int) -> int:
        """The journal's position up to which all was sent in this life; 0 when nothing was."""
        return self._sent[0] if self._sent[1] == life else 0

    def send(self, reports: Sequence[JournalReport], published: int, life: int) -> bool:
        """False: the link has to. `published`: the store is known to have come so far."""
        self._take_line(life)
        after = max(published, self.sent_through(life))
        fresh = [item for item in reports if item.position > after]
        if not fresh:
            return True
        gap = fresh[0].position != after + 1
        if self._line is None or gap or len(self._unanswered) >= MOST_UNANSWERED:
            return False
        names, args = publish_call(self._terminal_id, self._journal_id, self._epoch, fresh, after)
        try:
            self._line.send("EVALSHA", self._sha, len(names), *names, *args)
        except redis.RedisError as error:
            self._fail(error)
            return False
        position = fresh[-1].position
        self._unanswered.append((position, life, monotonic_ms()))
        self._waiting_since_ms = self._unanswered[0][2]
        self._sent = (position, life)
        return True

    def answered(self) -> tuple[tuple[int, int] | None, bool]:
        """The last (position, life) that the store has said to have; and whether it took all that was answered."""
        reached = None
        if self._line is None:
            return None, True
        try:
            for answer in self._line.answers():
                if not isinstance(answer, int) or answer < 0:
                    raise redis.ResponseError(f"not taken: {answer}")
                reached = self._unanswered.popleft()[:2]
            if self._unanswered and monotonic_ms() - self._unanswered[0][2] > SILENT_MS:
                raise redis.TimeoutError("no answer")
        except redis.RedisError as error:
            self._fail(error)
            return reached, False
        self._waiting_since_ms = self._unanswered[0][2] if self._unanswered else math.inf
        return reached, True

    def close(self) -> None:
        if self._offered is not None:
            self._offered[0].close()
        if self._line is not None:
            self._line.close()
        self._line = self._offered = None

    def _take_line(self, life: int) -> None:
        if self._line is not None and self._line_life != life:
            self._hang_up()
        if self._line is None and self._offered is not None and self._offered[1] == life:
            (self._line, self._line_life), self._offered = self._offered, None

    def _fail(self, error: Exception) -> None:
        logger.info("quick reports: %s", error, extra={"action": "publish"})
        self._hang_up()

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
        self._unanswered.clear()
        self._waiting_since_ms = math.inf
        self._sent = (0, 0)
