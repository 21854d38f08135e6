"""The audit log's chain, the commands, the demo and the system checks, with real servers."""

import json
import stat
import threading
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from executors import audit, demo, grants, tokens
from executors.checks import check_order_ages, check_redis_servers, check_terminals
from executors.configuration import build, publish_access, publish_all, strictest
from executors.credentials import unseal
from executors.models import AuditEntry, Terminal, TerminalGrant
from executors.terminals.paper.broker.broker import Broker, Options
from tests.integration.people import World, user
from tests.valkey import Valkey
from tradedist import keys


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=out)
    return out.getvalue()


# --- The audit log ---


@pytest.mark.django_db
def test_the_chain_holds_and_every_kind_of_damage_is_found() -> None:
    assert audit.first_broken() is None
    for n in range(5):
        audit.append("ann", "did", f"thing {n}", {"n": n, "é": ["x", None, 1.5]}, address="127.0.0.1")
    assert audit.first_broken() is None
    table = AuditEntry._meta.db_table

    def damaged(statement: str) -> int | None:
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute(statement.format(table=table))
                found = audit.first_broken()
                raise InterruptedError
        except InterruptedError:
            return found

    assert damaged("UPDATE {table} SET target = 'other' WHERE position = 3") == 3
    assert damaged("UPDATE {table} SET detail = '{{}}' WHERE position = 2") == 2
    assert damaged("UPDATE {table} SET username = 'bob' WHERE position = 1") == 1
    assert damaged("UPDATE {table} SET time = '2001-01-01 00:00:00' WHERE position = 5") == 5
    assert damaged("DELETE FROM {table} WHERE position = 4") == 5
    assert damaged("DELETE FROM {table} WHERE position = 1") == 2
    assert audit.first_broken() is None


@pytest.mark.django_db
def test_entries_cannot_be_changed_through_the_models() -> None:
    entry = audit.append("ann", "did", "it")
    entry.target = "something else"
    for wrong in (
        entry.save,
        entry.delete,
        AuditEntry.objects.all().delete,
        lambda: AuditEntry.objects.update(target="x"),
    ):
        with pytest.raises(TypeError):
            wrong()


@pytest.mark.django_db(transaction=True)
def test_writers_at_once_make_one_chain() -> None:
    def write(name: str) -> None:
        try:
            for n in range(10):
                audit.append(name, "did", str(n))
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert AuditEntry.objects.count() == 40
    assert audit.first_broken() is None


@pytest.mark.django_db
def test_verify_audit_says_where_it_breaks() -> None:
    assert "empty" in run("verify_audit")
    audit.append("ann", "did", "it")
    assert "1 entries, unbroken" in run("verify_audit")
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {AuditEntry._meta.db_table} SET action = 'x'")
    with pytest.raises(CommandError, match="Entry 1"):
        run("verify_audit")


# --- create_token ---


@pytest.mark.django_db
def test_create_token_prints_one_and_keeps_its_hash() -> None:
    ted = user("ted", "trader")
    text = run("create_token", "ted", "--name", "robot", "--days", "30").strip()
    assert text.startswith(tokens.MARK)
    assert tokens.find_user(text) == ted
    viewing = tokens.find_user(run("create_token", "ted", "--scope", "view").strip())
    assert viewing is not None
    assert not grants.may_trade(viewing)
    for wrong in (("nobody",), ("ted", "--days", "-1"), ("ted", "--days", "99999999")):
        with pytest.raises(CommandError):
            run("create_token", *wrong)
    User.objects.update(is_active=False)
    with pytest.raises(CommandError, match="not active"):
        run("create_token", "ted")


# --- Publishing ---


@pytest.mark.django_db
def test_publish_config_repairs_whatever_redis_lost(state_redis: Any) -> None:
    World()
    assert "changes published" in run("publish_config")
    assert set(state_redis.hgetall(keys.CONFIG_VERSIONS)) == {"london", "paris", "tokyo"}
    assert run("publish_config").startswith("0 ")
    state_redis.flushdb()
    assert publish_all().changed > 0
    state_redis.hset(keys.MODES, "terminal:london", "HALTED")  # nobody but us writes here: it goes back
    publish_all()
    assert state_redis.hget(keys.MODES, "terminal:london") == "ACTIVE"


@pytest.mark.django_db
def test_an_access_version_that_redis_missed_is_repaired(state_redis: Any) -> None:
    World()
    audit.append("ops", "user changed", "user ted")  # nobody tells Redis: its store is away
    assert publish_access()
    first = state_redis.get(keys.ACCESS_VERSION)
    assert not publish_access(), "it is known: nobody has to read anew"
    audit.append("ops", "user changed", "user ann")
    assert publish_access()
    second = state_redis.get(keys.ACCESS_VERSION)
    state_redis.set(keys.ACCESS_VERSION, first)  # rolled back
    assert publish_access()
    run("publish_config")
    assert len({first, second, state_redis.get(keys.ACCESS_VERSION)}) == 3, "none comes twice"


@pytest.mark.django_db
def test_one_bad_terminal_keeps_no_other_from_being_published(state_redis: Any) -> None:
    World()
    Terminal.objects.filter(pk="london").update(kind="nonsense")
    with pytest.raises(CommandError, match="london"):
        run("publish_config")
    assert set(state_redis.hgetall(keys.CONFIGS)) == {"paris", "tokyo"}


