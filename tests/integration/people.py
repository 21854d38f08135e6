"""Users, terminals and grants for tests of REST and the admin. Ann is an admin, Ted trades, Vic views, Nia has nothing."""

from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import User

from executors.credentials import seal
from executors.models import Member, Terminal, TerminalGrant, TerminalGroup

PASSWORD = "correct horse battery"
FAST_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one is slow on purpose


def user(name: str, role: str) -> User:
    person = User(username=name, is_staff=role == "admin", is_superuser=role == "admin")
    person.password = MD5PasswordHasher().encode(PASSWORD, "salt")
    person.save()
    Member.objects.create(user=person, role=role)
    return person


def terminal(terminal_id: str, login: int, **fields: Any) -> Terminal:
    made = Terminal(
        terminal_id=terminal_id,
        label=terminal_id.title(),
        kind=Terminal.Kind.PAPER,
        login=login,
        server="Paper-Demo",
        sealed_password=seal(settings.CREDENTIALS_KEY, terminal_id, "secret"),
        **fields,
    )
    made.save()
    return made


def grant(who: User, what: Terminal | TerminalGroup, level: str) -> TerminalGrant:
    field = "terminal" if isinstance(what, Terminal) else "terminal_group"
    made: TerminalGrant = TerminalGrant.objects.create(user=who, level=level, **{field: what})
    return made


class World:
    """london and tokyo are in the group desk, paris is nobody's. Ted trades the desk, Vic views london."""

    def __init__(self) -> None:
        self.ann, self.ted = user("ann", "admin"), user("ted", "trader")
        self.vic, self.nia = user("vic", "viewer"), user("nia", "trader")
        self.london, self.tokyo = terminal("london", 1), terminal("tokyo", 2)
        self.paris = terminal("paris", 3)
        self.desk = TerminalGroup.objects.create(slug="desk", label="Desk")
        self.desk.terminals.set([self.london, self.tokyo])
        grant(self.ted, self.desk, "trade")
        grant(self.vic, self.london, "view")
