"""What every alternative's worker does with an order: the same as an executor, as plainly as it can be done.

INTENT committed to a journal of its own (SQLite, WAL, synchronous=FULL), the broker's `order_send` through the same client,
RESULT committed, then the order's record and its report in the result stream by one Lua call. Precedes: the result
stream, which the bench reads. Follows: the workers in `alternatives/`.
"""

import json
import os
import sqlite3
import time
import uuid
from typing import Any

import redis

from bench.lab import FIRST_LOGIN, PASSWORD, terminal_name
from executors.terminals import paper
from tradedist import keys

STORE = """
redis.call('HSET', KEYS[1], 'state', 'FILLED', 'report', ARGV[1])
redis.call('XADD', KEYS[2], '*', 'report', ARGV[1])
"""


class Work:
    """One worker's: account, journal and connections of its own. Made after the fork."""

    def __init__(self, name: str, index: int) -> None:
        self._terminal = terminal_name(index)
        login, server = FIRST_LOGIN + 1000 + index, os.environ["BENCH_SERVER"]
        if not paper.initialize(os.environ["BENCH_BROKER"], login=login, password=PASSWORD, server=server):
            raise RuntimeError(f"the paper broker refused: {paper.last_error()}")
        path = f"{os.environ['BENCH_DIRECTORY']}/{name}-{index}.sqlite3"
        self._journal = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._journal.execute("PRAGMA journal_mode=WAL")
        self._journal.execute("PRAGMA synchronous=FULL")
        self._journal.execute(
            "CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, signal TEXT, report TEXT) STRICT"
        )
        self._store = redis.Redis.from_url(os.environ["BENCH_REDIS"], socket_timeout=None).register_script(
            STORE
        )

    def run(self, signal: dict[str, Any]) -> None:
        signal_id = signal["signal_id"]
        order_id = f"{signal_id}:{self._terminal}"
        self._journal.execute("INSERT INTO orders VALUES (?, ?, '')", (order_id, json.dumps(signal)))
        result = paper.order_send(
            {
                "action": paper.TRADE_ACTION_DEAL,
                "symbol": signal["symbol"],
                "volume": float(signal["lots"]),
                "type": paper.ORDER_TYPE_BUY if signal["side"] == "buy" else paper.ORDER_TYPE_SELL,
                "type_filling": paper.ORDER_FILLING_IOC,
                "magic": uuid.UUID(signal_id).int & (2**52 - 1),
                "comment": "bench",
            }
        )
        if result is None or result.retcode != paper.TRADE_RETCODE_DONE:
            raise RuntimeError(f"not executed: {result or paper.last_error()}")
        report = json.dumps(
            {
                "order_id": order_id, "signal_id": signal_id, "terminal_id": self._terminal, "report_seq": 1,
                "state": "FILLED", "action": "open", "symbol": signal["symbol"], "side": signal["side"],
                "lots": str(result.volume), "filled_lots": str(result.volume), "price": str(result.price),
                "retcode": result.retcode, "request_n": 1, "order_tickets": [result.order],
                "deal_tickets": [result.deal], "time_ms": int(time.time() * 1000), "position": 1,
            },
            separators=(",", ":"),
        )  # fmt: skip
        self._journal.execute("UPDATE orders SET report = ? WHERE order_id = ?", (report, order_id))
        self._store(keys=[f"bench:order:{order_id}", keys.REPORTS], args=[report])
