"""Tuning: no trial knows a test post, the winner is judged where it was not chosen, and passes the ordinary gate."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from retrainer.errors import InsufficientData, RetrainerError, UsageError
from retrainer.posts.sample import sample_posts
from retrainer.project import create_project
from retrainer.runtime import Stopwatch
from retrainer.tuning.runners import run_trials_here
from retrainer.tuning.study import list_studies, read_study
from retrainer.tuning.trials import run_trial
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of
from tests.tuning.conftest import tuned
from tests.tuning.tunable import tunable_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from retrainer.tuning.results import TuningProgress, TuningResult
    from retrainer.tuning.runners import Trials
    from tests.plugins_for_tests import Plugins


def values(result: TuningResult) -> list[tuple[Any, ...]]:
    """What the trials tried and found, to the last bit."""
    return [
        (trial.algorithm, trial.options, trial.params, trial.state, trial.fold_values, trial.value)
        for trial in result.report.trials
    ]


def with_posts(folder: Path, posts: pd.DataFrame) -> Project:
    """Return a new project with these posts."""
    create_project(folder)
    configure(folder)
    project = open_project(folder)
    project.posts.add(posts, NOW)
    return project


def changed_from(posts: pd.DataFrame, row: int) -> pd.DataFrame:
    """Return the posts with another id, time, text and counts from a row on."""
    changed = posts.copy()
    later = changed.index >= row
    shift = pd.to_timedelta(range(1, int(later.sum()) + 1), unit="h")
    changed.loc[later, "created_at"] = changed.loc[later, "created_at"] + shift
    changed.loc[later, "post_id"] = [f"other-{number}" for number in range(int(later.sum()))]
    changed.loc[later, "content"] = [f"nothing of what was said before, {number}" for number in range(int(later.sum()))]
    for name in ("replies_count", "reblogs_count", "favourites_count"):
        changed.loc[later, name] = 99
    return changed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "algorithms", "metric"),
    [
        ("timing", ("baseline", "tunable"), "crps"),
        ("content", ("baseline",), "overall_score"),
    ],
)
def test_changing_every_test_post_leaves_each_trial_as_it_is_bit_for_bit(
    model_type: str, algorithms: tuple[str, ...], metric: str, tmp_path: Path, tunable: Plugins
) -> None:
    posts = sample_posts()
    posts = posts[posts["content"].notna()].reset_index(drop=True)  # the same are test posts for both types
    test_posts = len(posts) - int(len(posts) * 0.8)

    def tune_on(name: str, posts: pd.DataFrame) -> TuningResult:
        project = with_posts(tmp_path / name, posts)
        return tuned(project, model_type=model_type, algorithms=algorithms, metric=metric, trials=3)

    before = tune_on("before", posts)
    after = tune_on("after", changed_from(posts, len(posts) - test_posts))
    assert values(before) == values(after)
    assert before.report.summary.plan == after.report.summary.plan
    assert before.outcome is not None
    assert after.outcome is not None
    assert before.outcome.held_back == after.outcome.held_back
    # The last training posts are the held-back fold: they change the plan, and no trial.
    held_back = tune_on("held back", changed_from(posts, before.report.summary.plan.held_back.start))
    assert values(held_back) == values(before)
    assert held_back.report.summary.plan != before.report.summary.plan
    # An earlier one is forecast by a fold, or trained on.
    earlier = tune_on("earlier", changed_from(posts, 200))
    assert values(earlier) != values(before)


@pytest.mark.slow
def test_better_options_are_found_and_promoted_by_the_ordinary_run(five_hours: Project) -> None:
    result = tuned(five_hours, trials=15)
    default, winner = result.report.summary.default, result.winner
    assert default is not None
    assert winner is not None
    assert (default.number, default.options, default.params) == (
        0,
        {"hours": 30.0, "label": "none"},
        {"tunable.hours": 30.0},
    )
    assert winner.value is not None
    assert default.value is not None
    assert winner.value > default.value + 0.7  # within six hours of every post
    assert result.outcome is not None
    assert result.outcome.kept
    assert result.outcome.held_back is not None
    assert result.outcome.held_back.interval[0] > 0.7
    assert result.run is not None
    assert result.run.run is not None
    version = five_hours.registry.get_production("timing")
    assert version is not None
    assert version.hyperparameters == winner.options
    assert result.outcome.run_id == result.run.run.run_id
    assert f"options tuned by 15 trials of study '{result.report.summary.name}'" in str(result.run.reason)
    assert result.promoted


@pytest.mark.slow
def test_a_tuned_candidate_passes_the_same_gate(five_hours: Project, tunable: Plugins) -> None:
    first = tuned(five_hours, trials=8)
    again = tuned(five_hours, trials=8, seed=1)  # as good as production, which is no improvement of 2%
    assert first.promoted
    assert again.outcome is not None
    assert again.outcome.kept
    assert not again.promoted
    assert not again.outcome.promoted
    assert again.run is not None
    assert "options tuned by" in str(again.run.reason)


def test_options_that_are_worse_on_the_held_back_fold_are_not_kept(five_hours: Project, tunable: Plugins) -> None:
    # The folds know fewer posts than the held-back fold, on which every option but the configured one fails.
    train = "hours = hours if len(posts) < 130 else 5.0 if hours == 30.0 else 90.0"
    tunable.add("flattering", tunable_algorithm("flattering", train=train))
    result = tuned(five_hours, algorithms=("flattering",), trials=15)
    assert result.outcome is not None
    assert result.outcome.gain_on_folds is not None
    assert result.outcome.gain_on_folds > 0.7  # this is what was chosen for
    assert result.outcome.held_back is not None
    assert result.outcome.held_back.value < -0.7
    assert not result.outcome.kept
    assert result.run is None
    assert five_hours.registry.get_production("timing") is None


@pytest.mark.slow
def test_crps_is_minimised(five_hours: Project) -> None:
    result = tuned(five_hours, metric="crps", trials=15)
    winner, default = result.winner, result.report.summary.default
    assert winner is not None
    assert default is not None
    assert default.value == pytest.approx(25.0)
    assert winner.value == min(trial.value for trial in result.report.trials if trial.value is not None)
    assert result.outcome is not None
    assert result.outcome.held_back is not None
    assert result.outcome.held_back.score_a == pytest.approx(25.0)
    assert result.outcome.held_back.value == pytest.approx(25.0 - result.outcome.held_back.score_b)


@pytest.mark.slow
def test_another_seed_gives_other_trials(five_hours: Project) -> None:
    one, other = (tuned(five_hours, trials=3, seed=seed) for seed in (0, 1))
    assert values(one)[0] == values(other)[0]  # the configured options
    assert values(one)[1:] != values(other)[1:]
    assert (one.report.summary.plan.seed, other.report.summary.plan.seed) == (0, 1)


def test_configured_options_outside_of_the_space_are_still_trial_0(five_hours: Project) -> None:
    config = five_hours.config_file
    config.write_text(
        config.read_text().replace("algorithm: tunable ", "tunable: {hours: 100}\n  algorithm: tunable ", 1)
    )
    result = tuned(open_project(five_hours.folder))
    first = result.report.trials[0]
    assert (first.options, first.params, first.is_default, first.state) == (
        {"hours": 100.0, "label": "none"},
        {},
        True,
        "complete",
    )
    assert result.report.summary.default == first


@pytest.mark.slow
def test_several_algorithms_compete_in_one_study(five_hours: Project) -> None:
    result = tuned(five_hours, algorithms=("baseline", "tunable"), trials=20)
    trials = result.report.trials
    assert [trial.algorithm for trial in trials[:2]] == ["tunable", "baseline"]  # the configured one is trial 0
    assert [trial.is_default for trial in trials[:3]] == [True, True, False]
    assert {trial.algorithm for trial in trials[2:]} == {"tunable", "baseline"}
    for trial in trials:
        assert trial.params["algorithm"] == trial.algorithm
        assert {name.split(".")[0] for name in trial.params} == {"algorithm", trial.algorithm}
    assert set(result.report.importances) == {"algorithm", "baseline.last_gaps", "tunable.hours"}


@pytest.mark.slow
def test_a_trial_that_raises_is_counted_and_logged_and_the_others_go_on(
    five_hours: Project, tunable: Plugins, caplog: pytest.LogCaptureFixture
) -> None:
    tunable.add("fragile", tunable_algorithm("fragile", train="config.hours < 15 and 1 / 0"))
    result = tuned(five_hours, algorithms=("fragile",), trials=10)
    counts = result.report.summary.counts
    assert set(counts) == {"complete", "failed"}
    assert sum(counts.values()) == 10
    failed = next(trial for trial in result.report.trials if trial.state == "failed")
    assert "ZeroDivisionError" in str(failed.error)
    assert failed.options["hours"] < 15
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING and "failed" in record.message]
    assert len(warnings) == counts["failed"]
    assert str(failed.options["hours"]) in warnings[0].getMessage()


def test_options_that_the_plugin_refuses_are_a_failed_trial(five_hours: Project, tunable: Plugins) -> None:
    space = '{"hours": "many" if trial.suggest_float("hours", 1, 40) < 20 else 30.0}'
    tunable.add("confused", tunable_algorithm("confused", space=space))
    result = tuned(five_hours, algorithms=("confused",), trials=8)
    failed = [trial for trial in result.report.trials if trial.state == "failed"]
    assert failed
    assert "its hook search_space returned invalid options" in str(failed[0].error)
    assert "timing_model.confused.hours: invalid value 'many'" in str(failed[0].error)


def test_if_every_trial_fails_it_is_an_error_and_the_next_call_starts_anew(
    five_hours: Project, tunable: Plugins
) -> None:
    tunable.add("dividing", tunable_algorithm("dividing", train="1 / 0"))
    for number in range(2):
        with pytest.raises(
            RetrainerError, match="all 3 trials failed, the first one with: .*ZeroDivisionError"
        ) as error:
            tuned(five_hours, algorithms=("dividing",), trials=3)
        assert error.value.exit_code == 1
        studies = list_studies(five_hours)
        assert len(studies) == number + 1
        assert studies[0].counts == {"failed": 3}
        assert five_hours.registry.get_production("timing") is None


@pytest.mark.slow
def test_a_study_whose_only_trial_so_far_failed_goes_on(five_hours: Project, tunable: Plugins) -> None:
    def run_one(trials: Trials) -> None:
        trial = trials.queue.claim()
        assert trial is not None
        run_trial(trials.queue, trial, trials.objective)

    tunable.add("unlucky", tunable_algorithm("unlucky", train="hours == 30.0 and 1 / 0"))
    with pytest.raises(RetrainerError, match=r"no trial was completed \(1 failed\)"):
        tuned(five_hours, algorithms=("unlucky",), run_trials=run_one)  # as if the time were up
    (begun,) = list_studies(five_hours)
    assert begun.outcome is None
    resumed = tuned(five_hours, algorithms=("unlucky",))
    assert (resumed.resumed, resumed.report.summary.name) == (1, begun.name)
    assert resumed.outcome is not None


def test_the_run_of_the_winner_is_recorded_when_it_happens_after_the_trials(five_hours: Project) -> None:
    elapsed = timedelta()

    class Watch(Stopwatch):
        def __init__(self, started_at: datetime) -> None:
            super().__init__(started_at)
            self.before = elapsed

        def now(self) -> datetime:
            return self.started_at + elapsed - self.before

    def run_for_three_hours(trials: Trials) -> None:
        nonlocal elapsed
        run_trials_here(trials)
        elapsed += timedelta(hours=3)

    runtime = replace(runtime_of(five_hours), stopwatch=Watch)
    result = tuned(five_hours, trials=8, runtime=runtime, run_trials=run_for_three_hours)
    assert result.promoted
    assert result.run is not None
    assert result.run.run is not None
    production = five_hours.registry.get_production("timing")
    assert production is not None
    assert production.trained_at == NOW + timedelta(hours=3)
    assert result.run.run.started_at == NOW + timedelta(hours=3)


def test_the_same_command_after_a_study_says_that_it_repeats_it(
    five_hours: Project, caplog: pytest.LogCaptureFixture
) -> None:
    first = tuned(five_hours, trials=2).report.summary.name
    assert "repeats its trials" not in caplog.text
    second = tuned(five_hours, trials=2).report.summary.name
    assert f"Study '{first}' has ended; '{second}' repeats its trials. Choose another --seed" in caplog.text


def test_what_is_known_at_ctrl_c_is_kept_and_the_next_call_goes_on(five_hours: Project) -> None:
    def interrupt(progress: Any) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    stopped = tuned(five_hours, on_progress=interrupt)
    assert stopped.interrupted
    assert stopped.outcome is None
    assert stopped.report.summary.finished_trials == 3
    resumed = tuned(five_hours)
    assert (resumed.resumed, resumed.report.summary.name) == (3, stopped.report.summary.name)
    assert values(resumed)[:3] == values(stopped)[:3]
    assert resumed.report.summary.counts["complete"] == 6
    assert resumed.outcome is not None


@pytest.mark.slow
def test_a_resumed_study_has_the_trials_of_one_that_was_not_interrupted(five_hours: Project) -> None:
    def interrupt(progress: Any) -> None:
        if progress.done == 11:  # those after ten are not drawn at random
            raise KeyboardInterrupt

    assert tuned(five_hours, on_progress=interrupt, trials=13).interrupted
    resumed = tuned(five_hours, trials=13)
    whole = tuned(five_hours, trials=13)  # the first study is finished, so this is another one with the same seed
    assert resumed.report.summary.name != whole.report.summary.name
    assert values(resumed) == values(whole)


def test_equal_options_are_scored_once(five_hours: Project, tunable: Plugins, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    train = f"with open('{calls}', 'a') as file: print(hours, file=file)"
    space = '{"hours": trial.suggest_categorical("hours", [5.0, 30.0])}'
    tunable.add("binary", tunable_algorithm("binary", train=train, space=space))
    result = tuned(five_hours, algorithms=("binary",), trials=8)
    assert result.outcome is not None
    assert result.report.summary.counts == {"complete": 8}
    assert len({trial.value for trial in result.report.trials}) == 2
    assert [trial.number for trial in result.report.trials if trial.same_as is None] == [0, result.outcome.winner]
    assert all(len(trial.fold_values) == 2 for trial in result.report.trials)
    # Both on two folds and on the held-back one, and the winner once more by its run.
    assert sorted(calls.read_text().split()) == ["30.0"] * 3 + ["5.0"] * 4


def test_a_winner_that_cannot_forecast_the_held_back_fold_is_not_kept(five_hours: Project, tunable: Plugins) -> None:
    train = "len(posts) > 130 and hours != 30.0 and 1 / 0"
    tunable.add("timid", tunable_algorithm("timid", train=train))
    result = tuned(five_hours, algorithms=("timid",), trials=8)
    assert result.outcome is not None
    assert (result.outcome.kept, result.outcome.held_back) == (False, None)
    assert "the best trial cannot forecast the held-back fold: " in result.outcome.reason
    assert "ZeroDivisionError" in result.outcome.reason
    assert result.run is None


@pytest.mark.slow
def test_configured_options_that_fail_do_not_stop_the_winner(five_hours: Project, tunable: Plugins) -> None:
    tunable.add("unlucky", tunable_algorithm("unlucky", train="hours == 30.0 and 1 / 0"))
    result = tuned(five_hours, algorithms=("unlucky",), trials=12)
    assert result.report.trials[0].state == "failed"
    assert result.report.summary.default is None
    assert result.outcome is not None
    assert result.outcome.reason.startswith("the configured options cannot forecast the held-back fold")
    assert (result.outcome.gain_on_folds, result.outcome.kept, result.promoted) == (None, True, True)


def test_a_study_of_another_plugin_version_is_not_mixed_in(five_hours: Project, tunable: Plugins) -> None:
    def interrupt(progress: Any) -> None:
        raise KeyboardInterrupt

    first = tuned(five_hours, on_progress=interrupt)
    file = tunable.site / "retrainer_tunable_module.py"
    file.write_text(file.read_text() + "\n# another release\n")
    second = tuned(five_hours)
    assert second.resumed == 0
    assert second.report.summary.name != first.report.summary.name
    assert second.report.summary.finished_trials == 6


@pytest.mark.slow
def test_new_training_posts_start_another_study(five_hours: Project) -> None:
    def interrupt(progress: Any) -> None:
        raise KeyboardInterrupt

    first = tuned(five_hours, on_progress=interrupt)
    more = regular_posts(20, start=five_hours.posts.load(NOW)["created_at"].iloc[0].to_pydatetime())
    five_hours.posts.add(more.assign(post_id=[f"more-{row}" for row in range(20)]), NOW)
    assert tuned(five_hours).report.summary.name != first.report.summary.name


def test_the_time_limit_ends_a_study_with_what_is_known(five_hours: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    later = 0.0

    def take_an_hour(_: TuningProgress) -> None:
        nonlocal later
        later += 3600.0

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + later)
    monkeypatch.setattr("retrainer.tuning.runners.time", clock)
    result = tuned(five_hours, trials=100_000, timeout_seconds=5400.0, on_progress=take_an_hour)
    assert result.report.summary.finished_trials == 2
    assert result.outcome is not None
    with pytest.raises(RetrainerError, match="no trial was completed. Allow more time"):
        tuned(five_hours, trials=100_000, timeout_seconds=1e-9)


@pytest.mark.slow
def test_the_oldest_finished_studies_are_deleted(five_hours: Project) -> None:
    configure(five_hours.folder, keep_studies="2")
    project = open_project(five_hours.folder)
    names = [tuned(project, trials=2, seed=seed).report.summary.name for seed in range(4)]
    assert {study.name for study in list_studies(project)} == set(names[2:])


def test_a_study_that_has_just_ended_is_never_deleted(five_hours: Project) -> None:
    def interrupt(progress: Any) -> None:
        raise KeyboardInterrupt

    configure(five_hours.folder, keep_studies="1")
    project = open_project(five_hours.folder)
    old = tuned(project, trials=2, on_progress=interrupt).report.summary.name
    newer = tuned(project, trials=2, seed=1).report.summary.name
    assert {study.name for study in list_studies(project)} == {old, newer}
    assert tuned(project, trials=2).report.summary.name == old
    assert [study.name for study in list_studies(project)] == [old]


def test_studies_are_listed_and_read(five_hours: Project) -> None:
    assert list_studies(five_hours) == []
    with pytest.raises(UsageError, match="unknown study 'x'"):
        read_study(five_hours, "x")
    result = tuned(five_hours)
    (study,) = list_studies(five_hours)
    assert study == result.report.summary
    assert list_studies(five_hours, "content") == []
    assert read_study(five_hours, study.name) == result.report
    with pytest.raises(UsageError, match=f"Did you mean '{study.name}'"):
        read_study(five_hours, study.name[:-1])


@pytest.mark.slow
def test_each_stream_has_studies_of_its_own(five_hours: Project) -> None:
    other = five_hours.for_stream("other")
    other.posts.add(regular_posts(200), NOW)
    name = tuned(other, trials=2).report.summary.name
    assert name.startswith("other_timing_")
    assert list_studies(five_hours) == []
    assert [study.name for study in list_studies(other)] == [name]


def test_trials_forecast_from_where_a_run_would(five_hours: Project) -> None:
    configure(five_hours.folder, origin="clock")
    project = open_project(five_hours.folder)
    result = tuned(project, trials=2, metric="crps")
    assert result.report.summary.plan.origin == "clock"
    default = result.report.summary.default
    assert default is not None
    assert default.value == pytest.approx(27.5, abs=0.2)  # 30 hours, where the next post is 2.5 hours away on average


def test_an_algorithm_without_a_search_space_is_an_error(five_hours: Project, tunable: Plugins) -> None:
    plain = tunable_algorithm("plain").replace("@hookimpl\ndef search_space", "def search_space")
    tunable.add("plain", plain)
    with pytest.raises(UsageError, match="'plain' has no search space. These have one: .*tunable"):
        tuned(five_hours, algorithms=("plain",))
    tunable.add("empty", tunable_algorithm("empty", space="{}"))
    with pytest.raises(UsageError, match="'empty' has nothing to tune for timing"):
        tuned(five_hours, algorithms=("empty",))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model_type": "content", "metric": "crps"}, "'crps' applies to timing only"),
        ({"trials": 0}, "--trials: invalid value '0'"),
        ({"timeout_seconds": 0.0}, "--timeout: invalid value"),
        ({"algorithms": ("tunabel",)}, "unknown algorithm 'tunabel'. Did you mean 'tunable'?"),
        ({"model_type": "content", "algorithms": ("tunable",)}, "'tunable' forecasts timing, not content"),
    ],
)
def test_a_request_that_makes_no_sense_is_an_error(five_hours: Project, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        tuned(five_hours, **given)
    assert message in str(error.value)
    assert list_studies(five_hours) == []


def test_too_few_posts_for_two_folds_are_an_error_and_leave_no_study(tmp_path: Path, tunable: Plugins) -> None:
    project = with_posts(tmp_path / "few", regular_posts(80))
    with pytest.raises(InsufficientData, match="64 training posts are too few for 2 folds") as error:
        tuned(project, algorithms=("tunable",))
    assert error.value.exit_code == 3
    assert list_studies(project) == []
