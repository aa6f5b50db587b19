"""Evaluations with both kinds of origins, and the files of forecasts that they leave."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from retrainer.errors import InsufficientData, UsageError
from retrainer.evaluation.windows import held_out_window
from retrainer.model_types import get_model_type
from retrainer.model_types.base import utc_times
from retrainer.pipeline.comparing import compare_versions
from retrainer.pipeline.evaluations import evaluate_version
from retrainer.pipeline.loading import load_reliability
from retrainer.pipeline.promotion import promote_version
from retrainer.pipeline.run import retrain
from retrainer.posts.sample import sample_posts
from retrainer.registry.tables import Post
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from retrainer.model_types import OriginRule
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

TIMING = get_model_type("timing")


def through(posts: pd.DataFrame, row: int) -> tuple[pd.Timestamp, str]:
    return posts["created_at"].iloc[row], str(posts["post_id"].iloc[row])


def test_clock_origins_are_evenly_spaced_and_know_all_posts_up_to_them() -> None:
    posts = sample_posts()
    window = held_out_window(posts, through(posts, 319), 50, "clock")
    assert window
    origins, times = window.origins, utc_times(posts)
    assert len(origins) == 50
    steps = np.diff(origins.time).astype(np.int64)
    assert steps.max() - steps.min() <= 2  # microseconds
    assert (times[origins.position] <= origins.time).all()
    assert (times[window.rows] > origins.time).all()
    assert (window.rows == origins.position + 1).all()
    assert times[320] < origins.time[0] < origins.time[-1] < times[-1]


def test_a_clock_origin_at_the_moment_of_posts_knows_all_of_them() -> None:
    """Two posts share the time of the only origin, the middle of the window."""
    posts = regular_posts(5)
    posts["created_at"] = posts["created_at"].iloc[0] + pd.to_timedelta([0, 5, 10, 10, 15], unit="h")
    window = held_out_window(posts, through(posts, 0), 1, "clock")
    assert window
    assert window.origins.time[0] == utc_times(posts)[2]
    assert window.origins.position[0] == 3


def test_there_are_no_more_clock_origins_than_posts_to_forecast() -> None:
    posts = regular_posts(100)
    window = held_out_window(posts, through(posts, 95), 500, "clock")
    assert window
    assert len(window.origins) == 4


def test_posts_of_one_moment_leave_no_clock_origin() -> None:
    posts = regular_posts(20)
    posts.loc[18:, "created_at"] = posts["created_at"].iloc[18]
    assert held_out_window(posts, through(posts, 17), 20, "clock") is None
    assert held_out_window(posts, through(posts, 17), 20, "post")


def train_prophet_and_baseline(folder: Path) -> None:
    configure(folder, evaluation_max_predictions="60")
    project = open_project(folder)
    posts = sample_posts(count=600)
    project.posts.add(posts, NOW)
    early = posts["created_at"].iloc[400].to_pydatetime()
    retrain(project, runtime_of(project), "timing", early, algorithm="prophet", as_of=True)
    retrain(project, runtime_of(project), "timing", NOW - timedelta(days=60), as_of=True)
    project.close()


@pytest.fixture
def two_versions(folder: Path, prepare: Prepare) -> tuple[Project, ModelVersion, ModelVersion]:
    """A project on the sample in which `prophet` was trained early, and `baseline` later."""
    prepare(folder, train_prophet_and_baseline)
    project = open_project(folder)
    later, earlier = project.registry.list_versions("timing")
    return project, earlier, later


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize("origin", ["post", "clock"])
def test_every_metric_can_be_recomputed_from_the_forecasts_file(
    two_versions: tuple[Project, ModelVersion, ModelVersion], origin: OriginRule
) -> None:
    project, earlier, _ = two_versions
    made = evaluate_version(project, runtime_of(project), earlier.version_id, NOW, origin)
    row = project.registry.list_evaluations(earlier.version_id)[0]
    assert row.window["origin"] == origin
    stored = TIMING.parse(project.artifacts.read_file(earlier, row.forecasts_file))
    metrics = TIMING.score(stored.forecasts, stored.targets)
    naive = TIMING.score(stored.naive, stored.targets)
    skill = TIMING.skill_scores(metrics, naive)
    assert row.metrics == {**metrics, **skill, "num_predictions": 60}
    assert row.baseline_metrics == {**naive, "num_predictions": 60}
    assert load_reliability(project, earlier, row) == made.reliability
    assert len(stored.post_ids) == 60


@pytest.mark.slow_on_postgresql
def test_both_sides_of_a_comparison_forecast_from_the_same_clock_times(
    two_versions: tuple[Project, ModelVersion, ModelVersion],
) -> None:
    project, earlier, later = two_versions
    made = compare_versions(project, runtime_of(project), earlier, later, NOW, "clock")
    assert made.evaluation_a
    assert made.evaluation_b
    assert made.evaluation_a.has_same_targets(made.evaluation_b)
    assert made.window
    assert made.window.document()["origin"] == "clock"
    assert (made.evaluation_a.origins.time > np.datetime64(later.trained_through.replace(tzinfo=None))).all()
    by_post = compare_versions(project, runtime_of(project), earlier, later, NOW)
    assert by_post.metrics_a != made.metrics_a


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize("origin", ["post", "clock"])
def test_a_post_that_moved_past_the_training_data_is_left_out_of_comparisons(
    sqlite_folder: Path, origin: OriginRule
) -> None:
    """Of two posts that only the later version was trained on, one moves to the end; the other did so before."""
    project = open_project(sqlite_folder)
    project.posts.add(regular_posts(240), NOW)
    for days in (25, 10):
        retrain(project, runtime_of(project), "timing", NOW - timedelta(days=days), as_of=True)
    later, earlier = project.registry.list_versions("timing")
    before = compare_versions(project, runtime_of(project), earlier, later, NOW).window
    assert before
    for post_id, moved_at in (("p00120", NOW), ("p00121", later.training_began_at - timedelta(hours=1))):
        move(project, post_id, NOW - timedelta(hours=1), moved_at)
    after = compare_versions(project, runtime_of(project), earlier, later, NOW, origin)
    assert after.window
    assert after.window.available == before.available + 1
    assert after.evaluation_b
    assert "p00120" not in after.evaluation_b.post_ids
    promote_version(project, runtime_of(project), later.version_id, "to be compared with", NOW)
    new = retrain(project, runtime_of(project), "timing", NOW)
    assert new.run
    assert new.evaluation
    assert new.evaluation.window.available == new.run.num_test_samples, "the new version knew both where they are now"
    assert new.comparison
    assert new.comparison.window
    assert new.comparison.window.available == new.evaluation.window.available - 1


def move(project: Project, post_id: str, time: datetime, moved_at: datetime) -> None:
    """Correct the time of a post."""
    with project.registry.database.write() as session:
        post = session.get_one(Post, ("default", post_id))
        post.moved_from, post.moved_at, post.created_at = post.created_at, moved_at, time


def test_the_setting_names_the_origins_of_a_run(folder: Path) -> None:
    configure(folder, evaluation_max_predictions="30")
    project = open_project(folder, {"RETRAINER_RETRAINING__TIMING_MODEL__ORIGIN": "clock"})
    project.posts.add(sample_posts(), NOW)
    result = retrain(project, runtime_of(project), "timing", NOW)
    assert result.evaluation
    assert result.evaluation.window.origin == "clock"
    content = retrain(project, runtime_of(project), "content", NOW)
    assert content.evaluation
    assert content.evaluation.window.origin == "post"


def test_content_is_not_forecast_from_clock_origins(project: Project) -> None:
    retrain(project, runtime_of(project), "content", NOW)
    version = project.registry.get_production("content")
    assert version
    with pytest.raises(UsageError, match="--origin: 'clock' applies to timing only"):
        evaluate_version(project, runtime_of(project), version.version_id, NOW, "clock")


def test_clock_origins_need_two_times_after_the_training_posts(folder: Path) -> None:
    project = open_project(folder)
    posts = regular_posts(120)
    posts.loc[96:, "created_at"] = posts["created_at"].iloc[96]
    project.posts.add(posts, NOW)
    retrain(project, runtime_of(project), "timing", NOW)
    version = project.registry.list_versions("timing")[0]
    with pytest.raises(InsufficientData, match="no two posts at different times are later than the training data"):
        evaluate_version(project, runtime_of(project), version.version_id, NOW, "clock")


@pytest.mark.usefixtures("constants")
def test_a_comparison_reports_the_segments_that_differ(folder: Path) -> None:
    """Posts come every two hours by day and never at night; one model always forecasts 2 hours, the other 16."""
    configure(folder, evaluation_max_predictions="200")
    project = open_project(folder)
    posts = regular_posts(1200, gap_hours=2)
    hours = posts["created_at"].dt.hour
    by_day = posts[(hours >= 6) & (hours < 18)].reset_index(drop=True)
    project.posts.add(by_day, NOW)
    retrain(project, runtime_of(project), "timing", NOW, algorithm="two")
    made = retrain(project, runtime_of(project), "timing", NOW, algorithm="sixteen").comparison
    assert made
    assert made.recommendation == "reject"
    found = {one.situation: one for one in made.differences}
    noon = found["from 06:00 to 12:00 UTC"]
    assert noon.score_a > noon.score_b
    assert len(made.differences) <= 3
    weights = [abs(one.score_b - one.score_a) * one.num_predictions for one in made.differences]
    assert weights == sorted(weights, reverse=True)


@pytest.mark.slow_on_postgresql
@pytest.mark.usefixtures("constants")
def test_min_confidence_keeps_production_if_the_evidence_is_weak(folder: Path) -> None:
    """Forecasts of 2 against 4 hours on 20 waits of 2 to 40 hours: better, but without enough evidence."""
    configure(folder)
    posts = regular_posts(300, gap_hours=1)
    gaps = np.random.default_rng(12).choice([2.0, 4.0, 9.0, 40.0], 300)
    posts["created_at"] = posts["created_at"].iloc[0] + pd.to_timedelta(np.cumsum(gaps), unit="h")
    now = posts["created_at"].iloc[-1].to_pydatetime() + timedelta(hours=1)
    for confidence, recommendation in (("0.99", "not_enough_evidence"), ("null", "promote")):
        project = open_project(folder, {"RETRAINER_RETRAINING__MIN_CONFIDENCE": confidence})
        project.posts.add(posts, now)
        retrain(project, runtime_of(project), "timing", now, algorithm="two")
        result = retrain(project, runtime_of(project), "timing", now, algorithm="four")
        assert result.comparison
        assert result.comparison.improvement_percentage
        assert result.comparison.improvement_percentage > 2
        assert result.comparison.recommendation == recommendation
        assert result.promoted is (recommendation == "promote")
        assert result.run
        assert result.run.promotion_reason == result.comparison.reason
        for version in project.registry.list_versions("timing"):
            life = project.registry.version_history(version.version_id)
            assert all(entry.evidence.get("evidence", {}) is not None for entry in life if entry.evidence)


@pytest.fixture
def constants(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, hours in (("two", 2.0), ("four", 4.0), ("sixteen", 16.0)):
        plugins.add(name, timing_algorithm(name, hours))
    monkeypatch.syspath_prepend(str(plugins.site))
