"""Ten terminals, twenty signals a second, and every 5 to 15 s something dies, freezes, is cut off or misbehaves.

`make chaos` for MINUTES (15), or CHAOS_SECONDS; CHAOS_SEED repeats a run's faults and wishes. Afterwards everything is
compared with the broker's ledger. When that finds something, or CHAOS_KEEP is set, the history and the whole platform's
files are kept.
"""

import asyncio
import contextlib
import json
import os
import random
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from bench.figures import percentile
from executors.orders import OrderState
from executors.terminals.paper.oracle import from_directory
from tests.chaos import desk
from tests.chaos.checker import Evidence, violations
from tests.chaos.clients import Client, RestClient, SocketClient
from tests.chaos.history import History
from tests.chaos.ledger import Claims, ordered
from tests.chaos.market import Market, last_wish
from tests.chaos.nemesis import Nemesis
from tests.chaos.schedule import schedule
from tests.stack import Stack
from tradedist import keys

pytestmark = pytest.mark.chaos

LENGTH_S = float(os.environ.get("CHAOS_SECONDS") or 60 * float(os.environ.get("MINUTES") or 15))
SEED = int(os.environ.get("CHAOS_SEED") or time.time_ns() % 1_000_000)
HASTE = float(os.environ.get("CHAOS_HASTE") or 1)  # faults come so many times as often
SIGNALS_PER_S = 20.0
CLIENTS = 6
HEAL_S = 120.0
SEND_LIMIT_S = 8
# One call: its limit, and as long as a frozen broker may keep it in its socket, and what a fault delays it.
CALL_MS = (SEND_LIMIT_S + 10 + 3) * 1000

# The chaos profile: limits and breakers are out of the way; reconciliation waits as long as in production.
PROFILE = {
    "ORDERS_PER_SECOND": "1000",
    "BREAKER_UNKNOWN": "0",
    "BREAKER_REJECTIONS": "0",
    "SEND_LIMIT_S": str(SEND_LIMIT_S),
    "INITIALIZE_LIMIT_S": "12",
}


def test_nothing_is_lost_doubled_or_untrue_whatever_dies() -> None:
    directory = Path(tempfile.mkdtemp(prefix=f"tradedist-nemesis-{SEED}-"))
    stack = Stack(directory / "data", PAPER_SEED=str(SEED), **PROFILE)
    history = History(directory / "history.jsonl")
    history.write("info", "test", "seed", seed=SEED, length_s=LENGTH_S, load=os.getloadavg()[0])
    try:
        stack.start()
        desk.furnish(stack)
        evidence, waiting, summary = asyncio.run(_run(stack, history))
        found = violations(evidence)
        found += [
            f"unanswered: {signal_id} got no answer, though all faults are over" for signal_id in waiting
        ]
    finally:
        stack.stop()
        history.close()
    print(f"\n{summary}; {len(found)} violations")
    if found:
        signals = {word.rpartition(":")[0] for text in found for word in text.split() if word.count("-") >= 4}
        print(*found[:50], "--- the history around them", *history.about(signals), sep="\n")
    elif not os.environ.get("CHAOS_KEEP"):
        shutil.rmtree(directory)
    assert found == [], f"seed {SEED}: see {directory}"


async def _run(stack: Stack, history: History) -> tuple[Evidence, list[str], str]:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(40))
    others = [name for name in stack.control().states()]
    faults = schedule(SEED, LENGTH_S, sorted(others), desk.TERMINALS, HASTE)
    nemesis = Nemesis(stack, history, faults, SEED)
    market = Market(desk.TERMINALS)
    clients: list[Client] = [
        kind(
            f"{kind.__name__.lower()}-{number}",
            stack,
            history,
            market,
            SIGNALS_PER_S / CLIENTS,
            f"{SEED} {number}",
        )
        for number in range(CLIENTS)
        for kind in ((SocketClient, RestClient)[number % 2],)
    ]
    watching = [asyncio.ensure_future(item) for item in (nemesis.watch(), _read_prices(market, stack))]
    stop_at = time.monotonic() + LENGTH_S
    sending = [asyncio.ensure_future(client.run(stop_at)) for client in clients]
    claims = Claims(stack)
    try:
        await nemesis.run()
        await asyncio.sleep(max(0.0, stop_at - time.monotonic()))
        await nemesis.quieten()
        history.write("info", "test", "all faults are over")
        await _settled(clients, claims, lambda: all(name in claims.pending for name in claims.unsettled))
        clients[0].place(last_wish(desk.TERMINALS, random.Random(SEED)))
        await _settled(clients, claims, lambda: not claims.unsettled)
        await asyncio.sleep(2)  # positions are shown as they are now
        await asyncio.to_thread(claims.read)
    finally:
        for task in (*watching, *sending):
            task.cancel()
        endings = await asyncio.gather(*watching, *sending, return_exceptions=True)
    for ending in endings:
        if isinstance(ending, Exception):
            raise ending
    assert nemesis.missed == [], f"not restarted: {nemesis.missed}"
    waiting = [signal_id for client in clients for signal_id in client.waiting]
    return _evidence(stack, claims, clients, nemesis), waiting, _summary(claims, clients, nemesis)


