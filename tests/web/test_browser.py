"""Every page in a real browser: at three widths, light and dark, with and without scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.api.conftest import TOKEN
from tests.web.browser import LOOKS, tab
from tests.web.conftest import served
from tests.web.hostile import STREAMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.api.conftest import Server
    from tests.web.browser import Tab
    from tests.web.conftest import Templates

pytestmark = pytest.mark.slow


class Site(NamedTuple):
    """A served project, and its versions and runs by a short name."""

    server: Server
    names: dict[str, str]

    def path(self, pattern: str) -> str:
        """Return an address in which the names in braces are those of this project."""
        return pattern.format_map(self.names)


@pytest.fixture(scope="module")
def site(templates: Templates) -> Iterator[Site]:
    with served(templates.everything) as server:
        versions = server.get("/models/versions").json()["versions"]
        names = {f"{version['algorithm']}_{version['model_type']}": version["version_id"] for version in versions}
        production = server.get("/models/production").json()
        names["production"] = production["timing_model"]["version_id"]
        runs = server.get("/models/training-history").json()["training_runs"]
        names |= {run["status"]: run["run_id"] for run in runs}
        yield Site(server, names)


def logged_in(opened: Tab) -> Tab:
    opened.open("/login")
    opened.page.get_by_label("Token").fill(TOKEN)
    opened.click("Log in")
    return opened


PAGES = [
    "/",
    "/overview",
    "/versions",
    "/version/{production}",
    "/version/{baseline_timing}",
    "/version/{baseline_content}",
    "/compare?a={production}&b={prophet_timing}",
    "/runs",
    "/run/{completed}",
    "/run/{failed}",
    "/posts",
    "/live",
    "/replay",
    "/login",
    "/docs",
]


@pytest.mark.parametrize("pattern", PAGES)
def test_a_page_has_no_fault_at_any_width_light_or_dark(pattern: str, site: Site, browser: Browser) -> None:
    problems: dict[str, list[str]] = {}
    for width, scheme in LOOKS:
        with tab(browser, site.server.url, width=width, scheme=scheme) as visit:
            for problem in visit.open(site.path(pattern)).inspect():
                problems.setdefault(problem, []).append(f"{width} {scheme}")
            assert TOKEN not in visit.page.content()
    assert not problems, "\n".join(f"{where}: {problem}" for problem, where in problems.items())


@pytest.mark.parametrize("pattern", ["/posts", "/version/{baseline_content}", "/overview", "/live"])
def test_markup_in_posts_stays_text(pattern: str, site: Site, browser: Browser) -> None:
    with tab(browser, site.server.url) as visit:
        page = visit.open(site.path(pattern)).page
        assert page.locator("#pwned, [onerror], [onload], iframe, script:not([src])").count() == 0
        assert page.title() != "pwned"
        assert not visit.problems
        assert "133337" not in page.content()  # 7 * 19048 + 1: no text is a template


def test_streams_with_hostile_names_are_listed_and_visited(templates: Templates, browser: Browser) -> None:
    with served(templates.streams) as server, tab(browser, server.url, width=375) as visit:
        assert not visit.open("/").inspect()
        for name in STREAMS:
            visit.open("/").click(name, role="link")
            assert name in visit.text
            assert not visit.inspect()
            for follow in ("Versions", "Runs", "Posts", "Live", "Replay"):
                visit.click(follow, role="link")
                assert name in visit.text, follow  # the stream is kept by links
            assert visit.page.locator("#pwned").count() == 0
        assert not visit.problems
