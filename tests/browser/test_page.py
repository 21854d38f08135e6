"""The page around the trade: it heals by itself, forgets no order, leaks nothing, and works by keys and on small screens."""

import signal
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.screen import Screen
from tests.stack import Stack
from tests.waiting import wait_until

SignIn = Callable[..., Screen]
LONDON = 1_000_001  # the login of london-1

pytestmark = pytest.mark.usefixtures("flat")


def test_an_order_sent_while_the_server_is_away_is_executed_once(
    sign_in: SignIn, running_stack: Stack
) -> None:
    screen = sign_in("trader").live()
    screen.wait_chart("EURUSD")
    screen.choose_terminals("london-1")
    screen["ticket-lots"].fill("0.10")
    screen["ticket-buy"].click()
    running_stack.kill("web")
    expect(screen["connection"]).to_have_attribute("data-state", "reconnecting")
    screen["ticket-send"].click()
    expect(screen.rows("order", state="SENDING")).to_have_count(1)  # pending until the server says otherwise
    screen.live()
    expect(screen.rows("order", state="SENDING")).to_have_count(0)
    executed_once(screen, running_stack)


def executed_once(screen: Screen, stack: Stack) -> None:
    """Nothing waits to be sent again, and by the broker's book there is one position."""
    screen.all_answered()
    expect(screen.rows("position", terminal="london-1")).to_have_count(1)
    with stack.broker() as broker:
        assert len(broker.positions(LONDON)) == 1


def test_a_frozen_store_is_said_and_heals(sign_in: SignIn, running_stack: Stack) -> None:
    screen = sign_in("trader").live()
    screen.wait_chart("EURUSD")
    running_stack.kill("valkey-state", signal.SIGSTOP)
    try:
        expect(screen["connection"]).to_have_attribute("data-state", "redis-down")
        screen.shot("redis-down")
    finally:
        running_stack.kill("valkey-state", signal.SIGCONT)
    screen.live()


def test_an_order_sent_while_the_store_is_frozen_is_executed_once(
    sign_in: SignIn, running_stack: Stack
) -> None:
    screen = sign_in("trader").live()
    screen.wait_chart("EURUSD")
    screen.choose_terminals("london-1")
    screen["ticket-lots"].fill("0.10")
    screen["ticket-buy"].click()
    running_stack.kill("valkey-state", signal.SIGSTOP)
    try:
        screen["ticket-send"].click()
        waiting = screen.rows("order", state="SENDING")
        expect(waiting).to_have_count(1)
        sent = waiting.get_attribute("data-signal") or ""
        screen.page.wait_for_timeout(2_500)  # the first try is answered with ACCEPT_UNKNOWN
    finally:
        running_stack.kill("valkey-state", signal.SIGCONT)
    screen.live()
    expect(waiting).to_have_count(0)
    expect(screen.rows("order", signal=sent, state="FILLED")).to_have_count(1)
    expect(screen.rows("order", signal=sent)).to_have_count(1)
    executed_once(screen, running_stack)


def test_an_ended_session_is_said_and_the_order_waits_for_the_next(
    sign_in: SignIn, running_stack: Stack
) -> None:
    screen = sign_in("trader").live()
    screen.wait_chart("EURUSD")
    screen.choose_terminals("london-1")
    other = Screen(screen.page.context.new_page(), screen.results)
    other.page.goto("/")
    other["user-menu"].click()
    other["sign-out"].click()
    expect(other["login-username"]).to_be_visible()

    screen.send("buy")
    expect(screen["connection"]).to_have_attribute("data-state", "signed-out")
    expect(screen["sign-in-again"]).to_be_visible()
    waiting = screen.rows("order", state="SENDING")
    expect(waiting).to_have_count(1)
    sent = waiting.get_attribute("data-signal") or ""
    screen.shot("signed-out")

    other.sign_in("trader", running_stack.users["trader"])
    screen.live()
    expect(waiting).to_have_count(0)
    expect(screen.rows("order", signal=sent, state="FILLED")).to_have_count(1)
    executed_once(screen, running_stack)


def test_another_user_in_the_same_browser_gets_a_page_of_his_own(
    sign_in: SignIn, running_stack: Stack
) -> None:
    screen = sign_in("trader").live()
    other = Screen(screen.page.context.new_page(), screen.results)
    other.page.goto("/")
    other["user-menu"].click()
    other["sign-out"].click()
    other.sign_in("viewer", running_stack.users["viewer"])
    expect(other["user-role"]).to_have_text("viewer")
    running_stack.kill("web")  # the trader's page connects again, with the viewer's session
    expect(screen["user-role"]).to_have_text("viewer")
    expect(screen["ticket"]).to_be_hidden()


def test_signing_out_ends_at_the_sign_in(sign_in: SignIn) -> None:
    screen = sign_in("viewer").live()
    screen["user-menu"].click()
    screen["sign-out"].click()
    expect(screen["login-username"]).to_be_visible()


