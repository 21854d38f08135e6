"""REST through the whole chain of middleware, with a real Valkey and database."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.test import AsyncClient

import tradedist.celery  # noqa: F401  as in the web process: accept sends tasks
from executors import audit, dispatch, tokens
from executors.api_auth import requests_of_users
from executors.errors import Code
from executors.messages import PositionState
from executors.models import Member, Terminal
from tests.integration.bodies import an_open
from tests.integration.people import World
from tests.valkey import Valkey
from tradedist import keys
from tradedist.clock import monotonic_ms, now_ms
from tradedist.redis import close_loop_clients

pytestmark = pytest.mark.django_db(transaction=True)


class Program:
    """A program with a token."""

    def __init__(self, token: str) -> None:
        self.client = AsyncClient()
        self.headers = {"authorization": f"Bearer {token}"}

    async def get(self, path: str, **query: Any) -> Any:
        return await self.client.get(f"/api{path}", query, headers=self.headers)

    async def post(self, path: str, body: Any) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body)
        return await self.client.post(
            f"/api{path}", raw, content_type="application/json", headers=self.headers
        )


class Stage:
    """The world of people.py, and a program of each person."""

    def __init__(self) -> None:
        self.world = World()
        for name in ("ann", "ted", "vic", "nia"):
            text, _ = tokens.create(getattr(self.world, name), "test", actor="test")
            setattr(self, name, Program(text))

    ann: Program
    ted: Program
    vic: Program
    nia: Program


@pytest_asyncio.fixture
async def stage(transactional_db: None, state_redis: Any, ticks_redis: Any) -> AsyncIterator[Stage]:
    dispatch._rate._buckets.clear()
    requests_of_users._held.clear()
    yield await sync_to_async(Stage)()
    await dispatch.close_process()
    await close_loop_clients()


def error(response: Any, status: int, code: Code) -> str:
    """Checks the form that every error has; returns its sentence."""
    body = response.json()
    assert (response.status_code, body.get("code")) == (status, code), body
    assert set(body) == {"code", "message"}
    assert len(body["message"]) > 10
    return str(body["message"])


# --- Signals ---


async def test_a_signal_is_recorded_once_and_answered_again(stage: Stage) -> None:
    body = an_open()
    first = await stage.ted.post("/signals", body)
    assert first.status_code == 202, first.content
    said = first.json()
    assert [order["terminal_id"] for order in said["orders"]] == ["london", "tokyo"]
    assert [order["order_id"] for order in said["orders"]] == [
        f"{body['signal_id']}:{t}" for t in ("london", "tokyo")
    ]
    assert {order["state"] for order in said["orders"]} == {"QUEUED"}
    assert said["signal"]["lots"] == 0.1

    again = await stage.ted.post("/signals", body)
    assert again.status_code == 200
    assert again.json()["signal_id"] == body["signal_id"]

    error(await stage.ted.post("/signals", {**body, "lots": 0.2}), 409, Code.SIGNAL_CONFLICT)
    error(await stage.ann.post("/signals", body), 409, Code.SIGNAL_CONFLICT)


async def test_a_known_signal_shows_only_what_may_be_seen_now(stage: Stage) -> None:
    body = an_open()
    await stage.ted.post("/signals", body)
    await sync_to_async(stage.world.desk.terminals.remove)(stage.world.tokyo)
    again = await stage.ted.post("/signals", body)
    assert [order["terminal_id"] for order in again.json()["orders"]] == ["london"]


async def test_a_signal_by_id_is_for_those_who_may_see_a_part(stage: Stage) -> None:
    body = an_open()
    await stage.ted.post("/signals", body)
    path = f"/signals/{body['signal_id']}"
    seen = {}
    for name in ("ann", "ted", "vic"):
        response = await getattr(stage, name).get(path)
        assert response.status_code == 200
        seen[name] = [order["terminal_id"] for order in response.json()["orders"]]
    assert seen == {"ann": ["london", "tokyo"], "ted": ["london", "tokyo"], "vic": ["london"]}
    hidden = error(await stage.nia.get(path), 404, Code.NOT_FOUND)
    absent = error(await stage.nia.get(f"/signals/{uuid4()}"), 404, Code.NOT_FOUND)
    assert hidden == absent


@pytest.mark.parametrize("signal_id", ["x", "..", "%00", "a" * 5000, "6F9619FF-8B86-D011-B42D-00C04FC964FF"])
async def test_strange_ids_are_not_found(stage: Stage, signal_id: str) -> None:
    error(await stage.ted.get(f"/signals/{signal_id}"), 404, Code.NOT_FOUND)


async def test_the_list_pages_newest_first_and_filters(stage: Stage) -> None:
    sent = []
    for n in range(7):
        target = "london" if n % 2 else "tokyo"
        body = an_open(targets={"terminals": [target]})
        assert (await stage.ted.post("/signals", body)).status_code == 202
        sent.append((body["signal_id"], target))
    newest = [signal_id for signal_id, _ in reversed(sent)]

    found: list[str] = []
    cursor, pages = "", 0
    while True:
        response = await stage.ted.get("/signals", limit=3, **({"cursor": cursor} if cursor else {}))
        page = response.json()
        found += [item["signal_id"] for item in page["items"]]
        pages += 1
        cursor = page["cursor"]
        if not cursor:
            break
    assert sorted(found) == sorted(newest)
    assert pages <= 4

    vics = (await stage.vic.get("/signals")).json()["items"]
    assert {item["signal_id"] for item in vics} == {
        signal_id for signal_id, target in sent if target == "london"
    }
    only = (await stage.ted.get("/signals", terminal="tokyo", state="QUEUED")).json()["items"]
    assert {item["signal_id"] for item in only} == {
        signal_id for signal_id, target in sent if target == "tokyo"
    }
    assert (await stage.ted.get("/signals", state="FILLED")).json() == {"items": [], "cursor": None}
    assert (await stage.nia.get("/signals")).json() == {"items": [], "cursor": None}
    error(await stage.vic.get("/signals", terminal="tokyo"), 404, Code.UNKNOWN_TERMINAL)


async def test_a_long_list_of_what_others_did_is_searched_in_bounded_steps(
    stage: Stage, state_redis: Any
) -> None:
    mine = an_open(targets={"terminals": ["london"]})
    await stage.ted.post("/signals", mine)
    pipe = state_redis.pipeline()
    for n in range(2_500):
        name = str(uuid4())
        pipe.zadd(keys.SIGNALS, {name: now_ms() + 1000 + n})
        pipe.hset(
            keys.signal(name),
            mapping={"body": "{}", "user_id": "999", "orders": json.dumps([f"{name}:paris"])},
        )
    pipe.execute()
    first = (await stage.ted.get("/signals")).json()
    assert first["items"] == []
    assert first["cursor"]
    second = (await stage.ted.get("/signals", cursor=first["cursor"])).json()
    assert [item["signal_id"] for item in second["items"]] == [mine["signal_id"]]
    assert second["cursor"] is None


async def test_accepting_stays_one_record_under_a_hundred_repeats_at_once(
    stage: Stage, state_redis: Any
) -> None:
    body = an_open()
    answers = await asyncio.gather(*(stage.ted.post("/signals", body) for _ in range(30)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] * 29 + [202]
    assert state_redis.zcard(keys.outbox("london")) == 1


async def test_the_rate_of_orders_is_limited_per_user(stage: Stage, settings: Any) -> None:
    settings.ORDERS_PER_SECOND = 1  # however long forty take
    answers = await asyncio.gather(*(stage.ted.post("/signals", an_open()) for _ in range(40)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    error(refused[0], 429, Code.RATE_LIMITED)
    assert (await stage.ann.post("/signals", an_open())).status_code == 202


async def test_the_rate_of_requests_is_limited_per_user(stage: Stage) -> None:
    def empty() -> None:  # and not filling before the next look at it
        requests_of_users._held[stage.world.ted.pk] = (0.0, monotonic_ms() + 60_000)

    empty()
    refused = await stage.ted.get("/me")
    error(refused, 429, Code.RATE_LIMITED)
    assert refused["Retry-After"] == "1"
    empty()
    error(await stage.ted.post("/signals", an_open()), 503, Code.ACCEPT_UNKNOWN)  # it may be known
    assert (await stage.vic.get("/me")).status_code == 200


# --- Who may ---


async def test_viewers_cannot_trade(stage: Stage) -> None:
    body = an_open(targets={"terminals": ["london"]})
    error(await stage.vic.post("/signals", body), 403, Code.FORBIDDEN)
    error(
        await stage.vic.post("/modes", {"mode": "HALTED", "targets": {"terminals": ["london"]}}),
        403,
        Code.FORBIDDEN,
    )


async def test_what_is_not_granted_does_not_exist(stage: Stage) -> None:
    for targets in ({"terminals": ["paris"]}, {"terminals": ["london", "paris"]}):
        error(await stage.ted.post("/signals", an_open(targets=targets)), 404, Code.UNKNOWN_TERMINAL)
    error(await stage.nia.post("/signals", an_open()), 404, Code.UNKNOWN_GROUP)
    for path in ("/positions", "/orders"):
        error(await stage.ted.get(path, terminal="paris"), 404, Code.UNKNOWN_TERMINAL)


ROUTES = [
    "/signals",
    "/signals/0b61b1f6-7a3f-4a0a-9a55-5f0f4c3c8f11",  # fixed: parallel workers must collect the same names
    "/terminals",
    "/positions",
    "/orders",
    "/symbols",
    "/candles",
    "/me",
    "/modes",
]


@pytest.mark.parametrize("path", ROUTES)
async def test_every_route_wants_a_login(stage: Stage, path: str) -> None:
    nobody = AsyncClient()
    response = await nobody.get(f"/api{path}")
    error(response, 401, Code.NOT_SIGNED_IN)
    assert response["WWW-Authenticate"] == "Bearer"
    bad = [
        "Bearer",
        "Bearer ",
        "Bearer td_wrong",
        "Basic YTpi",
        "Bearer " + "x" * 5000,
        "td_x",
        "Bearer td_é\x00",
    ]
    for header in bad:
        error(await nobody.get(f"/api{path}", headers={"authorization": header}), 401, Code.NOT_SIGNED_IN)


async def test_tokens_end(stage: Stage) -> None:
    from datetime import timedelta

    from django.utils import timezone

    def make(**fields: Any) -> tuple[str, Any]:
        return tokens.create(stage.world.ted, "short", actor="test", **fields)

    text, token = await sync_to_async(make)()
    program = Program(text)
    assert (await program.get("/me")).status_code == 200
    await sync_to_async(tokens.revoke)(token, actor="test")
    error(await program.get("/me"), 401, Code.NOT_SIGNED_IN)
    text, _ = await sync_to_async(make)(expires_at=timezone.now() - timedelta(seconds=1))
    error(await Program(text).get("/me"), 401, Code.NOT_SIGNED_IN)
    stage.world.ted.is_active = False
    await stage.world.ted.asave()
    error(await stage.ted.get("/me"), 401, Code.NOT_SIGNED_IN)


async def test_a_token_that_only_views_does_not_trade(stage: Stage) -> None:
    text, _ = await sync_to_async(tokens.create)(stage.world.ann, "dashboard", actor="test", scope="view")
    program = Program(text)
    assert len((await program.get("/terminals")).json()["items"]) == 3
    error(await program.post("/signals", an_open()), 403, Code.FORBIDDEN)
    error(await program.post("/modes", {"mode": "HALTED", "scope": "all"}), 403, Code.FORBIDDEN)


async def test_sessions_need_the_csrf_token_and_tokens_do_not(stage: Stage) -> None:
    browser = AsyncClient(enforce_csrf_checks=True)
    await browser.aforce_login(stage.world.ted)
    assert (await browser.get("/api/me")).status_code == 200

    async def send(**headers: str) -> Any:
        return await browser.post(
            "/api/signals", json.dumps(an_open()), content_type="application/json", headers=headers
        )

    error(await send(), 403, Code.NOT_SIGNED_IN)
    page = await browser.get("/login/")
    assert page.status_code == 302  # signed in already: no form, no token
    from django.middleware.csrf import _get_new_csrf_string

    secret = _get_new_csrf_string()
    browser.cookies["csrftoken"] = secret
    error(await send(**{"x-csrftoken": "wrong"}), 403, Code.NOT_SIGNED_IN)
    assert (await send(**{"x-csrftoken": secret})).status_code == 202
    error(await send(**{"x-csrftoken": secret, "origin": "http://evil.example"}), 403, Code.NOT_SIGNED_IN)
    form = await browser.post("/api/signals", {"a": "b"}, headers={"x-csrftoken": secret})
    error(form, 415, Code.INVALID)


# --- Terminals and what they hold ---


async def test_terminals_show_what_they_last_said(stage: Stage, state_redis: Any) -> None:
    account = {
        "terminal_id": "london", "login": 1, "server": "Paper-Demo", "currency": "USD", "balance": "1000.10",
        "equity": "999.5", "margin": "0", "margin_free": "999.5", "margin_level": "0", "profit": "-0.6", "leverage": 100,
        "hedging": True, "trade_allowed": True, "connected": True, "time_ms": now_ms(),
    }  # fmt: skip
    state_redis.set(keys.account("london"), json.dumps(account))
    state_redis.hset(
        keys.instance("london"),
        mapping={
            "state": "READY",
            "seen_ms": now_ms(),
            "latency_us": 900,
            "broker_us": 300,
            "config_version": 3,
        },
    )
    state_redis.hset(keys.instance("tokyo"), mapping={"state": "nonsense", "seen_ms": "x"})
    state_redis.set(keys.account("tokyo"), "{broken")
    state_redis.hset(keys.MODES, mapping={"global": "REDUCING", "terminal:london": "HALTED"})
    page = (await stage.ted.get("/terminals")).json()
    assert page["cursor"] is None
    london, tokyo = page["items"]
    assert (london["status"], london["stale"], london["latency_us"]) == ("READY", False, 900)
    assert (london["mode"], london["effective_mode"]) == ("HALTED", "HALTED")
    assert london["account"]["balance"] == 1000.1
    assert (tokyo["status"], tokyo["stale"], tokyo["account"]) == ("STOPPED", True, None)
    assert (tokyo["mode"], tokyo["effective_mode"]) == ("ACTIVE", "REDUCING")
    assert london["groups"] == ["desk"]
    assert (await stage.nia.get("/terminals")).json() == {"items": [], "cursor": None}
    vics = (await stage.vic.get("/terminals")).json()["items"]
    assert [(item["terminal_id"], item["level"]) for item in vics] == [("london", "view")]


def a_position(terminal_id: str, ticket: int) -> PositionState:
    return PositionState(
        terminal_id=terminal_id,
        position_ticket=ticket,
        symbol="EURUSD",
        broker_symbol="EURUSD.m",
        side="buy",
        lots="0.10",
        price_open="1.1",
        price_current="1.2",
        profit="10.5",
        swap="0",
        magic=0,
        opened_ms=1,
    )


async def test_positions_page_by_terminal_and_ticket(stage: Stage, state_redis: Any) -> None:
    for terminal_id, tickets in (("london", [30, 4, 200]), ("tokyo", [1, 2]), ("paris", [9])):
        rows = ",".join(a_position(terminal_id, ticket).model_dump_json() for ticket in tickets)
        state_redis.set(keys.positions(terminal_id), f"[{rows}]")
    found: list[tuple[str, int]] = []
    cursor = None
    while True:
        page = (await stage.ted.get("/positions", limit=2, **({"cursor": cursor} if cursor else {}))).json()
        found += [(item["terminal_id"], item["position_ticket"]) for item in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert found == [("london", 4), ("london", 30), ("london", 200), ("tokyo", 1), ("tokyo", 2)]
    only = (await stage.ted.get("/positions", terminal="tokyo")).json()["items"]
    assert [item["profit"] for item in only] == [10.5, 10.5]
    assert (await stage.ted.get("/orders")).json() == {"items": [], "cursor": None}


async def test_me(stage: Stage) -> None:
    assert (await stage.ted.get("/me")).json() == {
        "username": "ted",
        "role": "trader",
        "may_trade": True,
        "terminals": {"london": "trade", "tokyo": "trade"},
        "groups": {"desk": ["london", "tokyo"]},
    }
    vic = (await stage.vic.get("/me")).json()
    assert (vic["role"], vic["may_trade"], vic["groups"]) == ("viewer", False, {"desk": ["london"]})


# --- The kill switch ---


async def test_an_admin_halts_all_and_it_is_published_and_audited(stage: Stage, state_redis: Any) -> None:
    from executors.models import AuditEntry

    response = await stage.ann.post("/modes", {"mode": "HALTED", "scope": "all", "reason": "news"})
    assert response.json() == {"mode": "HALTED", "terminals": [], "published": True, "message": ""}
    assert state_redis.hget(keys.MODES, "global") == "HALTED"
    assert (await stage.ted.get("/modes")).json()["global"] == "HALTED"
    entry = await AuditEntry.objects.order_by("-position").afirst()
    assert entry is not None
    assert (entry.username, entry.action, entry.detail["reason"]) == ("ann", "mode HALTED", "news")
    error(await stage.ted.post("/modes", {"mode": "ACTIVE", "scope": "all"}), 403, Code.FORBIDDEN)


async def test_while_all_is_halted_only_cancels_and_known_signals_pass(stage: Stage) -> None:
    body = an_open()
    await stage.ted.post("/signals", body)
    await stage.ann.post("/modes", {"mode": "HALTED", "scope": "all"})
    error(await stage.ted.post("/signals", an_open()), 422, Code.TRADING_HALTED)
    cancel = an_open() | {"action": "cancel", "all": True}
    for name in ("symbol", "side", "lots", "order_type"):
        del cancel[name]
    assert (await stage.ted.post("/signals", cancel)).status_code == 202, "cancels pass"
    assert (await stage.ted.post("/signals", body)).status_code == 200
    await stage.ann.post("/modes", {"mode": "REDUCING", "scope": "all"})
    assert (await stage.ted.post("/signals", an_open())).status_code == 202  # the executor denies what opens


async def test_a_trader_switches_his_own_but_not_what_an_admin_halted(stage: Stage, state_redis: Any) -> None:
    async def switch(who: Program, mode: str, **targets: Any) -> Any:
        return await who.post("/modes", {"mode": mode, "targets": targets})

    assert (await switch(stage.ted, "HALTED", groups=["desk"])).json()["terminals"] == ["london", "tokyo"]
    assert state_redis.hmget(keys.MODES, ["terminal:london", "terminal:paris"]) == ["HALTED", None]
    assert (await switch(stage.ted, "ACTIVE", terminals=["london"])).status_code == 200
    assert state_redis.hget(keys.MODES, "resumed:london") == "1"
    assert (await switch(stage.ann, "REDUCING", terminals=["london"])).status_code == 200
    error(await switch(stage.ted, "ACTIVE", terminals=["london", "tokyo"]), 403, Code.FORBIDDEN)
    assert state_redis.hmget(keys.MODES, ["terminal:london", "terminal:tokyo"]) == ["REDUCING", "HALTED"]
    assert (await switch(stage.ted, "HALTED", terminals=["london"])).status_code == 200
    assert (await switch(stage.ann, "ACTIVE", groups=["desk"])).status_code == 200
    error(await switch(stage.ted, "HALTED", terminals=["paris"]), 404, Code.UNKNOWN_TERMINAL)
    error(await switch(stage.ted, "HALTED", groups=["no"]), 404, Code.UNKNOWN_GROUP)


async def test_a_switch_says_when_redis_did_not_take_it(stage: Stage, state_server: Valkey) -> None:
    state_server.kill()
    try:
        body = (
            await stage.ann.post("/modes", {"mode": "HALTED", "targets": {"terminals": ["london"]}})
        ).json()
    finally:
        state_server.start()
    assert body["published"] is False
    assert "again" in body["message"]
    assert (await Terminal.objects.aget(pk="london")).mode == "HALTED"


# --- Redis and database gone ---


async def test_reads_without_redis_answer_503_and_accept_says_unknown(
    stage: Stage, state_server: Valkey
) -> None:
    state_server.kill()
    try:
        for path in ("/signals", f"/signals/{uuid4()}", "/terminals", "/positions", "/orders", "/modes"):
            error(await stage.ted.get(path), 503, Code.UNAVAILABLE)
        body = an_open()
        error(await stage.ted.post("/signals", body), 503, Code.ACCEPT_UNKNOWN)
        # too old by now, but an earlier send of it may have been recorded
        error(await stage.ted.post("/signals", an_open(age_ms=60_000)), 503, Code.ACCEPT_UNKNOWN)
        error(await stage.ted.post("/signals", an_open(lots=-1)), 422, Code.INVALID)
    finally:
        state_server.start()
    assert (await stage.ted.post("/signals", body)).status_code in (200, 202)


async def test_a_trader_who_became_a_viewer_still_gets_his_record(stage: Stage) -> None:
    body = an_open()
    await stage.ted.post("/signals", body)
    await Member.objects.filter(user=stage.world.ted).aupdate(role="viewer")
    await sync_to_async(audit.append)(
        "ann", "user changed", "ted"
    )  # as the admin does; it makes the change known
    assert (await stage.ted.post("/signals", body)).status_code == 200
    error(await stage.ted.post("/signals", an_open()), 403, Code.FORBIDDEN)
