"""A killed executor: from its SIGKILL to the next executed order, and where the time goes.

`python -m bench.executor_restart [kills]`, part of `make bench`. The order is sent before the kill is noticed, as a trader
would; target: 250 ms.
"""

import os
import signal
import sys
import time

from bench.figures import line, machine
from bench.site import site
from tests.waiting import wait_until
from tradedist import keys

QUIET_S = 1.2  # an executor that is killed within its first second waits a moment, by design


def main(kills: int) -> None:
    with site(2) as running:
        desk, name = running.desk, running.names[0]
        wait_until(lambda: desk.ready(*running.names), 60)
        print(machine())
        forked, ready, filled, idle = [], [], [], []
        for _ in range(kills):
            time.sleep(QUIET_S)
            began = time.perf_counter()
            desk.settle(*desk.open(name), limit_s=30)
            idle.append((time.perf_counter() - began) * 1000)
            pid = desk.running(name)
            began, wall = time.perf_counter(), time.time() * 1000
            os.kill(pid, signal.SIGKILL)
            (order,) = desk.open(name)
            desk.settle(order, limit_s=30)
            filled.append((time.perf_counter() - began) * 1000)
            trace = desk.report(order).trace
            ready.append(trace["woken"] - wall)
            wait_until(lambda old=pid: desk.pid(name) not in (0, old))
            forked.append(float(desk.client.hget(keys.instance(name), "restarts")))
        print(line("an order, nothing killed", idle))
        print(line("SIGKILL → the next process has the order", ready))
        print(line("SIGKILL → the order is filled", filled))
        desk.check(20_000)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