async def _settled(clients: list[Client], claims: Claims, enough: Callable[[], bool]) -> None:
    """Returns when it is, or after HEAL_S: then the checker says what is not."""
    until = time.monotonic() + HEAL_S
    while time.monotonic() < until:
        await asyncio.sleep(2)
        if not any(client.waiting for client in clients):
            await asyncio.to_thread(claims.read)
            if enough():
                return


async def _read_prices(market: Market, stack: Stack) -> None:
    while True:
        with contextlib.suppress(redis.RedisError):  # the tick Valkey is killed, too
            await asyncio.to_thread(market.read, stack)
        await asyncio.sleep(2)


def _evidence(stack: Stack, claims: Claims, clients: list[Client], nemesis: Nemesis) -> Evidence:
    accepted = {signal_id: view for client in clients for signal_id, view in client.accepted.items()}
    with stack.state() as client:
        shown = {name: json.loads(client.get(keys.positions(name)) or "[]") for name in desk.TERMINALS}
    return Evidence(
        installation=stack.secret("installation_id"),
        records=from_directory(stack.data_dir / "paper-broker"),
        orders=claims.orders,
        reports=claims.reports,
        accepted=ordered(accepted),
        refused=frozenset(signal_id for client in clients for signal_id in client.refused),
        sent=frozenset(signal_id for client in clients for signal_id in client.sent),
        deadlines=claims.deadlines,
        pending=frozenset(claims.pending),
        intents=[row for name in desk.TERMINALS for row in _intents(stack, name)],
        call_ms=CALL_MS,
        frozen=nemesis.frozen,
        troubled=nemesis.troubled,
        logins=desk.LOGINS,
        held={
            name: {item["position_ticket"]: Decimal(item["lots"]) for item in items}
            for name, items in shown.items()
        },
    )


def _intents(stack: Stack, terminal_id: str) -> list[tuple[str, int, int]]:
    journal = sqlite3.connect(
        f"file:{stack.data_dir}/terminals/{terminal_id}/journal.sqlite3?mode=ro", uri=True
    )
    try:
        return journal.execute("SELECT order_id, magic, intent_ms FROM requests").fetchall()
    finally:
        journal.close()


def _summary(claims: Claims, clients: list[Client], nemesis: Nemesis) -> str:
    unknown = [
        (after.time_ms - before.time_ms) / 1000
        for reports in claims.reports.values()
        for before, after in pairwise(reports)
        if before.state is OrderState.UNKNOWN
    ]
    refused = Counter(code for client in clients for code in client.refused.values())
    woken = Counter(report.woken_by for report in claims.orders.values())
    p50, worst = percentile(unknown or [0.0], 0.5), max(unknown, default=0.0)
    return (
        f"seed {SEED}, {LENGTH_S:.0f} s, load {os.getloadavg()[0]:.1f}: {sum(len(client.sent) for client in clients)} signals,"
        f" {sum(len(client.accepted) for client in clients)} accepted, {dict(refused)} refused,"
        f" {sum(len(client.waiting) for client in clients)} without an answer, {sum(client.repeats for client in clients)} sent"
        f" again; faults {dict(nemesis.counts)}; orders {claims.counts()}, woken by {dict(woken)};"
        f" {len(unknown)} UNKNOWN resolved after p50 {p50:.1f} s, max {worst:.1f} s"
    )