def test_changing_the_symbol_often_leaks_nothing(sign_in: SignIn) -> None:
    screen = sign_in("trader").live()
    devtools = screen.page.context.new_cdp_session(screen.page)
    devtools.send("Performance.enable")

    def counted() -> dict[str, float]:
        devtools.send("HeapProfiler.collectGarbage")
        metrics = {item["name"]: item["value"] for item in devtools.send("Performance.getMetrics")["metrics"]}
        own = {"series": int(screen.chart("series")), "store": int(screen.chart("listeners"))}
        canvases = screen.page.locator("canvas").count()
        return own | {
            "dom listeners": metrics["JSEventListeners"],
            "nodes": metrics["Nodes"],
            "canvases": canvases,
        }

    def change(times: int) -> None:
        for place in range(times):
            symbol = ("USDJPY", "GBPUSD", "BTCUSD", "EURUSD")[place % 4]
            screen.choose_symbol(symbol)
            screen.wait_chart(symbol)

    change(4)  # each list has been opened and each symbol drawn once
    before = counted()
    assert before["series"] == 2
    change(20)

    def nothing_leaked() -> bool:
        after = counted()
        return (
            all(after[name] == before[name] for name in ("series", "store", "canvases"))
            and after["dom listeners"] <= before["dom listeners"] + 4
            and after["nodes"] <= before["nodes"] + 100  # rows of what has happened meanwhile
        )

    wait_until(nothing_leaked)  # what leaks stays, what is on its way out does not


def test_scrolling_back_loads_older_candles(sign_in: SignIn) -> None:
    screen = sign_in("trader").live()
    screen.wait_chart("EURUSD")
    before = int(screen.chart("candles"))
    box = screen["chart"].bounding_box()
    assert box
    screen.page.mouse.move(box["x"] + 300, box["y"] + 150)

    def scrolled_further() -> bool:
        screen.page.mouse.wheel(-3_000, 0)
        return int(screen.chart("candles")) > before + 500

    wait_until(scrolled_further, 30, 0.3)
    screen.shot("history")


def test_timeframes_change_and_are_remembered(sign_in: SignIn) -> None:
    screen = sign_in("trader").live()
    for seconds in (1, 300, 3600):
        screen[f"timeframe-{seconds}"].click()
        screen.wait_chart("EURUSD", seconds)
        assert int(screen.chart("last-open-ms")) % (seconds * 1000) == 0
    screen.page.reload()
    screen.live()
    screen.wait_chart("EURUSD", 3600)
    expect(screen["timeframe-3600"]).to_have_attribute("aria-pressed", "true")


def test_keys_choose_and_leave(sign_in: SignIn) -> None:
    screen = sign_in("trader").live()
    screen.wait_chart("EURUSD")
    keyboard = screen.page.keyboard
    keyboard.press("b")
    expect(screen["ticket-buy"]).to_be_focused()
    expect(screen["ticket-buy"]).to_have_attribute("aria-checked", "true")
    keyboard.press("s")
    expect(screen["ticket-sell"]).to_be_focused()
    expect(screen["ticket-send"]).to_contain_text("Sell")
    keyboard.press("Escape")
    expect(screen["ticket-sell"]).to_have_attribute("aria-checked", "false")
    expect(screen["ticket-send"]).to_be_disabled()
    keyboard.press("/")
    expect(screen["symbol-search"]).to_be_focused()
    keyboard.type("usdj")
    keyboard.press("Enter")
    expect(screen["symbol-name"]).to_have_text("USDJPY")
    keyboard.press("b")
    expect(screen["ticket-buy"]).to_have_attribute("aria-checked", "true")
    keyboard.press("l")
    expect(screen["ticket-lots"]).to_be_focused()
    expect(screen["ticket-send"]).to_be_enabled()
    listed = screen["count-orders"].text_content() or ""
    keyboard.press("Enter")  # confirms the number, sends nothing
    screen.page.wait_for_timeout(500)  # what is sent is listed in the next frame
    expect(screen["count-orders"]).to_have_text(listed)


def test_what_cannot_be_meant_is_not_sent(sign_in: SignIn) -> None:
    screen = sign_in("trader").live()
    screen.wait_chart("EURUSD")
    screen["ticket-buy"].click()
    for lots in ("", "0", "many", "-1"):
        screen["ticket-lots"].fill(lots)
        expect(screen["ticket-send"]).to_be_disabled()
        expect(screen["ticket-hint"]).not_to_be_empty()
        expect(screen["ticket-lots"]).to_have_attribute("aria-invalid", "true")
    screen["ticket-lots"].fill("0.10")
    screen["ticket-sl"].fill("9")
    expect(screen["ticket-hint"]).to_contain_text("below")
    screen["ticket-sl"].fill("")
    screen["targets-none"].click()
    expect(screen["ticket-hint"]).to_contain_text("terminal")
    expect(screen["ticket-send"]).to_be_disabled()


def test_the_theme_is_remembered(sign_in: SignIn) -> None:
    screen = sign_in("trader").live()
    screen["user-menu"].click()
    screen["theme-toggle"].click()
    expect(screen.page.locator("html")).to_have_attribute("data-theme", "light")
    screen.page.reload()
    screen.live()
    expect(screen.page.locator("html")).to_have_attribute("data-theme", "light")
    screen.shot("light")


@pytest.mark.parametrize("width", [1024, 390])
def test_it_fits_smaller_screens(sign_in: SignIn, width: int) -> None:
    screen = sign_in("trader", width=width, height=800).live()
    screen.wait_chart("EURUSD")
    across = screen.page.evaluate("document.documentElement.scrollWidth")
    assert across <= width
    screen["ticket-send"].scroll_into_view_if_needed()
    expect(screen["ticket-send"]).to_be_in_viewport()
    screen.shot(f"width-{width}")
