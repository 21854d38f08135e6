"""A terminal's Celery worker against a Valkey that is killed, frozen and replaced, and against being killed itself."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.conf import settings
from kombu import Queue

from executors.fanout import CLOSE_PRIORITY, OPEN_PRIORITY
from executors.link import ANSWER_S
from tests.integration.tradedist.worker_probe import TASK, TERMINAL
from tests.stack import ROOT
from tests.valkey import Valkey
from tests.waiting import wait_until
from tradedist import keys
from tradedist.celery import app as ours
from tradedist.child import die_with_parent

QUEUE = keys.terminal_queue(TERMINAL)


class Bench:
    """A Valkey, a worker on it, and a publisher of its own."""

    def __init__(self, server: Valkey, directory: Path) -> None:
        self.server = server
        self.notes = directory / "notes"
        self.notes.touch()
        self.log = directory / "worker.log"
        self.environment = {**os.environ, "REDIS_STATE_URL": server.url, "DATA_DIR": str(directory / "data")}
        self.publisher = Celery("publisher", broker=server.url, set_as_current=False)
        self.publisher.conf.update({name: ours.conf[name] for name in ("accept_content", "task_serializer")})
        self.publisher.conf.broker_transport_options = {"socket_timeout": 2, "socket_connect_timeout": 0.5}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> "Bench":
        ready = self.log.read_text().count("ready.") if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.tradedist.worker_probe", str(self.notes)],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(os.getpid()),
            )
        if not wait:
            return self
        wait_until(lambda: self.log.read_text().count("ready.") > ready, 60, 0.01)
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def publish(self, text: str, seconds: float = 0.0, **options: Any) -> None:
        self.publisher.send_task(TASK, args=[text, seconds], queue=QUEUE, retry=False, **options)

    def noted(self) -> list[str]:
        return [line.partition(" ")[2] for line in self.notes.read_text().splitlines()]

    def wait(self, text: str, limit_s: float = 60) -> float:
        """Seconds until it is noted."""
        began = time.monotonic()
        try:
            wait_until(lambda: text in self.noted(), limit_s, 0.005)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()[-4000:]}") from None
        return time.monotonic() - began

    def does_again(self, text: str) -> float:
        """Seconds until a task is done. One that is given out while the worker connects anew may be lost to Celery, which
        is no order's only wake-up: another one follows."""
        began = time.monotonic()

        def done() -> bool:
            self.publish(text)
            with suppress(AssertionError):
                self.wait(f"{text} done", 10)
                return True
            return False

        wait_until(done)
        return time.monotonic() - began

    def trouble(self) -> int:
        """How often the worker has said that its broker is not there."""
        text = self.log.read_text()
        return text.count("Connection to broker lost")

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.publisher.close()


@pytest.fixture
def bench(make_valkey: Callable[..., Valkey], tmp_path: Path) -> Iterator[Bench]:
    made = Bench(make_valkey(durable=True), tmp_path)
    yield made
    made.close()


def test_what_a_killed_worker_had_taken_the_next_one_does_at_once(bench: Bench) -> None:
    bench.start()
    bench.publish("first", 200.0)
    bench.wait("first begun")
    with bench.server.client() as client:
        assert client.hlen(keys.unacked(TERMINAL)) == 1
        # killed while it held Celery's lock for giving out again, which lives for five minutes
        client.set(f"{keys.unacked(TERMINAL)}.mutex", "held", ex=300)
        bench.kill()
        bench.start()
        wait_until(lambda: bench.noted().count("first begun") == 2, 60, 0.005)  # it alone would take 200 s
        assert (
            client.exists("unacked", "unacked_index", "unacked_mutex") == 0
        )  # the names that all workers would share


def test_a_killed_broker_is_used_again_as_soon_as_it_is_back(bench: Bench) -> None:
    bench.start()
    for number in range(3):
        bench.server.restart(down_s=0.4)
        took = bench.does_again(f"after {number}")
        print(f"\nthe broker is back: {took * 1000:.0f} ms to the task's end")
    assert bench.process is not None
    assert bench.process.poll() is None


