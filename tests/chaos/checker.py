"""Pure: what the platform says of every order against what the paper broker's ledger says. Violations are sentences.

The ledger is written by another process, which a killed executor cannot touch: it is the truth. Every rule looks at each
order, report or deal once, so that an hour's run is checked in seconds.
"""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from executors.messages import ExecutionReport
from executors.orders import MAGIC_BASE, SETTLED, TRANSITIONS, OrderState, request_magic
from executors.terminals.paper.check import check
from executors.terminals.paper.oracle import Deal, Records
from tests.chaos.intervals import Interval, calm

SPARE = 6  # magics looked for beyond the requests that an order reports
TRADES = (0, 1)  # deals that buy or sell
OUT_BY = 3  # entry of two deals that close positions against each other: they net to nothing
CLIENT = 0  # DEAL_REASON_CLIENT
OWN_REASONS = (4, 5, 6)  # deals of stop loss, take profit and stop-out repeat their position's magic
WORKING = (OrderState.PLACED, OrderState.PARTIAL)
RESOLVE_MS = 30_000  # of a terminal that answers, until an order's outcome is known


@dataclass
class Evidence:
    """Everything that was said and done. Times are UTC ms of this machine. What is left empty is not checked."""

    installation: str
    records: Records
    orders: Mapping[str, ExecutionReport]  # the newest report of each
    reports: Mapping[str, Sequence[ExecutionReport]] = field(default_factory=dict)  # RTRS, by order
    accepted: Mapping[str, Sequence[str]] = field(default_factory=dict)  # signal_id → order ids, as answered
    refused: frozenset[str] = frozenset()  # signals that were refused for good
    sent: frozenset[str] | None = None  # every signal that any client ever made
    deadlines: Mapping[str, int] = field(default_factory=dict)  # by order
    pending: frozenset[str] = frozenset()  # orders that wait at the broker for a price
    intents: Sequence[tuple[str, int, int]] = ()  # (order_id, magic, INTENT's time), from the journals
    call_ms: int = 0  # the longest that one call to the broker may take
    frozen: Mapping[str, Sequence[Interval]] = field(
        default_factory=dict
    )  # when each terminal's executor stood still
    troubled: Mapping[str, Sequence[Interval]] | None = (
        None  # when each terminal, or the way to it, was disturbed
    )
    logins: Mapping[str, int] = field(default_factory=dict)  # terminal_id → account
    held: Mapping[str, Mapping[int, Decimal]] = field(
        default_factory=dict
    )  # positions as the platform shows them


def violations(evidence: Evidence) -> list[str]:
    """All of them; none when what must be true is."""
    index = Index(evidence)
    found = [*check(evidence.records), *_lost(evidence), *index.strays(), *_never_accepted(evidence)]
    for order_id, report in evidence.orders.items():
        found += index.truth(order_id, report)
        found += _history(order_id, evidence.reports.get(order_id, ()), report)
    return [*found, *index.late(), *_unresolved(evidence), *index.positions(), *_shown(evidence)]


