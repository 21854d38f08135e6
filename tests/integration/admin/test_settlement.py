"""Settling by hand through the state Redis: the admin's page, the command, the executor's link, the audit log."""

import threading
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from executors import audit
from executors.alerts import Alerts
from executors.journal_reader import JournalReader
from executors.link import Link
from executors.link_events import InstanceFacts, SettlementsRead
from executors.messages import Leg
from executors.models import AuditEntry
from executors.orders import order_id
from executors.settlement import Answer, read_settlement
from executors.state import SignalStore
from tests.integration.people import World
from tests.integration.test_state import accept, first_leg, journaled, signal
from tests.valkey import Valkey
from tests.waiting import wait_until
from tradedist import keys
from tradedist.clock import now_ms
from tradedist.redis import async_state

pytestmark = pytest.mark.django_db(transaction=True)

NAME = order_id(str(UUID(int=1)), "london")


def placed(state: str = "UNKNOWN", silent_ms: int = 0) -> Any:
    """An order of london in that state, as its executor published it."""
    from asgiref.sync import async_to_sync

    from executors.orders import OrderState
    from executors.state import ExecutorStore
    from tradedist.redis import state as state_client

    async def record() -> Any:
        client = async_state()
        try:
            return await accept(SignalStore(client), signal(1), targets=[("london", 1)])
        finally:
            await client.aclose()

    leg = first_leg(async_to_sync(record)())
    client = state_client()
    if state != "QUEUED":
        reports = journaled(leg, OrderState.INTENT, OrderState(state))
        ExecutorStore(client, "london").publish("j1", 1, reports, after=0)
    client.hset(keys.instance("london"), "seen_ms", now_ms() - silent_ms)
    return leg


class Answering(threading.Thread):
    """An executor's side: reads wishes by the real link, answers as told."""

    def __init__(self, directory: Path, verdict: Callable[[Any], Answer]) -> None:
        super().__init__(daemon=True)
        from executors.journal import Journal

        self.journal = Journal(directory / "j.sqlite3", installation="tests", terminal_id="london")
        self.seen: list[Any] = []
        self.link = Link(
            terminal_id="london", epoch=1, reader=JournalReader(directory / "j.sqlite3"), journal_id="j1",
            facts=InstanceFacts(), alerts=Alerts(), emit=self.heard,
        )  # fmt: skip
        self.verdict = verdict

    def heard(self, event: Any) -> None:
        if isinstance(event, SettlementsRead):
            for wish in event.wishes:
                self.seen.append(wish)
                self.link.answer(wish, self.verdict(wish))


@pytest.fixture
def executor(tmp_path: Path, state_redis: Any) -> Iterator[Callable[..., Answering]]:
    made: list[Answering] = []

    def make(*, done: bool = True, message: str = "It is settled.") -> Answering:
        found = Answering(
            tmp_path,
            lambda wish: Answer(settlement_id=wish.settlement_id, done=done, message=message, time_ms=1),
        )
        found.link.start()
        made.append(found)
        return found

    yield make
    for item in made:
        item.link.stop(timeout_s=5)
        item.journal.close()


def page(client: Client) -> Any:
    return client.get(f"/admin/executors/signalrecord/settle/{NAME}/")


def filled_in(client: Client, **fields: Any) -> dict[str, Any]:
    form = page(client).context["form"]
    return {
        "truth": "executed",
        "filled_lots": "0.1",
        "price": "1.14",
        "evidence": "Statement of today, ticket 77.",
        "reason": "The history of the account was cut.",
        "settlement_id": form.initial["settlement_id"],
        "report_seq": form.initial["report_seq"],
        "confirm": "london",
        **fields,
    }


def send(client: Client, **fields: Any) -> Any:
    return client.post(
        f"/admin/executors/signalrecord/settle/{NAME}/", filled_in(client, **fields), follow=True
    )


def actions() -> list[str]:
    return [
        entry.action for entry in AuditEntry.objects.order_by("position") if entry.target == f"order {NAME}"
    ]


def said(response: Any) -> str:
    return " ".join(str(message) for message in response.context["messages"])


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("settle_order", NAME, *arguments, stdout=out, stderr=out)
    return out.getvalue()


WORDS = ("--evidence", "Seen there.", "--reason", "Gone.", "--yes")


# --- the page ---


def test_only_admins_settle(world: World) -> None:
    placed()
    for person in (world.ted, world.vic):
        client = Client()
        client.force_login(person)
        assert client.get(f"/admin/executors/signalrecord/settle/{NAME}/").status_code == 302
        assert client.post(f"/admin/executors/signalrecord/settle/{NAME}/", {}).status_code == 302
    assert actions() == []


def test_the_executor_is_asked_and_its_answer_noted(
    world: World, ann: Client, state_redis: Any, executor: Callable[..., Answering]
) -> None:
    placed()
    worker = executor()
    listed = ann.get("/admin/executors/signalrecord/settle/")
    assert NAME in listed.content.decode()
    answer = send(ann)
    assert "It is settled." in said(answer)
    wish = worker.seen[0]
    assert (wish.by, str(wish.filled_lots), wish.report_seq, wish.forced) == ("ann", "0.1", 2, False)
    assert state_redis.hgetall(keys.settlements("london")) == {}
    assert state_redis.hgetall(keys.settlement_answers("london")) == {}
    assert actions() == ["settlement asked", "order settled by hand"]
    detail = AuditEntry.objects.get(action="settlement asked").detail
    assert (detail["reason"], detail["filled_lots"]) == ("The history of the account was cut.", "0.1")
    assert audit.first_broken() is None


