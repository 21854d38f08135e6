"""Who sees and trades what. The world is in people.py."""

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from executors import grants, tokens
from executors.errors import Code, Refused
from executors.messages import Targets
from executors.models import Member, Terminal, TerminalGrant, TerminalGroup
from tests.integration.people import World, grant, terminal, user

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return World()


def ids(found: dict[str, Any]) -> list[str]:
    return list(found)


def test_each_sees_what_he_is_granted(world: World) -> None:
    assert ids(grants.visible_terminals(world.ann)) == ["london", "paris", "tokyo"]
    assert ids(grants.visible_terminals(world.ted)) == ["london", "tokyo"]
    assert ids(grants.visible_terminals(world.vic)) == ["london"]
    assert grants.visible_terminals(world.nia) == {}
    assert grants.visible_terminals(AnonymousUser()) == {}


def test_each_trades_what_he_is_granted_to_trade(world: World) -> None:
    grant(world.ted, world.paris, "view")
    assert ids(grants.visible_terminals(world.ann, "trade")) == ["london", "paris", "tokyo"]
    assert ids(grants.visible_terminals(world.ted, "trade")) == ["london", "tokyo"]
    assert grants.visible_terminals(world.ted)["paris"].level == "view"
    assert grants.visible_terminals(world.ted)["london"].level == "trade"


def test_a_viewer_never_trades_whatever_his_grants_say(world: World) -> None:
    grant(world.vic, world.tokyo, "trade")
    assert grants.visible_terminals(world.vic, "trade") == {}
    assert {ref.level for ref in grants.visible_terminals(world.vic).values()} == {"view"}
    with pytest.raises(Refused) as caught:
        grants.resolve_targets(world.vic, Targets(terminals=["tokyo"]))
    assert (caught.value.code, caught.value.status) == (Code.FORBIDDEN, 403)


def test_grants_of_groups_of_users_count(world: World) -> None:
    team = Group.objects.create(name="team")
    team.user_set.add(world.nia)
    TerminalGrant.objects.create(user_group=team, terminal=world.paris, level="trade")
    assert ids(grants.visible_terminals(world.nia, "trade")) == ["paris"]
    team.user_set.clear()
    assert grants.visible_terminals(world.nia) == {}


def test_a_change_counts_at_once_for_a_user_object_loaded_before(world: World) -> None:
    old = User.objects.get(pk=world.ted.pk)
    assert grants.may_trade(old)
    Member.objects.filter(user=world.ted).update(role=Member.Role.VIEWER)
    assert not grants.may_trade(old)
    User.objects.filter(pk=world.ted.pk).update(is_active=False)
    assert grants.visible_terminals(old) == {}
    User.objects.filter(pk=world.ted.pk).delete()
    assert grants.visible_terminals(old) == {}


def test_a_user_without_a_role_is_a_viewer_and_a_superuser_an_admin(world: World) -> None:
    plain = User.objects.create(username="plain")
    grant(plain, world.london, "trade")
    assert ids(grants.visible_terminals(plain)) == ["london"]
    assert not grants.may_trade(plain)
    root = User.objects.create(username="root", is_superuser=True)
    assert len(grants.visible_terminals(root, "trade")) == 3


def test_a_token_that_only_views_makes_nobody_trade(world: World) -> None:
    for person, seen in ((world.ann, 3), (world.ted, 2), (world.vic, 1)):
        text, _ = tokens.create(person, "robot", actor="test", scope="view")
        found = tokens.find_user(text)
        assert found is not None
        assert len(grants.visible_terminals(found)) == seen
        assert {ref.level for ref in grants.visible_terminals(found).values()} == {"view"}
        assert not grants.may_trade(found)
        assert not grants.is_admin(found)


def test_targets_are_the_union_without_doubles_with_their_epochs(world: World) -> None:
    Terminal.objects.filter(pk="tokyo").update(epoch=7)
    found = grants.resolve_targets(world.ted, Targets(terminals=["tokyo", "tokyo"], groups=["desk", "desk"]))
    assert found == [("london", 1), ("tokyo", 7)]


@pytest.mark.parametrize(
    ("targets", "code", "status"),
    [
        ({"terminals": ["paris"]}, Code.UNKNOWN_TERMINAL, 404),
        ({"terminals": ["nowhere"]}, Code.UNKNOWN_TERMINAL, 404),
        ({"groups": ["nowhere"]}, Code.UNKNOWN_GROUP, 404),
        ({"groups": ["hidden"]}, Code.UNKNOWN_GROUP, 404),
        ({"terminals": ["london", "paris"]}, Code.UNKNOWN_TERMINAL, 404),
    ],
)
def test_what_may_not_be_seen_is_unknown(world: World, targets: Any, code: Code, status: int) -> None:
    hidden = TerminalGroup.objects.create(slug="hidden", label="Hidden")
    hidden.terminals.set([world.paris])
    with pytest.raises(Refused) as caught:
        grants.resolve_targets(world.ted, Targets(**targets))
    assert (caught.value.code, caught.value.status) == (code, status)


