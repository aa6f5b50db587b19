"""A replay decides as the real pipeline would have, and changes nothing of the project."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from retrainer.errors import DatabaseError, InsufficientData, RunInProgress, UsageError
from retrainer.evaluation.comparison import MIN_COMPARED_POSTS
from retrainer.evaluation.lookahead import CHECKED_FORECASTS
from retrainer.pipeline.comparing import compare_versions
from retrainer.pipeline.run import retrain
from retrainer.posts.sample import sample_posts
from retrainer.render.replay import replay_document
from retrainer.replay.workdir import opened
from tests.conftest import NOW, configure, open_project, runtime_of
from tests.plugins_for_tests import timing_algorithm
from tests.replay.conftest import END, START, counting_algorithm, outcomes, replayed

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from retrainer.project import Project
    from retrainer.replay.results import ReplayReport
    from retrainer.replay.runner import Progress
    from tests.plugins_for_tests import Plugins

TWO_WEEKS_LATER = START + timedelta(days=14)
FOUR_WEEKS_LATER = START + timedelta(days=28)


def train_as_of(folder: Path, dates: list[datetime]) -> list[tuple[object, ...]]:
    """Retrain as of each date, as `train --as-of` does, and return the decisions."""
    project = open_project(folder)
    runs = [retrain(project, runtime_of(project), "timing", date, as_of=True, auto_promote=True).run for date in dates]
    return [
        (
            run.as_of,
            run.promoted_to_production,
            run.promotion_reason,
            run.improvement_percentage,
            run.num_training_samples,
        )
        for run in runs
        if run is not None
    ]


def decided_in(folder: Path) -> list[tuple[object, ...]]:
    """Return the decisions in the registry of the configured policy, the oldest first."""
    room = sqlite3.connect(folder / ".retrainer/replay/timing/policies/configured/registry.db")
    rows = room.execute(
        "SELECT as_of, promoted_to_production, promotion_reason, improvement_percentage, num_training_samples "
        "FROM retrainer_training_runs ORDER BY started_at"
    ).fetchall()
    room.close()
    return [(pd.Timestamp(row[0], tz="UTC").to_pydatetime(), bool(row[1]), *row[2:]) for row in rows]


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file of a project, except those of the replay."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if ".retrainer" not in path.parts and (path.is_file() or path.is_symlink())
    }


def test_the_promotions_are_those_of_train_as_of_at_the_same_dates(eager: Path, report: ReplayReport) -> None:
    dates = [record.at for record in report.policy("configured").steps]
    assert len(dates) == 9
    expected = train_as_of(eager, dates)
    assert {promoted for _, promoted, *_ in expected} == {True, False}, "the test needs both"
    assert decided_in(eager) == expected
    assert [
        (record.at, record.promoted, record.reason, record.improvement_percentage)
        for record in report.policy("configured").steps
    ] == [decision[:4] for decision in expected]


@pytest.mark.slow
def test_the_promotions_of_prophet_are_those_of_train_as_of(eager: Path) -> None:
    environ = {"RETRAINER_TIMING_MODEL__ALGORITHM": "prophet"}
    report = replayed(open_project(eager, environ), end=START + timedelta(days=21))
    project = open_project(eager, environ)
    for record in report.policy("configured").steps:
        run = retrain(project, runtime_of(project), "timing", record.at, as_of=True).run
        assert run is not None
        assert (record.promoted, record.reason) == (run.promoted_to_production, run.promotion_reason)


def test_the_production_version_is_scored_on_the_posts_up_to_the_next_step(report: ReplayReport) -> None:
    times = sample_posts()["created_at"].sort_values(ignore_index=True)
    for one in report.policies:
        for record in one.steps:
            expected = np.flatnonzero((times > record.at) & (times <= record.until))
            assert record.rows == expected.tolist()
    assert report.end == END


def test_never_keeps_the_first_version_and_always_promotes_every_one(report: ReplayReport) -> None:
    never, always = report.policy("never"), report.policy("always")
    assert (never.trainings, never.promotions) == (1, 1)
    assert len({record.live for record in never.steps}) == 1
    assert (always.trainings, always.promotions) == (9, 9)
    assert all(record.live == record.version_id for record in always.steps)


@pytest.mark.slow
def test_a_policy_has_its_own_schedule_and_algorithm(eager: Path) -> None:
    policies = ["slow: schedule_days=14", "daily: schedule_days=1, min_confidence=0.95"]
    report = replayed(eager, end=FOUR_WEEKS_LATER, policies=policies)
    assert len(report.policy("slow").steps) == 2
    assert report.policy("daily").trainings == 28
    assert report.policy("slow").live is not None
    assert report.policy("daily").live is not None
    rows = {one.policy.name: one.live.rows.tolist() for one in report.policies if one.live is not None}
    assert len(rows) == 5
    assert all(own == rows["configured"] for own in rows.values()), "all policies forecast the same posts"


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_replay_does_not_change_the_database_or_the_models(eager: Path, jobs: int) -> None:
    project = open_project(eager)
    retrain(project, runtime_of(project), "timing", START)
    project.close()
    before = contents(eager)
    assert "data/retrainer.db" in before
    assert "models/timing_model" in before
    replayed(eager, end=TWO_WEEKS_LATER, jobs=jobs)
    assert contents(eager) == before


def test_a_replay_works_while_the_database_is_in_use(eager: Path) -> None:
    project = open_project(eager)
    retrain(project, runtime_of(project), "timing", START)
    before = contents(eager)["data/retrainer.db"]
    assert (eager / "data/retrainer.db-wal").exists()
    assert replayed(eager, end=TWO_WEEKS_LATER).policy("configured").trainings == 2
    assert contents(eager)["data/retrainer.db"] == before
    assert project.registry.list_runs(), "its connection still works"


def test_a_replay_notifies_nobody(
    eager: Path, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = tmp_path / "heard"
    plugins.add_observer(
        "loud",
        f"""
        from pathlib import Path

        @hookimpl
        def on_event(event):
            Path({str(heard)!r}).write_text(event["kind"])
        """,
    )
    monkeypatch.syspath_prepend(str(plugins.site))
    replayed(eager, end=TWO_WEEKS_LATER)
    assert not heard.exists()
    retrain(open_project(eager), runtime_of(open_project(eager)), "timing", NOW)
    assert heard.exists()


def ten_posts_came(posts: pd.DataFrame, start: datetime, end: pd.Timestamp) -> bool:
    return ((posts["created_at"] > start) & (posts["created_at"] <= end)).sum() >= MIN_COMPARED_POSTS


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_no_step_sees_a_later_post(folder: Path, tmp_path: Path, seed: int) -> None:
    """The posts after a date are replaced; the results before it stay the same."""
    configure(folder, min_improvement_threshold="0.0")
    change_at = pd.Timestamp(START + timedelta(days=49))
    original = sample_posts()
    late = original["created_at"] > change_at
    generator = np.random.default_rng(seed)
    other = original[late].sample(frac=0.6, random_state=seed).copy()
    hours = np.sort(generator.random(len(other)) * 24 * 200)
    other["created_at"] = (change_at + pd.to_timedelta(hours + 0.1, unit="h")).as_unit("us")
    other["post_id"] = [f"other{row}" for row in range(len(other))]
    changed = pd.concat([original[~late], other], ignore_index=True)
    reports = []
    for name, posts in (("original", original), ("changed", changed)):
        project = open_project(folder, {"RETRAINER_DATABASE__URL": f"sqlite:///{name}.db"})
        project.posts.add(posts, NOW)
        reports.append(outcomes(replayed(project, workdir=tmp_path / name)))
    for name, first in reports[0].items():
        early = [step for step in first if step[1] <= change_at]
        assert len(early) == 7
        # A decision may be reviewed on posts later than its step; its digest covers all of them.
        assert [step[:2] + step[3:10] for step in reports[1][name][:7]] == [step[:2] + step[3:10] for step in early]
        judged = [number for number, step in enumerate(early) if ten_posts_came(original, step[0], change_at)]
        assert len(judged) >= 2
        assert [reports[1][name][number] for number in judged] == [early[number] for number in judged]
        # The decision of the step right before the date is the same; only its live score may change.
        assert [step[:2] + step[3:7] for step in reports[1][name][7:8]] == [step[:2] + step[3:7] for step in first[7:8]]
        assert reports[1][name] != first, "later steps see the change"


@pytest.fixture
def calls(plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install an algorithm that writes a line for every call; the file that it writes to."""
    plugins.add("counting", counting_algorithm())
    monkeypatch.syspath_prepend(str(plugins.site))
    monkeypatch.setenv("PYTHONPATH", str(plugins.site))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def counting(folder: Path) -> Project:
    return open_project(folder, {"RETRAINER_TIMING_MODEL__ALGORITHM": "counting"})