@pytest.mark.django_db(transaction=True)
def test_publish_config_without_redis(state_server: Valkey) -> None:
    state_server.kill()
    try:
        with pytest.raises(CommandError, match="does not answer"):
            run("publish_config")
    finally:
        state_server.start()


def test_the_strictest_mode_holds_and_a_strange_one_is_not_trusted() -> None:
    assert strictest() == "ACTIVE"
    assert strictest("ACTIVE", None) == "ACTIVE"
    assert strictest("ACTIVE", "HALTED", "REDUCING") == "HALTED"
    assert strictest("ACTIVE", "active") == "REDUCING"
    assert strictest("", "HALTED") == "HALTED"


# --- The demo ---


@pytest.fixture
def own_place(settings: Any, tmp_path: Path, transactional_db: None, state_redis: Any) -> Path:
    settings.SECRETS_DIR = tmp_path / "secrets"
    settings.PAPER_BROKER_DIR = tmp_path / "paper-broker"
    return tmp_path


def test_the_demo_is_made_once_and_works(own_place: Path, state_redis: Any) -> None:
    said = run("seed_demo")
    assert "made user admin" in said
    passwords = json.loads(demo.users_file().read_text())
    assert stat.S_IMODE(demo.users_file().stat().st_mode) == 0o600
    assert set(passwords) == {"admin", "trader", "viewer"}
    assert len(set(passwords.values())) == 3
    people = {person.username: person for person in User.objects.all()}
    for name, password in passwords.items():
        assert people[name].check_password(password)
    assert len(grants.visible_terminals(people["trader"], "trade")) == 3
    assert len(grants.visible_terminals(people["viewer"])) == 3
    assert not grants.may_trade(people["viewer"])
    assert grants.is_admin(people["admin"])
    assert state_redis.hlen(keys.CONFIGS) == 3
    assert len({terminal.sizing_value for terminal in Terminal.objects.all()}) == 3
    assert len({terminal.server for terminal in Terminal.objects.all()}) == 3
    broker = Broker(Options(own_place / "paper-broker", "tcp://127.0.0.1:1"))
    accounts = {account["login"]: account for account in broker.op_accounts()}
    broker.close()
    for terminal in Terminal.objects.all():
        account = accounts[terminal.login]
        assert account["server"] == terminal.server
        assert account["symbol_suffix"] == terminal.symbol_suffix
        assert unseal(django_settings.CREDENTIALS_KEY, terminal.pk, terminal.sealed_password)

    before = list(AuditEntry.objects.values_list("hash", flat=True))
    User.objects.get(username="trader").terminal_grants.all().delete()
    assert "made " not in run("seed_demo")
    assert list(AuditEntry.objects.values_list("hash", flat=True)) == before
    assert TerminalGrant.objects.count() == 1  # what an operator took away stays away
    assert json.loads(demo.users_file().read_text()) == passwords


def test_a_seeding_that_was_cut_off_keeps_its_passwords(own_place: Path) -> None:
    first = demo._password("admin")
    run("seed_demo")
    assert json.loads(demo.users_file().read_text())["admin"] == first
    assert User.objects.get(username="admin").check_password(first)


# --- System checks ---


def test_one_server_for_both_redis_is_an_error(settings: Any) -> None:
    assert check_redis_servers(None) == []
    settings.REDIS_TICKS_URL = settings.REDIS_STATE_URL
    assert [message.id for message in check_redis_servers(None)] == ["executors.E001"]


def test_signals_must_not_outlive_their_records(settings: Any) -> None:
    assert check_order_ages(None) == []
    settings.MAX_TTL_MS = 1_000
    assert {message.id for message in check_order_ages(None)} == {"executors.E002"}


@pytest.mark.django_db
def test_terminals_that_cannot_be_used_are_named() -> None:
    World()
    assert check_terminals(None, databases=["default"]) == []
    Terminal.objects.filter(pk="london").update(sealed_password="1.broken")
    Terminal.objects.filter(pk="paris").update(kind="nonsense")
    found = check_terminals(None, databases=["default"])
    assert [(message.id, message.obj.pk) for message in found] == [
        ("executors.W001", "london"),
        ("executors.W001", "paris"),
    ]
    assert check_terminals(None) == []


@pytest.mark.django_db
def test_what_is_published_holds_no_password() -> None:
    world = World()
    text = build(world.london).model_dump_json()
    assert "secret" not in text
    assert world.london.sealed_password in text


# --- What the beat does with the tables ---


@pytest.mark.django_db
def test_the_beat_publishes_again_and_clears_ended_sessions(state_redis: Any) -> None:
    from datetime import timedelta

    from django.contrib.sessions.models import Session
    from django.utils import timezone

    from executors.tasks import clear_sessions, publish_configuration

    World()
    assert publish_configuration() > 0
    assert publish_configuration() == 0
    for key, days in (("a" * 32, -1), ("b" * 32, 1)):
        Session.objects.create(
            session_key=key, session_data="", expire_date=timezone.now() + timedelta(days=days)
        )
    clear_sessions()
    assert list(Session.objects.values_list("session_key", flat=True)) == ["b" * 32]
