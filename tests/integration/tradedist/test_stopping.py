"""A run hears every way of being told to stop, also several at once, and none of them makes it hang."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import sys, time
from tradedist.stopping import StopSignals
signals = StopSignals()
signals.listen()
print("listening", flush=True)
until = time.monotonic() + 20
while not signals.wait(0.001):
    if time.monotonic() > until:
        sys.exit(3)
print("stopping", flush=True)
"""


def start(stdin: int = subprocess.DEVNULL, ignored: bool = False) -> "subprocess.Popen[bytes]":
    def arrange() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=stdin, stdout=subprocess.PIPE, preexec_fn=arrange
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"listening\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_stops_it(number: signal.Signals) -> None:
    with start() as process:
        process.send_signal(number)
        assert process.wait(60) == 0


def test_a_burst_of_signals_does_not_lock_it_up() -> None:
    for _ in range(5):
        with start() as process:
            for _ in range(20):
                for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                    if process.poll() is None:
                        process.send_signal(number)
            # a signal may come after the listening has ended, which ends the process like any other
            assert process.wait(60) in (0, -signal.SIGHUP, -signal.SIGTERM, 1, 130, -signal.SIGINT)


def test_a_terminal_that_hangs_up_stops_it() -> None:
    master, slave = pty.openpty()
    with start(stdin=slave) as process:
        os.close(slave)
        time.sleep(0.2)
        assert process.poll() is None
        os.close(master)
        assert process.wait(60) == 0


def test_under_nohup_it_survives_the_terminal() -> None:
    master, slave = pty.openpty()
    with start(stdin=slave, ignored=True) as process:
        os.close(slave)
        os.close(master)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None
        process.terminate()
        assert process.wait(60) == 0
