"""Where orders' time goes, as histograms per hop: our own part apart from the broker's and the network's.

Follows: dispatch says which signals this process has accepted, the hub gives every report, sockets what browsers say.
Precedes: `/metrics`. An order is measured by the web process that accepted it and by no other: sum over processes.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from executors.messages import BrowserTrace, ExecutionReport
from executors.orders import OrderState
from executors.traces import PARTS, browser_spans, server_spans

MOST_SIGNALS = 10_000
MOST_ORDERS = 10_000
BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
)  # fmt: skip
ON_THE_WAY = frozenset({OrderState.QUEUED, OrderState.INTENT})

hop_seconds = Histogram(
    "tradedist_order_hop_seconds",
    "Where orders' time goes: one observation per order and hop, by the process that accepted it",
    ["hop", "part", "woken_by"],
    buckets=BUCKETS,
)
browser_traces = Counter(
    "tradedist_browser_traces", "Orders' times that browsers sent, by what became of them", ["result"]
)


@dataclass(slots=True)
class _Timed:
    """An order whose server-side hops were measured: what its browser's times are compared with."""

    user_id: int
    received_ms: int
    answered_ms: int
    woken_by: str
    complete: bool = False


_accepted: OrderedDict[str, None] = OrderedDict()
_timed: OrderedDict[str, _Timed] = OrderedDict()


def accepted_here(signal_id: str) -> None:
    """A new signal was recorded by this process."""
    _accepted[signal_id] = None
    while len(_accepted) > MOST_SIGNALS:
        _accepted.popitem(last=False)


def on_report(report: ExecutionReport, entry_ms: int) -> None:
    """`entry_ms`: when the report came into the result stream."""
    trace = report.trace
    if (
        report.state in ON_THE_WAY
        or "answered" not in trace
        or report.signal_id not in _accepted
        or report.order_id in _timed
    ):
        return
    spans = server_spans(report)
    spans["publish"] = max(0, entry_ms - trace["answered"]) / 1000
    spans["deliver"] = max(0.0, time.time() - entry_ms / 1000)
    _observe(spans, report.woken_by)
    _timed[report.order_id] = _Timed(
        report.user_id, trace.get("received", trace["answered"]), trace["answered"], report.woken_by
    )
    while len(_timed) > MOST_ORDERS:
        _timed.popitem(last=False)


def on_browser(said: BrowserTrace, user_id: int) -> None:
    """Takes a browser's times of an order of his own, once."""
    browser_traces.labels(_take(said, user_id)).inc()


def _take(said: BrowserTrace, user_id: int) -> str:
    timed = _timed.get(said.order_id)
    if timed is None or timed.user_id != user_id:
        return "unknown"
    if timed.complete:
        return "repeated"
    spans = browser_spans(said, timed.received_ms, timed.answered_ms)
    if not spans:
        return "implausible"
    timed.complete = True
    _observe(spans, timed.woken_by)
    return "taken"


def _observe(spans: dict[str, float], woken_by: str) -> None:
    for hop, seconds in spans.items():
        hop_seconds.labels(hop, PARTS[hop], woken_by).observe(seconds)
