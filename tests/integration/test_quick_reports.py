"""Reports that leave by the executor's own thread: taken once, in order, and by the link when that way fails."""

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from executors.orders import OrderState
from executors.quick_reports import SILENT_MS, QuickReports
from tests.integration.test_state_link import Rig, queued
from tests.valkey import Valkey
from tests.waiting import wait_until
from tradedist import keys
from tradedist.bare_redis import BareRedis
from tradedist.clock import monotonic_ms
from tradedist.redis import state

S = OrderState


@pytest.fixture
def rig(tmp_path: Path, state_redis: Any) -> Iterator[Rig]:
    made = Rig(tmp_path / "journal.sqlite3", state_redis)
    made.turn()  # compared, and the line is open
    yield made
    made.link._reports.quick.close()
    made.close()


def filled(rig: Rig, number: int) -> str:
    """An order that is on disk as filled and was not published."""
    from executors.execution import new_row
    from tests.simulated import SimClock

    row = rig.report(new_row(queued(rig.client, number), SimClock()), S.INTENT, S.FILLED)
    return row.order_id


def publish(rig: Rig) -> bool:
    """As the executor does. Whether the link was asked for help."""
    rig.link._wake.clear()
    rig.link.publish(rig.journal.take_written(), rig.journal.newest)
    return rig.link._wake.is_set()


def published(rig: Rig) -> int:
    rig.link.look_for_answers()
    return rig.link.published


def has_line(quick: QuickReports) -> bool:
    return quick._offered is not None


def stream(rig: Rig) -> list[tuple[str, int]]:
    from executors.messages import ExecutionReport

    rows = rig.client.xrange(keys.REPORTS)
    found = [ExecutionReport.model_validate_json(fields["report"]) for _, fields in rows]
    return [(report.order_id, report.report_seq) for report in found]


def state_of(rig: Rig, order_id: str) -> str | None:
    found: str | None = rig.client.hget(keys.order(order_id), "state")
    return found


def test_a_report_is_in_the_store_without_a_turn_of_the_link(rig: Rig) -> None:
    first, second = filled(rig, 1), filled(rig, 2)
    assert not publish(rig)
    wait_until(lambda: state_of(rig, second) == "FILLED")
    wait_until(lambda: published(rig) == rig.journal.position() == 4)
    rig.turn()
    assert stream(rig) == [(first, 1), (first, 2), (second, 1), (second, 2)]


def test_one_sent_before_its_forerunner_was_answered_follows_it(rig: Rig) -> None:
    names = []
    for number in range(1, 21):
        names.append(filled(rig, number))
        assert not publish(rig)
    wait_until(lambda: state_of(rig, names[-1]) == "FILLED")
    assert stream(rig) == [(name, seq) for name in names for seq in (1, 2)]
    wait_until(lambda: published(rig) == 40)


def test_what_is_not_on_disk_yet_is_not_sent(rig: Rig) -> None:
    with rig.journal.together():
        name = filled(rig, 1)
        assert publish(rig)
        assert rig.journal.newest == 2
        assert state_of(rig, name) == "QUEUED"
    assert not publish(rig)
    wait_until(lambda: state_of(rig, name) == "FILLED")


def test_what_is_rolled_back_is_never_sent(rig: Rig) -> None:
    def fail() -> None:
        with rig.journal.together():
            filled(rig, 1)
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert rig.journal.take_written() == []


def test_a_closed_line_leaves_it_to_the_link_which_opens_another(rig: Rig) -> None:
    name = filled(rig, 1)
    rig.client.client_kill_filter(_type="normal", skipme=True)
    assert publish(rig) or _asked_later(rig)
    rig.link._store.redis.connection_pool.disconnect()
    wait_until(lambda: not rig.link._reports.quick.under_way())
    rig.turn()
    assert state_of(rig, name) == "FILLED"
    rig.link._reports.quick._due_open_ms = 0.0
    rig.turn()
    again = filled(rig, 2)
    assert not publish(rig)
    wait_until(lambda: state_of(rig, again) == "FILLED")
    assert stream(rig) == [(name, 1), (name, 2), (again, 1), (again, 2)]


def _asked_later(rig: Rig) -> bool:
    """The line broke after the send: the answer's absence tells."""
    wait_until(lambda: published(rig) < 0 or rig.link._wake.is_set())
    return True


def test_a_store_that_forgot_the_script_has_the_link_publish(rig: Rig) -> None:
    name = filled(rig, 1)
    rig.client.script_flush()
    assert not publish(rig)
    assert _asked_later(rig)
    rig.turn()
    assert state_of(rig, name) == "FILLED"
    assert rig.link.published == 2


def test_a_store_that_was_rolled_back_gets_all_again(rig: Rig) -> None:
    first = filled(rig, 1)
    publish(rig)
    wait_until(lambda: published(rig) == 2)
    rig.client.delete(keys.order(first), keys.REPORTS)
    rig.client.hset(keys.instance("sim-1"), "position", 0)
    second = filled(rig, 2)
    assert not publish(rig)
    assert _asked_later(rig)
    rig.turn()
    assert rig.link.published == 4
    assert [item for item in stream(rig) if item[1]] == [(first, 1), (first, 2), (second, 1), (second, 2)]


