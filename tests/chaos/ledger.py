"""Reads what the state Redis says of every order, and puts it before the checker together with the broker's ledger."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from executors.messages import ExecutionReport, Leg, OpenSignal
from executors.orders import SETTLED
from executors.terminals.paper.oracle import from_directory
from tests.chaos.checker import Evidence, violations
from tests.stack import Stack
from tradedist import keys

PAGE = 2_000


@dataclass
class Claims:
    """Everything the state Redis says of orders."""

    stack: Stack
    orders: dict[str, ExecutionReport] = field(default_factory=dict)  # the newest report of each
    reports: dict[str, list[ExecutionReport]] = field(default_factory=dict)  # RTRS, by order
    deadlines: dict[str, int] = field(default_factory=dict)  # by order
    pending: set[str] = field(default_factory=set)  # orders that wait at the broker for a price

    def read(self) -> "Claims":
        with self.stack.state() as client:
            self.orders, self.deadlines, self.pending = {}, {}, set()
            signal_ids = client.zrange(keys.SIGNALS, 0, -1)
            for start in range(0, len(signal_ids), PAGE):
                pipe = client.pipeline(transaction=False)
                for signal_id in signal_ids[start : start + PAGE]:
                    pipe.hget(keys.signal(signal_id), "orders")
                order_ids = [order_id for text in pipe.execute() for order_id in json.loads(text or "[]")]
                for order_id in order_ids:
                    pipe.hmget(keys.order(order_id), ["report", "leg"])
                for order_id, (report, text) in zip(order_ids, pipe.execute(), strict=True):
                    self.orders[order_id] = ExecutionReport.model_validate_json(report)
                    leg = Leg.model_validate_json(text)
                    self.deadlines[order_id] = leg.deadline_ms
                    if isinstance(leg.signal, OpenSignal) and leg.signal.pending:
                        self.pending.add(order_id)
            self.reports = defaultdict(list)
            after = "-"
            while page := client.xrange(keys.REPORTS, min=after, count=PAGE):
                for _, fields in page:
                    report = ExecutionReport.model_validate_json(fields["report"])
                    self.reports[report.order_id].append(report)
                after = f"({page[-1][0]}"
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
    del unanswered  # nothing was promised about these; what became of them is among the claims
    return violations(
        Evidence(
            installation=stack.secret("installation_id"),
            records=from_directory(stack.data_dir / "paper-broker"),
            orders=claims.orders,
            reports=claims.reports,
            accepted=ordered(accepted),
        )
    )


def ordered(accepted: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """signal_id → the order ids that the answer to it named."""
    return {
        signal_id: [order["order_id"] for order in answer["orders"]] for signal_id, answer in accepted.items()
    }
