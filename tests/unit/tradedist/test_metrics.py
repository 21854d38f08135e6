"""The metrics that the product's specification names, under exactly these names, and what moves them."""

from typing import Any

import pytest
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from executors.messages import DriftLog, TerminalUpdate
from tests.integration.live import a_report
from tradedist import metrics
from tradedist.hub import Event

SEEDS = {
    "tv_tick_stream_latency": "histogram",
    "tv_order_execution_latency": "histogram",
    "tv_order_state_sync_latency": "histogram",
    "tv_active_sessions": "gauge",
    "tv_order_execution_errors": "gauge",
    "tv_historical_data_load_time": "histogram",
    "tv_rejected_orders": "gauge",
}


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def seen(state: str, **fields: Any) -> None:
    metrics.on_report(Event("reports", a_report("alpha", state=state, **fields).model_dump_json()))


def test_the_seven_names_are_exposed_as_they_are() -> None:
    families = {family.name: family for family in text_string_to_metric_families(generate_latest().decode())}
    assert {name: families[name].type for name in SEEDS} == SEEDS
    for name, kind in SEEDS.items():
        suffix = "_count" if kind == "histogram" else ""
        assert name + suffix in {sample.name for sample in families[name].samples}


@pytest.mark.parametrize("state", ["REJECTED", "UNKNOWN", "NOT_EXECUTED"])
def test_failed_executions_are_counted(state: str) -> None:
    before = value("tv_order_execution_errors"), value("tv_rejected_orders")
    seen(state)
    assert (value("tv_order_execution_errors"), value("tv_rejected_orders")) == (before[0] + 1, before[1])


def test_our_own_denials_are_rejections() -> None:
    before = value("tv_rejected_orders")
    seen("DENIED")
    assert value("tv_rejected_orders") == before + 1


@pytest.mark.parametrize("state", ["FILLED", "DONE"])
def test_an_execution_is_timed_from_accept_to_answer(state: str) -> None:
    before = value("tv_order_execution_latency_sum"), value("tv_order_execution_latency_count")
    seen(state, trace={"accepted": 1_000, "answered": 1_250})
    seen(state, trace={"accepted": 1_000})  # a report without the points is not timed
    assert value("tv_order_execution_latency_sum") == pytest.approx(before[0] + 0.25)
    assert value("tv_order_execution_latency_count") == before[1] + 1


def test_steps_on_the_way_are_neither() -> None:
    names = ("tv_order_execution_errors", "tv_rejected_orders", "tv_order_execution_latency_count")
    before = [value(name) for name in names]
    for state in ("QUEUED", "INTENT", "PLACED", "PARTIAL", "CANCELLED", "EXPIRED"):
        seen(state, trace={"accepted": 1, "answered": 2})
    assert [value(name) for name in names] == before


def test_what_is_no_report_is_passed_over() -> None:
    metrics.on_report(Event("reports", "{}"))


def test_drift_is_shown_as_its_executor_counts_it() -> None:
    drift = DriftLog(counts={"STOPS_CHANGED": 3})
    update = TerminalUpdate(terminal_id="drifting", status="READY", drift=drift, time_ms=1)
    for text in (update.model_dump_json(exclude_none=True), '{"drift":{}}', update.model_dump_json()):
        metrics.on_terminal(Event("changes", text))
    assert value("tradedist_drift_events", terminal_id="drifting", code="STOPS_CHANGED") == 3


def test_a_session_counts_once_however_many_sockets_it_has() -> None:
    before = value("tv_active_sessions")
    metrics.session_opened("a")
    metrics.session_opened("a")
    metrics.session_opened("b")
    assert value("tv_active_sessions") == before + 2
    metrics.session_closed("a")
    assert value("tv_active_sessions") == before + 2
    metrics.session_closed("a")
    metrics.session_closed("b")
    assert value("tv_active_sessions") == before
