"""A rolling restart: executors are replaced one by one, each between two orders, none before the last one serves again.

Precedes: children are signalled and forked. Follows: an operator's command, after this program was loaded anew so that
the successors run the code of today. What arrives meanwhile waits in the terminal's listening sockets and in the outbox.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from executors.alerts import AlertCode, Alerts
from executors.children import Child
from executors.operators import Command
from executors.progress import Phase
from executors.worker import HAND_OVER
from tradedist.clock import monotonic_ms

logger = logging.getLogger(__name__)

END_LIMIT_MS = 40_000.0  # a broker call has 30 s
SERVE_LIMIT_MS = 30_000.0


@dataclass(slots=True)
class Rolling:
    """One restart. `turn` is called often and never waits; True when it is over."""

    command: Command
    children: Mapping[str, Child]
    say: Callable[..., None]
    alerts: Alerts
    _left: list[str] = field(default_factory=list)
    _current: Child | None = None
    _old_pid: int = 0
    _served: bool = False
    _asked_ms: float = 0.0
    _gaps: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chosen = set(self.command.terminals)
        self._left = [name for name in sorted(self.children) if not chosen or name in chosen]
        for name in sorted(chosen - set(self._left)):
            self.say(self.command.id, f"{name} is not a terminal of this host.")

    def turn(self) -> bool:
        if self._current is not None and not self._settled(self._current):
            return False
        while self._current is None and self._left:
            child = self.children.get(self._left.pop(0))
            if child is not None and child.running:
                self._begin(child)
        if self._current is not None:
            return False
        longest = max(self._gaps.values(), default=0.0)
        self.say(
            self.command.id,
            f"{len(self._gaps)} executors were replaced; the longest gap was {longest:.0f} ms.",
            done=True,
            gaps_ms=self._gaps,
        )
        return True

    def _begin(self, child: Child) -> None:
        self._current, self._old_pid, self._served = child, child.pid, child.serving
        self._asked_ms = monotonic_ms()
        child.expected = True
        child.signal(HAND_OVER)

    def _settled(self, child: Child) -> bool:
        """Whether the next one's turn has come."""
        waited = monotonic_ms() - self._asked_ms
        if child.pid == self._old_pid:
            if waited < END_LIMIT_MS:
                return False
            return self._give_up(child, f"did not hand over within {END_LIMIT_MS / 1000:.0f} s")
        sample = child.sample()
        wanted = Phase.SERVING if self._served else Phase.RUNNING
        if sample is None or sample.phase < wanted:
            if child.given_up or waited > END_LIMIT_MS + SERVE_LIMIT_MS:
                return self._give_up(child, "does not serve again")
            return False
        gap = max(0.0, sample.phase_ms - child.served_until_ms)
        self._gaps[child.terminal_id] = gap
        self.say(self.command.id, f"{child.terminal_id}: replaced, a gap of {gap:.0f} ms.")
        self._current = None
        return True

    def _give_up(self, child: Child, why: str) -> bool:
        text = f"The rolling restart stopped: {child.terminal_id} {why}. {len(self._left)} were not touched."
        self.alerts.raise_(AlertCode.RESTART_STOPPED, child.terminal_id, text)
        self.say(self.command.id, text, failed=True)
        self._current, self._left = None, []
        return True