def test_the_words_for_unknown_and_invisible_are_the_same(world: World) -> None:
    def said(name: str) -> str:
        with pytest.raises(Refused) as caught:
            grants.resolve_targets(world.ted, Targets(terminals=[name]))
        return caught.value.message.replace(name, "X")

    assert said("paris") == said("nowhere")


def test_a_group_means_those_of_its_terminals_that_may_be_traded(world: World) -> None:
    mixed = TerminalGroup.objects.create(slug="mixed", label="Mixed")
    mixed.terminals.set([world.london, world.paris])
    assert grants.resolve_targets(world.ted, Targets(groups=["mixed"])) == [("london", 1)]


def test_switched_off_and_retired_terminals_get_nothing(world: World) -> None:
    Terminal.objects.filter(pk="london").update(enabled=False)
    with pytest.raises(Refused) as caught:
        grants.resolve_targets(world.ted, Targets(terminals=["london"]))
    assert caught.value.code is Code.NO_TERMINALS
    assert grants.resolve_targets(world.ted, Targets(groups=["desk"])) == [("tokyo", 1)]
    world.tokyo.retire()
    with pytest.raises(Refused) as caught:
        grants.resolve_targets(world.ted, Targets(groups=["desk"]))
    assert caught.value.code is Code.NO_TERMINALS
    assert ids(grants.visible_terminals(world.ted)) == ["london"]
    assert ids(grants.visible_terminals(world.ann)) == ["london", "paris"]


def test_visible_but_not_tradable_is_forbidden(world: World) -> None:
    grant(world.nia, world.london, "view")
    with pytest.raises(Refused) as caught:
        grants.resolve_targets(world.nia, Targets(terminals=["london"]))
    assert (caught.value.code, caught.value.status) == (Code.FORBIDDEN, 403)


# --- The tables keep their promises ---


def test_a_grant_names_one_user_or_group_and_one_terminal_or_group(world: World) -> None:
    team = Group.objects.create(name="team")
    wrong: list[dict[str, Any]] = [
        {"user": world.nia},
        {"terminal": world.london},
        {"user": world.nia, "user_group": team, "terminal": world.london},
        {"user": world.nia, "terminal": world.london, "terminal_group": world.desk},
    ]
    for fields in wrong:
        with pytest.raises(IntegrityError), transaction.atomic():
            TerminalGrant.objects.create(level="view", **fields)
    grant(world.nia, world.london, "view")
    with pytest.raises(IntegrityError), transaction.atomic():
        grant(world.nia, world.london, "trade")


@pytest.mark.parametrize("field", ["login", "server", "kind"])
def test_an_account_never_changes_under_its_terminal(world: World, field: str) -> None:
    setattr(world.london, field, {"login": 99, "server": "Other", "kind": "remote"}[field])
    with pytest.raises(ValidationError):
        world.london.save()


def test_a_terminal_is_retired_never_deleted_and_never_comes_back(world: World) -> None:
    for wrong in (
        world.london.delete,
        Terminal.objects.all().delete,
        Terminal.objects.filter(pk="london").delete,
    ):
        with pytest.raises(TypeError):
            wrong()
    world.london.retire()
    world.london.retired_at = None
    with pytest.raises(ValidationError):
        world.london.save()
    again = terminal("london-2", 1)  # the account may go on under another name
    with pytest.raises(IntegrityError), transaction.atomic():
        terminal("london-3", again.login)


def test_the_version_rises_with_what_executors_read_and_only_then(world: World) -> None:
    london = Terminal.objects.get(pk="london")
    assert london.version == 1
    london.save()
    london.mode = Terminal.Mode.HALTED
    london.save()
    assert Terminal.objects.get(pk="london").version == 1
    london.max_positions = 5
    london.save(update_fields=["max_positions"])
    assert Terminal.objects.get(pk="london").version == 2
    stale = Terminal.objects.get(pk="london")
    london.label = "L"
    london.save()
    stale.label = "M"
    stale.save()
    assert Terminal.objects.get(pk="london").version == 4


def test_one_user_is_made_with_a_role() -> None:
    assert grants.standing(user("zoe", "trader")).may_trade


def test_a_move_to_another_host_raises_the_epoch(world: World) -> None:
    world.london.host_id = "other"
    world.london.save()
    assert (world.london.epoch, world.london.version) == (2, 2)
    world.london.label = "Elsewhere"
    world.london.save()
    assert Terminal.objects.get(pk="london").epoch == 2
