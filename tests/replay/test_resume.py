"""Interrupted, failed and resumed replays."""

from __future__ import annotations

import os
import re
import sqlite3
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from retrainer.posts.sample import sample_posts
from retrainer.render.replay import replay_document
from tests.conftest import NOW, open_project
from tests.plugins_for_tests import timing_algorithm
from tests.replay.conftest import (
    FOUR_WEEKS_LATER,
    START,
    TWO_WEEKS_LATER,
    counting,
    counting_algorithm,
    outcomes,
    replayed,
)

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.replay.results import ReplayReport
    from retrainer.replay.runner import Progress
    from tests.plugins_for_tests import Plugins


# Ends every process but the first one, as a crash in native code would.
CRASHING = counting_algorithm(
    "crashing", train='if str(os.getpid()) != os.environ["FIRST_PROCESS"] and len(posts) > 245: os._exit(1)'
)


@pytest.mark.slow
def test_a_replay_continues_if_a_prefetch_worker_crashes(
    eager: Path,
    plugins: Plugins,
    calls: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plugins.add("crashing", CRASHING)
    monkeypatch.setenv("FIRST_PROCESS", str(os.getpid()))
    project = open_project(eager, {"RETRAINER_TIMING_MODEL__ALGORITHM": "crashing"})
    alone = outcomes(replayed(project, workdir=tmp_path / "alone"))
    assert calls.read_text().count("train") > 5
    report = replayed(project, jobs=2)
    assert outcomes(report) == alone
    assert not report.ending.stopped
    assert caplog.text.count("Prefetch worker crashed") == 1


def interrupting(after: int) -> object:
    """Return a progress callback that presses Ctrl-C after a number of steps."""

    def tell(progress: Progress) -> None:
        if progress.done == after:
            raise KeyboardInterrupt

    return tell


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_replay_reports_what_is_known_and_can_be_resumed(
    eager: Path, calls: Path, tmp_path: Path, jobs: int
) -> None:
    whole = outcomes(replayed(counting(eager), end=FOUR_WEEKS_LATER, workdir=tmp_path / "whole"))
    calls.unlink()
    partial = replayed(counting(eager), end=FOUR_WEEKS_LATER, on_progress=interrupting(7), jobs=jobs)
    assert partial.ending.interrupted
    assert partial.ending.stopped == "Interrupted after 7 of 12 steps"
    assert [len(one.steps) for one in partial.policies] == [3, 2, 2]
    assert partial.policy("configured").live is not None
    resumed = replayed(counting(eager), end=FOUR_WEEKS_LATER, resume=True, jobs=jobs)
    assert outcomes(resumed) == whole
    assert not resumed.ending.stopped
    if jobs == 1:
        lines = calls.read_text().splitlines()
        assert len(lines) == len(set(lines)), "no work is repeated"


@pytest.mark.slow
def test_a_replay_killed_between_a_decision_and_its_record_can_be_resumed(
    eager: Path, four_weeks: ReplayReport
) -> None:
    replayed(eager, end=FOUR_WEEKS_LATER, on_progress=interrupting(9))
    work = sqlite3.connect(eager / ".retrainer/replay/timing/work.db")
    work.execute("UPDATE steps SET document = json_set(document, '$.complete', json('false')) WHERE number = 2")
    work.commit()
    work.close()
    assert outcomes(replayed(eager, end=FOUR_WEEKS_LATER, resume=True)) == outcomes(four_weeks)


# Presses Ctrl-C once, at the forecast whose number the file says.
TOUCHY = counting_algorithm(
    "touchy",
    predict="""
    bell = Path(os.environ["BELL"])
    if bell.exists():
        left = int(bell.read_text())
        bell.write_text(str(left - 1))
        if left == 0:
            bell.unlink()
            raise KeyboardInterrupt
    """,
)


@pytest.mark.parametrize(
    "forecast",
    [*(pytest.param(number, marks=pytest.mark.slow) for number in (0, 5)), pytest.param(12, marks=pytest.mark.soak)],
)
def test_only_the_interrupted_step_is_repeated(
    eager: Path,
    plugins: Plugins,
    calls: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    forecast: int,
) -> None:
    plugins.add("touchy", TOUCHY)
    bell = tmp_path / "bell"
    monkeypatch.setenv("BELL", str(bell))
    project = open_project(eager, {"RETRAINER_TIMING_MODEL__ALGORITHM": "touchy"})
    whole = outcomes(replayed(project, end=FOUR_WEEKS_LATER, workdir=tmp_path / "whole"))
    bell.write_text(str(forecast))
    partial = replayed(project, end=FOUR_WEEKS_LATER)
    assert partial.ending.interrupted
    done = sum(len(one.steps) for one in partial.policies)
    caplog.set_level("INFO", "retrainer.replay")
    resumed = replayed(project, end=FOUR_WEEKS_LATER, resume=True)
    assert outcomes(resumed) == whole, "including the ids"
    assert (f"; {done} are done" in caplog.text) == (done > 0)
    for one in resumed.policies:
        room = sqlite3.connect(eager / f".retrainer/replay/timing/policies/{one.policy.name}/registry.db")
        assert room.execute("SELECT COUNT(*) FROM retrainer_training_runs").fetchall() == [(one.trainings,)]
        room.close()
    assert calls.exists()


@pytest.mark.slow
def test_a_replay_depends_only_on_posts_policies_and_dates(eager: Path, tmp_path: Path) -> None:
    """Neither the clock nor chance has an influence, except on the processor time."""
    documents = []
    for name, jobs in (("one", 1), ("two", 2)):
        options = {"workdir": tmp_path / name, "jobs": jobs, "policies": ["p: test_split=0.3"]}
        document = replay_document(replayed(eager, end=FOUR_WEEKS_LATER, **options))
        for policy in document["policies"].values():
            assert policy["cost"].pop("seconds") >= 0
        documents.append(document)
    assert documents[0] == documents[1]
    ids = [step["version_id"] for policy in documents[0]["policies"].values() for step in policy["steps"]]
    trained = [version_id for version_id in ids if version_id is not None]
    assert len(trained) == len(set(trained)) == 4 + 1 + 4 + 4
    assert all(re.fullmatch(r"baseline_timing_2024\d{4}_000000_[0-9a-f]{4}", version_id) for version_id in trained)


@pytest.mark.slow
def test_without_resume_a_replay_starts_over(eager: Path, calls: Path) -> None:
    replayed(counting(eager), end=TWO_WEEKS_LATER)
    calls.unlink()
    replayed(counting(eager), end=TWO_WEEKS_LATER)
    assert "train" in calls.read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("four_weeks")
def test_resuming_with_changed_posts_starts_over(eager: Path, tmp_path: Path) -> None:
    project = open_project(eager)
    early = sample_posts().head(1)
    early["post_id"], early["created_at"] = "earlier", early["created_at"] - timedelta(hours=1)
    project.posts.add(early, NOW)
    project.close()
    resumed = outcomes(replayed(eager, end=FOUR_WEEKS_LATER, resume=True))
    assert resumed == outcomes(replayed(eager, end=FOUR_WEEKS_LATER, workdir=tmp_path / "fresh"))


@pytest.mark.slow
def test_resuming_to_a_later_date_equals_a_single_replay(eager: Path, four_weeks: ReplayReport) -> None:
    replayed(eager, end=START + timedelta(days=10))
    assert outcomes(replayed(eager, end=FOUR_WEEKS_LATER, resume=True)) == outcomes(four_weeks)


MOODY = timing_algorithm("moody", train="if len(posts) % 3: raise ValueError('no mood')")


@pytest.mark.slow
def test_a_failed_run_leaves_production_unchanged(
    eager: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.add("moody", MOODY)
    monkeypatch.syspath_prepend(str(plugins.site))
    report = replayed(eager, end=FOUR_WEEKS_LATER, policies=["moody: algorithm=moody"])
    moody = report.policy("moody")
    assert 0 < moody.failures < 4
    assert moody.trainings + moody.failures == 4
    live = [(before.live, step.live) for before, step in pairwise(moody.steps) if step.failed]
    assert live
    assert all(before == after is not None for before, after in live)
    failed = next(record for record in moody.steps if record.failed)
    assert "no mood" in failed.reason
    assert not report.ending.stopped


AILING = counting_algorithm("ailing", train="if Path(os.environ['OUTAGE']).exists(): raise OSError('out of reach')")


@pytest.mark.slow
def test_resuming_retries_failed_runs(
    eager: Path,
    plugins: Plugins,
    calls: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plugins.add("ailing", AILING)
    outage = tmp_path / "outage"
    monkeypatch.setenv("OUTAGE", str(outage))
    project = open_project(eager, {"RETRAINER_TIMING_MODEL__ALGORITHM": "ailing"})
    whole = outcomes(replayed(project, end=TWO_WEEKS_LATER, workdir=tmp_path / "whole"))
    outage.touch()
    broken = replayed(project, end=TWO_WEEKS_LATER)
    assert broken.policy("configured").failures == 2
    assert "runs failed, the first as of 2024-03-01: " in caplog.text
    assert "out of reach" in caplog.text
    outage.unlink()
    assert outcomes(replayed(project, end=TWO_WEEKS_LATER, resume=True)) == whole
    assert calls.exists()
