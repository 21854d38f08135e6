"""Is an executor frozen, or only slow? Frozen ones are shown as STUCK at once and killed after their limit.

Precedes: the supervisor shows and kills. Follows: `progress` (when the thread moved, in which call) and the kernel (what
the thread is doing now). A loaded machine makes threads wait for a core or for the disk: such a thread is alive, and
only a much longer limit ends it.
"""

from dataclasses import dataclass
from pathlib import Path

from executors.progress import Phase, Sample

SHOWN_MS = 1_000.0  # still for so long is shown
BUSY_TIMES = 10.0  # a thread that runs, or waits for core or disk, gets so many times the limit
LOOK_GAP_MS = 200.0  # between two looks at a thread, at least
LATE_MS = 1_000.0  # a supervisor that was itself away for so long judges nobody in this look
PATIENT_CALLS = frozenset({"initialize"})  # take long by nature, and have a status of their own


@dataclass(frozen=True, slots=True)
class ThreadLook:
    """What the kernel says of a thread: its state letter, and how often it has run."""

    state: str
    switches: int
    at_ms: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why` is a sentence, empty when it moves. `kill`: its limit is over."""

    why: str = ""
    kill: bool = False


MOVES = Verdict()


class Watchdog:
    """Of one executor. Times are monotonic ms."""

    def __init__(self) -> None:
        self._looked_ms = 0.0
        self._before: ThreadLook | None = None

    def judge(self, sample: Sample, look: ThreadLook | None, now_ms: float) -> Verdict:
        """`look`: at the executor's thread, None when it could not be read."""
        late = now_ms - self._looked_ms > LATE_MS
        self._looked_ms = now_ms
        still_ms = now_ms - sample.at_ms
        if late or still_ms < SHOWN_MS or look is None:
            self._before = None
            return MOVES
        before = self._before
        if before is None or look.at_ms - before.at_ms >= LOOK_GAP_MS:
            self._before = look
        if before is None or look.at_ms - before.at_ms < LOOK_GAP_MS:
            return MOVES  # one look cannot tell
        stopped = look.state in "tT"
        asleep = look.state == "S" and look.switches == before.switches
        if sample.call:
            if sample.call in PATIENT_CALLS and still_ms < sample.allowed_ms and not stopped:
                return MOVES
            where = f"{sample.call} has not returned for {still_ms / 1000:.1f} s"
            return Verdict(_sentence(where, stopped), still_ms >= sample.allowed_ms)
        if not (stopped or asleep):
            spins = still_ms >= sample.allowed_ms * BUSY_TIMES
            return (
                Verdict(f"The executor has not moved on for {still_ms / 1000:.1f} s.", True)
                if spins
                else MOVES
            )
        if sample.phase is Phase.STARTING and not stopped and still_ms < sample.allowed_ms:
            return MOVES
        where = f"The executor stands still since {still_ms / 1000:.1f} s"
        return Verdict(_sentence(where, stopped), still_ms >= sample.allowed_ms)


def _sentence(where: str, stopped: bool) -> str:
    return f"{where}; its process was stopped by a signal." if stopped else f"{where}."


def look_at(pid: int, tid: int, now_ms: float) -> ThreadLook | None:
    """None when the thread is gone."""
    try:
        text = Path(f"/proc/{pid}/task/{tid}/status").read_text()
    except OSError:
        return None
    state, switches = "", 0
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "State":
            state = value.split()[0]
        elif name.endswith("ctxt_switches"):
            switches += int(value)
    return ThreadLook(state, switches, now_ms)
