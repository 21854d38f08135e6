"""Health, metrics, signing in, sessions and headers, through the whole chain of middleware."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.test import AsyncClient, Client
from django.utils import timezone

from executors.models import AuditEntry
from tests.integration.people import FAST_HASHERS, PASSWORD, World
from tests.valkey import Valkey
from tradedist import health as health_module
from tradedist import keys, sign_in
from tradedist.api import health_checks
from tradedist.clock import now_ms
from tradedist.redis import close_loop_clients
from tradedist.security_headers import POLICY

pytestmark = pytest.mark.django_db(transaction=True)


SHIPPED_LIMIT_S = health_module.LIMIT_S


@pytest.fixture(autouse=True)
def fresh(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "LIMIT_S", 30.0)  # what is well answers, however busy this machine is
    settings.PASSWORD_HASHERS = FAST_HASHERS
    health_checks._answer = None
    sign_in.by_user._failures.clear()
    sign_in.by_address._failures.clear()


@pytest_asyncio.fixture
async def world(transactional_db: None, state_redis: Any, ticks_redis: Any) -> AsyncIterator[World]:
    yield await sync_to_async(World)()
    await close_loop_clients()


def beat(state: Any, ticks: Any, ready: tuple[str, ...] = ("london", "tokyo", "paris")) -> None:
    state.hset(keys.HEARTBEATS, f"terminals:{django_settings.HOST_ID}", now_ms())
    ticks.set(keys.FEED_HEARTBEAT, now_ms(), px=10_000)
    for terminal_id in ready:
        state.hset(keys.instance(terminal_id), mapping={"state": "READY", "seen_ms": now_ms()})


async def health() -> tuple[int, Any, float]:
    began = time.perf_counter()
    health_checks._answer = None
    response = await AsyncClient().get("/api/health")
    return response.status_code, response.json(), time.perf_counter() - began


# --- Health ---


async def test_all_is_well(world: World, state_redis: Any, ticks_redis: Any) -> None:
    beat(state_redis, ticks_redis)
    status, body, _ = await health()
    assert (status, body["status"]) == (200, "ok")
    assert set(body["parts"]) == {"state_redis", "tick_redis", "database", "terminals", "feed", "executors"}
    assert set(body["parts"].values()) == {"ok"}


async def test_what_trading_does_not_need_only_degrades(
    world: World, state_redis: Any, ticks_redis: Any
) -> None:
    beat(state_redis, ticks_redis, ready=("london",))
    ticks_redis.delete(keys.FEED_HEARTBEAT)
    status, body, _ = await health()
    assert (status, body["status"]) == (200, "degraded")
    assert body["parts"]["executors"] == "partly: 1 of 3 ready"
    assert body["parts"]["feed"] == "silent"
    assert "london" not in str(body)


async def test_nothing_ready_or_no_supervisor_is_503(
    world: World, state_redis: Any, ticks_redis: Any
) -> None:
    beat(state_redis, ticks_redis, ready=())
    status, body, _ = await health()
    assert (status, body["parts"]["executors"]) == (503, "0 of 3 ready")
    beat(state_redis, ticks_redis)
    state_redis.hset(keys.HEARTBEATS, f"terminals:{django_settings.HOST_ID}", now_ms() - 60_000)
    status, body, _ = await health()
    assert (status, body["parts"]["terminals"]) == (503, "1 of 1 supervisors silent")


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_answers_quickly_when_redis_is_dead_or_frozen(
    world: World,
    state_redis: Any,
    ticks_redis: Any,
    state_server: Valkey,
    ticks_server: Valkey,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health_module, "LIMIT_S", SHIPPED_LIMIT_S)
    beat(state_redis, ticks_redis)
    for server, part in ((state_server, "state_redis"), (ticks_server, "tick_redis")):
        getattr(server, fault)()
        try:
            status, body, took = await health()
            assert status == (503 if part == "state_redis" else 200)
            assert body["parts"][part] != "ok"
            assert took < 15  # of seconds for ever
        finally:
            server.start() if fault == "kill" else server.cont()


async def test_many_at_once_cost_one_look(world: World, state_redis: Any, ticks_redis: Any) -> None:
    beat(state_redis, ticks_redis)
    before = state_redis.info("commandstats").get("cmdstat_ping", {}).get("calls", 0)
    answers = await asyncio.gather(*(AsyncClient().get("/api/health") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert state_redis.info("commandstats")["cmdstat_ping"]["calls"] - before <= 3


# --- Metrics ---


def test_metrics_are_for_this_machine_the_token_and_staff(world_sync: World, settings: Any) -> None:
    settings.METRICS_TOKEN = "let-me-read"

    def status(address: str = "203.0.113.9", client: Client | None = None, **headers: str) -> int:
        return int(
            (client or Client())
            .get(
                "/metrics",
                headers={name.replace("_", "-"): text for name, text in headers.items()},
                REMOTE_ADDR=address,
            )
            .status_code
        )

    assert status("127.0.0.1") == 200
    assert status("::1") == 200
    assert status() == 404
    assert status("127.0.0.1", x_real_ip="203.0.113.9") == 404
    assert status("127.0.0.1", forwarded="for=203.0.113.9") == 404
    assert status("") == 404
    assert status(authorization="Bearer let-me-read") == 200
    for wrong in ("Bearer let-me", "Bearer ", "let-me-read", "Bearer let-me-readé"):
        assert status(authorization=wrong) == 404
    staff, trader = Client(), Client()
    staff.force_login(world_sync.ann)
    trader.force_login(world_sync.ted)
    assert status(client=staff) == 200
    assert status(client=trader) == 404
    settings.METRICS_TOKEN = ""
    assert status(authorization="Bearer ") == 404


def test_metrics_are_prometheus_text(world_sync: World) -> None:
    response = Client().get("/metrics")
    assert response["Content-Type"].startswith("text/plain")
    assert b"# TYPE django_http_requests_before_middlewares_total counter" in response.content
    assert Client().post("/metrics").status_code == 405


# --- Signing in ---


def enter(client: Client, username: str, password: str, **extra: Any) -> Any:
    return client.post("/login/", {"username": username, "password": password}, **extra)


def test_signing_in_and_out_is_audited(world_sync: World) -> None:
    client = Client()
    assert client.get("/")["Location"].startswith("/login/")
    assert enter(client, "ted", PASSWORD).status_code == 302
    assert client.get("/api/me").json()["username"] == "ted"
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/").status_code == 302
    assert client.get("/api/me").status_code == 401
    assert enter(client, "ted", "wrong").status_code == 200
    said = list(
        AuditEntry.objects.filter(target="session").order_by("position").values_list("username", "action")
    )
    assert said == [("ted", "signed in"), ("ted", "signed out"), ("ted", "sign-in failed")]


@pytest.fixture
def world_sync(transactional_db: None, state_redis: Any, ticks_redis: Any) -> World:
    return World()


def test_repeated_failures_lock_this_user_from_this_address(world_sync: World) -> None:
    client = Client()
    for _ in range(5):
        assert b"Try again in" not in enter(client, "ted", "wrong").content
    locked = enter(client, "ted", PASSWORD)
    assert locked.status_code == 200
    assert b"Too many failed attempts. Try again in 15 minutes." in locked.content
    assert enter(client, "TED", PASSWORD).status_code == 200
    assert enter(client, "vic", PASSWORD).status_code == 302
    elsewhere = Client()
    assert enter(elsewhere, "ted", PASSWORD, REMOTE_ADDR="203.0.113.7").status_code == 302


def test_many_names_from_one_address_lock_the_address(world_sync: World) -> None:
    client = Client()
    for n in range(50):
        enter(client, f"nobody{n}", "x")
    assert b"Too many failed attempts" in enter(client, "ted", PASSWORD).content
    assert AuditEntry.objects.filter(action="sign-in failed").count() == 50


def test_the_proxys_word_counts_only_when_there_is_one(world_sync: World, settings: Any) -> None:
    client = Client()
    for n in range(5):
        enter(client, "ted", "wrong", HTTP_X_FORWARDED_FOR=f"203.0.113.{n}")
    assert (
        b"Too many failed attempts"
        in enter(client, "ted", PASSWORD, HTTP_X_FORWARDED_FOR="203.0.113.99").content
    )
    settings.BEHIND_PROXY = True
    assert enter(client, "ted", PASSWORD, HTTP_X_FORWARDED_FOR="1.2.3.4, 203.0.113.99").status_code == 302
    last = AuditEntry.objects.order_by("-position").first()
    assert last is not None
    assert last.address == "203.0.113.99"


@pytest.mark.parametrize("username", ["", "\x00", "ted\x00", "x" * 10_000, "тест", "'; --"])
def test_strange_names_are_only_wrong(world_sync: World, username: str) -> None:
    assert enter(Client(), username, "x").status_code == 200


def test_next_leads_only_to_this_site(world_sync: World) -> None:
    response = Client().post("/login/?next=https://evil.example/", {"username": "ted", "password": PASSWORD})
    assert response["Location"] == "/"


def test_a_form_without_csrf_token_is_refused_with_a_page(world_sync: World) -> None:
    response = Client(enforce_csrf_checks=True).post(
        "/login/", {"username": "ted", "password": PASSWORD}, headers={"accept": "text/html"}
    )
    assert response.status_code == 403
    assert b"Load the page again" in response.content


# --- Sessions end ---


def test_a_session_ends_after_its_absolute_time_however_busy(world_sync: World, settings: Any) -> None:
    client = Client()
    enter(client, "ted", PASSWORD)
    session = client.session
    session[sign_in.SIGNED_IN] = now_ms() - settings.SESSION_ABSOLUTE_S * 1000 + 5_000
    session[sign_in.SEEN] = 0
    session.save()
    assert client.get("/api/me").status_code == 200
    assert client.session.get_expiry_age() <= 5  # the sockets see this end as well
    session = client.session
    session[sign_in.SIGNED_IN] = now_ms() - settings.SESSION_ABSOLUTE_S * 1000 - 1
    session.save()
    assert client.get("/api/me").status_code == 401
    assert client.get("/api/me").status_code == 401


def test_a_session_lives_on_while_it_is_used_and_ends_when_idle(world_sync: World, settings: Any) -> None:
    settings.SESSION_COOKIE_AGE = 600
    client = Client()
    enter(client, "ted", PASSWORD)
    client.get("/api/me")
    session = client.session
    assert session.get_expiry_age() <= 600
    session[sign_in.SEEN] = now_ms() - sign_in.NOTE_EVERY_MS
    session.set_expiry(20)
    session.save()
    assert client.get("/api/me").status_code == 200
    assert client.session.get_expiry_age() > 500
    from django.contrib.sessions.models import Session

    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert client.get("/api/me").status_code == 401


def test_a_deactivated_user_is_out_at_once(world_sync: World) -> None:
    client = Client()
    enter(client, "ted", PASSWORD)
    world_sync.ted.is_active = False
    world_sync.ted.save()
    assert client.get("/api/me").status_code == 401
    assert enter(Client(), "ted", PASSWORD).status_code == 200


@pytest.mark.parametrize("username", ["ted", "vic"])
def test_who_is_no_admin_is_told_so_by_the_admin(world_sync: World, username: str) -> None:
    client = Client()
    enter(client, username, PASSWORD)
    response = client.get("/admin/", follow=True)
    assert response.status_code == 403
    assert b"The admin is for admins" in response.content


def test_an_admin_and_a_stranger_pass_the_admins_sign_in(world_sync: World) -> None:
    assert Client().get("/admin/", follow=True).redirect_chain[-1][0] == "/login/?next=%2Fadmin%2F"
    client = Client()
    enter(client, "ann", PASSWORD)
    assert client.get("/admin/login/?next=/admin/", follow=True).status_code == 200


def test_signing_in_never_leads_back_to_the_sign_in(world_sync: World) -> None:
    client = Client()
    enter(client, "ted", PASSWORD)
    assert client.get("/login/?next=/login/")["Location"] == "/"


# --- Headers and the documentation ---


@pytest.mark.parametrize("path", ["/login/", "/api/health", "/api/nothing", "/nothing", "/admin/login/"])
def test_every_answer_carries_the_policies(world_sync: World, path: str) -> None:
    response = Client().get(path)
    assert response["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY
    assert response["Referrer-Policy"] == "same-origin"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"


def test_api_answers_are_not_kept(world_sync: World) -> None:
    client = Client()
    client.force_login(world_sync.ted)
    for path in ("/api/me", "/api/terminals", "/api/signals", "/api/health", "/api/nothing"):
        assert client.get(path)["Cache-Control"] == "no-store", path


def test_the_documentation_needs_no_sign_in_and_describes_every_route() -> None:
    client = Client()
    page = client.get("/api/docs")
    assert page.status_code == 200
    assert b"http" not in page.content.replace(b"http-equiv", b"")  # nothing from elsewhere
    document = client.get("/api/openapi.json").json()
    routes = {(path, method) for path, item in document["paths"].items() for method in item}
    wanted = {
        ("/api/health", "get"), ("/api/signals", "post"), ("/api/signals", "get"), ("/api/signals/{signal_id}", "get"),
        ("/api/terminals", "get"), ("/api/positions", "get"), ("/api/orders", "get"), ("/api/symbols", "get"),
        ("/api/candles", "get"), ("/api/me", "get"), ("/api/modes", "get"), ("/api/modes", "post"),
    }  # fmt: skip
    assert wanted <= routes
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], (path, method)
            codes = set(operation["responses"])
            assert codes & {"200", "202"}, (path, method)
            if path != "/api/health":
                assert {"401", "422", "429", "503"} <= codes, (path, method)
    wish = document["paths"]["/api/signals"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "signal_id" in str(wish)
    assert "$ref" not in str(wish)


def test_a_changed_password_ends_the_other_sessions(world_sync: World) -> None:
    here, there = Client(), Client()
    assert here.get("/password/").status_code == 302
    for client in (here, there):
        enter(client, "ted", PASSWORD)
    assert here.get("/password/").status_code == 200
    wish = {"old_password": "wrong", "new_password1": "another long one", "new_password2": "another long one"}
    assert here.post("/password/", wish).status_code == 200
    short = {"old_password": PASSWORD, "new_password1": "short", "new_password2": "short"}
    assert here.post("/password/", short).status_code == 200
    assert here.post("/password/", {**wish, "old_password": PASSWORD}).status_code == 302
    assert here.get("/api/me").status_code == 200
    assert there.get("/api/me").status_code == 401
    assert AuditEntry.objects.filter(action="password changed").count() == 1


def test_the_icon_is_found(world_sync: World) -> None:
    assert Client().get("/favicon.ico")["Location"] == "/static/img/mark.svg"
