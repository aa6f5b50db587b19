"""The pages of live scores, A/B tests and replays, without a server."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retrainer.errors import DatabaseError
from retrainer.live.ab_tests import start_test, stop_test
from retrainer.live.refresh import refresh_live
from retrainer.live.report import report_live
from retrainer.pipeline.run import retrain
from retrainer.posts.importer import import_records
from retrainer.web.background import Background
from retrainer.web.rendering import Frame, Page, render_page
from retrainer.web.views.live import CachedReports, gather_live
from retrainer.web.views.replay import gather_replay
from tests.conftest import NOW, open_project, runtime_of
from tests.replay.conftest import START, eager, replayed

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project

__all__ = ["eager"]

MARKUP = "<script>alert(1)</script>"


def rendered(template: str, models: Any) -> str:
    frame = Frame("project", None, NOW, "/live", signed_in=False, can_sign_in=False)
    return html.unescape(render_page(Page(template, "Title", {"models": models}), frame).decode())


def live_page(project: Project) -> str:
    return rendered("live.html", gather_live(project, NOW))


@pytest.fixture
def live_project(trained: str, folder: Path) -> Project:
    """A project in which a version of each type is live, and was scored on posts."""
    project = open_project(folder)
    for model_type in ("timing", "content"):
        refresh_live(project, runtime_of(project), model_type, NOW)
    return project


def test_the_page_of_an_empty_project_says_what_to_do(folder: Path) -> None:
    page = live_page(open_project(folder))
    assert "No timing version is in production" in page
    assert "retrainer train timing" in page
    assert "retrainer ab start content VERSION" in page


def test_a_version_without_live_posts_says_what_scores_them(folder: Path, trained: str) -> None:
    page = live_page(open_project(folder))
    assert "No live post has been scored yet" in page
    assert "retrainer live timing" in page
    assert trained in page


def test_looking_scores_nothing(folder: Path, trained: str) -> None:
    project = open_project(folder)
    live_page(project)
    assert gather_live(project, NOW)[0].report is not None
    assert project.registry.list_current_live_comparisons() == []


def test_the_verdict_is_first_and_its_evidence_follows(live_project: Project) -> None:
    timing, content = gather_live(live_project, NOW)
    for model in (timing, content):
        assert model.report is not None
        assert model.report.num_posts > 50
        assert [row[0] for row in model.comparisons] == ["naive forecast"]
        assert len(model.charts) == 3
    page = live_page(live_project)
    assert timing.report is not None
    assert page.index(timing.report.sentence) < page.index("All live posts of timing")
    assert page.count("<svg") == 6


def test_the_report_is_made_again_only_when_the_live_scores_change(
    live_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million scores and posts take seconds; other changes of the database do not concern them."""
    monkeypatch.setattr("retrainer.web.views.live.DRIFT_WAIT_SECONDS", 60)
    project, reports = live_project, CachedReports(Background())
    before = reports.get(project, "timing", NOW)
    assert before == report_live(project, "timing", NOW)
    with monkeypatch.context() as patched:
        for name in ("report_live", "measure_drift"):
            patched.delattr(f"retrainer.web.views.live.{name}")  # so that a call would fail
        project.registry.pin(before.version_id, "a test", NOW, pinned=True)
        assert reports.get(project, "timing", NOW) == before
    record = {"id": "new", "created_at": NOW.isoformat(), "text": "a text"}
    import_records(project.posts, [record], None, name="here", stream=project.stream, now=NOW)
    refresh_live(project, runtime_of(project), "timing", NOW)
    after = reports.get(project, "timing", NOW)
    assert after.num_posts == before.num_posts + 1
    assert after == report_live(project, "timing", NOW)
    assert not reports.without_drift


@pytest.mark.parametrize("failing", ["report_live", "measure_drift"])
def test_an_error_is_not_kept(live_project: Project, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DatabaseError("the database is locked")

    monkeypatch.setattr("retrainer.web.views.live.DRIFT_WAIT_SECONDS", 60)
    reports = CachedReports(Background())
    with monkeypatch.context() as patched:
        patched.setattr(f"retrainer.web.views.live.{failing}", fail)
        with pytest.raises(DatabaseError):
            reports.get(live_project, "timing", NOW)
    assert reports.get(live_project, "timing", NOW) == report_live(live_project, "timing", NOW)


def test_a_running_test_and_those_before_it_are_shown(live_project: Project) -> None:
    project, runtime = live_project, runtime_of(live_project)
    run = retrain(project, runtime, "timing", NOW, auto_promote=False).run
    assert run is not None
    challenger = str(run.model_version_id)
    start_test(project, runtime, "timing", challenger, "to see", NOW)
    stop_test(project, runtime, "timing", "kept", MARKUP, NOW)
    start_test(project, runtime, "timing", challenger, "again", NOW + timedelta(minutes=1))
    timing, _ = gather_live(project, NOW + timedelta(hours=1))
    assert timing.test is not None
    assert (timing.test_words, timing.test.test.challenger_id) == ("running", challenger)
    assert [test.reason for test in timing.earlier_tests] == [MARKUP]
    frame = Frame("project", None, NOW, "/live", signed_in=False, can_sign_in=False)
    page = render_page(Page("live.html", "Live", {"models": [timing]}), frame).decode()
    assert MARKUP not in page
    assert html.escape(MARKUP) in page


def test_without_a_replay_the_page_says_what_to_do(folder: Path) -> None:
    page = rendered("replay.html", gather_replay(open_project(folder)))
    assert "retrainer replay timing --from DATE" in page


def test_the_latest_replay_shows_its_policies_with_bands(eager: Path) -> None:
    report = replayed(eager, end=START + timedelta(days=14))
    timing, content = gather_replay(open_project(eager))
    assert content.latest is None
    assert [name for name, _ in timing.policies] == ["configured", "never", "always"]
    assert [row[0] for row in timing.scores] == ["configured", "never", "always"]
    page = rendered("replay.html", [timing])
    assert report.conclusion in page
    assert len(timing.charts) == 2
    assert re.search(r"fill-opacity|opacity", timing.charts[0].svg), "the bands"


@pytest.mark.slow
def test_a_replay_that_was_stopped_says_so(eager: Path) -> None:
    steps = []

    def interrupt(progress: object) -> None:
        steps.append(progress)
        if len(steps) == 5:
            raise KeyboardInterrupt

    replayed(eager, end=START + timedelta(days=21), on_progress=interrupt)
    page = rendered("replay.html", gather_replay(open_project(eager)))
    assert "Interrupted after" in page
