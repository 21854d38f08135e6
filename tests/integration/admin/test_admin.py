"""The admin as an admin's browser uses it, with a real Valkey."""

import json
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Group, User
from django.test import Client

from executors import tokens
from executors.credentials import unseal
from executors.messages import OpenSignal, TerminalConfig
from executors.models import ApiToken, AuditEntry, GlobalMode, Member, Terminal, TerminalGrant, TerminalGroup
from executors.state import SignalStore
from tests.integration.people import World
from tests.valkey import Valkey
from tradedist import keys
from tradedist.clock import now_ms
from tradedist.redis import async_state

pytestmark = pytest.mark.django_db(transaction=True)

NEW = {
    "terminal_id": "oslo",
    "label": "Oslo",
    "enabled": "on",
    "kind": "paper",
    "login": "77",
    "server": "Paper-Demo",
    "password": "s3cret-trading",
    "path": "",
    "host_id": "local",
    "server_timezone": "Europe/Oslo",
    "symbols": '["EURUSD"]',
    "symbol_prefix": "",
    "symbol_suffix": ".m",
    "symbol_map": '{"GOLD": "XAUUSD"}',
    "tick_priority": "0",
    "sizing_method": "multiplier",
    "sizing_value": "1.5",
    "max_lots": "10",
    "max_positions": "5",
    "orders_per_second": "10",
    "deviation_points": "20",
}


def faults(response: Any) -> dict[str, list[str]]:
    """What the form says is wrong; empty when it was saved."""
    if response.status_code == 302:
        return {}
    found: dict[str, list[str]] = response.context["adminform"].form.errors
    return found


def said(response: Any) -> str:
    return " ".join(str(message) for message in response.context["messages"])


def changed(terminal_id: str, **fields: str) -> dict[str, str]:
    fixed = ("terminal_id", "kind", "login", "server")
    return {name: value for name, value in {**NEW, "password": "", **fields}.items() if name not in fixed}


# --- For admins only ---


@pytest.mark.parametrize("path", ["/admin/", "/admin/executors/terminal/", "/admin/executors/signalrecord/"])
def test_only_admins_come_in(world: World, path: str) -> None:
    assert Client().get(path).status_code == 302
    for person in (world.ted, world.vic):
        client = Client()
        client.force_login(person)
        assert client.get(path).status_code == 302


def test_every_page_opens(world: World, ann: Client) -> None:
    tokens.create(world.ted, "robot", actor="test")
    assert ann.get("/admin/").status_code == 200
    for model, pk in (
        ("executors/terminal", "london"),
        ("executors/terminalgroup", "desk"),
        ("executors/terminalgrant", TerminalGrant.objects.all()[0].pk),
        ("executors/apitoken", ApiToken.objects.all()[0].pk),
        ("executors/auditentry", 1),
        ("auth/user", world.ted.pk),
        ("auth/group", Group.objects.create(name="team").pk),
    ):
        assert ann.get(f"/admin/{model}/").status_code == 200, model
        assert ann.get(f"/admin/{model}/?q=x").status_code == 200, model
        assert ann.get(f"/admin/{model}/{pk}/change/").status_code == 200, model
    for model in ("terminal", "terminalgroup", "terminalgrant", "apitoken"):
        assert ann.get(f"/admin/executors/{model}/add/").status_code == 200, model


# --- Terminals ---


