"""A headless Chromium that reports the faults of a page: of the console, requests elsewhere, and those of axe-core."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

from tests.programs import installed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Dialog, Page, Request

Scheme = Literal["light", "dark"]
# Widths in pixels, of a telephone, a tablet and a screen.
LOOKS: tuple[tuple[int, Scheme], ...] = tuple(product((375, 768, 1440), ("light", "dark")))
PATIENCE = 60_000  # milliseconds; nothing takes so long but what will never come
AXE = {"resultTypes": ["violations"]}
# What sticks out of the window, so that a reader would have to scroll sideways.
TOO_WIDE = """() => [...document.querySelectorAll("body *")]
    .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1
        && !one.closest(".scroll, svg *"))
    .map(one => one.outerHTML.slice(0, 120))
    .slice(0, document.documentElement.scrollWidth > document.documentElement.clientWidth + 1 ? 5 : 0)"""

# Texts that are cut off, or run into what stands beside them.
CUT = """() => [...document.querySelectorAll("main *, header *, footer *")]
    .filter(one => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0
        && getComputedStyle(one).display !== "inline" && !one.closest(".scroll, svg, pre, .skip")
        && !["auto", "scroll"].includes(getComputedStyle(one).overflowX))
    .map(one => one.outerHTML.slice(0, 200)).slice(0, 5)"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium, of the machine or installed if possible; skip the test if it cannot be had."""
    program = next((found for name in ("google-chrome", "chrome") if (found := shutil.which(name))), None)
    program = shutil.which("chromium") or program or installed("chromium")
    with sync_playwright() as playwright:
        # Root has no sandbox, and a container little shared memory.
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"], timeout=PATIENCE
        )
        yield browser
        browser.close()


@dataclass
class Tab:
    """A tab of the browser, which records what a visitor should never see.

    Attributes:
        origin: the scheme, host and port of the server; "" for pages from files.
        problems: messages of the console, errors of scripts, dialogs, failed requests and requests elsewhere.
        requests: the addresses that the browser asked for.
        scripts: whether they run.
    """

    page: Page
    origin: str
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    expected_status: int = 200
    scripts: bool = True

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda message: self._note(f"console: {message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self._note(f"script: {error}"))
        self.page.on("dialog", self._dismiss)
        self.page.on("request", lambda request: self._check_address(request.url))
        self.page.on("requestfailed", self._check_failure)
        self.page.on("response", lambda answer: self._check_status(answer.url, answer.status))

    def _check_failure(self, request: Request) -> None:
        if not (request.failure == "net::ERR_ABORTED" and "/static/icon.svg" in request.url):  # by leaving the page
            self._note(f"failed: {request.url}: {request.failure}")

    def _dismiss(self, dialog: Dialog) -> None:
        self._note(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _note(self, problem: str) -> None:
        # Chromium itself reports a document with the status of an error.
        if self.expected_status != 200 and f"status of {self.expected_status} " in problem:
            return
        if "net::ERR_ABORTED" in problem and "/events" in problem:  # a stream of events ends when the page is left
            return
        self.problems.append(problem)

    def _check_address(self, url: str) -> None:
        self.requests.append(url)
        parts = urlsplit(url)
        own = f"{parts.scheme}://{parts.netloc}" == self.origin if self.origin else parts.scheme == "file"
        if not own and parts.scheme != "data":
            self._note(f"request elsewhere: {url}")

    def _check_status(self, url: str, status: int) -> None:
        if status >= 400 and status != self.expected_status:
            self._note(f"status {status}: {url}")

    def open(self, path: str, *, status: int = 200) -> Tab:
        """Open a page of the server."""
        self.expected_status = status
        answer = self.page.goto(self.origin + path)
        assert answer is not None, path
        assert answer.status == status, f"{path}: {answer.text()[:300]}"
        self._await_forecasts()
        if path == "/docs":
            self.page.locator(".opblock").first.wait_for()
        return self

    def click(self, name: str, *, role: Literal["link", "button"] = "button") -> None:
        """Click a button or link of this name, which may end in …, and wait for the page that follows."""
        plain, asking = (self.page.get_by_role(role, name=text, exact=True) for text in (name, f"{name}…"))
        with self.page.expect_navigation():
            plain.or_(asking).first.click()
        self._await_forecasts()

    def _await_forecasts(self) -> None:
        """Wait until the page no longer loads itself again, as it does while forecasts are made in the background."""
        pending = self.page.get_by_text("Reload the page")
        while pending.count():
            if self.scripts:
                pending.first.wait_for(state="detached")
                self.page.wait_for_load_state()
            else:
                self.page.wait_for_timeout(300)
                self.page.reload()

    @property
    def text(self) -> str:
        """What a visitor reads."""
        return self.page.inner_text("body")

    def inspect(self) -> list[str]:
        """Return what is wrong with the page that is open; the record is cleared."""
        found, self.problems = self.problems, []
        found += [f"too wide: {element}" for element in self.page.evaluate(TOO_WIDE)]
        found += [f"cut off: {element}" for element in self.page.evaluate(CUT)]
        return [*found, *self._run_axe()]

    def _run_axe(self) -> list[str]:
        from axe_playwright_python.base import AXE_SCRIPT

        if not self.page.evaluate("() => 'axe' in window"):
            self.page.evaluate(AXE_SCRIPT)
        results: dict[str, Any] = self.page.evaluate("options => axe.run(options)", AXE)
        return [
            f"axe: {violation['id']}: {violation['help']}: {node['target']}: {node['html'][:200]}: {_messages(node)}"
            for violation in results["violations"]
            for node in violation["nodes"][:3]
        ]


def _messages(node: dict[str, Any]) -> str:
    return "; ".join(check["message"] for kind in ("any", "all", "none") for check in node[kind])


@contextmanager
def tab(
    browser: Browser, origin: str, *, width: int = 1440, scheme: Scheme = "light", scripts: bool = True
) -> Iterator[Tab]:
    """Open an empty tab with cookies of its own."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
    )
    try:
        yield Tab(context.new_page(), origin, scripts=scripts)
    finally:
        context.close()
