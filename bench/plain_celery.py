"""The alternative of `order_roundtrip.py`: the same work as a plain Celery task, with Celery's own defaults.

The same payload, the same broker call over the same client, the same journal commits before and after it, and the same
result stream. Run as a worker by the benchmark, never by the platform.
"""

import json
import os
import sqlite3
import uuid
from typing import Any

import redis
from celery import Celery
from celery.signals import worker_process_init, worker_ready

from executors.terminals import paper

QUEUE = "bench.plain"
RESULTS = "bench:plain:results"

app = Celery("plain", broker=os.environ.get("BENCH_BROKER", ""))
app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    worker_send_task_events=True,
)

_opened: dict[str, Any] = {}


@worker_process_init.connect
@worker_ready.connect
def open_all(**_: object) -> None:
    """Connect to the broker, open the journal and Redis; once."""
    if _opened:
        return
    login, password, server, url = os.environ["BENCH_ACCOUNT"].split("|")
    if not paper.initialize(url, login=int(login), password=password, server=server):
        raise RuntimeError(f"the paper broker refused: {paper.last_error()}")
    journal = sqlite3.connect(os.environ["BENCH_JOURNAL"], isolation_level=None, check_same_thread=False)
    journal.execute("PRAGMA journal_mode=WAL")
    journal.execute("PRAGMA synchronous=FULL")
    journal.execute("CREATE TABLE IF NOT EXISTS journal (id TEXT PRIMARY KEY, body TEXT, result TEXT)")
    _opened["journal"] = journal
    _opened["redis"] = redis.Redis.from_url(os.environ["BENCH_BROKER"])


@app.task(name="bench.place")
def place(signal: dict[str, Any]) -> None:
    journal = _opened["journal"]
    order_id = signal["signal_id"]
    journal.execute("INSERT INTO journal VALUES (?, ?, '')", (order_id, json.dumps(signal)))
    result = paper.order_send(
        {
            "action": paper.TRADE_ACTION_DEAL,
            "symbol": signal["symbol"],
            "volume": float(signal["lots"]),
            "type": paper.ORDER_TYPE_BUY if signal["side"] == "buy" else paper.ORDER_TYPE_SELL,
            "type_filling": paper.ORDER_FILLING_IOC,
            "magic": uuid.UUID(order_id).int & (2**52 - 1),
            "comment": "bench",
        }
    )
    if result is None or result.retcode != paper.TRADE_RETCODE_DONE:
        raise RuntimeError(f"not executed: {result or paper.last_error()}")
    report = json.dumps({"signal_id": order_id, "price": result.price, "deal": result.deal})
    journal.execute("UPDATE journal SET result = ? WHERE id = ?", (report, order_id))
    pipe = _opened["redis"].pipeline()
    pipe.hset(f"bench:plain:order:{order_id}", mapping={"state": "FILLED", "report": report})
    pipe.xadd(RESULTS, {"report": report})
    pipe.execute()
