"""Prometheus metrics of the live web path, the seven `tv_*` names of the product's specification first.

Follows: the hub gives every execution report to `on_report`, sockets observe the age of what they sent, the chart
socket the time of history queries. Precedes: `/metrics`. Every web process sees every report: take max, not sum,
over processes for the two counts of orders.

`tv_order_execution_errors` and `tv_rejected_orders` only rise, but are exposed as gauges: the Prometheus client
appends `_total` to a counter's name, and these names are fixed. `rate()` works on them all the same.
"""

from collections import Counter as Tally
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from executors.messages import ExecutionReport, TerminalUpdate
from executors.orders import OrderState
from tradedist import order_metrics

if TYPE_CHECKING:
    from tradedist.hub import Event

FAST_BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)

tick_stream_latency = Histogram(
    "tv_tick_stream_latency",
    "Seconds from a tick's own time to its hand-over to a socket",
    buckets=FAST_BUCKETS,
)
order_execution_latency = Histogram(
    "tv_order_execution_latency",
    "Seconds from accept to the broker's answer, per executed order",
    buckets=FAST_BUCKETS,
)
order_state_sync_latency = Histogram(
    "tv_order_state_sync_latency",
    "Seconds from a report's publication to its hand-over to a socket",
    buckets=FAST_BUCKETS,
)
active_sessions = Gauge("tv_active_sessions", "Users' sessions with at least one socket open in this process")
order_execution_errors = Gauge(
    "tv_order_execution_errors", "Orders that the broker refused or whose outcome was unknown (only rises)"
)
historical_data_load_time = Histogram(
    "tv_historical_data_load_time",
    "Seconds to load older candles for a chart",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
rejected_orders = Gauge(
    "tv_rejected_orders", "Signals refused at the door and orders denied by our own rules (only rises)"
)

shed_requests = Counter(
    "tradedist_shed_requests", "HTTP requests answered 503 at once, because too many were under way"
)
sockets_open = Gauge("tradedist_sockets_open", "WebSockets open in this process", ["kind"])
socket_closes = Counter("tradedist_socket_closes", "WebSockets closed by the server", ["kind", "code"])
reports_seen = Counter("tradedist_reports_seen", "Execution reports read by this process", ["state"])
drift_events = Gauge(
    "tradedist_drift_events",
    "Changes at a terminal that no order of ours explains, as its executor has counted them (only rises)",
    ["terminal_id", "code"],
)
hub_reconnects = Counter(
    "tradedist_hub_reconnects", "Attempts of the hub's readers to reach Redis again", ["reader"]
)

ERRORS = frozenset({OrderState.REJECTED, OrderState.UNKNOWN, OrderState.NOT_EXECUTED})
EXECUTED = frozenset({OrderState.FILLED, OrderState.DONE})  # each is reached once in an order's life

_sessions: Tally[str] = Tally()


def parse_report(event: "Event") -> ExecutionReport | None:
    """The report in a stream entry; None when the entry is not one of ours (a newer writer, a hand)."""
    try:
        return ExecutionReport.model_validate_json(event.text)
    except ValueError:
        return None


def on_report(event: "Event") -> None:
    report = event.once(parse_report)
    if report is None:
        return
    reports_seen.labels(report.state).inc()
    order_metrics.on_report(report, int(event.entry_id.partition("-")[0] or 0))
    if report.state in ERRORS:
        order_execution_errors.inc()
    elif report.state is OrderState.DENIED:
        rejected_orders.inc()
    elif report.state in EXECUTED:
        accepted, answered = report.trace.get("accepted"), report.trace.get("answered")
        if accepted is not None and answered is not None:
            order_execution_latency.observe(max(0, answered - accepted) / 1000)


def on_terminal(event: "Event") -> None:
    """Every process hears the same counts: take max over processes."""
    if '"drift":{' not in event.text:
        return  # nearly all of them
    try:
        update = TerminalUpdate.model_validate_json(event.text)
    except ValueError:
        return
    if update.drift is not None:
        for code, count in update.drift.counts.items():
            drift_events.labels(update.terminal_id, code).set(count)


def session_opened(session: str) -> None:
    _sessions[session] += 1
    active_sessions.set(len(_sessions))


def session_closed(session: str) -> None:
    _sessions[session] -= 1
    if _sessions[session] <= 0:
        del _sessions[session]
    active_sessions.set(len(_sessions))
