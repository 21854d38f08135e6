"""The operator's part on the running platform: an order settled by hand while its executor lives, and drift that is seen."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

from executors.terminals.paper.oracle import Operator
from tests.browser.screen import Screen
from tests.stack import Stack
from tests.waiting import wait_until

SignIn = Callable[..., Screen]

pytestmark = pytest.mark.usefixtures("flat")
LOGIN = 1_000_001  # of london-1


@pytest.fixture
def broker(running_stack: Stack) -> Iterator[Operator]:
    with running_stack.broker() as operator:
        yield operator
        operator.clear_faults()


def test_an_order_that_is_not_known_is_settled_by_hand(
    sign_in: SignIn, running_stack: Stack, broker: Operator
) -> None:
    trader = sign_in("trader").live()
    trader.choose_terminals("london-1")
    broker.fault("timeout", login=LOGIN, times=1)  # -10005 at once: nothing was executed, and nobody knows
    trader.send("buy")
    trader.tab("orders")
    row = trader.rows("order", terminal="london-1").first
    expect(row).to_have_attribute("data-state", "UNKNOWN")
    order_id = row.get_attribute("data-order")

    admin = sign_in("admin")
    expect(admin["connection"]).to_be_visible()
    admin.page.goto("/admin/executors/signalrecord/settle/")
    admin.page.get_by_role("link", name=re.compile(re.escape(order_id or ""))).click()
    admin.page.get_by_label("it was not executed").check()
    admin.page.get_by_label("Where it was seen").fill("The terminal's history has nothing of it.")
    admin.page.get_by_label("Why by hand").fill("The trader needs the terminal now.")
    admin.page.get_by_label("Type the terminal's id").fill("london-1")
    admin.shot("settle-form")
    admin.page.get_by_role("button", name="Settle this order").click()
    expect(admin.page.get_by_text("It is settled; the executor's journal has it.")).to_be_visible()
    admin.shot("settled")

    expect(row).to_have_attribute("data-state", "MANUAL")
    expect(row.get_by_test_id("order-code")).to_have_text("SETTLED_BY_HAND")
    expect(row.locator('[data-cell="reason"]')).to_contain_text(
        "Settled by hand by admin: it was not executed"
    )
    trader.shot("settled-order")
    admin.page.goto("/admin/executors/auditentry/")
    expect(admin.page.get_by_text("order settled by hand").first).to_be_visible()


def test_a_position_that_somebody_else_closes_is_told(
    sign_in: SignIn, running_stack: Stack, broker: Operator
) -> None:
    screen = sign_in("trader").live()
    screen.choose_terminals("london-1")
    screen.send("buy")
    row = screen.rows("position", terminal="london-1")
    expect(row).to_have_count(1)
    ticket = int(row.get_attribute("data-ticket") or 0)
    broker.call("close_position", LOGIN, ticket)  # which an account sync has shown: the row comes from it
    expect(screen["toast"].filter(has_text="POSITION_CLOSED")).to_be_visible()
    expect(row).to_have_count(0)
    screen.tab("terminals")
    note = screen.rows("terminal", terminal="london-1").locator('[data-cell="note"]')
    expect(note).to_contain_text(f"Position {ticket} in EURUSD was closed by somebody else")
    screen.shot("drift")

    def counted() -> Any:
        with urlopen(f"{running_stack.base_url}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        return re.search(
            r'tradedist_drift_events\{code="POSITION_CLOSED",terminal_id="london-1"\} [1-9]', text
        )

    wait_until(counted)
    admin = sign_in("admin")
    expect(admin["connection"]).to_be_visible()
    admin.page.goto("/admin/executors/signalrecord/drift/")
    expect(admin.page.get_by_text(f"Position {ticket} in EURUSD was closed by somebody else")).to_be_visible()
    admin.shot("drift-admin")
