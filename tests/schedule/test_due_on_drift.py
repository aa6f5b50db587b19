"""Runs that are due because the stream has changed: once for each alarm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retrainer.live.drift import measure_drift
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.pipeline.run import retrain
from retrainer.posts.sample import write_sample_csv
from retrainer.schedule.due import due, due_of_streams
from retrainer.streams import ModelKey
from tests.conftest import configure, open_project, runtime_of
from tests.drifting import random_posts

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from retrainer.project import Project
    from tests.command_line import Runner

START = datetime(2024, 1, 1, tzinfo=UTC)
TRAINED = START + timedelta(days=150)
ON_DRIFT = {"RETRAINER_RETRAINING__DUE_ON_DRIFT": "true", "RETRAINER_RETRAINING__SCHEDULE_DAYS": "1000"}


def live_project(folder: Path, later: pd.DataFrame, **settings: str) -> Project:
    """A project whose live fit knows the posts of 150 days, and then posts of other days."""
    project = open_project(folder, {**ON_DRIFT, "RETRAINER_RETRAINING__REFIT": "true", **settings})
    project.posts.add(random_posts(START, 150), TRAINED)
    retrain(project, runtime_of(project), "timing", TRAINED)
    project.posts.add(later, TRAINED + timedelta(days=365))
    return project


def first_due(project: Project, after: datetime, days: int = 60) -> datetime | None:
    """The first of the next days, of which every third is looked at, on which the model is due."""
    checks = (after + timedelta(days=day, hours=3) for day in range(0, days, 3))
    return next((now for now in checks if due(project, "timing", now).is_due), None)


def test_drift_makes_a_run_due_early_and_says_why(sqlite_folder: Path) -> None:
    project = live_project(sqlite_folder, random_posts(TRAINED, 60, rate=14, seed=2))
    now = first_due(project, TRAINED)
    assert now is not None
    assert TRAINED + timedelta(days=14) < now < TRAINED + timedelta(days=45)
    why = due(project, "timing", now).why
    assert why.startswith("posts come 2.")
    assert why.endswith(" (due_on_drift is true)")
    without = open_project(sqlite_folder, {**ON_DRIFT, "RETRAINER_RETRAINING__DUE_ON_DRIFT": "false"})
    assert not due(without, "timing", now).is_due
    assert not due(project, "timing", now, look_for_drift=False).is_due  # as status and streams ask


@pytest.mark.slow
def test_a_stream_that_has_not_changed_makes_no_run_due(sqlite_folder: Path) -> None:
    project = live_project(sqlite_folder, random_posts(TRAINED, 60, seed=2))
    found = due(project, "timing", TRAINED + timedelta(days=60))
    assert not found.is_due
    assert found.why.endswith("(schedule_days is 1000), no new drift (due_on_drift is true)")


@pytest.mark.slow
def test_a_run_that_is_not_promoted_does_not_become_due_every_day(sqlite_folder: Path) -> None:
    project = live_project(sqlite_folder, random_posts(TRAINED, 100, rate=14, seed=2))
    now = first_due(project, TRAINED)
    assert now is not None
    live = project.registry.get_production("timing")
    retrain(project, runtime_of(project), "timing", now, auto_promote=False)
    after = project.registry.get_production("timing")
    assert live is not None
    assert after is not None
    assert live.version_id == after.version_id
    assert first_due(project, now + timedelta(hours=1), days=30) is None


@pytest.mark.slow
def test_a_change_of_another_kind_makes_it_due_again(sqlite_folder: Path) -> None:
    project = live_project(sqlite_folder, random_posts(TRAINED, 60, rate=14, seed=2))
    moved = random_posts(TRAINED + timedelta(days=60), 60, rate=14, hour=18, seed=3)
    project.posts.add(moved, TRAINED + timedelta(days=120))
    retrain(project, runtime_of(project), "timing", TRAINED + timedelta(days=60), auto_promote=False)
    now = first_due(project, TRAINED + timedelta(days=61))
    assert now is not None
    alarms = {drift.kind: drift for drift in measure_drift(project, "timing", now) if drift.alarm}
    assert set(alarms) == {"rate", "gaps", "hours"}
    sentence = alarms["hours"].sentence
    assert due(project, "timing", now).why == f"{sentence[0].lower()}{sentence[1:]} (due_on_drift is true)"


@pytest.mark.slow
def test_a_silence_makes_nothing_due(sqlite_folder: Path) -> None:
    project = live_project(sqlite_folder, random_posts(TRAINED, 1))
    now = TRAINED + timedelta(days=60)
    assert measure_drift(project, "timing", now)[0].alarm
    assert not due(project, "timing", now).is_due


@pytest.mark.slow
def test_a_version_that_goes_live_resets_it(sqlite_folder: Path) -> None:
    project = live_project(sqlite_folder, random_posts(TRAINED, 100, rate=14, seed=2))
    now = first_due(project, TRAINED)
    assert now is not None
    run = retrain(project, runtime_of(project), "timing", now).run
    assert run is not None
    assert first_due(project, now + timedelta(hours=1), days=20) is None


@pytest.mark.slow
def test_texts_do_not_concern_the_timing_model(sqlite_folder: Path) -> None:
    """Nor do times concern the content model."""
    project = live_project(sqlite_folder, random_posts(TRAINED, 60, length=20, seed=2))
    retrain(project, runtime_of(project), "content", TRAINED)
    now = TRAINED + timedelta(days=60)
    assert not due(project, "timing", now).is_due
    assert due(project, "content", now).why.startswith("texts are 66% shorter: ")


@pytest.mark.slow
def test_it_is_the_same_for_one_stream_and_for_all(folder_on_each_database: Path) -> None:
    project = open_project(folder_on_each_database, {**ON_DRIFT, "RETRAINER_RETRAINING__REFIT": "true"})
    rates = {"calm": 6.0, "loud": 14.0}
    for stream, rate in rates.items():
        own = project.for_stream(stream)
        own.posts.add(random_posts(START, 150), TRAINED)
        retrain(own, runtime_of(own), "timing", TRAINED)
        own.posts.add(random_posts(TRAINED, 60, rate=rate, seed=2), TRAINED + timedelta(days=60))
    now = TRAINED + timedelta(days=45)
    last = project.registry.across(None).last_completed_runs()
    found = due_of_streams(project, list(rates), MODEL_TYPE_NAMES, now, last)
    for stream in rates:
        for model_type in MODEL_TYPE_NAMES:
            assert found[ModelKey(stream, model_type)] == due(project.for_stream(stream), model_type, now)
    assert [found[ModelKey(stream, "timing")].is_due for stream in rates] == [False, True]


@pytest.mark.slow
def test_posts_are_loaded_only_if_nothing_else_makes_it_due(
    sqlite_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = live_project(sqlite_folder, random_posts(TRAINED, 1), RETRAINER_RETRAINING__SCHEDULE_DAYS="30")

    def refuse(*_: object) -> None:
        raise AssertionError("the posts were loaded")

    monkeypatch.setattr(type(project.posts), "load_lengths", refuse)
    assert due(project, "timing", TRAINED + timedelta(days=30)).is_due
    assert not due(project, "timing", TRAINED + timedelta(days=10)).is_due, "too early for an alarm"
    with pytest.raises(AssertionError):
        due(project, "timing", TRAINED + timedelta(days=20))


@pytest.mark.slow
def test_train_if_due_trains_early(sqlite_folder: Path, retrainer: Runner) -> None:
    """As cron calls it, by the clock."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    began = today - timedelta(days=210)
    configure(sqlite_folder, due_on_drift="true", schedule_days="1000", refit="true")
    project = open_project(sqlite_folder)
    project.posts.add(random_posts(began, 150), today)
    retrain(project, runtime_of(project), "timing", began + timedelta(days=150))
    write_sample_csv(sqlite_folder / "later.csv", random_posts(began + timedelta(days=150), 60, rate=14, seed=2))
    assert retrainer("posts", "import", "later.csv").code == 0
    found = retrainer("train", "timing", "--if-due")
    assert found.code == 0, found.err
    assert "The timing model is due: posts come 2." in found.err
    assert retrainer("train", "timing", "--if-due").err == ""