@pytest.mark.slow
def test_work_that_several_policies_need_is_done_once(eager: Path, calls: Path) -> None:
    report = replayed(counting(eager), policies=["strict: min_confidence=0.99", "loose: min_improvement_threshold=50"])
    assert report.policy("strict").trainings == 9
    lines = calls.read_text().splitlines()
    assert 0 < sum(line.startswith("train") for line in lines) <= 9
    assert len(lines) == len(set(lines)), "nothing is trained or forecast twice"
    versions = {line.split()[1] for line in lines if line.startswith("predict")}
    without_later_posts = [line for line in lines if re.fullmatch(r"predict \S+ (\d+) \[(\d+)\]", line)]
    asked = [line for line in without_later_posts if int(line.split()[2]) == int(line.split()[3].strip("[]")) + 1]
    assert len(asked) == CHECKED_FORECASTS * len(versions), "each version is checked for lookahead once"
    assert report.policy("configured").seconds > 0
    assert report.policy("strict").seconds > 0, "a policy is charged what it would cost alone"


@pytest.mark.slow
def test_two_policies_that_differ_in_name_only_decide_and_cost_the_same(eager: Path, calls: Path) -> None:
    report = replayed(counting(eager), end=FOUR_WEEKS_LATER, policies=["weekly: schedule_days=7"])
    weekly, configured = ([step[:3] + step[4:] for step in outcomes(report)[name]] for name in ("weekly", "configured"))
    assert weekly == configured, "only the ids differ"
    assert report.policy("weekly").seconds == pytest.approx(report.policy("configured").seconds)
    assert calls.exists()


