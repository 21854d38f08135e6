"""Orders' hops: measured once, by the process that accepted them; what browsers say is checked before it counts."""

from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from pydantic import ValidationError

from executors.messages import CLIENT_MESSAGE, BrowserTrace, ExecutionReport
from executors.reporting import Trace, heard
from tests.integration.live import a_report
from tradedist import order_metrics

TRACE = {
    "received": 10_003, "accepted": 10_004, "answered": 10_016, "accept_us": 900, "wake_us": 300, "queue_us": 20,
    "rules_us": 150, "journal_us": 700, "broker_us": 10_000,
}  # fmt: skip


def counted(hop: str, part: str, woken_by: str = "udp", what: str = "count") -> float:
    labels = {"hop": hop, "part": part, "woken_by": woken_by}
    return REGISTRY.get_sample_value(f"tradedist_order_hop_seconds_{what}", labels) or 0.0


def results(name: str) -> float:
    return REGISTRY.get_sample_value("tradedist_browser_traces_total", {"result": name}) or 0.0


def filled(**fields: Any) -> ExecutionReport:
    values: dict[str, Any] = {"state": "FILLED", "trace": TRACE, "woken_by": "udp", "user_id": 7}
    return a_report("alpha", **(values | fields))


def accepted_report(**fields: Any) -> ExecutionReport:
    report = filled(**fields)
    order_metrics.accepted_here(report.signal_id)
    return report


def said(report: ExecutionReport, **fields: Any) -> BrowserTrace:
    values = {
        "type": "trace", "order_id": report.order_id, "clicked_ms": 0, "accepted_ms": 8, "reported_ms": 20,
        "offset_ms": 10_000, "rtt_ms": 1,
    }  # fmt: skip
    return BrowserTrace.model_validate(values | fields)


def test_each_hop_counts_once_with_the_way_that_won() -> None:
    before = {
        hop: counted(hop, "own")
        for hop in ("accept", "wake", "queue", "rules", "journal", "publish", "deliver")
    }
    broker, time = counted("broker", "broker"), counted("broker", "broker", what="sum")
    report = accepted_report()
    for _ in range(2):
        order_metrics.on_report(report, 10_018)
    assert {hop: counted(hop, "own") - count for hop, count in before.items()} == dict.fromkeys(before, 1)
    assert counted("broker", "broker") == broker + 1
    assert counted("broker", "broker", what="sum") == pytest.approx(time + 0.01)


@pytest.mark.parametrize(
    "fields", [{"state": "INTENT"}, {"state": "DENIED", "trace": {"accepted": 1}}, {"state": "QUEUED"}]
)
def test_what_the_broker_has_not_answered_is_not_measured(fields: dict[str, Any]) -> None:
    before = counted("broker", "broker")
    order_metrics.on_report(accepted_report(**fields), 10_018)
    assert counted("broker", "broker") == before


def test_another_process_measures_what_it_has_accepted() -> None:
    before = counted("accept", "own")
    order_metrics.on_report(filled(), 10_018)
    assert counted("accept", "own") == before


def test_a_browsers_times_count_once() -> None:
    report = accepted_report()
    order_metrics.on_report(report, 10_018)
    before = {hop: counted(hop, "page", what="sum") for hop in ("up", "back", "answer", "total")}
    taken = results("taken")
    order_metrics.on_browser(said(report), 7)
    order_metrics.on_browser(said(report, reported_ms=900), 7)
    after = {hop: counted(hop, "page", what="sum") - total for hop, total in before.items()}
    assert after == pytest.approx({"up": 0.003, "back": 0.004, "answer": 0.008, "total": 0.020})
    assert results("taken") == taken + 1


@pytest.mark.parametrize(
    ("user_id", "fields", "result"),
    [
        (8, {}, "unknown"),
        (7, {"order_id": f"{uuid4()}:alpha"}, "unknown"),
        (7, {"offset_ms": 20_000}, "implausible"),
        (7, {"reported_ms": 1e12}, "implausible"),
        (7, {"clicked_ms": 30}, "implausible"),
    ],
)
def test_what_cannot_be_is_counted_and_nothing_else(
    user_id: int, fields: dict[str, Any], result: str
) -> None:
    report = accepted_report()
    order_metrics.on_report(report, 10_018)
    before, total = results(result), counted("total", "page")
    order_metrics.on_browser(said(report, **fields), user_id)
    assert results(result) == before + 1
    assert counted("total", "page") == total


@pytest.mark.parametrize(
    "fields",
    [
        {"clicked_ms": -1},
        {"reported_ms": 1e16},
        {"rtt_ms": 1e9},
        {"order_id": "x" * 121},
        {"more": 1},
        {"offset_ms": None},
    ],
)
def test_what_is_no_trace_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CLIENT_MESSAGE.validate_python(said(filled()).model_dump() | fields)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_metrics, "MOST_SIGNALS", 3)
    monkeypatch.setattr(order_metrics, "MOST_ORDERS", 2)
    for _ in range(6):
        order_metrics.on_report(accepted_report(), 10_018)
    assert (len(order_metrics._accepted), len(order_metrics._timed)) == (3, 2)


def test_the_executors_spans_follow_each_other() -> None:
    mono = iter([1_000.0, 1_000.2, 1_001.0, 1_011.0, 1_011.5, 1_012.0])
    points = {"accepted": 5, "accepted_us": 5_000_000}
    heard(points, mono_us=999_900, redis_us=5_000_400)
    trace = Trace.begin(points, "udp", lambda: 6, lambda: next(mono))
    trace.intent()
    trace.sent()
    trace.answered()
    told = trace.report()
    spans = [told[f"{name}_us"] for name in ("wake", "queue", "rules", "journal", "broker")]
    assert spans == [400, 100, 200, 800, 10_000]
    assert "heard_mono_us" not in told


def test_a_restart_does_not_measure_from_a_clock_of_before() -> None:
    points: dict[str, int] = {}
    heard(points, mono_us=5, redis_us=1)
    told = Trace.begin(points, "restart", lambda: 6, lambda: 1.0).report()
    assert "queue_us" not in told
    assert "wake_us" not in told