def test_a_broker_that_hangs_and_comes_back_or_is_replaced_does_not_end_the_work(bench: Bench) -> None:
    """The worker's BRPOP is in the frozen server; with the same file another one takes its port."""
    bench.start()
    bench.publish("before")
    bench.wait("before done")
    bench.server.freeze()
    time.sleep(3)
    bench.server.cont()
    bench.publish("after the freeze")
    thawed = bench.wait("after the freeze done")
    time.sleep(0.3)  # its last words are out
    before = bench.trouble()
    # how long a silence may last is what is set; how long it took here is for people to read
    assert settings.CONFIG_POLL_MS / 1000 + ANSWER_S <= 1.5
    bench.server.freeze()
    began = time.monotonic()
    wait_until(lambda: bench.trouble() > before, 60, 0.01)
    noticed = time.monotonic() - began
    bench.server.restart()
    for number in range(5):
        bench.publish(f"replaced {number}")
    replaced = bench.wait("replaced 4 done")
    print(
        f"\na hang is noticed after {noticed:.1f} s; after a freeze {thawed * 1000:.0f} ms, after a replacement"
        f" {replaced * 1000:.0f} ms to the tasks' end"
    )


def test_a_worker_whose_acknowledgement_was_lost_goes_on(bench: Bench) -> None:
    """The broker freezes while a task runs, for longer than a command may take, and goes on with its connections whole."""
    bench.start()
    bench.publish("cut", 0.5)
    bench.wait("cut begun")
    bench.server.freeze()
    wait_until(lambda: "Couldn't ack" in bench.log.read_text(), 60, 0.02)
    bench.server.cont()
    bench.publish("next")
    took = bench.wait("next done")
    print(f"\nafter a lost acknowledgement {took:.1f} s to the next task's end")
    with bench.server.client() as client:
        wait_until(lambda: client.hlen(keys.unacked(TERMINAL)) == 0, 60, 0.05)


def test_closes_go_first_and_only_json_is_read(bench: Bench) -> None:
    bench.start()
    bench.publish("busy", 1.0)
    bench.wait("busy begun")
    with (
        bench.publisher.connection_for_write() as connection,
        connection.Producer(serializer="pickle") as producer,
    ):
        producer.publish({"no": "task"}, routing_key=QUEUE, declare=[Queue(QUEUE)])
    for number in range(3):
        bench.publish(f"open {number}", priority=OPEN_PRIORITY)
    bench.publish("close", priority=CLOSE_PRIORITY)
    bench.wait("open 2 done")
    done = [text for text in bench.noted() if text.endswith("done")]
    assert done == ["busy done", "close done", "open 0 done", "open 1 done", "open 2 done"]
    assert "Refusing to deserialize" in bench.log.read_text()


def test_it_answers_ping_and_sends_its_heartbeat_every_thirty_seconds(bench: Bench) -> None:
    bench.start()
    assert bench.process is not None
    name = f"{TERMINAL}@local"
    answers = bench.publisher.control.inspect(timeout=30, limit=1).ping()
    assert answers == {name: {"ok": "pong"}}
    conf = bench.publisher.control.inspect(timeout=30, limit=1).conf() or {}
    assert conf[name]["accept_content"] == ["json"]
    bench.process.send_signal(signal.SIGTERM)
    bench.process.wait(60)
    beats: list[dict[str, Any]] = []
    with bench.publisher.connection_for_read() as connection:

        def heard(event: dict[str, Any]) -> None:
            beats.append(event)
            receiver.should_stop = True

        receiver = bench.publisher.events.Receiver(connection, handlers={"worker-online": heard})
        bench.start(wait=False)  # it takes longer than the receiver
        receiver.capture(limit=None, timeout=100)
    assert [(beat["hostname"], beat["freq"]) for beat in beats] == [(name, 30)]
