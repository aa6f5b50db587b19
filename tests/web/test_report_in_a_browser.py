"""The report in a browser: from a file, without scripts and without a network, and on paper."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import time_machine

from docs.sample_project import NOW, SETTINGS
from tests.command_line import run_in_process
from tests.web.browser import LOOKS, tab

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

    from tests.web.conftest import Templates

pytestmark = pytest.mark.slow

MAX_BYTES = 2_000_000
# A4 between margins of 1 cm, in CSS pixels.
PAPER_WIDTH, PAPER_HEIGHT = 718, 1046
CUT_ON_PAPER = """([width, height]) => [...document.querySelectorAll("figure, svg, table")]
    .filter(one => one.getClientRects().length)
    .filter(one => {
        const box = one.getBoundingClientRect();
        const whole = one.tagName === "TABLE" || one.tagName === "svg"
            || getComputedStyle(one).breakInside.startsWith("avoid");
        return box.right > width + 1 || (one.tagName !== "TABLE" && box.height > height) || !whole;
    })
    .map(one => one.outerHTML.slice(0, 150))"""


@pytest.fixture(scope="module")
def report(templates: Templates, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a project with hostile posts."""
    everything = shutil.copytree(templates.everything, tmp_path_factory.mktemp("report") / "project", symlinks=True)
    with time_machine.travel(NOW):
        done = run_in_process(everything)("report", "--output", "report.html", env=SETTINGS)
    assert done.code == 0, done.err
    return everything / "report.html"


def test_the_report_is_one_file_without_faults_at_any_width(report: Path, browser: Browser) -> None:
    assert report.stat().st_size < MAX_BYTES
    problems: dict[str, list[str]] = {}
    for width, scheme in LOOKS:
        with tab(browser, "", width=width, scheme=scheme) as visit:
            for problem in visit.open(report.as_uri()).inspect():
                problems.setdefault(problem, []).append(f"{width} {scheme}")
            assert {address for address in visit.requests if not address.startswith("data:")} == {report.as_uri()}
            assert visit.page.locator("#pwned, [onerror], [onload], iframe").count() == 0
            assert visit.page.title() != "pwned"
    assert not problems, "\n".join(f"{where}: {problem}" for problem, where in problems.items())


def test_the_report_is_the_same_without_scripts(report: Path, browser: Browser) -> None:
    texts, charts = [], []
    for scripts in (True, False):
        with tab(browser, "", scripts=scripts) as visit:
            page = visit.open(report.as_uri()).page
            texts.append(page.inner_text("body"))
            charts.append(page.locator("svg").count())
    assert texts[0] == texts[1]
    assert charts[0] == charts[1] > 3


def test_the_report_prints_without_cut_charts(report: Path, browser: Browser) -> None:
    with tab(browser, "", width=PAPER_WIDTH, scheme="dark") as visit:
        page = visit.open(report.as_uri()).page
        page.emulate_media(media="print")
        assert page.evaluate(CUT_ON_PAPER, [PAPER_WIDTH, PAPER_HEIGHT]) == []
        background, text = page.evaluate(
            "() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        assert background in {"rgb(255, 255, 255)", "rgba(0, 0, 0, 0)"}  # no paper is printed black
        assert max(map(int, text.strip("rgba()").split(",")[:3])) < 100
        margins = dict.fromkeys(("top", "right", "bottom", "left"), "1cm")
        pdf = page.pdf(format="A4", margin=margins, print_background=True)  # type: ignore[arg-type]
    assert pdf.startswith(b"%PDF-")
    assert 1 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") + pdf.count(b"/Type /Page/") < 40
