"""A real Chromium for the page's tests, and people signed in to the running platform.

Chromium ends with each module: Playwright's own event loop must not be there when asynchronous tests run.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Playwright, expect, sync_playwright

from tests.browser.screen import Screen
from tests.stack import ROOT, Stack
from tests.waiting import wait_until
from tradedist import keys

RESULTS = ROOT / "test-results"
LIMIT_MS = 30_000
TERMINALS = ("london-1", "tokyo-2", "zurich-3")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

# What is expected is waited for; Playwright's own five seconds are few on a machine that does much else.
expect.set_options(timeout=LIMIT_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


def chromium_path(playwright: Playwright) -> str:
    """Debian's, or whichever one Playwright has installed for itself."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    own = Path(playwright.chromium.executable_path)
    if own.exists():
        return str(own)
    pytest.fail("There is no Chromium. Install it: apt-get install chromium", pytrace=False)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(playwright), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def sign_in(
    chromium: Browser, running_stack: Stack, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Screen]]:
    """Opens the page for a user, each with cookies and storage of his own. What the page writes to the console as an
    error fails the test."""
    screens: list[Screen] = []
    RESULTS.mkdir(exist_ok=True)

    def open_for(user: str, password: str = "", *, width: int = 1440, height: int = 900) -> Screen:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, base_url=running_stack.base_url
        )
        context.set_default_timeout(LIMIT_MS)
        screen = Screen(context.new_page(), RESULTS)
        screens.append(screen)
        screen.sign_in(user, password or running_stack.users[user])
        return screen

    yield open_for
    for place, screen in enumerate(screens):
        screen.shot(f"last-{request.node.name}-{place}")
        screen.page.context.close()
    for screen in screens:
        assert screen.problems == []


@pytest.fixture
def flat(running_stack: Stack) -> Iterator[None]:
    """Cancels and closes what the test leaves at the brokers."""
    yield
    clear(running_stack)


def clear(stack: Stack) -> None:
    """By the brokers' own books: what was done a moment ago the platform may not show yet. Returns when both have nothing."""
    headers = {"Authorization": f"Bearer {stack.token('admin')}"}
    with (
        httpx.Client(
            base_url=stack.base_url,
            headers=headers,
            timeout=30,
            transport=httpx.HTTPTransport(retries=6),  # a web process that the test killed is on its way back
        ) as client,
        stack.broker() as broker,
    ):
        wait_until(lambda: not under_way(stack), 60)

        def end(action: str) -> None:
            signal = {
                "signal_id": str(uuid.uuid4()), "action": action, "all": True, "targets": {"terminals": TERMINALS}
            }  # fmt: skip
            assert client.post("/api/signals", json=signal).status_code == 202

        def pending() -> bool:
            return any(not order.done_ms for order in broker.orders())

        if pending():
            end("cancel")
            wait_until(lambda: not pending())
        if broker.positions():
            end("close")
            wait_until(lambda: not broker.positions())
        for shown in ("/api/orders", "/api/positions"):
            wait_until(lambda shown=shown: not client.get(shown).json()["items"])


def under_way(stack: Stack) -> list[str]:
    """Orders with which an executor is not done yet; a pending order is placed."""
    with stack.state() as client:
        found = client.zrange(keys.UNSETTLED, 0, -1)
        return [name for name in found if client.hget(keys.order(name), "state") in ("QUEUED", "INTENT")]
