"""The checker: what the platform says of every order against what the paper broker's ledger says.

The ledger is written by another process, which a killed executor cannot touch: it is the truth.
"""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from executors.messages import ExecutionReport
from executors.orders import SETTLED, TRANSITIONS, OrderState, request_magic
from executors.terminals.paper.check import check
from executors.terminals.paper.oracle import Records, from_directory
from tests.stack import Stack
from tradedist import keys

SPARE = 6  # magics looked for beyond the requests that an order reports


@dataclass
class Claims:
    """Everything the state Redis says of orders."""

    stack: Stack
    orders: dict[str, ExecutionReport] = field(default_factory=dict)  # the newest report of each
    reports: dict[str, list[ExecutionReport]] = field(default_factory=dict)  # RTRS, by order

    def read(self) -> "Claims":
        with self.stack.state() as client:
            self.orders = {}
            for signal_id in client.zrange(keys.SIGNALS, 0, -1):
                for order_id in json.loads(client.hget(keys.signal(signal_id), "orders") or "[]"):
                    text = client.hget(keys.order(order_id), "report")
                    self.orders[order_id] = ExecutionReport.model_validate_json(text)
            self.reports = defaultdict(list)
            for _, fields in client.xrange(keys.REPORTS):
                report = ExecutionReport.model_validate_json(fields["report"])
                self.reports[report.order_id].append(report)
        return self

    @property
    def unsettled(self) -> list[str]:
        return [order_id for order_id, report in self.orders.items() if report.state not in SETTLED]

    def counts(self) -> dict[str, int]:
        return dict(Counter(report.state.value for report in self.orders.values()))


def compare(
    stack: Stack, claims: Claims, accepted: Mapping[str, Mapping[str, Any]], unanswered: Iterable[str]
) -> list[str]:
    """Violations as sentences. `accepted`: answers by signal_id; each of their orders must be known and true."""
    records = from_directory(stack.data_dir / "paper-broker")
    found = check(records)
    for signal_id, answer in accepted.items():
        for order in answer["orders"]:
            if order["order_id"] not in claims.orders:
                found.append(
                    f"lost: {order['order_id']} of {signal_id} was accepted and is not known any more"
                )
    found += _stray(stack, claims, records)
    for order_id, report in claims.orders.items():
        found += _truth(stack, order_id, report, records)
        found += _reports(order_id, claims.reports.get(order_id, []), report)
    del unanswered  # nothing was promised about these; what became of them is among the claims
    return found


def magics(stack: Stack, order_id: str, reported: int) -> list[int]:
    installation = stack.secret("installation_id")
    return [request_magic(installation, order_id, n) for n in range(1, reported + SPARE + 1)]


def _stray(stack: Stack, claims: Claims, records: Records) -> list[str]:
    """Broker orders of ours that belong to no order we know."""
    known = {
        magic
        for order_id, report in claims.orders.items()
        for magic in magics(stack, order_id, report.request_n)
    }
    return [
        f"stray: broker order {orders[0].ticket} with magic {magic} belongs to no order"
        for magic, orders in records.orders_by_magic().items()
        if magic >= 2**52 and magic not in known
    ]


def _truth(stack: Stack, order_id: str, report: ExecutionReport, records: Records) -> list[str]:
    ours = set(magics(stack, order_id, report.request_n))
    by_magic = {magic: orders for magic, orders in records.orders_by_magic().items() if magic in ours}
    found = [
        f"doubled: {order_id} has {len(orders)} broker orders with magic {magic}"
        for magic, orders in by_magic.items()
        if len(orders) > 1
    ]
    filled = sum(
        (
            Decimal(str(deal.volume))
            for deal in records.deals.values()
            if deal.magic in ours and deal.reason not in (4, 5, 6)
        ),
        Decimal(0),
    )
    if filled != report.filled_lots:
        found.append(
            f"untrue: {order_id} is {report.state} with {report.filled_lots} lots; the ledger has {filled}"
        )
    if report.state is OrderState.FILLED and report.filled_lots != report.lots:
        found.append(f"untrue: {order_id} is FILLED with {report.filled_lots} of {report.lots} lots")
    if report.state not in SETTLED:
        found.append(f"unsettled: {order_id} is still {report.state}")
    return found


def _reports(order_id: str, reports: list[ExecutionReport], newest: ExecutionReport) -> list[str]:
    seqs = [report.report_seq for report in reports]
    if seqs != list(range(len(seqs))):
        return [f"gap: {order_id} has reports {seqs}"]
    found = []
    for before, after in itertools.pairwise(reports):
        if after.state not in TRANSITIONS[before.state]:
            found.append(f"illegal: {order_id} went from {before.state} to {after.state}")
    if reports and reports[-1].state != newest.state:
        found.append(f"projection: {order_id} is {newest.state}, its last report {reports[-1].state}")
    return found
