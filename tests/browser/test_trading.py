"""The job itself in a real browser: one click on a live chart fills on several terminals, and everyone sees what is his.

On the platform as `make run` starts it. Screenshots are in test-results/.
"""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.screen import Screen
from tests.stack import Stack
from tests.waiting import wait_until

THREE = ("london-1", "tokyo-2", "zurich-3")
SIZES = {
    "london-1": "0.10",
    "tokyo-2": "0.05",
    "zurich-3": "0.20",
}  # of 0.10 lots, by each terminal's multiplier
SignIn = Callable[..., Screen]

pytestmark = pytest.mark.usefixtures("flat")


def open_signal(*terminals: str, **more: Any) -> dict[str, Any]:
    return {
        "signal_id": str(uuid.uuid4()),
        "action": "open",
        "symbol": "EURUSD",
        "side": "buy",
        "order_type": "market",
        "lots": 0.1,
        "targets": {"terminals": list(terminals)},
    } | more


def holding(screen: Screen, *terminals: str) -> None:
    for terminal in terminals:
        expect(screen.rows("position", terminal=terminal)).to_have_count(1)


def test_a_wrong_password_is_told_and_nothing_else(sign_in: SignIn) -> None:
    screen = sign_in("trader", "not the password")
    expect(screen["login-error"]).to_be_visible()
    expect(screen["chart"]).to_have_count(0)


def test_the_last_candle_moves(sign_in: SignIn) -> None:
    screen = sign_in("trader").live()
    screen.wait_chart("EURUSD")
    wait_until(lambda: int(screen.chart("candles")) > 100)
    before = screen.chart("last-close"), screen.chart("last-open-ms")
    wait_until(lambda: (screen.chart("last-close"), screen.chart("last-open-ms")) != before, 60)
    assert screen["last-price"].text_content() not in ("", "–")


def test_one_click_fills_on_three_terminals_and_close_all_makes_flat(sign_in: SignIn) -> None:
    screen = sign_in("trader").live()
    screen.wait_chart("EURUSD")
    expect(screen["ticket-send"]).to_be_disabled()
    screen["targets-all"].click()
    screen.send("buy", "0.10")

    # a toast lasts a few seconds, so it is looked for first
    expect(screen["toast"].filter(has_text="Bought 0.35 EURUSD on 3 terminals")).to_be_visible()

    # three fills of three sizes
    screen.tab("fills")
    for terminal, size in SIZES.items():
        fill = screen.rows("fill", terminal=terminal, action="open").first
        expect(fill.locator('[data-cell="lots"]')).to_have_text(size)
        expect(fill.locator('[data-cell="price"]')).not_to_have_text("–")
        expect(fill.locator('[data-cell="own"]')).not_to_have_text("–")
    screen.shot("filled")

    # positions whose profit changes
    screen.tab("positions")
    holding(screen, *THREE)
    assert set(screen.cells(screen.rows("position"), "lots")) == set(SIZES.values())
    before = screen.profits()
    wait_until(lambda: screen.profits() != before, 60)
    for currency in ("USD", "JPY", "EUR"):
        expect(screen[f"total-{currency}"]).to_be_visible()
    screen.shot("positions")

    # close all asks first
    screen["close-all"].click()
    expect(screen["confirm"]).to_be_visible()
    screen["confirm-no"].click()
    holding(screen, *THREE)
    screen["close-all"].click()
    screen["confirm-yes"].click()
    expect(screen.rows("position")).to_have_count(0)
    expect(screen["count-positions"]).to_have_text("0")
    screen.tab("fills")
    for terminal, size in SIZES.items():
        close = screen.rows("fill", terminal=terminal, action="close").first
        expect(close.locator('[data-cell="lots"]')).to_have_text(size)
    wait_until(lambda: screen.get("/api/positions")["body"]["items"] == [])
    screen.shot("flat")


def test_closes_one_position_and_one_symbol(sign_in: SignIn) -> None:
    screen = sign_in("trader").live()
    screen.wait_chart("EURUSD")
    screen.choose_terminals("london-1", "tokyo-2")
    screen.send("sell", "0.20")
    holding(screen, "london-1", "tokyo-2")
    screen.choose_symbol("USDJPY")
    screen.wait_chart("USDJPY")
    screen.choose_terminals("london-1")
    screen.send("buy")
    expect(screen.rows("position")).to_have_count(3)

    screen.rows("position", terminal="tokyo-2").get_by_test_id("position-close").click()
    expect(screen.rows("position", terminal="tokyo-2")).to_have_count(0)
    screen["close-symbol"].click()
    expect(screen["confirm"]).to_contain_text("USDJPY")
    screen["confirm-yes"].click()
    expect(screen.rows("position")).to_have_count(1)
    assert screen.cells(screen.rows("position"), "symbol") == ["EURUSD"]


def test_stop_loss_and_take_profit_reach_the_position(sign_in: SignIn) -> None:
    screen = sign_in("trader").live()
    screen.wait_chart("EURUSD")
    screen.choose_terminals("london-1")
    screen["ticket-buy"].click()
    screen.page.get_by_label("Lower stop loss").click()
    screen.page.get_by_label("Higher take profit").click()
    stop_loss, take_profit = screen["ticket-sl"].input_value(), screen["ticket-tp"].input_value()
    assert float(stop_loss) < float(take_profit)
    expect(screen["ticket-distances"]).to_contain_text("points")
    screen["ticket-send"].click()
    position = screen.rows("position", terminal="london-1")
    expect(position.locator('[data-cell="sl"]')).to_have_text(stop_loss)
    expect(position.locator('[data-cell="tp"]')).to_have_text(take_profit)
    screen.shot("stop-loss")


