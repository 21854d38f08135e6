"""Where an order's time went: on the page's fill, and as histograms on the real /metrics."""

from collections.abc import Callable
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect
from prometheus_client.parser import text_string_to_metric_families

from tests.browser.screen import Screen
from tests.stack import Stack
from tests.waiting import wait_until

SignIn = Callable[..., Screen]
OWN = ("accept", "wake", "queue", "rules", "journal")

pytestmark = pytest.mark.usefixtures("flat")


def hops(stack: Stack) -> dict[tuple[str, str], float]:
    """(hop, whose) → how many orders were measured, over all ways of waking."""
    with urlopen(f"{stack.base_url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "tradedist_order_hop_seconds_count":
                assert sample.labels["woken_by"] in ("udp", "tcp", "celery", "outbox")
                key = sample.labels["hop"], sample.labels["part"]
                found[key] = found.get(key, 0) + sample.value
    return found


def at_rest(stack: Stack) -> dict[tuple[str, str], float]:
    """What is counted once nothing of earlier orders comes any more: a page tells what it saw within a second or so."""
    earlier: list[dict[tuple[str, str], float]] = []

    def unchanged() -> bool:
        earlier.append(hops(stack))
        return len(earlier) > 1 and earlier[-1] == earlier[-2]

    wait_until(unchanged, every_s=1.5)
    return earlier[-1]


def test_a_fill_shows_its_way_and_metrics_count_it_once(sign_in: SignIn, running_stack: Stack) -> None:
    screen = sign_in("trader").live()
    screen.wait_chart("EURUSD")
    before = at_rest(running_stack)
    fills = screen.rows("fill", terminal="london-1", action="open")
    earlier = fills.count()  # which other pages placed: their clicks are not known here
    screen.choose_terminals("london-1", "tokyo-2")
    screen.send("buy")
    screen.tab("fills")
    expect(fills).to_have_count(earlier + 1)
    fills.first.get_by_test_id("fill-trace").focus()
    screen.page.keyboard.press("Enter")
    expect(screen["trace"]).to_be_visible()
    shown = screen.page.locator("#trace-hops tr").evaluate_all(
        "(rows) => rows.map((row) => [row.dataset.hop, row.dataset.part])"
    )
    assert shown == [
        ["up", "page"], *([name, "own"] for name in OWN), ["broker", "broker"], ["back", "page"],
    ]  # fmt: skip
    for name in ("own", "broker", "page", "total"):
        expect(screen.page.locator(f'[data-sum="{name}"] b')).to_contain_text("s")
    screen.shot("trace")
    screen.page.keyboard.press("Escape")
    expect(screen["trace"]).to_be_hidden()

    wanted = {(name, "own"): 2.0 for name in (*OWN, "publish", "deliver")}
    wanted |= {("broker", "broker"): 2.0} | {
        (name, "page"): 2.0 for name in ("up", "back", "answer", "total")
    }

    def counted() -> dict[tuple[str, str], float]:
        return {key: value - before.get(key, 0) for key, value in hops(running_stack).items()}

    wait_until(lambda: counted() == wanted)
