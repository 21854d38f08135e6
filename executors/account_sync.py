"""Account, positions and pending orders as the terminal has them now, shown to everyone.

Precedes: the link writes them to RTS. Follows: the executor calls it between orders, in its one thread.
"""

from collections.abc import Callable

from executors.drift_sync import DriftSync
from executors.errors import TerminalError
from executors.holdings import account_state, pending_states, position_states
from executors.journal import Journal
from executors.link_events import InstanceFacts
from executors.messages import TerminalConfig, TerminalUpdate
from executors.protection import Protection
from executors.terminals.base import Order, Position, Terminal
from tradedist.clock import now_ms


class AccountSync:
    """`show` hears what the terminal holds, `seen` its positions and orders; `protection_of` a position_ticket."""

    def __init__(
        self,
        terminal: Terminal,
        journal: Journal,
        facts: InstanceFacts,
        *,
        drift: DriftSync,
        show: Callable[[TerminalUpdate], None],
        seen: Callable[[tuple[Position, ...], tuple[Order, ...]], None],
        protection_of: Callable[[int], Protection | None],
    ) -> None:
        self._terminal = terminal
        self._journal = journal
        self._facts = facts
        self._drift = drift
        self._drift_shown = False
        self._show = show
        self._seen = seen
        self._protection_of = protection_of
        self._order_of_ticket: dict[int, str | None] = {}

    def run(self, config: TerminalConfig) -> None:
        """Raises TerminalError when a query fails, or another account is logged in."""
        account = self._terminal.account()
        if (account.login, account.server) != (config.login, config.server):
            raise TerminalError("account_info", (-6, f"logged in as {account.login} at {account.server}"))
        positions = self._terminal.positions()
        orders = self._terminal.orders()
        status = self._terminal.status()
        now = now_ms()
        self._seen(positions, orders)
        said = account_state(config, account, status, now)
        held = position_states(config, positions, self._orders_of(positions), self._protection_of)
        waiting = pending_states(config, orders, self._order_of)
        grown = self._drift.look(said, held, waiting)
        # before it has begun Redis knows more than we do
        tell = self._drift.begun and (grown or not self._drift_shown)
        self._show(
            TerminalUpdate(
                terminal_id=config.terminal_id,
                status=self._facts.status,
                account=said,
                positions=held,
                pending_orders=waiting,
                drift=self._drift.log if tell else None,
                latency_us=self._facts.own_us or None,
                broker_us=self._facts.broker_us or None,
                last_error=self._facts.last_error,
                time_ms=now,
            )
        )

        self._drift_shown = self._drift_shown or tell

    def _orders_of(self, positions: tuple[Position, ...]) -> dict[int, str | None]:
        """position_ticket → our order, remembered while the position is open."""
        known = self._order_of_ticket
        self._order_of_ticket = {
            item.ticket: known[item.ticket] if item.ticket in known else self._order_of(item.magic)
            for item in positions
        }
        return self._order_of_ticket

    def _order_of(self, magic: int) -> str | None:
        return self._journal.order_of_magic(magic) if magic else None
