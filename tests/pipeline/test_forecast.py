"""Forecasts of the next post: the moment they are made for, and the posts they know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retrainer.errors import InsufficientData, UsageError
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.pipeline.forecast import predict_next
from retrainer.pipeline.run import retrain
from tests.conftest import NOW, open_project, regular_posts, runtime_of
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from retrainer.pipeline.forecast import NextPost
    from retrainer.project import Project
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

HOUR = timedelta(hours=1)
LAST = NOW - 5 * HOUR  # the last of the regular posts, five hours after the one before


@pytest.fixture
def project(folder: Path, prepare: Prepare) -> Project:
    """A project with 60 posts, five hours apart, and a version of each type in production."""
    prepare(folder, train_on_regular_posts)
    return open_project(folder)


@pytest.fixture
def sqlite_project(sqlite_folder: Path, prepare: Prepare) -> Project:
    """The same on SQLite, for claims that the database has no part in."""
    prepare(sqlite_folder, train_on_regular_posts)
    return open_project(sqlite_folder)


def train_on_regular_posts(folder: Path) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(60), NOW)
    for model_type in MODEL_TYPE_NAMES:
        retrain(project, runtime_of(project), model_type, NOW, as_of=True)
    project.close()


def predict(project: Project, model_type: Any = "timing", now: datetime = NOW, **asked: Any) -> NextPost:
    return predict_next(project, runtime_of(project), model_type, now, **asked)


@pytest.mark.slow_on_postgresql
def test_a_moment_is_now_a_past_time_or_the_last_post(project: Project) -> None:
    now = predict(project, now=LAST + 2 * HOUR)
    assert (now.at, now.origin_at, now.last_post_at) == (LAST + 2 * HOUR, LAST, LAST)
    assert now.point_hours == pytest.approx(3.0), "two of the five hours are over"
    last = predict(project, now=LAST + 2 * HOUR, at="last")
    assert (last.at, last.origin_at) == (LAST, LAST)
    assert last.point_hours == pytest.approx(5.0)
    assert last.next_post_at == LAST + 5 * HOUR
    earlier = predict(project, at=LAST - 6 * HOUR)
    assert (earlier.at, earlier.origin_at, earlier.last_post_at) == (LAST - 6 * HOUR, LAST - 10 * HOUR, LAST)
    assert (earlier.made_at, earlier.next_post_at) == (NOW, LAST - 5 * HOUR)
    assert not any(found.stale or found.as_of_last_post for found in (now, last, earlier))
    text = predict(project, "content", at=LAST - 6 * HOUR)
    assert (text.at, text.origin_at, text.next_post_at) == (LAST - 6 * HOUR, LAST - 10 * HOUR, LAST - 5 * HOUR)
    assert f"number {57}" in str(text.text), "the last of the equally typical posts up to then"


def test_stale_posts_are_forecast_from_now_and_from_the_last_post(project: Project) -> None:
    years_later = LAST + timedelta(days=730)
    found = predict(project, now=years_later)
    assert found.stale
    assert (found.at, found.origin_at) == (years_later, LAST)
    earlier = found.as_of_last_post
    assert earlier is not None
    assert (earlier.at, earlier.stale, earlier.next_post_at) == (LAST, False, LAST + 5 * HOUR)
    assert earlier.quantiles_hours == predict(project, now=years_later, at="last").quantiles_hours
    assert predict(project, now=years_later, at=years_later).as_of_last_post is None, "it was chosen"
    assert predict(project, "content", now=years_later).stale
    assert not predict(project, "content", now=years_later, at="last").stale


def test_futures_begin_at_the_moment(sqlite_project: Project) -> None:
    years_later = LAST + timedelta(days=730)
    days = predict(sqlite_project, now=years_later, at="last", until=timedelta(days=1), next_posts=2).simulation
    assert days is not None
    assert days.total is not None
    assert days.until == LAST + timedelta(days=1)
    assert days.total.expected == pytest.approx(4.0)
    assert [post.median_at for post in days.posts] == [LAST + 5 * HOUR, LAST + 10 * HOUR]
    same = predict(sqlite_project, at=LAST, until=LAST + timedelta(days=1), next_posts=2).simulation
    assert same == days


def test_no_later_post_reaches_the_algorithm(
    folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The algorithm writes down what it sees; `predict` may not rely on algorithms that look only where they should."""
    seen = tmp_path / "seen"
    monkeypatch.syspath_prepend(plugins.site)
    monkeypatch.setenv("SEEN", str(seen))
    last = "f\"{len(posts)} {posts['created_at'].max().isoformat()}\""
    plugins.add("witness", timing_algorithm("witness", predict=f"Path(os.environ['SEEN']).write_text({last})"))
    project = open_project(folder)
    posts = regular_posts(60)
    project.posts.add(posts, NOW)
    retrain(project, runtime_of(project), "timing", NOW, as_of=True, algorithm="witness")
    for at, count in ((LAST - 11 * HOUR, 57), (LAST - 5 * HOUR, 59), (LAST - HOUR, 59), ("last", 60), (None, 60)):
        predict(project, at=at)
        assert seen.read_text() == f"{count} {posts['created_at'][count - 1].isoformat()}"


def test_a_moment_without_posts_is_refused(sqlite_project: Project, caplog: pytest.LogCaptureFixture) -> None:
    first = regular_posts(60)["created_at"].iloc[0].to_pydatetime()
    for model_type in ("timing", "content"):
        with pytest.raises(UsageError, match=r"^at: '2024-11-15T13:00:00Z' is in the future\. Choose a past time"):
            predict(sqlite_project, model_type, at=NOW + HOUR)
        with pytest.raises(UsageError, match="^at: '2024-11-02T23:59:59Z' is before the first post, '2024-11-03"):
            predict(sqlite_project, model_type, at=first - timedelta(microseconds=1))
    assert predict(sqlite_project, at=first).origin_at == first, "a single post"
    assert (
        "was trained on posts up to 2024-11-12T19:00:00Z, which were not known at 2024-11-03T00:00:00Z" in caplog.text
    )
    with pytest.raises(InsufficientData, match="no posts to forecast from"):
        predict(sqlite_project, now=datetime(2020, 1, 1, tzinfo=UTC), at="last")
