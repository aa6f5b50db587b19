"""Posts that stop arriving: a warning of every run, and an event once per silence; on both databases."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest

from retrainer.pipeline.run import retrain
from retrainer.pipeline.stale_posts import find_stale_posts, report_stale_posts
from retrainer.registry.tables import Post
from tests.conftest import NOW, import_regular_posts, open_project, regular_posts, runtime_of
from tests.notify.receiver import Receiver
from tests.plugins_for_tests import Diary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.runtime import Runtime
    from tests.command_line import Runner
    from tests.conftest import Prepare

HOUR = timedelta(hours=1)  # the gaps of the posts are 5 hours, so that 10 hours are usual


@pytest.fixture
def project(folder: Path, prepare: Prepare) -> Project:
    prepare(folder, import_regular_posts)
    return open_project(folder)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return found


def report(
    project: Project, runtime: Runtime, model_types: Sequence[ModelTypeName], now: datetime, *, record: bool = True
) -> None:
    """Report stale posts as `train` does around its runs."""
    stale = find_stale_posts(project, model_types, now)
    if stale is not None:
        report_stale_posts(project, runtime, stale, record=record, first_only=not model_types)


def test_a_silence_is_published_once_and_warned_of_at_every_run(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    diary = Diary()
    runtime = runtime_of(project, diary)
    report(project, runtime, ["timing"], NOW + 4 * HOUR)  # the newest post is 5 hours older than NOW
    assert (diary.events, warnings(caplog)) == ([], [])
    report(project, runtime, [], NOW + 6 * HOUR)
    reason = "The posts are stale: the newest is 11 h old (2024-11-15 07:00 UTC); the longest usual gap is 10 h"
    (event,) = diary.events
    about = {"stream": "default", "model_type": None, "version_id": None}
    assert event == {"kind": "stale_posts", **about, "reason": reason}
    assert warnings(caplog) == [reason]
    report(project, runtime, [], NOW + 7 * HOUR)
    assert warnings(caplog) == [], "cron mails a warning once"
    report(project, runtime, ["timing", "content"], NOW + 8 * HOUR)
    assert len(warnings(caplog)) == 1
    assert len(diary.events) == 1
    add_post(project, NOW + 20 * HOUR)
    report(project, runtime, ["timing"], NOW + 21 * HOUR)
    assert (len(diary.events), warnings(caplog)) == (1, [])
    report(project, runtime, ["timing"], NOW + 200 * HOUR)
    assert diary.kinds() == ["stale_posts"] * 2, "another silence"


def test_a_run_without_a_new_post_is_warned_of(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary()
    runtime = runtime_of(project, diary)
    retrain(project, runtime_of(project), "timing", NOW)
    caplog.clear()
    report(project, runtime, ["content"], NOW + HOUR)
    assert (diary.events, warnings(caplog)) == ([], []), "no content run yet"
    report(project, runtime, ["content", "timing"], NOW + HOUR)
    (warning,) = warnings(caplog)
    assert warning.startswith("No post has arrived since the last timing run (2024-11-15 12:00 UTC); ")
    assert diary.kinds() == ["stale_posts"]
    add_post(project, NOW - 2 * HOUR)  # imported after the run, although older
    report(project, runtime, ["timing"], NOW + HOUR)
    assert (diary.kinds(), warnings(caplog)) == (["stale_posts"], [])
    retrain(project, runtime_of(project), "content", NOW + HOUR)
    caplog.clear()
    add_post(project, NOW + 2 * HOUR, content=None)  # an image only, which no content run will have
    report(project, runtime, ["content"], NOW + 3 * HOUR)
    assert (diary.kinds(), warnings(caplog)) == (["stale_posts"], []), "a post without a text arrived, too"


def test_a_silence_noticed_several_times_at_once_is_published_once(project: Project) -> None:
    diary, start = Diary(), Barrier(4)

    def report_in_thread() -> None:
        start.wait()
        report(project, runtime_of(project, diary), ["timing"], NOW + 100 * HOUR)

    threads = [Thread(target=report_in_thread) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert diary.kinds() == ["stale_posts"]


def test_a_dry_run_warns_and_records_nothing(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary()
    for _ in range(2):
        report(project, runtime_of(project, diary), ["timing"], NOW + 100 * HOUR, record=False)
    assert len(warnings(caplog)) == 2
    assert diary.events == []
    report(project, runtime_of(project, diary), ["timing"], NOW + 100 * HOUR)
    assert diary.kinds() == ["stale_posts"], "it is new to the first run that records"


def test_without_posts_nothing_is_stale(folder_on_each_database: Path, caplog: pytest.LogCaptureFixture) -> None:
    project = open_project(folder_on_each_database)
    report(project, runtime_of(project), ["timing"], NOW)
    assert warnings(caplog) == []


@pytest.mark.slow_on_postgresql
def test_train_notifies_of_stale_posts_once(folder_on_each_database: Path, retrainer: Runner) -> None:
    project = open_project(folder_on_each_database)
    now = datetime.now(UTC)
    project.posts.add(regular_posts(120, start=now - 700 * HOUR), now)  # the newest is 105 hours old
    project.close()
    with Receiver() as receiver:
        environ = {
            "HOOK": receiver.url,
            "RETRAINER_NOTIFICATIONS__WEBHOOK__URL_VARIABLE": "HOOK",
        }
        assert retrainer("train", "timing", "--as-of", f"{now - 600 * HOUR:%Y-%m-%d}", env=environ).code in {0, 3}
        assert "stale" not in " ".join(receiver.events())
        first = retrainer("train", "timing", env=environ)
        assert first.code == 0
        assert first.err.count("WARNING: The posts are stale: the newest is ") == 1
        assert retrainer("train", "timing", "--if-due", env=environ).err == ""
        assert retrainer("train", "timing", env=environ).err.count("WARNING: The posts are stale") == 1
        assert receiver.events().count("stale_posts") == 1
        failed = retrainer("train", "timing", "--quiet", RETRAINER_RETRAINING__MIN_TRAINING_SAMPLES="5000")
        assert failed.err.count("\n") == 1, "a failed run says why it failed"
        message = next(one.json for one in receiver.received if one.json["event"] == "stale_posts")
    assert message["text"].startswith("Posts have stopped arriving (project 'project' on ")
    assert "the longest usual gap is 10 h" in message["text"]


def add_post(project: Project, at: datetime, content: str | None = "late") -> None:
    with project.registry.database.write() as session:
        session.add(Post(post_id=f"{at}", created_at=at, content=content, imported_at=at))