def test_a_new_terminal_is_sealed_published_and_audited(world: World, ann: Client, state_redis: Any) -> None:
    assert faults(ann.post("/admin/executors/terminal/add/", NEW)) == {}
    oslo = Terminal.objects.get(pk="oslo")
    assert "s3cret" not in oslo.sealed_password
    assert unseal(django_settings.CREDENTIALS_KEY, "oslo", oslo.sealed_password) == "s3cret-trading"
    config = TerminalConfig.model_validate_json(state_redis.hget(keys.CONFIGS, "oslo"))
    assert (config.version, config.symbol_suffix, str(config.sizing.value)) == (1, ".m", "1.50000000")
    assert state_redis.hget(keys.CONFIG_VERSIONS, "oslo") == "1"
    assert state_redis.hget(keys.MODES, "terminal:oslo") == "ACTIVE"
    entry = AuditEntry.objects.get(action="terminal created")
    assert entry.username == "ann"
    assert "s3cret" not in json.dumps(entry.detail)
    page = ann.get("/admin/executors/terminal/oslo/change/").content.decode()
    assert "s3cret" not in page
    assert oslo.sealed_password not in page


def test_a_change_raises_the_version_and_tells_the_executors(
    world: World, ann: Client, state_redis: Any
) -> None:
    ann.post("/admin/executors/terminal/add/", NEW)
    sealed = Terminal.objects.get(pk="oslo").sealed_password
    listener = state_redis.pubsub()
    listener.subscribe(keys.CONFIG_CHANGES)
    listener.get_message(timeout=60)
    assert (
        faults(ann.post("/admin/executors/terminal/oslo/change/", changed("oslo", max_positions="9"))) == {}
    )
    assert listener.get_message(timeout=60)["data"] == "oslo"
    listener.close()
    config = TerminalConfig.model_validate_json(state_redis.hget(keys.CONFIGS, "oslo"))
    assert (config.version, config.limits.max_positions, config.sealed_password) == (2, 9, sealed)
    entry = AuditEntry.objects.get(action="terminal changed")
    assert "Max positions" in str(entry.detail)


def test_an_account_cannot_be_changed_by_the_form(world: World, ann: Client) -> None:
    body = {
        **changed("london", label="Moved"),
        "login": "999",
        "server": "Evil",
        "kind": "remote",
        "terminal_id": "x",
    }
    assert faults(ann.post("/admin/executors/terminal/london/change/", body)) == {}
    london = Terminal.objects.get(pk="london")
    assert (london.label, london.login, london.server, london.kind) == ("Moved", 1, "Paper-Demo", "paper")
    assert not Terminal.objects.filter(pk="x").exists()


UNUSABLE = [
    ("terminal_id", "Oslo"), ("terminal_id", "-oslo"), ("terminal_id", "a" * 49), ("terminal_id", "london"),
    ("terminal_id", ""), ("login", "0"), ("login", "-5"), ("login", "x"), ("login", str(2**70)), ("password", ""),
    ("server_timezone", "Mars/Base"), ("server_timezone", "../etc/passwd"), ("server_timezone", ""),
    ("symbols", '"EURUSD"'), ("symbols", "EURUSD"), ("symbols", '["EUR USD"]'), ("symbols", "[1]"),
    ("symbol_map", "[]"), ("symbol_map", '{"A": 1}'), ("symbol_map", '{"A B": "C"}'), ("sizing_value", "0"),
    ("sizing_value", "-1"), ("sizing_value", "NaN"), ("sizing_value", "1e20"), ("max_lots", "-1"),
    ("max_lots", "Infinity"), ("max_positions", "-1"), ("deviation_points", "1000000"), ("tick_priority", "9999"),
    ("kind", "demo"), ("orders_per_second", "x"), ("label", ""),
]  # fmt: skip


def test_what_executors_could_not_use_is_refused(world: World, ann: Client) -> None:
    for field, value in UNUSABLE:
        response = ann.post("/admin/executors/terminal/add/", {**NEW, field: value})
        assert field in faults(response), (field, value)
    assert not Terminal.objects.filter(pk="oslo").exists()


def test_two_terminals_on_one_account_are_refused(world: World, ann: Client) -> None:
    response = ann.post("/admin/executors/terminal/add/", {**NEW, "login": "1"})
    assert "orders would be sent twice" in str(faults(response))


