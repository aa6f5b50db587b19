"""A replay decides as the real pipeline would have, and changes nothing of the project."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from contextlib import closing
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
from retrainer.replay.workdir import opened
from tests.conftest import NOW, configure, open_project, runtime_of
from tests.replay.conftest import (
    END,
    FOUR_WEEKS_LATER,
    START,
    TWO_WEEKS_LATER,
    counting,
    counting_algorithm,
    outcomes,
    replayed,
)

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from retrainer.replay.results import ReplayReport
    from tests.plugins_for_tests import Plugins


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


@pytest.mark.parametrize("seed", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.soak)])
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
    with closing(sqlite3.connect(eager / ".retrainer/replay/timing/work.db")) as work:
        assert work.execute("SELECT COUNT(*) FROM cache WHERE seconds <= 0").fetchall() == [(0,)], "however quick"


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


@pytest.mark.slow
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
