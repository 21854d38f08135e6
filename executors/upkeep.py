"""What an executor looks after between orders: is its clock right, is the breaker open, is the journal too long.

Precedes: alerts, and execution holds opens. Follows: the executor's turn. All of it in the executor's thread.
"""

from collections.abc import Callable

from django.conf import settings

from executors.alerts import AlertCode, Alerts
from executors.execution import Execution
from executors.journal import Journal
from executors.link import Link
from tradedist.clock import monotonic_ms, now_ms

PRUNE_MS = 600_000
QUIET_MS = 1_000
PRUNE_AGAIN_MS = 1_000  # while there is more to prune


class Upkeep:
    def __init__(
        self,
        execution: Execution,
        journal: Journal,
        link: Link,
        alerts: Alerts,
        alarm: Callable[[AlertCode, str], None],
    ) -> None:
        self.resumed: int | None = None  # how often an operator has resumed the terminal
        self._execution = execution
        self._journal = journal
        self._link = link
        self._alerts = alerts
        self._alarm = alarm
        self._clock_judged = False
        self._breaker_told: str | None = None
        self._due_prune = monotonic_ms() + PRUNE_AGAIN_MS

    def judge(self) -> None:
        self._judge_clock()
        self._judge_breaker()

    def _judge_clock(self) -> None:
        """A machine whose clock is wrong opens nothing: what it compares with the times of others would be wrong too."""
        skew = self._link.clock.skew_ms()
        if abs(skew) > settings.CLOCK_SKEW_MS:
            if not self._execution.skewed:
                self._execution.skewed = (
                    f"This machine's clock and that of Redis differ by {abs(skew) / 1000:.1f} s: positions are only"
                    " closed. Correct the clock; the terminal goes on by itself."
                )
                self._alarm(AlertCode.CLOCK_SKEW, self._execution.skewed)
        elif self._execution.skewed or not self._clock_judged:
            self._execution.skewed = ""
            self._end(AlertCode.CLOCK_SKEW)
        self._clock_judged = True

    def _judge_breaker(self) -> None:
        """An alert when opens are held from now on, and a note that a restart does not forget."""
        breaker = self._execution.breaker
        if breaker.reason == self._breaker_told:
            return
        self._breaker_told = breaker.reason
        if breaker.until_resumed and self._journal.tripped() is None:
            self._journal.note_tripped(self.resumed or 0)
        if breaker.reason:
            self._alarm(AlertCode.BREAKER, breaker.reason)
        else:
            self._end(AlertCode.BREAKER)

    def prune(self, now: float) -> None:
        """Forgets old settled orders, a few at a time, while there is nothing else to do."""
        if now < self._due_prune or self._execution.queue.ready:
            return
        pruned = self._journal.prune(now_ms(), published=self._link.published)
        self._due_prune = now + (PRUNE_AGAIN_MS if pruned.more else PRUNE_MS)
        if pruned.too_large:
            self._alarm(
                AlertCode.JOURNAL_LARGE,
                f"The journal is larger than {settings.JOURNAL_MAX_MB} MB: settled orders are kept for days, not a month.",
            )
        else:
            self._end(AlertCode.JOURNAL_LARGE)

    def rest(self, now: float, last_order_ms: float) -> None:
        """When no order has begun on this host for a while, the journal makes room for the next ones."""
        if now - last_order_ms > QUIET_MS and not self._execution.queue.ready:
            self._journal.fold()

    def _end(self, code: AlertCode) -> None:
        self._alerts.end(code, self._execution.config.terminal_id)
        self._link.notify()
