"""The order benches work: a few orders by each contender, in a process of their own as `make bench` runs them."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def bench(*arguments: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr[-6000:]}"
    return answer.stdout


def test_orders_are_measured_beside_the_alternatives() -> None:
    said = bench("bench.orders", "--short", "--only=celery_queue,stream_queue", "--parts=trip,rate")
    rows = [row for row in said.splitlines() if row.startswith(("Tradedist", "plain Celery", "floor"))]
    trips, rates = rows[:6], rows[6:]
    assert [row.split("  ")[0] for row in trips] == 2 * ["Tradedist", "plain Celery", "floor: a raw stream"]
    assert all(float(row[28:38]) > 0 for row in trips)
    assert len(rates) == 4
    assert all(float(row[50:60]) > 0 and float(row[60:72]) > 0 for row in rates), said


def test_the_way_through_browser_socket_and_web_is_measured() -> None:
    said = bench("bench.browser", "--short")
    rows = [row for row in said.splitlines() if row.startswith(("Tradedist", "plain Celery"))]
    assert len(rows) == 6, said  # until the fill, until accepted, and after a rest
    assert all(float(row[28:38]) > 0 for row in rows)


def test_workers_of_the_alternatives_are_started_killed_and_replaced() -> None:
    said = bench("bench.queue_workers", "2", "1", "--only=huey_queue", "--short")
    row = said.splitlines()[-1]
    assert row.startswith("huey")
    assert float(row[28:38]) > 0
    sent_later, _ = re.findall(
        r"(\d) of 1", row
    )  # a moment after the kill: the worker that replaced the killed one has it
    assert sent_later == "0", said
