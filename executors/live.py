"""What the order socket says: reports and terminal updates made ready once for all sockets, and the cursor.

Follows: the hub's events (RTRS entries, RTS changes). Precedes: executors.consumers, which only filters by terminal.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

from executors.messages import ExecutionReport, TerminalUpdate, public_json
from tradedist import metrics
from tradedist.hub import Event, entry_order
from tradedist.mailbox import Stamp

CURSOR = re.compile(r"^([0-9a-f]{16}):(\d{1,15}-\d{1,15})(?::([0-9a-f]{8}))?$")
MERGED = ("account", "positions", "pending_orders", "latency_us", "broker_us", "drift", "alerts")


class Cursor(NamedTuple):
    """A place in the result stream: which stream (its epoch), the last entry seen, and under which access."""

    epoch: str
    entry_id: str
    access: str = ""  # a client whose access has changed needs a snapshot; empty = not said


def parse_cursor(text: str | None) -> Cursor | None:
    """None when it is none: what is not understood brings a snapshot."""
    match = CURSOR.match(text or "")
    return Cursor(match[1], match[2], match[3] or "") if match else None


def access_mark(terminals: Iterable[object]) -> str:
    """Eight characters that change with what a user may see and do, and how it is called."""
    return hashlib.sha256("\n".join(map(repr, terminals)).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class LiveReport:
    terminal_id: str
    report: str  # public JSON
    stamp: Stamp

    def body(self, cursor: Cursor) -> str:
        return f'{{"type":"report","cursor":"{":".join(cursor)}","report":{self.report}}}'


def live_report(event: Event) -> LiveReport | None:
    """For `event.once`."""
    report = event.once(metrics.parse_report)
    return None if report is None else of_report(report, event.entry_id)


def of_report(report: ExecutionReport, entry_id: str) -> LiveReport:
    stamp = Stamp(entry_order(entry_id)[0], metrics.order_state_sync_latency)
    return LiveReport(report.terminal_id, public_json(report), stamp)


class LiveTerminal:
    """The newest of a terminal. Parts that an update leaves out keep what an unsent earlier one said."""

    __slots__ = ("_body", "update")
    stamp: Stamp | None = None

    def __init__(self, update: TerminalUpdate) -> None:
        self.update = update
        self._body = ""

    @property
    def body(self) -> str:
        if not self._body:
            text = self.update.model_dump_json(context={"public": True}, exclude_none=True)
            self._body = f'{{"type":"terminal","update":{text}}}'
        return self._body

    def merge(self, newer: Self) -> "LiveTerminal":
        kept = {name: getattr(self.update, name) for name in MERGED if getattr(newer.update, name) is None}
        return LiveTerminal(newer.update.model_copy(update=kept))


def live_terminal(event: Event) -> LiveTerminal | None:
    """For `event.once`. None when it is not one of ours."""
    try:
        return LiveTerminal(TerminalUpdate.model_validate_json(event.text))
    except ValueError:
        return None
