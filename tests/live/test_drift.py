"""How the stream has changed since the posts that the live fit was trained on, in words."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import sqlalchemy as sa

from retrainer.evaluation.drift import DRIFT_KINDS
from retrainer.live.drift import Drift, measure_drift
from retrainer.pipeline.run import retrain
from tests.conftest import configure, open_project, runtime_of
from tests.drifting import random_posts

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project

START = datetime(2024, 1, 1, tzinfo=UTC)
TRAINED = START + timedelta(days=150)
LATER = TRAINED + timedelta(days=90)


def live_project(folder: Path, *later: pd.DataFrame) -> Project:
    """A project trained on 150 days, and then posts of other days."""
    project = open_project(folder)
    project.posts.add(random_posts(START, 150, no_text=0.04), TRAINED)
    retrain(project, runtime_of(project), "timing", TRAINED)
    for posts in later:
        project.posts.add(posts, LATER)
    return project


def by_kind(drifts: list[Drift]) -> dict[str, Drift]:
    return {drift.kind: drift for drift in drifts}


def test_nothing_in_production_has_no_drift(sqlite_folder: Path) -> None:
    assert measure_drift(open_project(sqlite_folder), "timing", LATER) == []


@pytest.mark.slow
def test_every_kind_is_reported_in_the_same_order(sqlite_folder: Path) -> None:
    configure(sqlite_folder, refit="true")
    project = live_project(sqlite_folder, random_posts(TRAINED, 90, no_text=0.04, seed=2))
    drifts = measure_drift(project, "timing", LATER)
    assert tuple(drift.kind for drift in drifts) == DRIFT_KINDS
    assert not any(drift.alarm for drift in drifts)
    assert all(drift.since is None for drift in drifts)
    found = by_kind(drifts)
    assert found["rate"].days == 90
    assert found["rate"].training_days == 148, "the first day and the last do not count"
    assert found["rate"].sentence.startswith("Posts come about as often as before: ")
    assert found["hours"].sentence == "Posts come at the usual hours"
    assert drifts == measure_drift(project, "timing", LATER + timedelta(hours=23)), "the day is not over"
    assert json.dumps([asdict(drift) for drift in drifts], default=str)


def test_every_change_is_told_in_words(sqlite_folder: Path) -> None:
    later = random_posts(TRAINED, 90, rate=14, hour=12, length=30, no_text=0.3, seed=2)
    found = by_kind(measure_drift(live_project(sqlite_folder, later), "timing", LATER))
    assert all(drift.alarm for drift in found.values())
    for kind, sentence in {
        "rate": "Posts come 2.3 times as often: 14 a day in the last 28 days, 6.04 before",
        "hours": "Posts come 3 hours later in the day",
        "length": "Texts are half as long: 30 characters in the last 28 days, 60 before",
        "no_text": "30% of posts have no text in the last 28 days, 4% before",
    }.items():
        assert_alike(found[kind].sentence, sentence)
    assert "shorter: typically " in found["gaps"].sentence
    assert found["hours"].shift_hours == 3
    assert found["rate"].ratio == pytest.approx(14 / 6, rel=0.1)
    since = found["rate"].since
    assert since is not None
    assert TRAINED.date() < since <= TRAINED.date() + timedelta(days=40)


def assert_alike(found: str, expected: str) -> None:
    """Compare sentences whose last digits depend on random posts."""
    words = [word for word in found.split() if not any(c.isdigit() for c in word)]
    assert words == [word for word in expected.split() if not any(c.isdigit() for c in word)], found


@pytest.mark.slow
def test_silence_is_a_change_of_the_rate(sqlite_folder: Path) -> None:
    found = by_kind(measure_drift(live_project(sqlite_folder), "timing", LATER))
    assert found["rate"].alarm
    assert found["rate"].sentence.startswith("No posts in the 28 days up to yesterday, ")
    assert found["gaps"].sentence == "No posts in the 28 days up to yesterday"
    assert [kind for kind, drift in found.items() if drift.alarm] == ["rate"]


@pytest.mark.slow
def test_other_weekdays_are_named(sqlite_folder: Path) -> None:
    project = open_project(sqlite_folder)
    posts = pd.concat([random_posts(START, 150), random_posts(TRAINED, 90, seed=2)])
    is_weekend, is_later = posts["created_at"].dt.day_of_week >= 5, posts["created_at"] >= TRAINED
    project.posts.add(posts[is_weekend == is_later], TRAINED)
    retrain(project, runtime_of(project), "timing", TRAINED)
    found = by_kind(measure_drift(project, "timing", LATER))
    assert found["hours"].alarm
    assert "% of posts come on S" in found["hours"].sentence
    assert found["hours"].sentence.endswith(" (UTC), 0% before")


@pytest.mark.slow
@pytest.mark.parametrize("refit", ["false", "true"])
def test_the_reference_is_what_the_live_fit_was_trained_on(sqlite_folder: Path, refit: str) -> None:
    configure(sqlite_folder, refit=refit)
    project = live_project(sqlite_folder)
    days = measure_drift(project, "timing", TRAINED + timedelta(days=1))[0].days
    assert days == 1 if refit == "true" else 25 <= days <= 35, "without, the test posts have come since"


@pytest.mark.slow
def test_too_few_days_are_said(sqlite_folder: Path) -> None:
    configure(sqlite_folder, refit="true")
    project = open_project(sqlite_folder)
    project.posts.add(random_posts(START, 20), TRAINED)
    retrain(project, runtime_of(project), "timing", START + timedelta(days=20))
    drift = measure_drift(project, "timing", LATER)[0]
    assert drift.sentence == "Too few days to say: 18 training days, 28 needed"
    assert (drift.alarm, drift.evidence, drift.latest) == (False, None, None)


@pytest.mark.slow
def test_no_complete_day_since_is_said(sqlite_folder: Path) -> None:
    configure(sqlite_folder, refit="true")
    drifts = measure_drift(live_project(sqlite_folder), "timing", TRAINED - timedelta(minutes=1))
    assert {drift.sentence for drift in drifts} == {
        "Too few days to say: no complete day (UTC) since the posts it was trained on"
    }


@pytest.mark.slow
def test_late_edited_and_deleted_posts_count_as_if_they_had_always_been_there(folder_on_each_database: Path) -> None:
    later = random_posts(TRAINED, 90, rate=14, seed=2)
    project = live_project(folder_on_each_database, later)
    whole = measure_drift(project, "timing", LATER)
    late = [post_id for row, post_id in enumerate(later["post_id"]) if row % 7 < 4]
    project.posts.delete(late)
    without = by_kind(measure_drift(project, "timing", LATER))
    assert not without["rate"].alarm
    assert by_kind(whole)["rate"].alarm
    project.posts.add(later, LATER + timedelta(days=5))
    assert measure_drift(project, "timing", LATER) == whole


@pytest.mark.slow
def test_it_works_when_the_training_posts_are_gone(sqlite_folder: Path) -> None:
    project = live_project(sqlite_folder)
    with project.registry.database.write() as session:
        session.execute(sa.text("DELETE FROM posts"))
    sentences = {drift.sentence for drift in measure_drift(project, "timing", LATER)}
    assert sentences == {"Too few days to say: none of the posts that the model was trained on is left"}


@pytest.mark.slow
def test_each_stream_has_its_own_drift(folder_on_each_database: Path) -> None:
    project = open_project(folder_on_each_database)
    for stream, rate in (("calm", 6.0), ("loud", 14.0)):
        own = project.for_stream(stream)
        own.posts.add(random_posts(START, 150), TRAINED)
        retrain(own, runtime_of(own), "timing", TRAINED)
        own.posts.add(random_posts(TRAINED, 90, rate=rate, seed=2), LATER)
    alarms = {
        stream: by_kind(measure_drift(project.for_stream(stream), "timing", LATER))["rate"].alarm
        for stream in ("calm", "loud")
    }
    assert alarms == {"calm": False, "loud": True}


@pytest.mark.slow_on_postgresql
def test_lengths_are_those_of_the_texts(folder_on_each_database: Path) -> None:
    project = open_project(folder_on_each_database)
    posts = random_posts(START, 3, no_text=0.3)
    posts.loc[0, "content"] = "ü🙂 ab"
    project.posts.add(posts, TRAINED)
    loaded = project.posts.load_lengths(TRAINED)
    whole = project.posts.load(TRAINED)
    assert list(loaded) == ["post_id", "created_at", "length"]
    pd.testing.assert_frame_equal(loaded[["post_id", "created_at"]], whole[["post_id", "created_at"]])
    pd.testing.assert_series_equal(loaded["length"], whole["content"].str.len().astype("float64"), check_names=False)
    assert loaded.loc[loaded["post_id"] == posts.loc[0, "post_id"], "length"].item() == 5


@pytest.mark.slow
def test_a_foreign_table_is_compared_too(folder_on_each_database: Path) -> None:
    project = open_project(folder_on_each_database)
    posts = pd.concat([random_posts(START, 150, no_text=0.1), random_posts(TRAINED, 90, rate=14, seed=2)])
    with project.registry.database.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE notes (id TEXT, at TEXT, body TEXT)"))
        contents = posts["content"].where(posts["content"].notna(), "  ")
        columns = zip(posts["post_id"], map(str, posts["created_at"]), contents, strict=True)
        rows = [dict(zip(("id", "at", "body"), row, strict=True)) for row in columns]
        connection.execute(sa.text("INSERT INTO notes VALUES (:id, :at, :body)"), rows)
    names = {"POST_ID": "id", "CREATED_AT": "at", "CONTENT": "body"}
    environ = {f"RETRAINER_POSTS__COLUMNS__{key}": name for key, name in names.items()}
    foreign = open_project(folder_on_each_database, {"RETRAINER_POSTS__TABLE": "notes", **environ})
    retrain(foreign, runtime_of(foreign), "timing", TRAINED)
    found = by_kind(measure_drift(foreign, "timing", LATER))
    assert found["rate"].alarm
    assert found["no_text"].before == pytest.approx(0.1, abs=0.03)
    assert found["rate"].since is not None
    assert isinstance(found["rate"].since, date)
