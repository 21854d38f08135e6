"""The trading page as a test speaks of it: by what is on it, never by how it is built."""

import re
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, Page, expect

from tests.waiting import wait_until

ANYTHING = re.compile(".")
GUARD_S = 0.5  # the page takes two sends within 400 ms for a double click
EXPECTED = (
    "WebSocket connection to",  # a server that is away, killed by the test
    "net::ERR_",
    "the server responded with a status of 4",  # refusals that a test provokes
    "the server responded with a status of 50",
)


class Screen:
    def __init__(self, page: Page, results: Path) -> None:
        self.page = page
        self.problems: list[str] = []
        self.results = results
        self._sent_at = 0.0
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.problems.append(f"uncaught: {error}"))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(part in message.text for part in EXPECTED):
            self.problems.append(message.text)

    def __getitem__(self, test_id: str) -> Locator:
        return self.page.get_by_test_id(test_id)

    def sign_in(self, user: str, password: str) -> None:
        self.page.goto("/login/")
        self["login-username"].fill(user)
        self["login-password"].fill(password)
        self["login-submit"].click()

    def live(self, limit_s: float = 30) -> "Screen":
        """Returns when the page says that it is connected and shows candles."""
        expect(self["connection"]).to_have_attribute("data-state", "live", timeout=limit_s * 1000)
        expect(self["chart"]).to_have_attribute("data-last-close", ANYTHING, timeout=limit_s * 1000)
        return self

    def shot(self, name: str) -> Path:
        path = self.results / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    # --- chart ---
    def chart(self, name: str) -> str:
        return self["chart"].get_attribute(f"data-{name}") or ""

    def choose_symbol(self, symbol: str) -> None:
        self["symbol-button"].click()
        self[f"symbol-option-{symbol}"].click()
        expect(self["symbol-name"]).to_have_text(symbol)

    def wait_chart(self, symbol: str, seconds: int = 60) -> None:
        expect(self["chart"]).to_have_attribute("data-symbol", symbol)
        expect(self["chart"]).to_have_attribute("data-seconds", str(seconds))
        expect(self["chart"]).to_have_attribute("data-last-close", ANYTHING)

    # --- orders ---
    def choose_terminals(self, *terminal_ids: str) -> None:
        self["targets-none"].click()
        for terminal_id in terminal_ids:
            self[f"target-{terminal_id}"].check()

    def send(self, side: str, lots: str = "0.10") -> None:
        self["ticket-lots"].fill(lots)
        self[f"ticket-{side}"].click()
        time.sleep(max(0.0, self._sent_at + GUARD_S - time.monotonic()))
        self["ticket-send"].click()
        self._sent_at = time.monotonic()

    def all_answered(self) -> None:
        """Returns when the page has nothing left to send again."""
        wait_until(lambda: self.page.evaluate("sessionStorage.getItem('tradedist.unanswered')") == "[]")

    def tab(self, name: str) -> None:
        self[f"tab-{name}"].click()

    def rows(self, test_id: str, **attributes: str) -> Locator:
        """Table rows, shown or not, by their data: rows("fill", terminal="tokyo-2")."""
        chosen = "".join(f'[data-{name}="{value}"]' for name, value in attributes.items())
        return self.page.locator(f'[data-testid="{test_id}"]{chosen}')

    def cells(self, rows: Locator, cell: str) -> list[str]:
        return rows.locator(f'[data-cell="{cell}"]').all_text_contents()

    def profits(self) -> dict[str, str]:
        """By terminal, as shown."""
        found = self.page.evaluate(
            """() => Object.fromEntries([...document.querySelectorAll('[data-testid=position]')].map(
                 (row) => [row.dataset.terminal, row.querySelector('[data-cell=profit]').textContent]))"""
        )
        return dict(found)

    # --- what a program in the page's session can do ---
    def post(self, path: str, body: Any) -> dict[str, Any]:
        answer = self.page.evaluate(
            """async ([path, body]) => {
              const token = document.querySelector('input[name=csrfmiddlewaretoken]').value;
              const response = await fetch(path, {method: 'POST', body: JSON.stringify(body),
                headers: {'Content-Type': 'application/json', 'X-CSRFToken': token}});
              return {status: response.status, body: await response.json()};
            }""",
            [path, body],
        )
        return dict(answer)

    def get(self, path: str) -> dict[str, Any]:
        answer = self.page.evaluate(
            """async (path) => {
              const response = await fetch(path);
              return {status: response.status, body: await response.json()};
            }""",
            path,
        )
        return dict(answer)

    def over_socket(self, message: Any) -> dict[str, Any]:
        """The answer to one message on an order socket of its own."""
        answer = self.page.evaluate(
            """(message) => new Promise((resolve, reject) => {
              const socket = new WebSocket(location.origin.replace('http', 'ws') + '/ws/orders/');
              setTimeout(() => reject(new Error('no answer')), 30000);
              socket.onmessage = ({data}) => {
                const answer = JSON.parse(data);
                if (answer.type === 'snapshot') socket.send(JSON.stringify(message));
                if (['accepted', 'refused', 'error'].includes(answer.type)) { socket.close(); resolve(answer); }
              };
            })""",
            message,
        )
        return dict(answer)
