"""The executor's inbox and the link's wake: nothing put is lost, nobody sleeps through a call, and the inbox has an end."""

import queue
import socket
import threading
import time

import pytest

from executors.listener import Listener
from executors.waking import Inbox, Wake
from tradedist.wire import Keyring


def test_an_inbox_keeps_order_and_is_full_at_its_limit() -> None:
    inbox: Inbox[int] = Inbox(2)
    inbox.put(1)
    inbox.put(2)
    with pytest.raises(queue.Full):
        inbox.put(3)
    inbox.tell(4)
    assert [inbox.get(0), inbox.get(0.1), inbox.get(0)] == [1, 2, 4]
    for timeout_s in (0.0, 0.001):
        with pytest.raises(queue.Empty):
            inbox.get(timeout_s)


def test_who_waits_at_an_inbox_gets_what_is_put() -> None:
    inbox: Inbox[str] = Inbox(1)
    timer = threading.Timer(0.02, inbox.put, ("here",))
    timer.start()
    assert inbox.get(60) == "here"
    timer.join()


def test_a_wake_that_was_set_before_is_not_slept_through() -> None:
    wake = Wake()
    began = time.monotonic()
    wake.set()
    wake.set()
    assert wake.is_set()
    wake.wait(60)
    assert time.monotonic() - began < 30
    wake.set()
    wake.clear()
    assert not wake.is_set()
    wake.wait(0.001)
    assert not wake.is_set()


def test_nothing_is_missed_by_who_clears_and_then_looks() -> None:
    """As the link does: clear, look, wait."""
    wake, put, seen = Wake(), [], 0

    def work() -> None:
        for number in range(2_000):
            put.append(number)
            wake.set()

    worker = threading.Thread(target=work)
    worker.start()
    limit = time.monotonic() + 20
    while seen < 2_000 and time.monotonic() < limit:
        wake.clear()
        seen = len(put)
        if seen < 2_000:
            wake.wait(5)
    worker.join()
    assert time.monotonic() < limit - 5, "it slept through one"


def test_who_waits_at_sockets_is_woken_by_what_is_put() -> None:
    inbox: Inbox[str] = Inbox(10)
    ear = Listener("sim-1", Keyring({0: "the test's wire key"}), lambda leg, path: True)
    inbox.ear = ear
    timer = threading.Timer(0.02, inbox.put, ("here",))
    began = time.monotonic()
    timer.start()
    assert inbox.get(60) == "here"
    assert time.monotonic() - began < 30
    timer.join()
    host, _, port = ear.address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"no frame", (host, int(port)))
        with pytest.raises(queue.Empty):
            inbox.get(0.05)
    assert ear.refused == 1
    inbox.tell("later")
    inbox.look()
    assert inbox.take() == "later"
    ear.close()


def test_no_put_is_slept_through_by_who_waits_at_sockets() -> None:
    inbox: Inbox[int] = Inbox(10_000)
    ear = Listener("sim-1", Keyring({0: "the test's wire key"}), lambda leg, path: True)
    inbox.ear = ear

    def work() -> None:
        for number in range(2_000):
            inbox.put(number)

    worker = threading.Thread(target=work)
    began = time.monotonic()
    worker.start()
    assert [inbox.get(20) for _ in range(2_000)] == list(range(2_000))
    assert time.monotonic() - began < 20
    worker.join()
    ear.close()
