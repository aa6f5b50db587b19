"""When a model type is due, judged at a given moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retrainer.pipeline.run import retrain
from retrainer.schedule.due import due
from tests.conftest import NOW, configure, open_project, regular_posts

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.conftest import Runner

WEEK = timedelta(days=7)


@pytest.fixture
def folder(folder_on_each_database: Path) -> Path:
    return folder_on_each_database


@pytest.fixture
def after_a_run(folder: Path) -> Project:
    """A project whose only timing run began at NOW, with 120 posts known, the last of them five hours before."""
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    retrain(project, "timing", NOW)
    return project


def with_settings(project: Project, **changes: str) -> Project:
    project.close()
    configure(project.folder, **changes)
    return open_project(project.folder)


def test_a_type_without_a_completed_run_is_due(folder: Path) -> None:
    found = due(open_project(folder), "timing", NOW)
    assert found.is_due
    assert "no run of it was completed" in found.reason


@pytest.mark.parametrize(
    ("passed", "expected"),
    [
        (timedelta(0), False),
        (timedelta(days=6), False),
        (WEEK - timedelta(hours=3), False),
        (WEEK - timedelta(hours=1), True),  # the night in which clocks are set forward
        (WEEK - timedelta(seconds=10), True),  # a daily job that started ten seconds later a week ago
        (WEEK, True),
        (timedelta(days=20), True),  # the machine was off meanwhile
    ],
)
def test_a_type_is_due_when_schedule_days_have_passed(passed: timedelta, expected: bool, after_a_run: Project) -> None:
    found = due(after_a_run, "timing", NOW + passed)
    assert found.is_due is expected
    assert "2024-11-15 12:00 UTC" in found.reason


def test_a_daily_job_retrains_every_seventh_day_however_its_seconds_jitter(after_a_run: Project) -> None:
    """Only the run that is recorded counts; days that are not due leave no trace."""
    days = []
    for day in range(1, 15):
        now = NOW + timedelta(days=day, seconds=-(day % 7))
        if due(after_a_run, "timing", now).is_due:
            days.append(day)
            retrain(after_a_run, "timing", now)
    assert days == [7, 14]


def test_an_hourly_schedule_is_not_due_hours_early(after_a_run: Project) -> None:
    project = with_settings(after_a_run, schedule_days=str(1 / 24))
    assert not due(project, "timing", NOW + timedelta(minutes=50)).is_due
    assert due(project, "timing", NOW + timedelta(minutes=55)).is_due


def test_a_failed_run_and_one_of_another_moment_do_not_count(after_a_run: Project) -> None:
    retrain(after_a_run, "timing", NOW + timedelta(days=6), as_of=True)
    run = after_a_run.registry.start_run("timing", "baseline", NOW + timedelta(days=6), None)
    after_a_run.registry.fail_run(run.run_id, "no", NOW + timedelta(days=6))
    assert due(after_a_run, "timing", NOW + WEEK).is_due


def test_a_run_dated_by_a_clock_that_was_wrong_does_not_stop_retraining_for_years(after_a_run: Project) -> None:
    retrain(after_a_run, "timing", datetime(2099, 1, 1, tzinfo=UTC))
    assert due(after_a_run, "timing", NOW + WEEK).is_due
    assert not due(after_a_run, "timing", NOW + timedelta(days=1)).is_due


def test_enough_new_posts_make_a_type_due_before_its_time(after_a_run: Project) -> None:
    project = with_settings(after_a_run, min_new_posts="10")
    later = NOW + timedelta(days=2)
    found = due(project, "timing", later)
    assert not found.is_due
    assert "0 of 10 new posts, and 2.0 of 7 days" in found.reason
    project.posts.add(regular_posts(129, start=NOW - timedelta(hours=600)), later)
    assert "9 of 10" in due(project, "timing", later).reason
    project.posts.add(regular_posts(130, start=NOW - timedelta(hours=600)), later)
    found = due(project, "timing", later)
    assert found.is_due
    assert found.reason.startswith("10 new posts")


def test_posts_imported_late_are_new_too(after_a_run: Project) -> None:
    project = with_settings(after_a_run, min_new_posts="10")
    older = regular_posts(10, start=NOW - timedelta(days=100))
    project.posts.add(older.assign(post_id="old-" + older["post_id"]), NOW)
    assert due(project, "timing", NOW + timedelta(days=1)).is_due


def test_new_posts_are_counted_where_old_ones_are_deleted(after_a_run: Project) -> None:
    import sqlalchemy as sa

    project = with_settings(after_a_run, min_new_posts="10")
    with project.registry.database.write() as session:
        session.execute(sa.text("DELETE FROM posts WHERE post_id < 'p00060'"))
    fresh = regular_posts(10, start=NOW + timedelta(hours=1))
    project.posts.add(fresh.assign(post_id="new-" + fresh["post_id"]), NOW)
    assert due(project, "timing", NOW + timedelta(days=4)).is_due


def test_a_disabled_type_is_never_due(folder: Path) -> None:
    project = open_project(folder, {"RETRAINER_RETRAINING__TIMING_MODEL__ENABLED": "false"})
    found = due(project, "timing", NOW)
    assert not found.is_due
    assert "retraining.timing_model.enabled is false" in found.reason
    assert due(project, "content", NOW).is_due


@pytest.fixture
def sqlite_project(sqlite_folder: Path) -> Project:
    project = open_project(sqlite_folder)
    project.posts.add(regular_posts(120), NOW)
    project.close()
    return project


def test_the_command_trains_what_is_due_and_is_silent_about_the_rest(
    sqlite_project: Project, retrainer: Runner, tmp_path: Path
) -> None:
    first = retrainer("train", "timing", "--if-due")
    assert first.code == 0
    assert "The timing model is due: no run of it was completed yet" in first.err
    assert retrainer("history", "--json").json["count"] == 1
    again = retrainer("train", "timing", "--if-due", "--log-file", str(tmp_path / "log"))
    assert (again.code, again.out, again.err) == (0, "", ""), "cron mails whatever is printed"
    assert "The timing model is not due: 0.0 of 7 days" in (tmp_path / "log").read_text(), "but the log file knows"
    told = retrainer("train", "--if-due", "--verbose", "--exit-code", "timing")
    assert told.code == 11
    assert "not due" in told.err
    document = retrainer("train", "timing", "--if-due", "--json").json
    assert document["training_runs"] == []
    assert document["due"][0]["is_due"] is False
    assert retrainer("history", "--json").json["count"] == 1


def test_exit_code_tells_none_promoted_from_none_due(sqlite_project: Project, retrainer: Runner) -> None:
    assert retrainer("train", "timing", "--if-due", "--exit-code").code == 0, "the first one is promoted"
    assert retrainer("train", "--if-due", "--exit-code").code == 0, "the content model was due, and promoted"
    off = {"RETRAINER_RETRAINING__SCHEDULE_DAYS": "0.0000001"}
    assert retrainer("train", "--if-due", "--exit-code", env=off).code == 10
    assert retrainer("train", "--if-due", "--exit-code").code == 11
    assert retrainer("train", "--if-due", "--exit-code", RETRAINER_RETRAINING__ENABLED="false").code == 11


def test_if_due_and_another_moment_exclude_each_other(sqlite_project: Project, retrainer: Runner) -> None:
    done = retrainer("train", "--if-due", "--as-of", "2024-01-01")
    assert done.code == 2
    assert "--as-of" in done.err
