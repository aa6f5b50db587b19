"""What a study of a paid algorithm costs: a limit over all workers, and the cost of each trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retrainer.errors import CostLimitReached, UsageError
from retrainer.posts.sample import sample_posts
from retrainer.tuning.results import FINISHED
from retrainer.tuning.study import list_studies, read_study
from tests.conftest import NOW, open_project
from tests.tuning.conftest import tuned
from tests.tuning.tunable import paid_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from retrainer.tuning.results import StudyReport
    from tests.claude_server import ClaudeServer
    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins

TRIALS = "3"


@pytest.fixture
def project(folder: Path) -> Project:
    """A project with the first of the sample posts."""
    opened = open_project(folder)
    opened.posts.add(sample_posts().head(160), NOW)
    return opened


def only_study(project: Project) -> StudyReport:
    (summary,) = list_studies(project)
    return read_study(project, summary.name)


@pytest.mark.usefixtures("project")
def test_a_paid_study_needs_max_cost(
    paid_environ: dict[str, str], claude_server: ClaudeServer, retrainer: Runner
) -> None:
    refused = retrainer("tune", "content", "--trials", TRIALS, env=paid_environ)
    assert refused.code == 2
    assert "forecasts of 'claude_api' cost money, but there is no --max-cost" in refused.err
    assert claude_server.requests == []


@pytest.mark.usefixtures("project")
def test_the_cost_is_no_objective_where_there_is_none(retrainer: Runner) -> None:
    refused = retrainer("tune", "content", "--cost-objective")
    assert refused.code == 2
    assert "--cost-objective applies to paid algorithms only" in refused.err


@pytest.mark.slow
def test_the_cost_of_each_trial_is_recorded_and_can_be_an_objective(
    project: Project, paid_environ: dict[str, str], claude_server: ClaudeServer, retrainer: Runner
) -> None:
    arguments = ("tune", "content", "--trials", "5", "--max-cost", "10", "--cost-objective", "--no-auto-promote")
    done = retrainer(*arguments, env=paid_environ)
    assert done.code == 0, done.err
    report = only_study(project)
    costs = [trial.cost_usd for trial in report.trials]
    assert all(trial.state in FINISHED for trial in report.trials)
    assert min(costs) > 0
    # The rest is paid for the held-back fold and the run of the winner.
    assert sum(costs) <= claude_server.cost_usd
    if report.summary.outcome is not None and report.summary.outcome.winner is None:
        assert sum(costs) == pytest.approx(claude_server.cost_usd)
    assert report.pareto
    points = {trial.number: (trial.value or 0.0, -trial.cost_usd) for trial in report.trials}
    for number in report.pareto:
        value, saving = points[number]
        assert not any(v >= value and s >= saving and (v, s) != (value, saving) for v, s in points.values())
    winner = None if report.summary.outcome is None else report.summary.outcome.winner
    if winner is not None:
        assert report.trials[winner].cost_usd <= report.trials[0].cost_usd


@pytest.mark.slow
def test_several_workers_never_exceed_max_cost(
    project: Project, paid_environ: dict[str, str], claude_server: ClaudeServer, retrainer: Runner
) -> None:
    first = retrainer("tune", "content", "--trials", "1", "--max-cost", "10", "--seed", "7", env=paid_environ)
    assert first.code == 0, first.err
    (one,) = only_study(project).trials
    claude_server.usages.clear()
    limit = one.cost_usd * 3.4
    arguments = ("tune", "content", "--trials", "12", "--jobs", "3", "--max-cost", f"{limit:.8f}", "--no-auto-promote")
    done = retrainer(*arguments, env=paid_environ)
    assert done.code in {0, 1}, done.err
    assert "Stopping the trials" in done.err
    assert "(--max-cost)" in done.err
    assert 0 < claude_server.cost_usd <= limit
    study = max(list_studies(project), key=lambda summary: summary.created_at)
    report = read_study(project, study.name)
    assert sum(trial.cost_usd for trial in report.trials) <= claude_server.cost_usd + 1e-9
    assert sum(trial.state in FINISHED for trial in report.trials) < 12


@pytest.mark.slow
def test_a_study_whose_winner_cannot_be_judged_goes_on_with_a_higher_limit(
    five_hours: Project, tunable: Plugins
) -> None:
    train = "15 < hours < 30 and 1 / 0"  # a failed trial does not end it either
    tunable.add("priced", paid_algorithm("priced", "100.0 if count > 130 else 0.0", train=train))
    with pytest.raises(CostLimitReached, match="--max-cost"):
        tuned(five_hours, algorithms=("priced",), trials=8, max_cost=10.0)
    (begun,) = list_studies(five_hours)
    assert begun.outcome is None
    assert set(begun.counts) == {"complete", "failed"}
    ended = tuned(five_hours, algorithms=("priced",), trials=8, max_cost=10_000.0)
    assert (ended.resumed, ended.report.summary.name) == (8, begun.name)
    assert ended.promoted


def test_paid_trials_are_not_repeated(five_hours: Project, tunable: Plugins) -> None:
    tunable.add("costly", paid_algorithm("costly", "0.01"))
    first = tuned(five_hours, algorithms=("costly",), trials=2, max_cost=100.0).report.summary.name
    with pytest.raises(UsageError, match=f"'{first}' has ended, and the same command would pay for its trials again"):
        tuned(five_hours, algorithms=("costly",), trials=3, max_cost=100.0)
    assert [study.name for study in list_studies(five_hours)] == [first]
    assert tuned(five_hours, algorithms=("costly",), trials=2, max_cost=100.0, seed=1).report.summary.name != first


@pytest.mark.slow
def test_free_trials_need_max_cost_if_production_is_paid(five_hours: Project, tunable: Plugins) -> None:
    tunable.add("charged", paid_algorithm("charged", "0.01"))
    assert tuned(five_hours, algorithms=("charged",), trials=8, max_cost=100.0).promoted
    with pytest.raises(UsageError, match="compared with production, and forecasts of 'charged' cost money"):
        tuned(five_hours)
    assert tuned(five_hours, max_cost=100.0).outcome is not None
