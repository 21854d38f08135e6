"""Ten paper accounts of brokers that differ, each with its terminal, for runs that three are too few for."""

import json
from dataclasses import asdict, dataclass

from tests.stack import Stack
from tests.waiting import wait_until
from tradedist import keys


@dataclass(frozen=True, slots=True)
class Account:
    terminal_id: str
    login: int
    personality: str  # `net` nets, the others hedge
    balance: float = 50_000_000


DEMO = {"london-1": 1_000_001, "tokyo-2": 1_000_002, "zurich-3": 1_000_003}  # of ecn, classic, micro
MORE = (
    Account("moscow-4", 1_000_004, "net"),
    Account("moscow-5", 1_000_005, "net"),
    Account("sydney-6", 1_000_006, "classic"),
    Account("paris-7", 1_000_007, "ecn"),
    Account("madrid-8", 1_000_008, "lab"),
    Account("vienna-9", 1_000_009, "net"),
    Account("oslo-10", 1_000_010, "desk"),
)
PERSONALITIES = {"london-1": "ecn", "tokyo-2": "classic", "zurich-3": "micro"} | {
    account.terminal_id: account.personality for account in MORE
}
LOGINS = DEMO | {account.terminal_id: account.login for account in MORE}
TERMINALS = tuple(LOGINS)

# Runs in the platform's own environment. The demo's limits are a trader's; a test sends faster than one.
SCRIPT = """
import json, secrets
from django.conf import settings
from executors.credentials import seal
from executors.models import Terminal, TerminalGroup
from executors.terminals.paper.broker import personalities
from executors.terminals.paper.oracle import Operator
kinds = personalities.load(settings.PAPER_BROKER_DIR).personalities
with Operator(settings.PAPER_BROKER_URL) as broker:
    for item in json.loads('''{accounts}'''):
        kind, password = kinds[item["personality"]], secrets.token_urlsafe(12)
        terminal = Terminal.objects.create(
            terminal_id=item["terminal_id"], label=item["terminal_id"], kind="paper", login=item["login"],
            server=kind.server, server_timezone=kind.server_timezone, symbol_suffix=kind.suffix,
            symbol_prefix=kind.prefix,
            sealed_password=seal(settings.CREDENTIALS_KEY, item["terminal_id"], password),
        )
        broker.ensure_account(item["login"], password, item["personality"], item["balance"], leverage=500)
        TerminalGroup.objects.get(slug="all").terminals.add(terminal)
    for login in {demo}:
        broker.deposit(login, 1e9)
for terminal in Terminal.objects.all():
    terminal.orders_per_second, terminal.max_positions, terminal.max_lots = 100_000, 0, 0
    terminal.save()
"""


def furnish(stack: Stack) -> None:
    """Adds the further accounts and terminals; returns when all ten are ready to trade."""
    accounts = json.dumps([asdict(account) for account in MORE])
    stack.manage(
        "shell", "-c", SCRIPT.replace("{accounts}", accounts).replace("{demo}", str([*DEMO.values()]))
    )
    stack.manage("publish_config")
    with stack.state() as client:
        wait_until(
            lambda: all(client.hget(keys.instance(name), "state") == "READY" for name in TERMINALS), 60
        )
