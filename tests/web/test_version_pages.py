"""The pages of a version, of a comparison and of the posts, without a server."""

from __future__ import annotations

import html
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from retrainer.errors import UnknownName
from retrainer.pipeline.evaluations import evaluate_version
from retrainer.pipeline.loading import feature_importance
from retrainer.pipeline.run import retrain
from retrainer.posts.freshness import measure_freshness
from retrainer.web.rendering import Frame, Page, render_page
from retrainer.web.views.compare import ComparisonView, gather_comparison
from retrainer.web.views.posts import gather_posts, measure_quality
from retrainer.web.views.similarity import MAX_CHARACTERS, pair_texts
from retrainer.web.views.version import gather_version
from tests.command_line import packages
from tests.conftest import NOW, open_project, regular_posts, runtime_of
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion
    from tests.plugins_for_tests import Plugins

MARKUP = '<script>alert("x")</script><img src=x onerror=alert(1)>'


def rendered(template: str, **values: Any) -> str:
    frame = Frame("project", None, NOW, "/versions", signed_in=False, can_sign_in=False)
    return render_page(Page(template, "Title", values), frame).decode()


def version_page(project: Project, version: ModelVersion) -> str:
    importances = feature_importance(project, runtime_of(project), version)
    view = gather_version(project, version, importances)
    return html.unescape(rendered("version.html", view=view))


@pytest.fixture
def project(trained: str, folder: Path) -> Project:
    return open_project(folder)


def test_a_version_page_tells_its_history_scores_options_and_files(project: Project, trained: str) -> None:
    version = project.registry.get_version(trained)
    page = version_page(project, version)
    assert "It was promoted to production. First timing model" in page
    assert f"It was trained in {version.training_duration_seconds:.1f} s on" in page
    (row,) = project.registry.list_evaluations(trained)
    assert f"{row.overall_score:.4f}" in page
    assert "= same" in page, "baseline is the naive forecast"
    for file in project.registry.list_files(trained):
        assert file.path in page
        assert file.sha256 in page
    assert version.manifest_sha256 in page


def test_a_timing_version_has_charts_of_its_forecasts(project: Project, trained: str) -> None:
    view = gather_version(project, project.registry.get_version(trained), [])
    assert view.evaluation is not None
    titles = [chart.title for chart in view.evaluation.charts]
    for part in ("actual waits", "Reliability", "PIT", "hour of the week", "silence"):
        assert any(part in title for title in titles), titles


def test_the_page_of_a_version_does_without_posts_that_cannot_be_read(
    project: Project, trained: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(folder / "data" / "retrainer.db")) as database, database:
        database.execute("UPDATE posts SET created_at = 12345")
    view = gather_version(project, project.registry.get_version(trained), [])
    assert view.evaluation is not None
    titles = [chart.title for chart in view.evaluation.charts]
    assert titles
    assert not any("silence" in title for title in titles)
    assert "cannot read the time" in caplog.text


def test_a_content_version_has_its_texts_beside_those_that_came(project: Project) -> None:
    version = project.registry.get_production("content")
    assert version is not None
    view = gather_version(project, version, [])
    assert view.evaluation is not None
    assert len(view.evaluation.texts) == 20
    mean = np.mean([pair.score for pair in view.evaluation.texts if pair.score is not None])
    assert mean == pytest.approx(view.evaluation.row.overall_score)
    assert "<mark>" in rendered("version.html", view=view)


def test_an_earlier_evaluation_can_be_chosen(project: Project, trained: str) -> None:
    (first,) = project.registry.list_evaluations(trained)
    evaluate_version(project, runtime_of(project), trained, NOW)
    version = project.registry.get_version(trained)
    latest, chosen = (gather_version(project, version, [], name) for name in (None, first.evaluation_id))
    assert latest.evaluation is not None
    assert chosen.evaluation is not None
    assert latest.evaluation.row.evaluation_id != first.evaluation_id
    assert chosen.evaluation.row.evaluation_id == first.evaluation_id
    assert "All evaluations" in version_page(project, version)
    with pytest.raises(UnknownName, match="has no evaluation 'another'"):
        gather_version(project, version, [], "another")


def test_a_version_whose_forecasts_are_gone_is_still_shown(project: Project, trained: str) -> None:
    registry = project.registry
    candidate = retrain(project, runtime_of(project), "timing", NOW).run
    assert candidate is not None
    version_id = str(candidate.model_version_id)
    with registry.database.write() as session:
        version = registry.get_version(version_id)
        version.pruned_at = NOW
        session.merge(version)
    page = version_page(project, registry.get_version(version_id))
    assert "Its files were pruned" in page
    assert f"retrainer evaluate {version_id}" not in page


def test_markup_in_posts_reasons_and_names_stays_text(folder: Path) -> None:
    project = open_project(folder)
    posts = regular_posts(80)
    posts["content"] = [f"{MARKUP} {row}" for row in range(80)]
    project.posts.add(posts, NOW)
    retrain(project, runtime_of(project), "content", NOW)
    version = project.registry.get_production("content")
    assert version is not None
    view = gather_version(project, version, [])
    for page in (
        rendered("version.html", view=view),
        rendered("posts.html", view=gather_posts(project, NOW)),
    ):
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("forecast", "actual", "marked"),
    [
        ("the cat sat", "The dog sat down", ["the", "sat"]),
        ("to the garden", "walk TO THE lake", ["to the"]),
        ("nothing", "in common", []),
        ("", "a post", []),
    ],
)
def test_the_words_that_both_texts_have_are_marked(forecast: str, actual: str, marked: list[str]) -> None:
    pair = pair_texts({"post_id": 1, "text": forecast, "actual": actual, "outcome": "ok"})
    assert [part.text for part in pair.forecast if part.is_common] == marked
    assert "".join(part.text for part in pair.forecast) == forecast


