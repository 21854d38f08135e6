"""Every verb from the page, end to end against the simulated brokers: pending orders, stops, parts, protection, close by."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.screen import Screen
from tests.waiting import wait_until

SignIn = Callable[..., Screen]

pytestmark = pytest.mark.usefixtures("flat")


def price_of(screen: Screen, side: str) -> float:
    text = screen[f"ticket-{side}"].text_content() or ""
    return float(text)


def started(sign_in: SignIn, *terminals: str) -> Screen:
    screen = sign_in("trader").live()
    screen.wait_chart("EURUSD")
    expect(screen["ticket-ask"]).not_to_have_text("–")
    screen.choose_terminals(*terminals)
    return screen


def one(screen: Screen, terminal: str) -> Locator:
    """The terminal's only position, opened at the market."""
    screen.send("buy")
    row = screen.rows("position", terminal=terminal)
    expect(row).to_have_count(1)
    return row


def edit(row: Locator, screen: Screen) -> None:
    row.get_by_test_id("position-edit").focus()
    screen.page.keyboard.press("Enter")
    expect(screen["position-dialog"]).to_be_visible()


def test_a_limit_order_is_placed_changed_and_cancelled(sign_in: SignIn) -> None:
    screen = started(sign_in, "london-1", "tokyo-2")
    screen["ticket-type"].select_option("limit")
    screen["ticket-buy"].click()
    expect(screen["ticket-hint"]).to_have_text("A limit order needs a price.")
    expect(screen["ticket-send"]).to_be_disabled()
    ask = price_of(screen, "ask")
    screen["ticket-price"].fill(f"{ask + 0.01:.5f}")
    expect(screen["ticket-hint"]).to_contain_text("The price of a buy limit lies below")
    expect(screen["ticket-price"]).to_have_attribute("aria-invalid", "true")
    screen["ticket-price"].fill(f"{ask - 0.0005:.5f}")
    screen["ticket-sl"].fill(f"{ask - 0.002:.5f}")
    screen["ticket-tp"].fill(f"{ask + 0.002:.5f}")
    screen["ticket-expiry"].select_option("1440")
    expect(screen["ticket-send"]).to_have_text("Buy limit 0.10 EURUSD on 2 terminals")
    screen.shot("verbs-ticket")
    screen["ticket-send"].click()
    expect(screen["toast"].filter(has_text="Placed:")).to_be_visible()
    screen.tab("pending")
    rows = screen.rows("pending")
    expect(rows).to_have_count(2)
    london = screen.rows("pending", terminal="london-1")
    expect(london.locator('[data-cell="type"]')).to_have_text("Buy limit")
    expect(london.locator('[data-cell="price"]')).to_have_text(f"{ask - 0.0005:.5f}")
    expect(london.locator('[data-cell="expires"]')).not_to_have_text("–")
    screen.shot("verbs-pending")

    london.get_by_test_id("pending-edit").click()
    expect(screen["pending-dialog"]).to_be_visible()
    screen["change-order"].click()
    expect(screen.page.locator("#change-price-problem")).to_have_text("It is so already: change something.")
    screen["change-price"].fill(f"{ask + 0.01:.5f}")
    screen["change-order"].click()
    expect(screen.page.locator("#change-price-problem")).to_contain_text("lies below")
    screen.shot("verbs-pending-dialog")
    screen["change-price"].fill(f"{ask - 0.0008:.5f}")
    screen["change-tp"].fill("")
    screen["change-expiry"].select_option("none")
    screen["change-order"].click()
    expect(screen["pending-dialog"]).to_be_hidden()
    expect(london.locator('[data-cell="price"]')).to_have_text(f"{ask - 0.0008:.5f}")
    expect(london.locator('[data-cell="tp"]')).to_have_text("–")
    expect(london.locator('[data-cell="expires"]')).to_have_text("–")

    london.get_by_test_id("pending-cancel").click()
    expect(london).to_have_count(0)
    screen["cancel-all"].click()
    screen["confirm-yes"].click()
    expect(rows).to_have_count(0)


@pytest.mark.parametrize(("kind", "side"), [("stop", "sell"), ("stop_limit", "buy")])
def test_stop_orders_are_placed(sign_in: SignIn, kind: str, side: str) -> None:
    screen = started(sign_in, "london-1")
    screen["ticket-type"].select_option(kind)
    screen["ticket-limit"].is_visible()
    ask, bid = price_of(screen, "ask"), price_of(screen, "bid")
    if kind == "stop_limit":
        screen["ticket-price"].fill(f"{ask + 0.001:.5f}")
        screen["ticket-limit"].fill(f"{ask + 0.0005:.5f}")
    else:
        expect(screen["ticket-limit"]).to_be_hidden()
        screen["ticket-price"].fill(f"{bid - 0.001:.5f}")
    screen[f"ticket-{side}"].click()
    screen["ticket-send"].click()
    screen.tab("pending")
    row = screen.rows("pending", terminal="london-1")
    expect(row.locator('[data-cell="type"]')).to_have_text(f"{side.title()} {kind.replace('_', ' ')}")
    if kind == "stop_limit":
        expect(row.locator('[data-cell="limit"]')).to_have_text(f"{ask + 0.0005:.5f}")


