"""Rollback by evidence on real posts: a forecaster that is 12 hours late goes, a good one stays."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retrainer.live.review import review
from retrainer.pipeline.promotion import promote_version
from retrainer.pipeline.run import retrain
from tests.conftest import configure, open_project, runtime_of
from tests.shared import real_stream

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins

STREAM = "trump_twitter_2009_2017.csv"
WEEK = timedelta(weeks=1)
MAX_POSTS = 440  # twice the median of `make bench-live` for a rollback; it prints from how many starts this is enough
SHIFTED = """
    from dataclasses import replace

    import pandas as pd
    import retrainer_prophet
    from retrainer.algorithms import hookimpl

    # Whole weeks earlier than its training ended, or it would learn from later posts that something is wrong.
    SHIFT = pd.Timedelta(weeks=-520, hours=12)

    @hookimpl
    def algorithm():
        return replace(retrainer_prophet.algorithm(), name="shifted")

    @hookimpl
    def train(posts, config):
        return retrainer_prophet.train(posts, config)

    @hookimpl
    def predict(model, posts, origins):
        seen = posts.assign(created_at=posts["created_at"] + SHIFT)
        return retrainer_prophet.predict(model, seen, replace(origins, time=origins.time + SHIFT.to_numpy()), None)
"""
"""Prophet that takes the time of every post as 12 hours later."""


@pytest.fixture
def project(sqlite_folder: Path, plugins: Plugins, retrainer: Runner, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with the posts, which rolls back by evidence."""
    shutil.copy(real_stream(STREAM), sqlite_folder / "posts.csv")
    imported = retrainer("posts", "import", "posts.csv")
    assert imported.code == 0, imported.err
    configure(sqlite_folder, rollback="true")
    plugins.add("shifted", SHIFTED)
    monkeypatch.syspath_prepend(plugins.site)
    monkeypatch.setenv("PYTHONPATH", str(plugins.site))
    return open_project(sqlite_folder)


def put_in_production(project: Project, algorithm: str, at: datetime) -> str:
    """Train a version as of a time, promote it by hand, and return its id."""
    runtime = runtime_of(project)
    run = retrain(project, runtime, "timing", at, as_of=True, algorithm=algorithm, auto_promote=False).run
    assert run
    promote_version(project, runtime, str(run.model_version_id), "by hand", at)
    return str(run.model_version_id)


@pytest.mark.slow
def test_a_forecaster_that_is_12_hours_late_is_rolled_back_by_weekly_runs(project: Project, retrainer: Runner) -> None:
    start = datetime(2014, 5, 5, tzinfo=UTC)  # half of the posts are earlier, on which `make bench-live` trains
    good, late = put_in_production(project, "prophet", start), put_in_production(project, "shifted", start)
    train = ("train", "timing", "--algorithm", "baseline", "--no-auto-promote", "--as-of")
    for week in range(1, 21):
        done = retrainer(*train, f"{start + week * WEEK:%FT%T}")
        assert done.code == 0, done.err
        if rollbacks := project.registry.list_ledger_entries("timing", ("rollback",)):
            break
    (rollback,) = rollbacks
    assert (rollback.from_version_id, rollback.to_version_id) == (late, good)
    assert rollback.automatic
    assert rollback.evidence["num_posts"] <= MAX_POSTS
    production = project.registry.get_production("timing")
    assert production is not None
    assert production.version_id == good


def require_kept(project: Project, weeks: int) -> None:
    """Check that a good version, which follows one of half a year before, is not rolled back in so many weeks."""
    start = datetime(2011, 1, 3, tzinfo=UTC)
    put_in_production(project, "prophet", start - 26 * WEEK)
    good = put_in_production(project, "prophet", start)
    for week in range(1, weeks + 1):
        found = review(project, runtime_of(project), "timing", start + week * WEEK)  # as each `train` does first
        assert found is not None
        assert found.outcome == "kept", found.reason
    production = project.registry.get_production("timing")
    assert production is not None
    assert production.version_id == good
    comparisons = {one.against: one for one in project.registry.list_live_comparisons("timing", production.fit)}
    assert comparisons["previous"].num_scored == comparisons["naive"].num_scored > 40


@pytest.mark.slow
def test_a_good_version_stays(project: Project) -> None:
    require_kept(project, weeks=26)


@pytest.mark.soak
def test_a_good_version_stays_for_six_years(project: Project) -> None:
    require_kept(project, weeks=313)