def test_a_refused_forecast_has_no_score_and_a_long_text_is_shortened() -> None:
    pair = pair_texts({"post_id": "1", "text": None, "actual": "word " * 10_000, "outcome": "refusal"})
    assert (pair.score, pair.forecast, pair.outcome) == (None, [], "refusal")
    assert sum(len(part.text) for part in pair.actual) == MAX_CHARACTERS


def compared(project: Project, a: str, b: str) -> ComparisonView:
    one, other = (project.registry.get_version(version_id) for version_id in (a, b))
    return gather_comparison(project, runtime_of(project), one, other, NOW)


def test_a_comparison_has_scores_evidence_charts_and_posts(project: Project, trained: str, plugins: Plugins) -> None:
    plugins.add("fixed", timing_algorithm("fixed", 3.0))
    with packages(plugins.environ["PYTHONPATH"]):
        run = retrain(project, runtime_of(project), "timing", NOW, algorithm="fixed", auto_promote=False).run
        assert run is not None
        view = compared(project, trained, str(run.model_version_id))
    assert view.comparison is not None
    assert view.comparison.num_predictions == 20
    assert [chart.title for chart in view.charts]
    assert 0 < len(view.posts) <= 10
    sizes = [abs(post.difference) for post in view.posts]
    assert sizes == sorted(sizes, reverse=True)
    assert {post.b for post in view.posts} == {"3.00 h"}
    page = rendered(
        "compare.html", view=view, a=view.a, b=view.b, choices={"timing": [view.a, view.b], "content": []}, suggested=[]
    )
    assert view.comparison.reason.split(" (")[0].replace("New model", "B") in page
    assert "Posts on which they differ most" in page


def test_a_version_compared_with_itself_differs_nowhere(project: Project, trained: str) -> None:
    view = compared(project, trained, trained)
    assert view.posts == []
    assert [chart.title for chart in view.charts] == ["Scores on the same posts"]


def test_versions_of_two_types_are_not_compared(project: Project, trained: str) -> None:
    content = project.registry.get_production("content")
    assert content is not None
    view = compared(project, trained, content.version_id)
    assert view.comparison is None
    page = rendered(
        "compare.html", view=view, a=view.a, b=view.b, choices={"timing": [view.a], "content": [view.b]}, suggested=[]
    )
    assert "Compare versions of the same model type" in page


def test_a_paid_comparison_is_never_made_by_a_page(project: Project, trained: str, plugins: Plugins) -> None:
    paid = timing_algorithm("paid", predict="raise SystemExit('a paid call')").replace(
        "summary=", "paid=True, summary="
    )
    plugins.add("paid", paid)
    with packages(plugins.environ["PYTHONPATH"]):
        version = project.registry.get_version(trained)
        version.algorithm = "paid"
        view = gather_comparison(project, runtime_of(project), version, version, NOW)
    assert view.is_paid
    assert view.comparison is None
    page = rendered(
        "compare.html", view=view, a=view.a, b=view.b, choices={"timing": [view.a], "content": []}, suggested=[]
    )
    assert f"retrainer compare {trained} {trained}" in page


def test_the_page_of_posts_counts_them_and_shows_the_latest(project: Project) -> None:
    view = gather_posts(project, NOW)
    assert view.activity.count == len(project.posts.load(NOW))
    assert len(view.charts) == 3
    assert view.latest[0].created_at == project.posts.load(NOW)["created_at"].max()
    assert [model.model_type for model in view.drift] == ["timing", "content"]
    assert {drift.kind for drift in view.drift[1].found} == {"length", "no_text"}
    page = html.unescape(rendered("posts.html", view=view))
    assert f"{view.activity.count:,} posts from" in page
    assert "Have the posts changed since the timing version in production was trained?" in page


def test_the_page_without_posts_says_how_to_get_some(folder: Path) -> None:
    page = rendered("posts.html", view=gather_posts(open_project(folder), NOW))
    assert "retrainer posts import FILE" in page


def quality(times: list[datetime], lengths: list[float]) -> dict[str, tuple[str, str]]:
    posts = pd.DataFrame({"created_at": pd.DatetimeIndex(times).as_unit("us"), "length": lengths})
    return {
        one.name: (one.value, one.tone) for one in measure_quality(posts, measure_freshness(posts["created_at"], NOW))
    }


def test_bad_data_is_pointed_out() -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    days = quality([start + timedelta(days=row // 2) for row in range(20)], [np.nan] * 10 + [5.0] * 10)
    assert days["Posts without text"] == ("10 (50.0%)", "warning")
    assert days["Posts with the same time as the previous one"] == ("10 (52.6%)", "warning")
    assert days["Times"] == ("to the day", "warning")


def test_good_data_has_no_warning_and_a_hole_in_it_has_one() -> None:
    start = datetime(2020, 1, 1, 0, 0, 7, tzinfo=UTC)
    regular = [start + timedelta(hours=3 * row, seconds=row) for row in range(2000)]
    assert {tone for _, tone in quality(regular, [80.0] * 2000).values()} == {""}
    later = [time + timedelta(days=90) for time in regular[1000:]]
    assert quality([*regular[:1000], *later], [80.0] * 2000)["Longest gap"] == ("90.1 days, from 2020-05-04", "warning")