@pytest.mark.parametrize("refit", [True, False])
def test_live_scores_are_those_of_the_fit_that_is_live(eager: Path, calls: Path, *, refit: bool) -> None:
    configure(eager, refit=str(refit).lower())
    report = replayed(counting(eager), end=START + timedelta(days=7))
    assert [len(one.steps) for one in report.policies] == [1, 1, 1]
    times = sample_posts()["created_at"].sort_values(ignore_index=True)
    known = times[times <= START]
    learnt = known if refit else known[: int(0.8 * len(known))]
    hours = learnt.diff().dt.total_seconds().mean() / 3600
    forecasts = [line.split() for line in calls.read_text().splitlines() if line.startswith("predict")]
    live = {float(words[1]) for words in forecasts if int(words[2]) > len(known)}
    assert len(live) == 1
    assert live.pop() == pytest.approx(hours)
    assert report.policy("configured").steps[0].rows
    assert ("Fitted again" in report.policy("configured").steps[0].reason) == refit


@pytest.mark.slow
def test_a_policy_may_fit_again(eager: Path, calls: Path) -> None:
    report = replayed(counting(eager), end=FOUR_WEEKS_LATER, policies=["fresh: refit=true"])
    configured, fresh = (report.policy(name).steps for name in ("configured", "fresh"))
    assert [step.improvement_percentage for step in fresh] == [step.improvement_percentage for step in configured]
    assert [step.later_look for step in fresh] == [step.later_look for step in configured], "by the evaluated fits"
    assert [step.figures for step in fresh] != [step.figures for step in configured]
    assert calls.exists()