def act(client: Client, action: str, *ids: str, model: str = "executors/terminal") -> Any:
    return client.post(f"/admin/{model}/", {"action": action, "_selected_action": ids}, follow=True)


def test_halting_and_resuming(world: World, ann: Client, state_redis: Any) -> None:
    act(ann, "halt", "london", "tokyo")
    assert state_redis.hmget(keys.MODES, ["terminal:london", "terminal:tokyo"]) == ["HALTED", "HALTED"]
    act(ann, "reduce", "tokyo")
    act(ann, "resume", "london")
    assert state_redis.hmget(keys.MODES, ["terminal:london", "terminal:tokyo"]) == ["ACTIVE", "REDUCING"]
    assert state_redis.hget(keys.MODES, "resumed:london") == "1"
    assert Terminal.objects.get(pk="london").version == 1
    assert AuditEntry.objects.filter(action__startswith="mode ").count() == 4


def test_the_list_shows_what_executors_say(
    world: World, ann: Client, state_redis: Any, state_server: Valkey
) -> None:
    state_redis.hset(keys.instance("london"), mapping={"state": "READY", "seen_ms": now_ms()})
    state_redis.hset(keys.instance("tokyo"), mapping={"state": "CONNECTING", "seen_ms": now_ms() - 60_000})
    page = ann.get("/admin/executors/terminal/").content.decode()
    for text in (">READY<", "CONNECTING, silent for 60 s", "never started"):
        assert text in page
    state_server.kill()
    try:
        assert "Redis does not answer" in ann.get("/admin/executors/terminal/").content.decode()
    finally:
        state_server.start()


def test_retired_terminals_are_switched_off_for_good(world: World, ann: Client, state_redis: Any) -> None:
    act(ann, "retire", "london")
    assert not TerminalConfig.model_validate_json(state_redis.hget(keys.CONFIGS, "london")).enabled
    assert ann.post("/admin/executors/terminal/london/change/", changed("london")).status_code == 403
    assert ann.post("/admin/executors/terminal/london/delete/", {"post": "yes"}).status_code == 403
    assert "delete_selected" not in dict(
        ann.get("/admin/executors/terminal/").context["action_form"].fields["action"].choices
    )
    assert AuditEntry.objects.filter(action="terminal retired").count() == 1


def test_a_redis_that_is_away_is_told_and_repaired_later(
    world: World, ann: Client, state_server: Valkey
) -> None:
    from executors.configuration import publish_all

    state_server.kill()
    try:
        response = ann.post(
            "/admin/executors/terminal/london/change/", changed("london", label="Later"), follow=True
        )
        assert "Redis did not take the change" in said(response)
        assert Terminal.objects.get(pk="london").label == "Later"
        response = act(ann, "halt", "london")
        assert "Redis did not take the change" in said(response)
    finally:
        state_server.start()
    assert publish_all().changed
    with state_server.client() as client:
        config = TerminalConfig.model_validate_json(client.hget(keys.CONFIGS, "london"))
        assert config.label == "Later"
        assert client.hget(keys.MODES, "terminal:london") == "HALTED"
    assert publish_all().changed == 0


def test_an_older_version_never_replaces_a_newer_one(world: World, state_redis: Any) -> None:
    from executors.configuration import publish_all, publish_terminals

    publish_all()
    stale = Terminal.objects.get(pk="london")
    fresh = Terminal.objects.get(pk="london")
    fresh.label = "Fresh"
    fresh.save()
    publish_terminals([fresh])
    publish_terminals([stale])
    assert state_redis.hget(keys.CONFIG_VERSIONS, "london") == "2"
    assert "Fresh" in state_redis.hget(keys.CONFIGS, "london")
    state_redis.hdel(keys.CONFIGS, "london")  # a store that lost the body but not the version
    publish_all()
    assert "Fresh" in state_redis.hget(keys.CONFIGS, "london")


# --- Users, grants, tokens ---


