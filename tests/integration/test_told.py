"""What the supervisor has read spares the link its questions: while it is true and fresh, and not a moment longer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from executors.execution import new_row
from executors.link_events import ModesRead
from executors.orders import OrderState
from executors.told import NAME, Said, Told, modes_of, news_of, standing_of
from tests.integration.test_state_link import Rig, queued, shown
from tests.simulated import SimClock
from tradedist import keys
from tradedist.clock import monotonic_ms, now_ms

S = OrderState


class Pair:
    """A link after its first turn, and the page that its supervisor would write; `asks` are the link's questions."""

    def __init__(self, rig: Rig, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rig = rig
        self.link = rig.link
        self.told = self.link._told = Told(directory)
        self.asks: list[str] = []
        rig.turn()
        rig.turn()  # the configuration's version is known
        for name, owner, method in (
            ("config", self.link, "_read_config"),
            ("compare", self.link._reports, "compare"),
            ("drain", self.link._store, "waiting_legs"),
            ("clock", self.link._store, "time_us"),
        ):
            monkeypatch.setattr(owner, method, self._noting(name, getattr(owner, method)))

    def _noting(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            self.asks.append(name)
            return method(*args)

        return noted

    def say(self, **other: Any) -> None:
        """As the supervisor would, who has asked a moment ago."""
        client = self.rig.client
        modes = modes_of(client.hgetall(keys.MODES), "sim-1")
        row = client.hmget(keys.instance("sim-1"), ["journal_id", "position", "epoch"])
        said = Said(
            asked_ms=monotonic_ms(),
            redis_minus_mono_ms=now_ms() - monotonic_ms(),
            doubt_ms=2.0,
            waiting=client.zcard(keys.outbox("sim-1")),
            news=news_of(
                client.hget(keys.CONFIG_VERSIONS, "sim-1"), *modes, client.hlen(keys.settlements("sim-1"))
            ),
            standing=standing_of(row[0] or "", int(row[1] or 0), int(row[2] or 1)),
        )
        self.told.tell(said._replace(**other))

    def everything_due(self) -> None:
        due = self.link._due
        due.config = due.compare = due.drain = due.clock = due.alive = 0.0

    def turn(self) -> set[str]:
        """What was asked in a turn at which all that is periodic is due."""
        self.everything_due()
        self.asks.clear()
        self.rig.turn()
        return set(self.asks)


@pytest.fixture
def pair(tmp_path: Path, state_redis: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    rig = Rig(tmp_path / "journal.sqlite3", state_redis)
    made = Pair(rig, tmp_path, monkeypatch)
    yield made
    made.told.close()
    rig.link._reports.quick.close()
    rig.close()


EVERYTHING = {"config", "compare", "drain", "clock"}


def test_nothing_is_asked_while_the_supervisors_word_is_fresh(pair: Pair) -> None:
    pair.say()
    assert pair.turn() == set()
    assert pair.rig.events == []


@pytest.mark.parametrize(
    "why", ["nothing said", "too old", "half written", "of another start", "before the break"]
)
def test_everything_is_asked_as_before_without_a_word_that_counts(
    pair: Pair, tmp_path: Path, why: str
) -> None:
    if why == "too old":
        pair.say(asked_ms=monotonic_ms() - 60_000)
    elif why == "half written":
        pair.say()
        page = tmp_path / NAME
        page.write_bytes(bytes([page.read_bytes()[0] ^ 1]) + page.read_bytes()[1:])
    elif why == "of another start":
        pair.say(asked_ms=monotonic_ms() + 60_000)
    elif why == "before the break":
        pair.say()
        pair.link._lost_ms = monotonic_ms()
    assert pair.turn() == EVERYTHING


def test_a_mode_that_was_set_is_read_at_once(pair: Pair) -> None:
    pair.say()
    pair.turn()
    pair.rig.client.hset(keys.MODES, "global", "HALTED")
    pair.say()
    assert pair.link._due.config > monotonic_ms()
    pair.asks.clear()
    assert ModesRead(["HALTED"], 0) in pair.rig.turn()
    assert pair.asks == ["config"]
    pair.say()
    assert pair.turn() == set()


def test_what_was_said_before_the_link_asked_itself_is_no_news(pair: Pair) -> None:
    """Else an old page, of a supervisor that is gone, would have it ask again and again."""
    pair.say(news=b"other")
    pair.rig.turn()
    pair.asks.clear()
    pair.rig.turn()
    assert pair.asks == []


def test_a_settlement_that_is_wished_for_is_asked_for_until_it_is_answered(pair: Pair) -> None:
    pair.rig.client.hset(keys.settlements("sim-1"), "some:sim-1", "{}")
    for _ in range(2):
        pair.say()
        assert pair.turn() == {"config"}
    pair.rig.client.delete(keys.settlements("sim-1"))
    pair.say()
    pair.turn()
    pair.say()
    assert pair.turn() == set()


def test_the_outbox_is_read_while_something_waits_in_it_or_a_gap_is_seen(pair: Pair) -> None:
    pair.say(waiting=1)
    assert pair.turn() == {"drain"}
    pair.say()
    pair.link.ask_drain()
    assert pair.turn() == {"drain"}


def test_what_a_rollback_lost_is_published_again_whatever_was_said(pair: Pair) -> None:
    leg = queued(pair.rig.client, 1)
    pair.rig.report(new_row(leg, SimClock()), S.INTENT, S.FILLED)
    pair.rig.turn()
    pair.say()
    assert "compare" not in pair.turn()
    pair.rig.client.flushdb()
    pair.say()
    assert "compare" in pair.turn()
    assert shown(pair.rig.client, leg) == "FILLED"


@pytest.mark.parametrize("moved", ["another journal", "a later epoch"])
def test_a_terminal_that_another_executor_has_is_compared(pair: Pair, moved: str) -> None:
    if moved == "another journal":
        pair.rig.client.hset(keys.instance("sim-1"), "journal_id", "another")
        pair.say()
        assert "compare" in pair.turn()
    else:
        row = pair.rig.client.hmget(keys.instance("sim-1"), ["journal_id", "position"])
        pair.say(standing=standing_of(row[0], int(row[1] or 0), 2))
        assert "compare" in pair.turn()


def test_the_time_is_asked_when_the_supervisor_reads_another_and_now_and_then_anyway(pair: Pair) -> None:
    pair.say(redis_minus_mono_ms=now_ms() - monotonic_ms() + 500)
    assert pair.turn() == {"clock"}
    pair.say()
    pair.link._clock_measured_ms = monotonic_ms() - 60_000
    assert pair.turn() == {"clock"}


def test_nobody_knows_older_things_than_without_a_supervisor(pair: Pair) -> None:
    """What is due is put off by the age of the word, not by the moment at which it was seen."""
    asked_ms = monotonic_ms() - settings.CONFIG_POLL_MS / 2
    pair.say(asked_ms=asked_ms)
    pair.everything_due()
    pair.link._hear()
    due = pair.link._due
    assert due.config <= asked_ms + settings.CONFIG_POLL_MS
    assert due.compare <= asked_ms + 1_000
    assert due.drain <= asked_ms + settings.OWN_DRAIN_MS
