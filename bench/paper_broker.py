"""The paper broker: `.venv/bin/python -m bench.paper_broker [--orders 2000] [--seconds 10]`.

The round trip of `order_send` through the module at zero latency with the ledger durable, alone and with 100 other
accounts sending; other calls; and the processor time of one broker with 120 accounts, 20 symbols, 500 positions with
stop levels and 1,000 ticks a second. Beside it, what a write and fdatasync of the same size cost on this disk.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.figures import line, machine
from executors.terminals import paper as mt5
from tests.paper import PASSWORD, PaperBroker, running_broker

SYMBOLS = 20
ACCOUNTS = 120
POSITIONS = 500
TICKS_A_SECOND = 1_000
WALK_RATE = 1.45  # ticks a second of such a walk at speed 1
MARGIN = 1.05
OTHERS = """
import sys, time
from executors.terminals import paper as mt5
url, password, first, last, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
assert mt5.initialize(url, login=first, password=password)
until, login = time.monotonic() + seconds, first
while time.monotonic() < until:
    result = mt5.order_send(
        {"action": 1, "symbol": "S00", "volume": 0.01, "type": login % 2, "type_filling": 1, "magic": 1})
    login = first if login == last else login + 1
    mt5.login(login, password)
"""


def configuration() -> str:
    """Twenty symbols, each with its own random walk of about a tick a second at speed 1."""
    names = [f"S{number:02}" for number in range(SYMBOLS)]
    feeds = [f"[feeds]\n{name} = {{ walk = {{ start = 1.{number + 10}, digits = 5, step = 1.0, spread = 10, hours = 1 }} }}"
             for number, name in enumerate(names)]  # fmt: skip
    symbols = [f'[symbols.{name}]\nbase = "EUR"\nprofit = "USD"\ndigits = 5' for name in names]
    listed = ", ".join(f'"{name}"' for name in names)
    return "\n".join(
        [
            feeds[0], *(feed.split("\n")[1] for feed in feeds[1:]), *symbols, "[personalities.bench]",
            'server = "Bench"\ncompany = "Bench"\ncurrency = "USD"\nleverage = 500\nmargin_mode = 2',
            f"symbols = [{listed}]", "[personalities.bench.all]", "exemode = 2", "filling = 3",
        ]
    )  # fmt: skip


def timed(calls: int, call: Callable[[int], object]) -> list[float]:
    samples = []
    for number in range(calls):
        started = time.perf_counter()
        call(number)
        samples.append((time.perf_counter() - started) * 1000)
    return samples


def disk(calls: int, size: int = 900) -> list[float]:
    """A write and fdatasync of a transaction's size: what no durable ledger can be faster than."""
    with tempfile.TemporaryFile() as file:
        block = b"x" * size

        def once(_: int) -> None:
            os.write(file.fileno(), block)
            os.fdatasync(file.fileno())

        return timed(calls, once)


def round_trips(orders: int) -> None:
    opened: list[int] = []

    def send(number: int) -> None:
        request = {
            "action": 1,
            "symbol": "EURUSD",
            "volume": 0.1,
            "type": number % 2,
            "type_filling": 1,
            "magic": 1,
        }
        if number % 2:
            request["position"] = opened.pop()
        result = mt5.order_send(request)
        assert result is not None
        assert result.retcode == 10009, result
        if not number % 2:
            opened.append(result.order)

    print(line("write and fdatasync alone", disk(orders)))
    send(0)
    send(1)
    print(line("order_send, open and close by turns", timed(orders, send)))
    print(line("symbol_info_tick", timed(orders, lambda _: mt5.symbol_info_tick("EURUSD"))))
    print(line("positions_get, none open", timed(orders, lambda _: mt5.positions_get())))
    print(line("account_info", timed(orders, lambda _: mt5.account_info())))
    print(
        line(
            "copy_rates_from_pos, 1000 minutes",
            timed(100, lambda _: mt5.copy_rates_from_pos("EURUSD", 1, 0, 1000)),
        )
    )


def fill(broker: PaperBroker) -> None:
    """The accounts, and the positions with stop levels far enough away to stay."""
    for number in range(ACCOUNTS):
        broker.account(100 + number, "bench", 1_000_000.0)
    for number in range(POSITIONS):
        login = 100 + number % ACCOUNTS
        if number < ACCOUNTS or mt5.account_info().login != login:
            assert mt5.initialize(broker.url, login=login, password=PASSWORD)
        symbol = f"S{number % SYMBOLS:02}"
        tick = mt5.symbol_info_tick(symbol)
        result = mt5.order_send(
            {"action": 1, "symbol": symbol, "volume": 0.01, "type": 0, "type_filling": 1,
             "sl": round(tick.bid - 0.5, 5), "tp": round(tick.bid + 0.5, 5)}
        )  # fmt: skip
        assert result.retcode == 10009, result


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def scale(seconds: float) -> None:
    with running_broker(configuration(), speed=MARGIN * TICKS_A_SECOND / SYMBOLS / WALK_RATE) as broker:
        fill(broker)
        wait_for_ticks(broker)
        before, counted = processor_s(broker.pid), ticks(broker)
        started = time.monotonic()
        time.sleep(seconds)
        spent, span = processor_s(broker.pid) - before, time.monotonic() - started
        rate = (ticks(broker) - counted) / span
        open_now = broker.oracle.call("health")["positions"]
        print(
            f"{ACCOUNTS} accounts, {SYMBOLS} symbols, {open_now} positions with stop levels, {rate:.0f} ticks/s: "
            f"{spent / span:.2f} of one core"
        )
        assert mt5.initialize(broker.url, login=100, password=PASSWORD)
        request = {"action": 1, "symbol": "S01", "volume": 0.01, "type": 0, "type_filling": 1}
        counted, started = ticks(broker), time.monotonic()
        samples = timed(1_000, lambda _: mt5.order_send(request))
        rate = (ticks(broker) - counted) / (time.monotonic() - started)
        print(line(f"order_send beside {rate:.0f} ticks/s", samples))
        others = subprocess.Popen(
            [sys.executable, "-c", OTHERS, broker.url, PASSWORD, "101", str(99 + ACCOUNTS), str(seconds)]
        )
        time.sleep(1)
        print(line("order_send while all accounts trade too", timed(500, lambda _: mt5.order_send(request))))
        others.wait(seconds + 30)
        broker.check(magics_unique=False)


def wait_for_ticks(broker: PaperBroker) -> None:
    """A recording ends within a minute, and is silent until that is over."""
    for _ in range(120):
        counted = ticks(broker)
        time.sleep(1)
        if ticks(broker) - counted >= TICKS_A_SECOND:
            return
    raise RuntimeError(f"there are never {TICKS_A_SECOND} ticks a second")


def ticks(broker: PaperBroker) -> int:
    return int(broker.oracle.call("health")["ticks"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    print(machine())
    with running_broker() as broker:
        broker.account(1, "lab", 1_000_000.0)
        assert mt5.initialize(broker.url, login=1, password=PASSWORD)
        round_trips(options.orders)
    scale(options.seconds)


if __name__ == "__main__":
    main()
