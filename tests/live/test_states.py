"""States of fits: an update reads the last posts only, and its scores are those from all posts, to the last digit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from retrainer.backup import back_up, restore_backup
from retrainer.live import forecasting
from retrainer.live.scores import Totals
from retrainer.pipeline.forecast import predict_next
from retrainer.posts.importer import import_records
from retrainer.registry.live import mark_posts_changed
from retrainer.registry.live_tables import ForecastState
from retrainer_prophet.checkpoint_state import CACHE
from tests.conftest import NOW, open_project, runtime_of
from tests.live.updating import START, scores_of, train_as_of, train_on_sample, updated

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from retrainer.registry.live import PostScore
    from retrainer.registry.live_tables import LiveComparison
    from tests.conftest import Prepare

pytestmark = pytest.mark.slow
on_sqlite = pytest.mark.parametrize("folder_on_each_database", ["sqlite"], indirect=True)  # nothing about the database

LATER = datetime(2024, 9, 1, tzinfo=UTC)


@pytest.fixture
def project(folder_on_each_database: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a version of prophet as of the start, for which a hundred posts are a long stream."""
    monkeypatch.setattr(forecasting, "_MIN_CONDENSED_POSTS", 100)
    settings = folder_on_each_database / "config" / "config.yaml"
    settings.write_text(settings.read_text().replace("algorithm: baseline ", "algorithm: prophet ", 1))
    prepare(folder_on_each_database, train_on_sample)
    CACHE.clear()
    return open_project(folder_on_each_database)


def states(project: Project) -> list[ForecastState]:
    with project.registry.database.read() as session:
        return list(session.scalars(sa.select(ForecastState)))


def update_one_by_one(project: Project) -> LiveComparison:
    """Update after each of the last live posts, as a process that was started for it: nothing is cached."""
    times = [time.to_pydatetime() for time in project.posts.load(NOW, with_content=False)["created_at"]]
    for time in times[-10:]:
        CACHE.clear()
        comparison = updated(project, now=time)["naive"]
    return comparison


def all_at_once(project: Project, comparison: LiveComparison) -> list[PostScore]:
    """Make all scores again, from all posts."""
    with project.registry.database.write() as session:
        mark_posts_changed(session.connection(), project.stream, comparison.starts_after, ["timing"])
    assert not states(project)
    CACHE.clear()
    return scores_of(project, updated(project)["naive"])


def add(project: Project, post_id: str, time: datetime) -> None:
    record = {"id": post_id, "created_at": time.isoformat(), "text": "a text"}
    import_records(project.posts, [record], None, name="here", stream=project.stream, now=NOW)


def test_scores_with_a_state_are_those_from_all_posts_to_the_last_digit(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = update_one_by_one(project)
    scores, (state,) = scores_of(project, comparison), states(project)
    assert state.fit == comparison.fit
    assert START < state.through < NOW
    with monkeypatch.context() as few:
        few.setattr(type(project.posts), "load", None)  # so that a read of all posts would fail
        add(project, "new", NOW - timedelta(seconds=1))
        CACHE.clear()
        comparison = updated(project)["naive"]
    scores = scores_of(project, comparison)
    assert scores[-1].post_id == "new"
    assert Totals.of(comparison).columns() == Totals.read(project.registry, comparison).columns()
    assert all_at_once(project, comparison) == scores


@on_sqlite
def test_the_next_post_is_forecast_from_the_last_posts_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    updated(project)
    assert states(project)
    runtime, until = runtime_of(project), timedelta(days=3)
    CACHE.clear()
    with monkeypatch.context() as few:
        few.setattr(type(project.posts), "load", None)  # so that a read of all posts would fail
        found = predict_next(project, runtime, "timing", NOW, until=until)
        at_the_last = predict_next(project, runtime, "timing", NOW, at="last")
    with project.registry.database.write() as session:
        session.execute(sa.delete(ForecastState))
    CACHE.clear()
    assert predict_next(project, runtime, "timing", NOW, until=until) == found
    assert predict_next(project, runtime, "timing", NOW, at="last") == at_the_last


def test_a_change_before_its_last_post_deletes_a_state(project: Project) -> None:
    """In the transaction of the change; the scores are then those from the changed posts. A later post deletes none."""
    comparison = update_one_by_one(project)
    (state,) = states(project)
    add(project, "later", NOW - timedelta(seconds=1))
    assert states(project)
    add(project, "late", state.through - timedelta(minutes=5))
    assert not states(project)
    scores = scores_of(project, updated(project)["naive"])
    assert {"late", "later"} < {score.post_id for score in scores}
    assert states(project)
    assert all_at_once(project, comparison) == scores


@on_sqlite
def test_a_state_of_a_later_post_is_not_used_for_an_earlier_one(project: Project) -> None:
    """The comparison with the previous version begins with its first post, wherever that with the naive one stands."""
    updated(project)
    (before,) = states(project)
    second = train_as_of(project.folder, at=LATER)
    CACHE.clear()
    found = updated(project)
    assert {state.fit for state in states(project)} == {before.fit, second}
    scores = scores_of(project, found["previous"])
    assert [score.figures for score in scores] == [score.figures for score in scores_of(project, found["naive"])]
    with project.registry.database.write() as session:
        session.execute(sa.delete(ForecastState))
        mark_posts_changed(session.connection(), project.stream, LATER, ["timing"])
    CACHE.clear()
    assert scores_of(project, updated(project)["previous"]) == scores


@on_sqlite
def test_only_the_states_of_fits_in_use_are_kept(project: Project) -> None:
    first = updated(project, now=LATER)["naive"].fit
    second, third = (train_as_of(project.folder, at=LATER + timedelta(days=days)) for days in (1, 20))
    updated(project)
    assert {state.fit for state in states(project)} == {second, third}
    assert first not in {second, third}


@on_sqlite
def test_a_state_of_another_format_is_not_read(project: Project) -> None:
    scores = scores_of(project, updated(project, now=LATER)["naive"])
    with project.registry.database.write() as session:
        session.execute(sa.update(ForecastState).values(format=0, data=b"of another release"))
    comparison = updated(project)["naive"]
    assert scores_of(project, comparison)[: len(scores)] == scores
    assert all_at_once(project, comparison) == scores_of(project, updated(project)["naive"])


def test_a_restored_backup_has_no_states_of_other_posts(project: Project, tmp_path: Path) -> None:
    """The posts of the database may differ from those of the backup."""
    updated(project, now=LATER)
    assert states(project)
    back_up(project, tmp_path / "backup.db", NOW)
    add(project, "later than the backup", START + timedelta(days=1))
    restore_backup(project, tmp_path / "backup.db", replace=True)
    assert not states(project)
    comparison = updated(project)["naive"]
    scores = scores_of(project, comparison)
    assert "later than the backup" in {score.post_id for score in scores}
    assert all_at_once(project, comparison) == scores