def test_a_user_gets_a_role_and_with_it_his_rights(world: World, ann: Client) -> None:
    body = {
        "username": "zoe",
        "role": "admin",
        "password1": "a long pass phrase",
        "password2": "a long pass phrase",
    }
    assert faults(ann.post("/admin/auth/user/add/", body)) == {}
    zoe = User.objects.get(username="zoe")
    assert (zoe.is_staff, zoe.is_superuser, zoe.member.role) == (True, True, "admin")
    change = {"username": "zoe", "role": "viewer", "is_active": "on"}
    assert faults(ann.post(f"/admin/auth/user/{zoe.pk}/change/", change)) == {}
    zoe = User.objects.get(username="zoe")
    assert (zoe.is_staff, zoe.is_superuser, zoe.member.role) == (False, False, "viewer")
    weak = {**body, "username": "yan", "password1": "password", "password2": "password"}
    assert "password2" in faults(ann.post("/admin/auth/user/add/", weak))
    assert "role" in faults(ann.post("/admin/auth/user/add/", {**body, "username": "yan", "role": "king"}))
    assert AuditEntry.objects.filter(action="user created").count() == 1


def test_an_admin_does_not_lock_himself_out(world: World, ann: Client) -> None:
    ann.post(f"/admin/auth/user/{world.ann.pk}/change/", {"username": "ann", "role": "viewer"})
    again = User.objects.get(pk=world.ann.pk)
    assert (again.is_active, again.is_superuser, again.member.role) == (True, True, "admin")


def test_grants_are_either_or(world: World, ann: Client) -> None:
    url = "/admin/executors/terminalgrant/add/"
    for wrong in (
        {"user": world.nia.pk, "level": "view"},
        {"terminal": "london", "level": "view"},
        {"user": world.nia.pk, "terminal": "london", "terminal_group": "desk", "level": "view"},
        {"user": world.nia.pk, "terminal": "london", "level": "own"},
        {"user": world.ted.pk, "terminal_group": "desk", "level": "view"},
    ):
        assert faults(ann.post(url, wrong)), wrong
    assert faults(ann.post(url, {"user": world.nia.pk, "terminal": "london", "level": "trade"})) == {}
    assert TerminalGrant.objects.filter(user=world.nia).count() == 1


def test_group_members_are_chosen_and_its_name_stays(world: World, ann: Client) -> None:
    url = "/admin/executors/terminalgroup/desk/change/"
    assert faults(ann.post(url, {"slug": "other", "label": "Desk 2", "terminals": ["paris"]})) == {}
    desk = TerminalGroup.objects.get(pk="desk")
    assert (desk.label, [terminal.pk for terminal in desk.terminals.all()]) == ("Desk 2", ["paris"])
    assert not TerminalGroup.objects.filter(pk="other").exists()


def test_a_token_is_shown_once_and_revoked(world: World, ann: Client) -> None:
    response = ann.post(
        "/admin/executors/apitoken/add/",
        {"user": world.ted.pk, "name": "robot", "scope": "trade", "expires_at_0": ""},
    )
    assert response.status_code == 200
    text = response.context["text"]
    assert text in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    token = ApiToken.objects.get()
    assert text not in str(vars(token))
    assert tokens.find_user(text) == world.ted
    for path in ("/admin/executors/apitoken/", f"/admin/executors/apitoken/{token.pk}/change/"):
        assert text not in ann.get(path).content.decode()
    act(ann, "revoke", str(token.pk), model="executors/apitoken")
    assert tokens.find_user(text) is None
    assert [
        entry.action for entry in AuditEntry.objects.filter(action__startswith="token").order_by("position")
    ] == [
        "token created",
        "token revoked",
    ]


# --- Signals and the switch for all ---


