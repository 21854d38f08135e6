"""Pure: when an executor that ended is started again, and when no more.

Precedes: the supervisor forks. Follows: an executor's end. Three failed starts in a row stop the terminal until an
operator acts; being killed is no failed start, but whoever is killed at once, again and again, must not become a storm.
"""

from dataclasses import dataclass

EXIT_LOCKED = 75  # another executor holds the terminal: no failed start
EXIT_JOURNAL = 74  # the journal cannot be written: no failed start, tried until there is room
EXIT_MOVED = 73  # the terminal was moved to another host: it is not started here any more
EXIT_CONFIG = 78  # the configuration cannot be used

FAILURES = 3
YOUNG_MS = 5_000  # what ends with an error sooner than this has failed to start
HUNTED_MS = 1_000
PAUSE_MS = (100, 10_000)
JOURNAL_PAUSE_MS = 2_000
SIGKILLED = -9


@dataclass(frozen=True, slots=True)
class Ended:
    """`failures`: in a row, this one included; `stop`: start it no more."""

    failures: int
    pause_ms: int
    stop: bool = False


def judge_end(
    *, failures: int, code: int | None, ours: bool, ran: bool, lived_ms: float, expected: bool
) -> Ended:
    """`code`: exit status, negative for a signal, None when it was not our child. `ran`: its journal was open and its
    thread had turned. `expected`: we asked it to end."""
    if expected or code == EXIT_MOVED:
        return Ended(0, 0)
    if code == EXIT_LOCKED:
        return Ended(failures, PAUSE_MS[0])
    if code == EXIT_JOURNAL:
        return Ended(0, JOURNAL_PAUSE_MS)
    failed = ours and (not ran or (code not in (0, SIGKILLED) and lived_ms < YOUNG_MS))
    if failed:
        failures += 1
        return Ended(failures, min(PAUSE_MS[0] * 2**failures, PAUSE_MS[1]), failures >= FAILURES)
    return Ended(0, PAUSE_MS[0] if lived_ms < HUNTED_MS else 0)
