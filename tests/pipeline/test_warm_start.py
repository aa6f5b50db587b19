"""Training starts from the production model, unless that knows posts which are held out now."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from retrainer.errors import ArtifactError
from retrainer.pipeline.loading import load_live_fit, load_version
from retrainer.pipeline.promotion import promote_version
from retrainer.pipeline.run import dry_run, retrain
from retrainer.registry.tables import Post
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from retrainer.project import Project
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

EARLIER = NOW - timedelta(days=25)
# The model counts its generations: 1 if training started afresh, else 1 more than the model that it started from.
COUNTING = (
    timing_algorithm(
        "generations",
        "1 if previous is None else previous['hours'] + 1",
        setup="""
        from pydantic import BaseModel, ConfigDict

        class Options(BaseModel):
            model_config = ConfigDict(extra="forbid", frozen=True)
            units: int = 8
            limit: int = 1
        """,
    )
    .replace("def train(posts):", "def train(posts, previous):")
    .replace('summary="', 'config=Options, operational=("limit",), summary="')
)


def import_240_posts(folder: Path) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(240), NOW)
    project.close()


@pytest.fixture
def folder(sqlite_folder: Path, prepare: Prepare, plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project with 240 posts; the algorithm is installed."""
    plugins.add("generations", COUNTING)
    monkeypatch.syspath_prepend(str(plugins.site))
    prepare(sqlite_folder, import_240_posts)
    return sqlite_folder


def opened(folder: Path, **options: int) -> Project:
    """Open the project with this algorithm and options."""
    environ = {f"RETRAINER_TIMING_MODEL__GENERATIONS__{name.upper()}": str(value) for name, value in options.items()}
    return open_project(folder, {"RETRAINER_TIMING_MODEL__ALGORITHM": "generations", **environ})


def generation(project: Project, now: datetime = NOW) -> int:
    """Train a version, promoted if it is the first, and return its generation."""
    run = retrain(project, runtime_of(project), "timing", now, as_of=True).run
    assert run is not None
    version = project.registry.get_version(str(run.model_version_id))
    hours: int = load_version(project, runtime_of(project), version).model["hours"]
    return hours


@pytest.mark.slow
def test_training_starts_from_production(folder: Path) -> None:
    project = opened(folder)
    assert [generation(project, EARLIER), generation(project), generation(project)] == [1, 2, 2]


def test_the_live_fit_starts_from_the_model_that_the_evaluated_fit_started_from(folder: Path) -> None:
    configure(folder, refit="true")
    project = opened(folder)
    generations = [generation(project, EARLIER), generation(project)]
    assert generations == [1, 2]
    versions = project.registry.list_versions("timing")[::-1]
    assert [version.started_from for version in versions] == [None, versions[0].version_id]
    for version in versions:
        for now in (NOW, NOW + timedelta(days=1)):  # the second time it is in production already
            promote_version(project, runtime_of(project), version.version_id, "by hand", now)
        live = project.registry.get_version(version.version_id)
        assert live.refit is not None
        fits = [load(project, runtime_of(project), live).model["hours"] for load in (load_version, load_live_fit)]
        assert fits == [generations[versions.index(version)]] * 2


@pytest.mark.slow
def test_a_version_whose_start_is_lost_is_promoted_as_it_is_only(folder: Path) -> None:
    project = opened(folder)
    generation(project, EARLIER)
    generation(project)
    second, first = project.registry.list_versions("timing")
    assert second.started_from == first.version_id
    (project.folder / first.file_path / "model.json").write_text("{}")
    with pytest.raises(ArtifactError, match=rf"starting from '{first.version_id}': .*was modified.*--no-refit"):
        promote_version(project, runtime_of(project), second.version_id, "by hand", NOW, refit=True)
    assert promote_version(project, runtime_of(project), second.version_id, "by hand", NOW, refit=False)


def test_a_dry_run_starts_from_production_as_the_run_would(folder: Path) -> None:
    project = opened(folder)
    generation(project, EARLIER)
    result = dry_run(project, runtime_of(project), "timing", NOW)
    assert result.evaluation is not None
    assert (result.evaluation.forecasts.point == 2).all()


def test_training_starts_afresh_if_production_was_trained_on_posts_that_are_held_out_now(folder: Path) -> None:
    project = opened(folder)
    assert [generation(project), generation(project, EARLIER)] == [1, 1]


def test_training_starts_afresh_if_a_post_that_production_knows_has_moved_past_its_training(folder: Path) -> None:
    project = opened(folder)
    generation(project, EARLIER)
    with project.registry.database.write() as session:
        post = session.get_one(Post, ("default", "p00050"))
        post.moved_from, post.moved_at, post.created_at = post.created_at, NOW, NOW - timedelta(hours=1)
    assert generation(project) == 1


@pytest.mark.slow
def test_training_starts_afresh_with_other_options_or_another_algorithm(folder: Path) -> None:
    generation(opened(folder), EARLIER)
    assert generation(opened(folder, units=16)) == 1
    assert generation(opened(folder, limit=9)) == 2, "an operational option is not part of the model"
    retrain(opened(folder), runtime_of(), "timing", NOW, algorithm="baseline")


def test_production_that_cannot_be_loaded_does_not_stop_the_run(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    project = opened(folder)
    generation(project, EARLIER)
    production = project.registry.get_production("timing")
    assert production is not None
    (project.folder / production.file_path / "model.json").write_text("{}")
    assert generation(project) == 1
    assert f"Cannot start from '{production.version_id}'" in caplog.text