def test_the_time_limit_of_a_run_is_not_part_of_a_policy(eager: Path, calls: Path) -> None:
    settings = {"RETRAINER_TIMING_MODEL__ALGORITHM": "counting", "RETRAINER_RETRAINING__MAX_RUN_MINUTES": "0.00001"}
    assert replayed(open_project(eager, settings), end=TWO_WEEKS_LATER).policy("configured").trainings == 2
    assert calls.exists()


@pytest.mark.slow
def test_with_jobs_the_results_are_the_same(eager: Path, calls: Path, tmp_path: Path) -> None:
    alone = outcomes(replayed(counting(eager), end=FOUR_WEEKS_LATER))
    forecasts = set(calls.read_text().splitlines())
    calls.unlink()
    with_jobs = replayed(counting(eager), end=FOUR_WEEKS_LATER, jobs=2, workdir=tmp_path / "jobs")
    assert outcomes(with_jobs) == alone
    assert set(calls.read_text().splitlines()) == forecasts, "only what is needed is prefetched"
    configure(eager, refit="true")
    alone = outcomes(replayed(counting(eager), end=FOUR_WEEKS_LATER))
    with_jobs = replayed(counting(eager), end=FOUR_WEEKS_LATER, jobs=2, workdir=tmp_path / "jobs")
    assert outcomes(with_jobs) == alone


# Its model is the last one's plus an hour, so a forecast shows how often training started from another model.
WARM = (
    counting_algorithm("warm")
    .replace("def train(posts):", "def train(posts, previous):")
    .replace("float(hours_between(times[:-1], times[1:]).mean())", "1.0 + (previous['hours'] if previous else 0)")
)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_version_starts_from_the_one_in_production_at_that_time(
    eager: Path, plugins: Plugins, calls: Path, jobs: int
) -> None:
    plugins.add("warm", WARM)
    project = open_project(eager, {"RETRAINER_TIMING_MODEL__ALGORITHM": "warm"})
    report = replayed(project, end=FOUR_WEEKS_LATER, jobs=jobs)
    for policy in ("always", "configured"):
        steps = report.policy(policy).steps
        expected, production = [], 0
        for step in steps:
            expected.append(production + 1)
            production = expected[-1] if step.promoted else production
        folder = eager / ".retrainer/replay/timing/policies" / policy / "models/timing"
        versions = [folder / str(step.version_id) / "model.json" for step in steps]
        assert [json.loads(path.read_text())["hours"] for path in versions] == expected
    assert expected[1] == 2
    assert calls.exists()


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


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
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
def test_a_replay_killed_between_a_decision_and_its_record_can_be_resumed(eager: Path, report: ReplayReport) -> None:
    replayed(eager, on_progress=interrupting(12))
    work = sqlite3.connect(eager / ".retrainer/replay/timing/work.db")
    work.execute("UPDATE steps SET document = json_set(document, '$.complete', json('false')) WHERE number = 3")
    work.commit()
    work.close()
    assert outcomes(replayed(eager, resume=True)) == outcomes(report)


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


@pytest.mark.slow
@pytest.mark.parametrize("forecast", [0, 5, 12])
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
    whole = outcomes(replayed(project, workdir=tmp_path / "whole"))
    bell.write_text(str(forecast))
    partial = replayed(project)
    assert partial.ending.interrupted
    done = sum(len(one.steps) for one in partial.policies)
    caplog.set_level("INFO", "retrainer.replay")
    resumed = replayed(project, resume=True)
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
    replayed(counting(eager), end=FOUR_WEEKS_LATER)
    calls.unlink()
    replayed(counting(eager), end=FOUR_WEEKS_LATER)
    assert "train" in calls.read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("report")