def test_a_refusal_of_the_executor_is_shown_and_noted(
    world: World, ann: Client, executor: Callable[..., Answering]
) -> None:
    placed()
    executor(done=False, message="Its executor knows what became of it: it is FILLED.")
    assert "it is FILLED" in said(send(ann))
    assert actions() == ["settlement asked", "settlement refused"]


def test_without_an_executor_the_wish_waits_and_the_beat_notes_the_answer(
    world: World,
    ann: Client,
    state_redis: Any,
    executor: Callable[..., Answering],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("executors.admin_settlement.WAIT_S", 0.0)
    placed()
    assert "not answered yet" in said(send(ann))
    assert state_redis.hlen(keys.settlements("london")) == 1
    assert "Asked already" in page(ann).content.decode()
    worker = executor()
    wait_until(lambda: state_redis.hlen(keys.settlement_answers("london")) == 1)
    state_redis.hset(keys.CONFIGS, "london", "{}")
    text = state_redis.hget(keys.settlement_answers("london"), NAME)
    from executors.tasks import note_settlements

    assert note_settlements() == 1
    state_redis.hset(keys.settlement_answers("london"), NAME, text)  # a crash before it was forgotten
    assert note_settlements() == 0
    assert actions() == ["settlement asked", "order settled by hand"]
    assert len(worker.seen) >= 1


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"confirm": "paris"}, "Type london to confirm."),
        ({"reason": ""}, "This field is required."),
        ({"filled_lots": ""}, "say how many lots were filled"),
        ({"truth": "not_executed", "price": ""}, "leave them empty"),
        ({"report_seq": "1"}, "moved on since you looked"),
        ({"truth": "eaten"}, "Select a valid choice"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(
    world: World, ann: Client, state_redis: Any, fields: dict[str, str], sentence: str
) -> None:
    placed()
    answer = send(ann, **fields)
    assert sentence in answer.content.decode().replace("&#x27;", "'")
    assert state_redis.hgetall(keys.settlements("london")) == {}
    assert actions() == []


def test_a_living_executor_ends_what_is_queued_itself(world: World, ann: Client, state_redis: Any) -> None:
    placed("QUEUED")
    assert "its executor is at work on it" in send(ann).content.decode()
    assert actions() == []


def test_there_is_no_such_order(world: World, ann: Client) -> None:
    assert page(ann).status_code == 404


def test_redis_that_does_not_answer_is_said(world: World, ann: Client, state_server: Valkey) -> None:
    placed()
    state_server.kill()
    try:
        assert "does not answer" in said(
            ann.get(f"/admin/executors/signalrecord/settle/{NAME}/", follow=True)
        )
    finally:
        state_server.start()


# --- by force ---


def test_a_terminal_that_was_heard_of_is_not_dead(world: World, ann: Client, state_redis: Any) -> None:
    placed(silent_ms=5_000)
    assert "dead" not in page(ann).context["form"].fields
    with pytest.raises(CommandError, match="not dead"):
        run("--user", "ann", "--outcome", "given-up", "--executor-is-dead", "london", *WORDS)
    assert state_redis.hget(keys.order(NAME), "state") == "UNKNOWN"


@pytest.mark.parametrize("state", ["QUEUED", "INTENT", "UNKNOWN", "PLACED"])
def test_the_order_of_a_dead_terminal_ends_at_once(
    world: World, ann: Client, state_redis: Any, state: str
) -> None:
    leg = placed(state, silent_ms=31_000)
    answer = send(ann, dead="on")
    assert "Settled by force" in said(answer)
    held = state_redis.hgetall(keys.order(NAME))
    assert (held["state"], held["report_seq"]) == ("MANUAL", "1" if state == "QUEUED" else "3")
    assert state_redis.zscore(keys.UNSETTLED, NAME) is None
    assert state_redis.zscore(keys.outbox("london"), NAME) is None
    newest = state_redis.xrevrange(keys.REPORTS, count=1)[0][1]["report"]
    assert newest == held["report"]
    wish = read_settlement(state_redis.hget(keys.settlements("london"), NAME))
    assert wish is not None
    assert wish.forced
    assert Leg.model_validate_json(wish.leg) == leg
    assert actions() == ["settlement asked", "order settled by hand"]
    assert "settled" in page(ann).content.decode().lower()


# --- the command ---


def test_the_command_asks_the_executor(world: World, executor: Callable[..., Answering]) -> None:
    placed()
    executor()
    told = run("--user", "ann", "--outcome", "executed", "--lots", "0.1", "--price", "1.1", *WORDS)
    assert "It is settled." in told
    assert actions() == ["settlement asked", "order settled by hand"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--user", "ted", "--outcome", "given-up"), "Only an admin"),
        (("--user", "nobody", "--outcome", "given-up"), "no user"),
        (("--user", "ann", "--outcome", "executed"), "how many lots"),
        (("--user", "ann", "--outcome", "executed", "--lots", "many"), "must be numbers"),
        (("--user", "ann", "--outcome", "given-up", "--executor-is-dead", "paris"), "not on paris"),
    ],
)
def test_the_command_refuses(world: World, arguments: tuple[str, ...], sentence: str) -> None:
    placed()
    with pytest.raises(CommandError, match=sentence):
        run(*arguments, *WORDS)
    assert actions() == []