class Index:
    """The ledger by magic, and whose each magic is."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.orders = evidence.records.orders_by_magic()
        self.deals: dict[int, list[Deal]] = defaultdict(list)
        for deal in evidence.records.deals.values():
            if deal.reason not in OWN_REASONS and deal.entry != OUT_BY:
                self.deals[deal.magic].append(deal)
        self.magics = {
            order_id: [
                request_magic(evidence.installation, order_id, n)
                for n in range(1, report.request_n + SPARE + 1)
            ]
            for order_id, report in evidence.orders.items()
        }
        self.owner = {magic: order_id for order_id, magics in self.magics.items() for magic in magics}

    def strays(self) -> list[str]:
        """Broker orders of ours that belong to no order we know."""
        return [
            f"stray: broker order {orders[0].ticket} with magic {magic} belongs to no order"
            for magic, orders in self.orders.items()
            if magic >= MAGIC_BASE and magic not in self.owner
        ]

    def truth(self, order_id: str, report: ExecutionReport) -> list[str]:
        found = [
            f"doubled: {order_id} has {len(self.orders[magic])} broker orders with magic {magic}"
            for magic in self.magics[order_id]
            if len(self.orders.get(magic, ())) > 1
        ]
        filled = sum(
            (
                Decimal(str(deal.volume))
                for magic in self.magics[order_id]
                for deal in self.deals.get(magic, ())
            ),
            Decimal(0),
        )
        if filled != report.filled_lots:
            found.append(
                f"untrue: {order_id} is {report.state} with {report.filled_lots} lots; the ledger has {filled}"
            )
        if report.state is OrderState.FILLED and report.filled_lots != report.lots:
            found.append(f"untrue: {order_id} is FILLED with {report.filled_lots} of {report.lots} lots")
        if report.action == "open" and report.request_n and filled > report.lots:
            found.append(f"doubled: {order_id} wanted {report.lots} lots and has {filled}")
        if report.state not in SETTLED:
            found.append(f"unsettled: {order_id} is still {report.state}")
        return found

    def late(self) -> list[str]:
        """INTENT after the deadline, and what reached the broker later than one call after it."""
        evidence, found = self.evidence, []
        for order_id, magic, intent_ms in evidence.intents:
            deadline_ms = evidence.deadlines.get(order_id)
            if deadline_ms is None:
                continue
            frozen = evidence.frozen.get(order_id.rpartition(":")[2], ())
            spent = sum(max(0, min(end, intent_ms) - max(begin, deadline_ms)) for begin, end in frozen)
            if intent_ms - spent > deadline_ms + 50:  # between the look at the clock and the note of the time
                found.append(f"late: {order_id} was decided {intent_ms - deadline_ms} ms after its deadline")
            for order in self.orders.get(magic, ()):
                if order.setup_ms > max(deadline_ms, intent_ms) + evidence.call_ms:
                    found.append(
                        f"late: {order_id} reached the broker {order.setup_ms - deadline_ms} ms after its deadline"
                    )
        return found

    def positions(self) -> list[str]:
        """Fills as they were reported, and what the broker and other hands did, make the positions that it holds."""
        records, logins = self.evidence.records, self.evidence.logins
        made: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
        holds: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
        accounts = {*logins.values()}
        for deal in records.deals.values():
            if (
                deal.login in accounts
                and deal.type in TRADES
                and (deal.reason in OWN_REASONS or _by_hand(deal))
            ):
                made[deal.login, deal.symbol] += _signed(deal.type, deal.volume)
        for position in records.positions.values():
            if position.login in accounts:
                holds[position.login, position.symbol] += _signed(position.type, position.volume)
        for order_id, report in self.evidence.orders.items():
            if (login := logins.get(order_id.rpartition(":")[2])) is None or not report.filled_lots:
                continue
            deals = [deal for magic in self.magics[order_id] for deal in self.deals.get(magic, ())]
            if len({(deal.symbol, deal.type) for deal in deals}) == 1:
                made[login, deals[0].symbol] += _signed(deals[0].type, report.filled_lots)
            else:  # a close of several symbols or sides: `truth` has compared its sum
                for deal in deals:
                    made[login, deal.symbol] += _signed(deal.type, deal.volume)
        return [
            f"positions: account {login} holds {holds[login, symbol]} of {symbol}; the fills make {made[login, symbol]}"
            for login, symbol in sorted({*made, *holds})
            if made[login, symbol] != holds[login, symbol]
        ]


def _lost(evidence: Evidence) -> list[str]:
    return [
        f"lost: {order_id} of {signal_id} was accepted and is not known any more"
        for signal_id, order_ids in evidence.accepted.items()
        for order_id in order_ids
        if order_id not in evidence.orders
    ]


def _never_accepted(evidence: Evidence) -> list[str]:
    """Orders of signals that nobody sent, or whose sender was told that nothing was recorded."""
    found = []
    for order_id, report in evidence.orders.items():
        if evidence.sent is not None and report.signal_id not in evidence.sent:
            found.append(f"invented: {order_id} belongs to no signal that was sent")
        if report.signal_id in evidence.refused:
            found.append(f"refused: {order_id} is {report.state}, and its signal was refused for good")
    return found


def _history(order_id: str, reports: Sequence[ExecutionReport], newest: ExecutionReport) -> list[str]:
    if not reports:
        return []
    seqs = [report.report_seq for report in reports]
    if seqs != list(range(len(seqs))):
        return [f"gap: {order_id} has reports {seqs}"]
    found = [
        f"illegal: {order_id} went from {before.state} to {after.state}"
        for before, after in itertools.pairwise(reports)
        if after.state not in TRANSITIONS[before.state]
    ]
    if reports[-1].state != newest.state:
        found.append(f"projection: {order_id} is {newest.state}, its last report {reports[-1].state}")
    return found


def _by_hand(deal: Deal) -> bool:
    """Closed in the terminal by somebody, as a race's fault does it: nothing of ours has no magic."""
    return deal.reason == CLIENT and not deal.magic


def _unresolved(evidence: Evidence) -> list[str]:
    """Orders that took longer than RESOLVE_MS of undisturbed time to be settled, since accept or since UNKNOWN."""
    if evidence.troubled is None:
        return []
    unknown_at: dict[str, list[int]] = defaultdict(list)
    for reports in evidence.reports.values():
        for report in reports:
            if report.state is OrderState.UNKNOWN:  # its connection was lost: looks begin anew
                unknown_at[report.terminal_id].append(report.time_ms)
    trouble = {
        terminal_id: sorted(
            [*evidence.troubled.get(terminal_id, ()), *((at, at) for at in unknown_at[terminal_id])]
        )
        for terminal_id in {*evidence.troubled, *unknown_at}
    }
    found = []
    for order_id, reports in evidence.reports.items():
        for before, after in itertools.pairwise(reports):
            waits = before.state in WORKING and order_id in evidence.pending
            if before.state in SETTLED or waits:
                continue
            if after.time_ms - before.time_ms <= RESOLVE_MS:
                continue
            longest = calm(trouble.get(before.terminal_id, ()), before.time_ms, after.time_ms)
            if longest > RESOLVE_MS and not _waited_for_another(before):
                found.append(
                    f"unresolved: {order_id} stayed {before.state} for {after.time_ms - before.time_ms} ms,"
                    f" {longest} of them undisturbed"
                )
    return found


def _waited_for_another(report: ExecutionReport) -> bool:
    """A close that waits for an open's outcome says so, and has that one's time to wait."""
    return report.state is OrderState.INTENT and report.message.startswith("Waits for")


def _shown(evidence: Evidence) -> list[str]:
    """Positions as the platform shows them, ticket by ticket."""
    found = []
    for terminal_id, shown in evidence.held.items():
        holds = {
            position.ticket: Decimal(str(position.volume))
            for position in evidence.records.positions.values()
            if position.login == evidence.logins[terminal_id]
        }
        if holds != dict(shown):
            differ = sorted({*holds.items()} ^ {*shown.items()})
            found.append(f"shown: the positions of {terminal_id} differ from the broker's by {differ[:6]}")
    return found


def _signed(kind: int, volume: float | Decimal) -> Decimal:
    lots = Decimal(str(volume))
    return lots if kind == 0 else -lots