def test_an_answer_of_a_life_before_proves_nothing(rig: Rig) -> None:
    name = filled(rig, 1)
    publish(rig)
    wait_until(lambda: state_of(rig, name) == "FILLED")
    rig.link._reports.stands_at(0)
    rig.link.look_for_answers()
    assert rig.link.published == 0


def test_a_line_of_a_life_before_is_hung_up_and_another_opened(rig: Rig) -> None:
    first = filled(rig, 1)
    assert not publish(rig)
    wait_until(lambda: published(rig) == 2)
    old = rig.link._reports.quick._line
    rig.link._reports.stands_at(
        2
    )  # as after a failover: the old line may lead to a server that is no primary any more
    second = filled(rig, 2)
    assert publish(rig), "there is none now"
    rig.link._reports.quick._due_open_ms = 0.0
    rig.turn()
    third = filled(rig, 3)
    assert not publish(rig)
    assert rig.link._reports.quick._line is not old
    wait_until(lambda: state_of(rig, third) == "FILLED")
    assert stream(rig) == [(name, seq) for name in (first, second, third) for seq in (1, 2)]


def test_nothing_leaves_before_redis_and_the_journal_were_compared(tmp_path: Path, state_redis: Any) -> None:
    rig = Rig(tmp_path / "journal.sqlite3", state_redis)
    name = filled(rig, 1)
    assert publish(rig)
    rig.turn()
    assert state_of(rig, name) == "FILLED"
    rig.link._reports.quick.close()
    rig.close()


def test_what_is_under_way_is_not_sent_twice_for_a_moment(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(rig, 1)
    publish(rig)
    published: list[int] = []
    publish_again = rig.link._store.publish

    def counted(*args: Any, **more: Any) -> Any:
        published.append(1)
        return publish_again(*args, **more)

    monkeypatch.setattr(rig.link._store, "publish", counted)
    rig.turn()
    assert not published
    rig.link._reports.quick._waiting_since_ms -= 1_000
    rig.turn()
    assert published
    assert rig.link.published == 2


def test_a_bare_connection_tells_what_is_wrong(state_redis: Any) -> None:
    with state() as client:
        line = BareRedis(client)
        assert line.ask("PING") == b"PONG"
        line.send("SET", "bare", "1")
        line.send("NOSUCH")
        found: list[Any] = []

        def both_came() -> bool:
            found.extend(line.answers())
            return len(found) == 2

        wait_until(both_came)
        assert found[0] == b"OK"
        assert isinstance(found[1], redis.ResponseError)
        state_redis.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(redis.ConnectionError):
            wait_until(lambda: line.answers() is None)
        line.close()


def test_a_store_that_refuses_connections_is_asked_again_later(state_redis: Any) -> None:
    quick = QuickReports("sim-1", "journal", 1)
    quick.offer(redis.Redis(port=1), 1)
    assert not has_line(quick)
    quick._due_open_ms = 0.0
    with state() as client:
        quick.offer(client, 1)
    assert has_line(quick)
    quick.close()


def test_a_store_that_hangs_is_looked_at_now_and_then_and_hung_up_in_the_end(
    rig: Rig, state_server: Valkey
) -> None:
    filled(rig, 1)
    state_server.freeze()
    try:
        assert not publish(rig)
        looks = 0
        end = monotonic_ms() + 500
        while monotonic_ms() < end:  # as the executor's thread turns
            time.sleep(max(0.0, (rig.link.answers_due_ms() - monotonic_ms()) / 1000))
            rig.link.look_for_answers()
            looks += 1
        assert 2 <= looks <= 7
        position, life, sent_ms = rig.link._reports.quick._unanswered[0]
        rig.link._reports.quick._unanswered[0] = position, life, sent_ms - SILENT_MS
        rig.link.look_for_answers()
        assert rig.link._wake.is_set(), "the link has to publish it"
        assert rig.link.answers_due_ms() == math.inf
    finally:
        state_server.cont()
    rig.turn()
    assert rig.link.published == 2


def test_looking_while_the_link_publishes_does_not_keep_the_thread_turning(rig: Rig) -> None:
    filled(rig, 1)
    assert not publish(rig)
    rig.link._reports.quick._waiting_since_ms -= 1_000
    threads = ThreadPoolExecutor(1)
    threads.submit(rig.link._reports._lock.acquire).result()
    rig.link.look_for_answers()
    assert rig.link.answers_due_ms() > monotonic_ms()
    threads.submit(rig.link._reports._lock.release).result()
    threads.shutdown()
    wait_until(lambda: published(rig) == 2)


def test_reports_that_the_link_has_overtaken_take_nothing_back(rig: Rig) -> None:
    first = filled(rig, 1)
    early = rig.journal.take_written()
    names = [first, filled(rig, 2)]
    rig.turn()
    assert rig.client.hget(keys.instance("sim-1"), "position") == "4"
    rig.link._store.publish(rig.journal.journal_id, 1, early, after=0)  # as from a line that was hung up
    assert rig.client.hget(keys.instance("sim-1"), "position") == "4"
    assert stream(rig) == [(name, seq) for name in names for seq in (1, 2)]
