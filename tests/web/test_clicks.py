"""What a visitor does in a browser: log in, change production, follow a run, print, and use the keyboard only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.conftest import TOKEN
from tests.conftest import open_project
from tests.web.browser import tab
from tests.web.conftest import served
from tests.web.hostile import MARKUP

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

    from tests.api.conftest import Server
    from tests.web.browser import Tab

pytestmark = pytest.mark.slow


@pytest.fixture
def server(everything: Path) -> Iterator[Server]:
    with served(everything) as started:
        yield started


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Tab]:
    with tab(browser, server.url) as opened:
        yield opened
        assert not opened.problems
        assert not any(TOKEN in address for address in opened.requests)
        assert TOKEN not in "".join(server.lines)


def log_in(visit: Tab) -> None:
    visit.open("/overview").click("Log in", role="link")
    visit.page.get_by_label("Token").fill(TOKEN)
    visit.click("Log in")


def live_version(server: Server) -> str:
    version: str = server.get("/models/production").json()["timing_model"]["version_id"]
    return version


def test_promote_and_roll_back_by_clicks(visit: Tab, server: Server) -> None:
    production = live_version(server)
    candidate = server.get("/models/versions?model_type=timing").json()["versions"][0]["version_id"]
    log_in(visit)
    visit.click("Versions", role="link")
    visit.click(candidate, role="link")
    visit.click("Promote", role="link")
    assert production in visit.text
    assert candidate in visit.text
    assert not visit.inspect()
    assert live_version(server) == production
    visit.page.get_by_label("Reason").fill(MARKUP[0])
    visit.click("Promote")
    assert live_version(server) == candidate
    assert candidate in visit.page.get_by_role("status").inner_text()
    assert not visit.inspect()
    visit.click("Roll back", role="link")
    assert MARKUP[0] in visit.text  # the reason of what is undone, as text
    visit.page.get_by_label("Reason").fill("misses the evenings")
    visit.click("Roll back")
    assert live_version(server) == production
    assert "on hold" in visit.text
    assert not visit.inspect()
    assert visit.page.title() != "pwned"
    visit.click("Log out", role="link")
    visit.click("Log out")
    assert visit.page.get_by_role("link", name="Log in").count() == 1
    assert visit.page.get_by_role("link", name="Roll back").count() == 0


def test_hold_release_pin_and_unpin_by_clicks_without_scripts(
    browser: Browser, server: Server, everything: Path
) -> None:
    version = f"/version/{live_version(server)}"
    with tab(browser, server.url, scripts=False) as visit:
        log_in(visit)
        for name, path, shown in (
            ("Hold", "/overview", "on hold"),
            ("Release", "/overview", ""),
            ("Pin", version, "pinned"),
            ("Unpin", version, ""),
        ):
            visit.open(path).click(name, role="link")
            visit.click(name)
            assert shown in visit.open(path).text
        assert not visit.problems
    actions = [entry.action for entry in open_project(everything).registry.list_ledger_entries(limit=4)]
    assert sorted(actions) == ["hold", "pin", "release", "unpin"]


def test_a_click_starts_a_run_whose_page_shows_its_end(visit: Tab, server: Server) -> None:
    log_in(visit)
    visit.open("/action/retrain?type=timing")
    assert not visit.inspect()
    visit.click("Retrain")
    run_id = visit.page.url.rpartition("/")[2]
    visit.page.locator(
        "body:not(:has([data-events])) footer"
    ).wait_for()  # loaded again at the end, unless it came later
    visit.page.get_by_text("Its version was not promoted").wait_for()
    assert server.ended(run_id)["status"] == "completed"
    assert not visit.inspect()


def test_a_wrong_token_is_told_and_a_right_one_is_asked_for_again(visit: Tab) -> None:
    visit.open("/login")
    visit.page.get_by_label("Token").fill("wrong-token-of-letters")
    visit.expected_status = 403
    visit.click("Log in")
    assert "The token is wrong" in visit.page.get_by_role("alert").inner_text()
    assert not visit.inspect()
    visit.expected_status = 200
    visit.page.get_by_label("Token").fill(TOKEN)
    visit.click("Log in")
    assert visit.page.get_by_role("link", name="Log out").count() == 1


def test_the_keyboard_reaches_everything_and_shows_where_it_is(visit: Tab) -> None:
    page = visit.open("/overview").page
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    assert page.evaluate("() => document.activeElement.getBoundingClientRect().top") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"
    page.reload()
    focusable = page.evaluate(
        """() => [...document.querySelectorAll("a[href], button, summary, [tabindex='0']")]
            .filter(one => one.checkVisibility()).length"""
    )
    seen: set[str] = set()
    for _ in range(focusable + 1):
        page.keyboard.press("Tab")
        where, outline = page.evaluate(
            """() => {
                const one = document.activeElement, style = getComputedStyle(one);
                const box = one.getBoundingClientRect();
                return [one.tagName + box.x + "," + (box.y + scrollY) + one.textContent.slice(0, 20),
                    style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
            }"""
        )
        if not where.startswith("BODY"):
            assert outline, where
            seen.add(where)
    assert len(seen) >= focusable - 1
