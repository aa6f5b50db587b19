"""A project with a version in production and the posts that came since, and its live scores."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from retrainer.live.update import update_live
from retrainer.pipeline.promotion import promote_version
from tests.conftest import NOW, import_sample, open_project, runtime_of

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.live import PostScore
    from retrainer.registry.live_tables import LiveComparison
    from tests.conftest import Prepare

START = datetime(2024, 8, 1, tzinfo=UTC)  # 43 of the sample posts are later


def train_as_of(folder: Path, model_type: ModelTypeName = "timing", at: datetime = START) -> str:
    """Train and promote a version as of a time; return its id."""
    from retrainer.pipeline.run import retrain

    project = open_project(folder)
    run = retrain(project, runtime_of(project), model_type, at, as_of=True).run
    assert run
    promote_version(project, runtime_of(project), str(run.model_version_id), "by hand", at)
    project.close()
    return str(run.model_version_id)


def train_on_sample(folder: Path) -> str:
    """Store the sample posts and train a timing version as of the start."""
    import_sample(folder)
    return train_as_of(folder)


def train_content_on_sample(folder: Path) -> str:
    """Store the sample posts and train a content version as of the start."""
    import_sample(folder)
    return train_as_of(folder, "content")


@pytest.fixture
def live_folder(folder_on_each_database: Path, prepare: Prepare) -> Path:
    """The folder of a project whose timing version has seen the sample posts up to the start, on each database."""
    prepare(folder_on_each_database, train_on_sample)
    return folder_on_each_database


@pytest.fixture
def live_project(live_folder: Path) -> Project:
    """The project in that folder, opened in this process."""
    return open_project(live_folder)


@pytest.fixture
def content_project(folder_on_each_database: Path, prepare: Prepare) -> Project:
    """The same with a content version."""
    prepare(folder_on_each_database, train_content_on_sample)
    return open_project(folder_on_each_database)


def updated(project: Project, model_type: ModelTypeName = "timing", now: datetime = NOW) -> dict[str, LiveComparison]:
    """Bring the live scores up to date and return the comparisons by kind."""
    return {found.against: found for found in update_live(project, runtime_of(project), model_type, now)}


def scores_of(project: Project, comparison: LiveComparison) -> list[PostScore]:
    """Return all kept scores of a comparison."""
    return [score for part in project.registry.stream_live_scores(comparison.comparison_id) for score in part]