async def record(user: User, *terminal_ids: str) -> str:
    signal = OpenSignal.model_validate(
        {
            "signal_id": str(uuid4()), "symbol": "EURUSD", "side": "buy", "lots": "0.1",
            "targets": {"terminals": list(terminal_ids)},
        }
    )  # fmt: skip
    async with async_state() as client:
        await SignalStore(client).record(
            signal,
            targets=[(terminal_id, 1) for terminal_id in terminal_ids],
            user_id=user.pk,
            username=user.username,
            source="rest",
            ttl_ms=5000,
            received_ms=0,
        )
    return signal.signal_id


def test_signals_are_listed_filtered_and_shown(world: World, ann: Client) -> None:
    from asgiref.sync import async_to_sync

    first = async_to_sync(record)(world.ted, "london", "tokyo")
    second = async_to_sync(record)(world.nia, "paris")
    url = "/admin/executors/signalrecord/"
    page = ann.get(url).content.decode()
    assert "open buy 0.1 EURUSD" in page
    assert first in page
    assert second in page
    only = ann.get(url, {"terminal": "paris", "state": "QUEUED"}).content.decode()
    assert second in only
    assert first not in only
    assert "No signals" in ann.get(url, {"state": "FILLED"}).content.decode()
    for wrong in ({"terminal": "x"}, {"state": "x"}, {"cursor": "x"}):
        assert ann.get(url, wrong).status_code == 200
    shown = ann.get(f"{url}{first}/change/").content.decode()
    assert "london" in shown
    assert "QUEUED" in shown
    for unknown in (str(uuid4()), "x"):
        assert ann.get(f"{url}{unknown}/change/").status_code == 404
    assert ann.post(f"{url}add/").status_code == 403


def test_pages_without_redis_say_so(world: World, ann: Client, state_server: Valkey) -> None:
    state_server.kill()
    try:
        response = ann.get("/admin/executors/signalrecord/")
        assert "does not answer" in said(response)
        response = ann.get(f"/admin/executors/signalrecord/{uuid4()}/change/", follow=True)
        assert "does not answer" in said(response)
    finally:
        state_server.start()


def test_the_switch_for_all(world: World, ann: Client, state_redis: Any) -> None:
    url = "/admin/executors/globalmode/"
    assert "ACTIVE" in ann.get(url).content.decode()
    ann.post(url, {"mode": "HALTED", "reason": "news"})
    assert state_redis.hget(keys.MODES, "global") == "HALTED"
    assert GlobalMode.objects.get().mode == "HALTED"
    assert ann.post(url, {"mode": "PANIC"}).status_code == 200
    assert GlobalMode.objects.get().mode == "HALTED"
    for person in (world.ted, world.vic):
        client = Client()
        client.force_login(person)
        client.post(url, {"mode": "ACTIVE"})
    assert GlobalMode.objects.get().mode == "HALTED"


def test_roles_do_not_come_from_staff_flags(world: World) -> None:
    """Somebody with Django's staff flag alone gets the admin's login, and nothing in it."""
    world.ted.is_staff = True
    world.ted.save()
    client = Client()
    client.force_login(world.ted)
    for path in ("terminal", "apitoken", "signalrecord", "globalmode", "auditentry"):
        assert client.get(f"/admin/executors/{path}/").status_code == 403, path
    assert Member.objects.get(user=world.ted).role == "trader"


def test_a_published_move_shuts_out_executors_of_the_epoch_before(world: World, state_redis: Any) -> None:
    from executors.configuration import publish_terminals
    from executors.errors import EpochPassed
    from executors.state import ExecutorStore

    london = Terminal.objects.get(pk="london")
    store = ExecutorStore(state_redis, "london")
    publish_terminals([london])
    store.publish("old", london.epoch, [], after=0)
    london.host_id = "elsewhere"
    london.save()
    publish_terminals([london])
    with pytest.raises(EpochPassed):  # before the new host has written anything
        store.publish("old", london.epoch - 1, [], after=0)
    store.publish("new", london.epoch, [], after=0)
    assert store.published(london.epoch) == ("new", 0)
