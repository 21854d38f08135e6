"""The executor's session with its terminal: connect and verify, notice a loss, show what the account holds.

Precedes: orders run only while `ready`. Follows: the executor's turn calls it. All of it happens in the executor's thread.
"""

import logging
import random
from collections.abc import Callable

from django.conf import settings

from executors.account_sync import AccountSync
from executors.alerts import AlertCode, Alerts
from executors.errors import TerminalError
from executors.link_events import InstanceFacts
from executors.messages import InstanceStatus, TerminalConfig, TerminalUpdate
from executors.progress import Progress
from executors.terminals.base import Terminal
from tradedist.clock import monotonic_ms, now_ms

logger = logging.getLogger(__name__)

RECONNECT_S = 5.0
QUICK_S = (
    1.0,
    2.0,
    2.0,
)  # after the first failed tries: a bridge or broker that restarts is back within a moment
TRIES_BEFORE_ALARM = 3
SYNC_AFTER_MS = 80  # after an order: a fan-out to a hundred terminals is over by then, on the same processors
PUT_OFF_MS = 500  # at most, for orders of other terminals
SPREAD_MS = 150  # reads that were put off do not all happen at once
BURST_SYNC_MS = 200  # between two reads because of orders: a read costs as much as an order


class Session:
    """`show` takes what is to be published."""

    def __init__(
        self,
        terminal: Terminal,
        config: TerminalConfig,
        *,
        facts: InstanceFacts,
        progress: Progress,
        alerts: Alerts,
        show: Callable[[TerminalUpdate], None],
        account_sync: AccountSync,
    ) -> None:
        self.config = config
        self.ready = False
        self.due_connect_ms = 0.0
        self.due_sync_ms = 0.0
        self._terminal = terminal
        self._facts = facts
        self._progress = progress
        self._alerts = alerts
        self._show = show
        self._account_sync = account_sync
        self._tries = 0
        self._trouble = ""  # why the last try to connect failed
        self._sync_took_ms = 0.0
        self._changed = False  # since the last sync
        self._change_shown_ms = -BURST_SYNC_MS * 1.0
        self._put_off_ms: float | None = None  # since when the read that is due gives way

    def connect(self) -> bool:
        """One try. True when the terminal answers and is logged in to the configured account."""
        self.status("CONNECTING", self._trouble)
        try:
            identity = self._terminal.connect()
        except TerminalError as error:
            self.lost(error)
            return False
        if stranger := identity.stranger(self.config.login, self.config.server):
            self._terminal.disconnect()
            self._failed("FAILED", RECONNECT_S, stranger, AlertCode.WRONG_ACCOUNT)
            return False
        self.ready = True
        self._tries, self._trouble = 0, ""
        for code in (AlertCode.TERMINAL_DISCONNECTED, AlertCode.WRONG_ACCOUNT):
            self._alerts.end(code, self.config.terminal_id)
        self.status("READY")
        return True

    def lost(self, error: TerminalError) -> None:
        """The terminal does not answer: orders wait or expire until it does."""
        noticed, self.ready = self.ready, False
        if noticed:  # no try yet: the first one follows at once
            self.due_connect_ms = monotonic_ms()
            self._trouble = str(error)
            self.status("DISCONNECTED", self._trouble)
            return
        pause_s = QUICK_S[self._tries] if self._tries < len(QUICK_S) else RECONNECT_S
        self._failed("DISCONNECTED", pause_s, str(error), AlertCode.TERMINAL_DISCONNECTED)

    def _failed(self, status: InstanceStatus, pause_s: float, why: str, code: AlertCode) -> None:
        """Another try that brought nothing. What is shown says so until one does."""
        self._tries += 1
        self.due_connect_ms = monotonic_ms() + pause_s * 1000
        alarmed = f"not connected after {TRIES_BEFORE_ALARM} tries, nothing is traded here: {why}"
        self._trouble = why if self._tries < TRIES_BEFORE_ALARM else alarmed
        self.status(status, self._trouble)
        if self._tries == TRIES_BEFORE_ALARM:
            self._alerts.raise_(code, self.config.terminal_id, alarmed)

    def close(self) -> None:
        if self.ready:
            self._terminal.disconnect()

    def sync(self) -> None:
        """Shows account, positions and orders as the terminal has them now. Raises TerminalError."""
        began = monotonic_ms()
        if self._changed:
            self._changed, self._change_shown_ms = False, began
        self._account_sync.run(self.config)
        self._sync_took_ms = monotonic_ms() - began
        self.due_sync_ms = began + max(settings.ACCOUNT_SYNC_MS, 10 * self._sync_took_ms)

    def gives_way(self, last_order_ms: float) -> bool:
        """Whether the read that is due waits, since a moment ago an order began on this host; not for long."""
        now = monotonic_ms()
        until = last_order_ms + SYNC_AFTER_MS
        since = now if self._put_off_ms is None else self._put_off_ms
        if until <= now or now - since >= PUT_OFF_MS:
            self._put_off_ms = None
            return False
        self._put_off_ms = since
        self.due_sync_ms = min(until + random.random() * SPREAD_MS, since + PUT_OFF_MS)
        return True

    def changed(self) -> None:
        """What changed is shown soon, but never in the way of the next order of a burst."""
        self._changed = True
        soon = monotonic_ms() + max(SYNC_AFTER_MS, 10 * self._sync_took_ms)
        self.due_sync_ms = min(self.due_sync_ms, max(soon, self._change_shown_ms + BURST_SYNC_MS))

    def status(self, status: InstanceStatus, error: str = "") -> None:
        if error and error != self._facts.last_error:
            logger.warning("%s: %s", status, error, extra={"action": "terminal"})
        self._facts.status = status
        self._facts.last_error = error
        self._progress.status = status
        self._show(
            TerminalUpdate(
                terminal_id=self.config.terminal_id, status=status, last_error=error, time_ms=now_ms()
            )
        )