def test_resuming_with_changed_posts_starts_over(eager: Path, tmp_path: Path) -> None:
    project = open_project(eager)
    early = sample_posts().head(1)
    early["post_id"], early["created_at"] = "earlier", early["created_at"] - timedelta(hours=1)
    project.posts.add(early, NOW)
    project.close()
    resumed = outcomes(replayed(eager, resume=True))
    assert resumed == outcomes(replayed(eager, workdir=tmp_path / "fresh"))


@pytest.mark.slow
def test_resuming_to_a_later_date_equals_a_single_replay(eager: Path, report: ReplayReport) -> None:
    replayed(eager, end=START + timedelta(days=24))
    assert outcomes(replayed(eager, resume=True)) == outcomes(report)


MOODY = timing_algorithm("moody", train="if len(posts) % 3 == 0: raise ValueError('no mood')")


def test_a_failed_run_leaves_production_unchanged(
    eager: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.add("moody", MOODY)
    monkeypatch.syspath_prepend(str(plugins.site))
    report = replayed(eager, end=FOUR_WEEKS_LATER, policies=["moody: algorithm=moody"])
    moody = report.policy("moody")
    assert 0 < moody.failures < 4
    assert moody.trainings + moody.failures == 4
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


# Its forecasts depend on the number of posts after their origin.
PEEKING = counting_algorithm("peeking", wait="len(posts) + model['hours']")


def test_an_algorithm_that_looks_ahead_is_never_promoted_in_a_replay(
    eager: Path, plugins: Plugins, calls: Path
) -> None:
    plugins.add("peeking", PEEKING)
    report = replayed(eager, end=TWO_WEEKS_LATER, policies=["peeking: algorithm=peeking"])
    peeking = report.policy("peeking")
    assert (peeking.failures, peeking.promotions) == (2, 0)
    assert "looks into the future" in peeking.steps[0].reason
    assert calls.exists()


# Pays for its forecasts, and then fails.
WASTEFUL = """
    from retrainer.algorithms import Algorithm, CostEstimate, hookimpl

    @hookimpl
    def algorithm():
        return Algorithm(name="wasteful", model_types=("content",), summary="Pays for nothing.", paid=True)

    @hookimpl
    def train(posts):
        return {}

    @hookimpl
    def estimate(model, origins):
        return CostEstimate(calls=1, cost_usd=0.1)

    @hookimpl
    def predict(model, origins, budget):
        budget.reserve(0.1, max_calls=None, max_cost=None)
        budget.settle(0.1, 0.1)
        raise ValueError("nothing came of it")
"""


def test_the_cost_of_failed_forecasts_counts(eager: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.add("wasteful", WASTEFUL)
    monkeypatch.syspath_prepend(str(plugins.site))
    project = open_project(eager, {"RETRAINER_CONTENT_MODEL__ALGORITHM": "wasteful"})
    report = replayed(project, model_type="content", max_cost=0.25)
    assert report.ending.spent_usd == pytest.approx(0.2)
    assert "exceeds --max-cost $0.25" in report.ending.stopped
    assert sum(record.cost_usd for one in report.policies for record in one.steps) == pytest.approx(0.2)


@pytest.mark.slow
def test_the_cost_limit_covers_the_whole_replay_including_resumes(
    eager: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.add("wasteful", WASTEFUL)
    monkeypatch.syspath_prepend(str(plugins.site))
    project = open_project(eager, {"RETRAINER_CONTENT_MODEL__ALGORITHM": "wasteful"})
    spent = [
        replayed(project, model_type="content", max_cost=limit, resume=resume).ending.spent_usd
        for limit, resume in [(0.25, False), (0.25, True), (0.35, True), (0.15, False)]
    ]
    assert spent == pytest.approx([0.2, 0.2, 0.3, 0.1]), "a replay that starts over has spent nothing yet"


# Accurate, then far off if trained on 221 to 259 posts, then accurate again.
DRIFTING = timing_algorithm("drifting", "40.0 if 220 < len(posts) < 260 else 5.0")


def test_a_decision_is_wrong_if_later_posts_clearly_contradict_it(
    folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new version is far off, and `always` promotes it: the later review says so."""
    from tests.conftest import regular_posts

    plugins.add("right", timing_algorithm("right", 5.0))
    plugins.add("drifting", DRIFTING)
    monkeypatch.syspath_prepend(str(plugins.site))
    project = open_project(folder)
    project.posts.add(regular_posts(400), NOW)
    report = replayed(
        open_project(folder, {"RETRAINER_TIMING_MODEL__ALGORITHM": "drifting"}),
        start=NOW - timedelta(days=28),
        end=NOW - timedelta(hours=1),
    )
    always, configured = report.policy("always"), report.policy("configured")
    assert [record.later_look for record in always.steps] == [None, "wrong", "stands", "stands"]
    assert always.reversed_promotions == 1
    assert configured.reversed_promotions == 0
    assert (configured.promotions, configured.missed) == (1, 0)
    assert report.best == "configured"
    assert "'configured' and 'never' forecast best" in report.conclusion
    assert report.conclusion.endswith("that is more than noise.")


@pytest.mark.slow
def test_always_says_why_a_version_that_cannot_be_fitted_again_is_not_promoted(
    folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.conftest import regular_posts

    plugins.add("tight", timing_algorithm("tight", "1 / 0 if len(posts) > 280 else 40.0 if len(posts) > 220 else 5.0"))
    monkeypatch.syspath_prepend(str(plugins.site))
    configure(folder, refit="true")
    open_project(folder).posts.add(regular_posts(400), NOW)
    report = replayed(
        open_project(folder, {"RETRAINER_TIMING_MODEL__ALGORITHM": "tight"}),
        start=NOW - timedelta(days=28),
        end=NOW - timedelta(days=15),
    )
    reason = report.policy("always").steps[1].reason
    assert "This policy promotes every version, but: the plugin 'tight': its hook train failed: Zero" in reason


SPARSE = timing_algorithm("sparse", "400.0 if 220 < len(posts) < 260 else 55.0")


@pytest.mark.slow
def test_a_decision_is_reviewed_on_posts_of_later_steps_if_its_own_are_few(
    folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With three posts a week, a decision is reviewed on those of three to four weeks; the last three cannot be."""
    from tests.conftest import regular_posts

    plugins.add("sparse", SPARSE)
    monkeypatch.syspath_prepend(str(plugins.site))
    project = open_project(folder)
    project.posts.add(regular_posts(400, gap_hours=55), NOW)
    report = replayed(
        open_project(folder, {"RETRAINER_TIMING_MODEL__ALGORITHM": "sparse"}),
        start=NOW - timedelta(hours=55 * 126),  # the first version is trained on 220 posts, the second on 222
        end=NOW - timedelta(hours=55 * 126) + timedelta(days=56),
    )
    always = report.policy("always")
    assert [record.later_look for record in always.steps] == [
        None,
        *["wrong"],
        *["stands"] * 3,
        *["not enough posts"] * 3,
    ]
    assert (always.decisions, always.looked_at, always.reversed_promotions) == (7, 4, 1)
    assert all(len(record.rows) <= 4 for record in always.steps)


# Cannot forecast long after its training posts.
TIRING = timing_algorithm(
    "tiring",
    "[5.0, len(posts)]",
    predict="if posts.shape[0] > model['hours'][1] * 1.25 + 50: raise ValueError('too tired')",
    wait="model['hours'][0]",
)


def test_a_decision_is_not_reviewed_if_the_loser_cannot_forecast(
    folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.conftest import regular_posts

    plugins.add("tiring", TIRING)
    monkeypatch.syspath_prepend(str(plugins.site))
    project = open_project(folder)
    project.posts.add(regular_posts(400), NOW)
    report = replayed(
        open_project(folder, {"RETRAINER_TIMING_MODEL__ALGORITHM": "tiring"}),
        start=NOW - timedelta(days=28),
        end=NOW - timedelta(hours=1),
    )
    always = report.policy("always")
    assert [record.later_look for record in always.steps] == [None, *["cannot forecast"] * 3]
    assert (always.failures, always.decisions, always.looked_at) == (0, 3, 0)


def test_two_replays_cannot_share_a_folder(eager: Path) -> None:
    folder = eager / ".retrainer/replay/timing"
    with opened(folder, [], resume=False), pytest.raises(RunInProgress, match="another replay is in progress in"):
        replayed(eager)


def test_a_folder_not_created_by_a_replay_is_not_touched(eager: Path, tmp_path: Path) -> None:
    (tmp_path / "mine/timing").mkdir(parents=True)
    (tmp_path / "mine/timing/thesis.txt").write_text("the only copy")
    with pytest.raises(UsageError, match="was not created by a replay"):
        replayed(eager, workdir=tmp_path / "mine")
    assert (tmp_path / "mine/timing/thesis.txt").read_text() == "the only copy"


def test_a_users_file_in_the_folder_of_a_replay_survives_the_next_one(tmp_path: Path) -> None:
    with opened(tmp_path / "timing", [], resume=False):
        (tmp_path / "timing" / "policies").mkdir()
        (tmp_path / "timing" / "work.db").touch()
    (tmp_path / "timing" / "thesis.txt").write_text("the only copy")
    with opened(tmp_path / "timing", [], resume=False):
        assert {path.name for path in (tmp_path / "timing").iterdir()} == {"replay.json", "thesis.txt"}


def test_posts_are_read_from_either_database(folder_on_each_database: Path) -> None:
    project = open_project(folder_on_each_database)
    project.posts.add(sample_posts(), NOW)
    report = replayed(folder_on_each_database, end=START + timedelta(days=14))
    assert report.policy("configured").trainings == 2


def test_a_replay_without_posts_changes_nothing(folder_on_each_database: Path) -> None:
    before = contents(folder_on_each_database)
    with pytest.raises(InsufficientData, match="there are no posts in"):
        replayed(folder_on_each_database)
    assert contents(folder_on_each_database) == before


def test_a_missing_database_is_not_taken_for_a_new_one(eager: Path) -> None:
    project = open_project(eager)
    retrain(project, runtime_of(project), "timing", START)
    project.close()
    (eager / "data/retrainer.db").unlink()
    with pytest.raises(DatabaseError, match="is missing, but"):
        replayed(eager)
    assert not (eager / "data/retrainer.db").exists()


@pytest.mark.slow
def test_content_can_be_replayed(eager: Path) -> None:
    report = replayed(eager, model_type="content", end=START + timedelta(days=21))
    live = report.policy("configured").live
    assert live is not None
    assert set(live.parts) == {"length_similarity", "word_overlap"}
    assert live.score.value == pytest.approx(sum(part.value for part in live.parts.values()) / 2)


def test_the_score_of_a_policy_is_over_all_its_posts(report: ReplayReport) -> None:
    live = report.policy("configured").live
    assert live is not None
    within, error = live.parts["within_6h_accuracy"].value, live.parts["mae_hours"].value
    assert live.score.value == pytest.approx(0.7 * within + 0.3 * (1 - min(error / 24, 1)))
    assert live.score.interval is not None
    assert live.score.interval[0] < live.score.value < live.score.interval[1]


@pytest.mark.usefixtures("report")
def test_versions_of_a_sandbox_can_be_compared(eager: Path) -> None:
    """The registry of a policy is like any other."""
    from retrainer.replay.sandbox import open_sandbox, read_history

    project = open_project(eager)
    past = read_history(project, "timing", NOW)
    room = open_sandbox(eager / ".retrainer/replay/timing/policies/always", project.settings, past)
    newest, older = room.registry.list_versions("timing", 2)
    assert compare_versions(room, runtime_of(room), older, newest, NOW).num_predictions > 0
    room.close()
