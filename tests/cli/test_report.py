"""`report` and `train --report` write one HTML file that needs nothing else."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from retrainer.web.report import MAX_BYTES, fit
from tests.conftest import NOW, open_project, regular_posts
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins

MARKUP = "<script>alert(1)</script>"


def assert_is_alone(html: str) -> None:
    """Check that a report runs and loads nothing, and links to nothing but its own parts."""
    assert html.startswith("<!doctype html>")
    assert html.rstrip().endswith("</html>")
    assert len(html.encode()) < MAX_BYTES
    assert "<script" not in html
    assert not re.search(r"\s(on\w+|src|style)=", html)
    assert set(re.findall(r'href="([^"#]*)', html)) <= {""}
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    referred = re.findall(r'(?:href="#|url\(#)([^")]+)', html)
    referred += [
        name for names in re.findall(r'aria-(?:labelledby|describedby)="([^"]+)"', html) for name in names.split()
    ]
    assert set(referred) <= set(ids)
    assert "default-src &#39;none&#39;" in html


@pytest.mark.usefixtures("trained")
def test_the_report_is_one_file_that_needs_nothing_else(retrainer: Runner, folder: Path) -> None:
    done = retrainer("report")
    assert done.out == "Wrote report.html\n"
    html = (folder / "report.html").read_text()
    assert_is_alone(html)
    assert "Timing on live posts" in html
    assert "Content on live posts" in html


@pytest.mark.slow
def test_a_report_describes_the_live_versions_or_the_one_asked_for(
    retrainer: Runner, folder: Path, trained: str
) -> None:
    retrainer("train", "timing", "--no-auto-promote")
    newest = retrainer("versions", "--type", "timing", "--json").json["versions"][0]
    assert retrainer("report").code == 0
    html = (folder / "report.html").read_text()
    assert f'id="version-{trained}"' in html
    assert f'href="#version-{trained}"' in html
    assert html.count('id="version-') == 2
    assert retrainer("report", "--version", "timing@latest").code == 0
    html = (folder / "report.html").read_text()
    assert_is_alone(html)
    assert re.findall(r'id="version-([^"]+)"', html) == [newest["version_id"]]
    assert "Content on live posts" not in html


def test_a_report_of_posts_in_a_foreign_table(retrainer: Runner, folder: Path) -> None:
    posts = regular_posts(80)[["post_id", "created_at", "content"]]
    with closing(sqlite3.connect(folder / "theirs.db")) as theirs:
        posts.to_sql("notes", theirs, index=False)
    environ = {"RETRAINER_POSTS__URL": "sqlite:///theirs.db", "RETRAINER_POSTS__TABLE": "notes"}
    assert retrainer("train", "--quiet", env=environ).code == 0
    done = retrainer("report", env=environ)
    assert (done.code, done.err) == (0, "")
    html = (folder / "report.html").read_text()
    assert html.count('id="version-') == 2


@pytest.mark.usefixtures("trained")
def test_a_report_of_one_type_has_nothing_of_the_other(retrainer: Runner, folder: Path) -> None:
    assert retrainer("report", "--type", "content", "--output", "content.html").code == 0
    html = (folder / "content.html").read_text()
    assert "Content on live posts" in html
    assert "Timing on live posts" not in html


def test_a_report_of_an_empty_project_says_what_to_do(retrainer: Runner, folder: Path) -> None:
    assert retrainer("report").code == 0
    html = (folder / "report.html").read_text()
    assert_is_alone(html)
    assert "retrainer train timing" in html


def test_a_report_replaces_an_earlier_one(retrainer: Runner, folder: Path) -> None:
    (folder / "report.html").write_text("earlier")
    assert retrainer("report").code == 0
    assert_is_alone((folder / "report.html").read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "no/such/report.html"), "--output: folder 'no/such' does not exist"),
        (("--output", "models"), "--output: cannot write 'models'"),
        (("--output", "config/config.yaml"), "--output: 'config/config.yaml' belongs to the project"),
        (("--version", "none"), "unknown version 'none'"),
        (("--version", "timing@production", "--type", "content"), "is a timing version"),
    ],
)
@pytest.mark.usefixtures("trained")
def test_what_cannot_be_reported_is_a_usage_error(
    retrainer: Runner, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = retrainer("report", *arguments)
    assert done.code == 2
    assert message in done.err
    assert not (folder / "report.html").exists()


def test_a_report_is_about_one_stream_and_escapes_its_name(retrainer: Runner, folder: Path) -> None:
    project = open_project(folder)
    for stream in (MARKUP, "other"):
        posts = regular_posts(120)
        posts["post_id"] = stream + posts["post_id"]
        posts["content"] = f"{MARKUP} " + posts["content"]
        project.for_stream(stream).posts.add(posts, NOW)
    project.close()
    assert retrainer("report").code == 2
    assert retrainer("train", "content", "--stream", MARKUP).code == 0
    assert retrainer("report", "--stream", MARKUP).code == 0
    html = (folder / "report.html").read_text()
    assert_is_alone(html)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_a_report_that_is_too_large_leaves_out_the_tables_behind_its_charts(retrainer: Runner, folder: Path) -> None:
    retrainer("live")
    assert retrainer("report").code == 0
    html = (folder / "report.html").read_text()
    assert html.count('<details class="data">') == html.count("<svg") > 0
    smaller = fit(html, len(html.encode())).decode()
    assert_is_alone(smaller)
    assert "<details" not in smaller
    assert smaller.count("<svg") == html.count("<svg")


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_the_report_needs_no_web_server(folder: Path) -> None:
    code = (
        "import sys; sys.modules['starlette'] = sys.modules['fastapi'] = None;"
        "from retrainer.__main__ import main; sys.argv = ['retrainer', 'report']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_train_writes_the_report_of_all_its_types(retrainer: Runner, folder: Path, project: object) -> None:
    done = retrainer("train", "--report", "after.html")
    assert done.code == 0
    assert "Wrote the report to 'after.html'" in done.err
    html = (folder / "after.html").read_text()
    assert_is_alone(html)
    assert "Timing on live posts" in html
    assert "Content on live posts" in html


@pytest.mark.usefixtures("trained")
def test_the_report_is_also_written_if_nothing_is_due(retrainer: Runner, folder: Path) -> None:
    retrainer("train", "timing")
    assert retrainer("train", "timing", "--if-due", "--report", "idle.html").code == 0
    assert_is_alone((folder / "idle.html").read_text())


@pytest.mark.usefixtures("project")
def test_a_version_whose_algorithm_is_missing_is_reported_by_what_is_recorded(
    retrainer: Runner, folder: Path, plugins: Plugins
) -> None:
    plugins.add("steady", timing_algorithm("steady", 5.0))
    assert retrainer("train", "timing", "--algorithm", "steady", env=plugins.environ).code == 0
    assert retrainer("report").code == 0
    html = (folder / "report.html").read_text()
    assert_is_alone(html)
    assert "steady_timing_" in html
    assert "Not available: the version cannot be loaded" in html


@pytest.mark.usefixtures("project")
def test_the_report_of_a_failed_run_is_written_too(retrainer: Runner, folder: Path) -> None:
    done = retrainer("train", "timing", "--report", "r.html", RETRAINER_RETRAINING__MIN_TRAINING_SAMPLES="100000")
    assert done.code == 3
    assert_is_alone((folder / "r.html").read_text())


@pytest.mark.usefixtures("project")
def test_a_report_that_cannot_be_written_fails_no_run(retrainer: Runner) -> None:
    done = retrainer("train", "timing", "--report", "/dev/full")
    assert done.code == 0
    assert "Cannot write the report to '/dev/full': No space left on device" in done.err
    (run,) = retrainer("history", "--json").json["training_runs"]
    assert run["status"] == "completed"


def test_an_impossible_report_is_refused_before_training(retrainer: Runner, sqlite_folder: Path) -> None:
    done = retrainer("train", "--report", "no/such/report.html")
    assert done.code == 2
    assert "--report: folder 'no/such' does not exist" in done.err
    assert not (sqlite_folder / "data" / "retrainer.db").exists()
    done = retrainer("train", "--all-streams", "--report", "report.html")
    assert done.code == 2
    assert "--report applies to one stream only" in done.err