def test_stops_are_set_and_taken_away_with_the_keyboard(sign_in: SignIn) -> None:
    screen = started(sign_in, "london-1")
    row = one(screen, "london-1")
    bid = price_of(screen, "bid")
    edit(row, screen)
    screen["edit-sl"].fill(f"{bid + 0.01:.5f}")
    screen.page.keyboard.press("Enter")
    expect(screen.page.locator("#edit-sl-problem")).to_contain_text("The stop loss of a buy lies below")
    expect(screen["edit-sl"]).to_have_attribute("aria-invalid", "true")
    screen["edit-sl"].fill(f"{bid - 0.002:.5f}")
    screen["edit-tp"].fill(f"{bid + 0.003:.5f}")
    screen.shot("verbs-position-dialog")
    screen.page.keyboard.press("Enter")
    expect(screen["toast"].filter(has_text="Changed")).to_be_visible()
    expect(screen["position-dialog"]).to_be_hidden()
    expect(row.locator('[data-cell="sl"]')).to_have_text(f"{bid - 0.002:.5f}")
    expect(row.locator('[data-cell="tp"]')).to_have_text(f"{bid + 0.003:.5f}")
    screen.shot("verbs-stops")
    edit(row, screen)
    screen["edit-sl"].fill("")
    screen["edit-stops"].click()
    expect(row.locator('[data-cell="sl"]')).to_have_text("–")
    expect(row.locator('[data-cell="tp"]')).to_have_text(f"{bid + 0.003:.5f}")


def test_a_part_is_closed_in_lots_and_in_percent(sign_in: SignIn) -> None:
    screen = started(sign_in, "london-1")
    row = one(screen, "london-1")
    edit(row, screen)
    for wrong in ("", "lots", "0.10", "100%", "0.001"):
        screen["edit-part"].fill(wrong)
        screen["edit-close-part"].click()
        expect(screen.page.locator("#edit-part-problem")).not_to_have_text("")
    screen["edit-part"].fill("0.04")
    screen["edit-close-part"].click()
    expect(row.locator('[data-cell="lots"]')).to_have_text("0.06")
    edit(row, screen)
    screen["edit-part"].fill("50%")
    screen["edit-close-part"].click()
    expect(row.locator('[data-cell="lots"]')).to_have_text("0.03")


def test_a_position_is_protected_and_not_any_more(sign_in: SignIn) -> None:
    screen = started(sign_in, "london-1")
    row = one(screen, "london-1")
    edit(row, screen)
    screen["edit-protect"].click()
    expect(screen.page.locator("#edit-trailing-problem")).not_to_have_text("")
    screen["edit-trailing"].fill("300")
    screen["edit-trailing-step"].fill("10")
    screen["edit-even"].fill("200")
    screen["edit-even-offset"].fill("20")
    screen["edit-protect"].click()
    expect(screen["position-dialog"]).to_be_hidden()
    expect(row.locator('[data-cell="sl"]')).to_contain_text("⤴")
    expect(row.locator('[data-cell="sl"]')).to_contain_text(
        "1."
    )  # the executor has set a stop loss behind the price
    screen.shot("verbs-protected")
    edit(row, screen)
    expect(screen["edit-trailing"]).to_have_value("300")
    expect(screen["edit-armed"]).to_contain_text("Trailing at 0.003")
    for name in ("edit-trailing", "edit-trailing-step", "edit-even", "edit-even-offset"):
        screen[name].fill("")
    screen["edit-protect"].click()
    expect(row.locator('[data-cell="sl"]')).not_to_contain_text("⤴")


def test_an_order_carries_its_protection(sign_in: SignIn) -> None:
    screen = started(sign_in, "london-1")
    screen["ticket-protection"].locator("summary").click()
    screen["ticket-trailing"].fill("0")
    screen["ticket-buy"].click()
    expect(screen["ticket-hint"]).to_contain_text("must be above 0")
    screen["ticket-trailing"].fill("400")
    screen["ticket-send"].click()
    expect(screen.rows("position", terminal="london-1").locator('[data-cell="sl"]')).to_contain_text("⤴")


def test_two_positions_close_each_other(sign_in: SignIn) -> None:
    screen = started(sign_in, "london-1")
    one(screen, "london-1")
    screen.send("sell")
    rows = screen.rows("position", terminal="london-1")
    expect(rows).to_have_count(2)
    edit(rows.filter(has_text="Buy"), screen)
    expect(screen["edit-by"].locator("option")).to_have_count(1)
    screen["edit-close-by"].click()
    expect(screen["position-dialog"]).to_be_hidden()
    expect(rows).to_have_count(0)


def test_what_the_broker_refuses_is_a_sentence(sign_in: SignIn) -> None:
    """A stop loss right at the price: the page lets it pass, the broker does not."""
    screen = started(sign_in, "london-1")
    row = one(screen, "london-1")
    edit(row, screen)
    level = float(row.locator('[data-cell="now"]').text_content() or 0) - 0.00001
    screen["edit-sl"].fill(f"{level:.5f}")
    screen["edit-stops"].click()

    def answered() -> bool:
        modified = screen.rows("order", action="modify").first
        return modified.count() > 0 and modified.get_attribute("data-state") in ("REJECTED", "DONE", "DENIED")

    wait_until(answered)