def test_a_denied_order_says_why_in_the_list_and_at_once(sign_in: SignIn) -> None:
    screen = sign_in("trader").live()
    screen.wait_chart("EURUSD")
    screen.choose_terminals("tokyo-2")
    screen.send("buy", "90")  # halved there; 20 lots are its limit
    toast = screen["toast"].filter(has=screen["toast-code"].filter(has_text="LOTS_ABOVE_MAX"))
    expect(toast).to_be_visible()
    screen.tab("orders")
    order = screen.rows("order", terminal="tokyo-2", state="DENIED").first
    expect(order.get_by_test_id("order-code")).to_have_text("LOTS_ABOVE_MAX")
    expect(order.locator('[data-cell="reason"]')).to_contain_text("20")
    screen.shot("denied")


def test_an_order_that_was_never_answered_goes_again_and_its_refusal_is_told(sign_in: SignIn) -> None:
    """A minute old when the page is back: known to nobody, and too old."""
    screen = sign_in("trader").live()
    kept: list[dict[str, Any]] = [{"signal": open_signal("london-1"), "user": "trader"}]
    screen.page.evaluate(
        """(kept) => sessionStorage.setItem('tradedist.unanswered',
             JSON.stringify(kept.map((entry) => ({...entry, created_ms: Date.now() - 60_000}))))""",
        kept,
    )
    screen.page.reload()
    expect(screen["toast"].filter(has=screen["toast-code"].filter(has_text="TOO_OLD"))).to_be_visible()
    screen.live()
    refused = screen.rows("order", state="REFUSED", signal=kept[0]["signal"]["signal_id"])
    expect(refused.get_by_test_id("order-code")).to_have_text("TOO_OLD")
    expect(refused.locator('[data-cell="reason"]')).to_contain_text(" ")
    screen.all_answered()
    assert screen.get(f"/api/signals/{kept[0]['signal']['signal_id']}")["status"] == 404


def test_a_viewer_sees_everything_and_cannot_trade(sign_in: SignIn) -> None:
    trader = sign_in("trader").live()
    trader.wait_chart("EURUSD")
    trader["targets-all"].click()
    trader.send("buy")
    holding(trader, *THREE)

    viewer = sign_in("viewer").live()
    viewer.wait_chart("EURUSD")
    expect(viewer["user-role"]).to_have_text("viewer")
    holding(viewer, *THREE)
    expect(viewer["ticket"]).to_be_hidden()
    expect(viewer["ticket-note"]).to_contain_text("viewer")
    expect(viewer["position-close"]).to_have_count(0)
    expect(viewer["close-all"]).to_be_hidden()
    expect(viewer["close-note"]).to_be_visible()
    viewer.shot("viewer")

    # nor by hand, with the page's own session
    attempts = [
        open_signal(*THREE),
        {
            "signal_id": str(uuid.uuid4()),
            "action": "close",
            "all": True,
            "targets": {"terminals": list(THREE)},
        },
    ]
    for signal in attempts:
        answer = viewer.post("/api/signals", signal)
        assert (answer["status"], answer["body"]["code"]) == (403, "FORBIDDEN")
        refused = viewer.over_socket({"type": "signal", "request_id": "by-hand", "signal": signal})
        assert (refused["type"], refused["code"], refused["request_id"]) == (
            "refused",
            "FORBIDDEN",
            "by-hand",
        )
        assert refused["message"]
    holding(trader, *THREE)


GUEST = """
from django.contrib.auth import get_user_model
from executors.models import Member, Terminal, TerminalGrant
user, made = get_user_model().objects.get_or_create(username="guest")
user.set_password("{password}")
user.save()
Member.objects.update_or_create(user=user, defaults={{"role": "trader"}})
TerminalGrant.objects.get_or_create(user=user, terminal=Terminal.objects.get(pk="london-1"), defaults={{"level": "trade"}})
"""


def test_what_is_not_granted_does_not_exist(sign_in: SignIn, running_stack: Stack) -> None:
    password = uuid.uuid4().hex
    running_stack.manage("shell", "-c", GUEST.format(password=password))
    trader = sign_in("trader").live()
    trader.wait_chart("EURUSD")
    trader["targets-all"].click()
    trader.send("buy")
    holding(trader, *THREE)

    guest = sign_in("guest", password).live()
    guest.wait_chart("EURUSD")
    holding(guest, "london-1")
    for name in ("tokyo-2", "zurich-3", "Tokyo", "Zurich"):
        assert name not in guest.page.content()
    assert [row["terminal_id"] for row in guest.get("/api/terminals")["body"]["items"]] == ["london-1"]
    hidden = guest.post("/api/signals", open_signal("tokyo-2"))
    absent = guest.post("/api/signals", open_signal("nowhere-9"))
    assert hidden["status"] == absent["status"] >= 400
    assert hidden["body"]["code"] == absent["body"]["code"]
    assert hidden["body"]["message"].replace("tokyo-2", "X") == absent["body"]["message"].replace(
        "nowhere-9", "X"
    )

    # closing all closes his, and nobody else's
    guest["close-all"].click()
    guest["confirm-yes"].click()
    expect(guest.rows("position")).to_have_count(0)
    expect(trader.rows("position", terminal="london-1")).to_have_count(0)
    holding(trader, "tokyo-2", "zurich-3")
