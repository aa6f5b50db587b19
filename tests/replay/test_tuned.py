"""Policies that tune: what they train with, how they resume, and their refusals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from retrainer.config import Settings
from retrainer.errors import UsageError
from retrainer.replay.policies import PolicyTuning, build_policies, parse_policy
from retrainer.replay.runner import replay
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of
from tests.plugins_for_tests import timing_algorithm
from tests.replay.conftest import outcomes
from tests.tuning.tunable import tunable_algorithm

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from retrainer.replay.results import ReplayReport
    from tests.plugins_for_tests import Plugins

SETTINGS = Settings()
START = datetime(2024, 10, 25, tzinfo=UTC)  # of the 300 posts, half come before
TUNED = "tuned: tuned=yes, tune_every=2, tune_trials=6, schedule_days=5"


@pytest.fixture
def tunable(folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose posts come every five hours, and whose algorithm forecasts 30 hours unless it is tuned."""
    plugins.add("tunable", tunable_algorithm())
    monkeypatch.syspath_prepend(str(plugins.site))
    configure(folder)
    path = folder / "config" / "config.yaml"
    path.write_text(path.read_text().replace("algorithm: baseline ", "algorithm: tunable  ", 1))
    project = open_project(folder)
    project.posts.add(regular_posts(300), NOW)
    project.close()
    return folder


def replayed(folder: Path, **given: Any) -> ReplayReport:
    project = open_project(folder)
    arguments: dict[str, Any] = {"policies": [TUNED], "end": datetime(2024, 11, 9, tzinfo=UTC), **given}
    return replay(project, runtime_of(project), "timing", NOW, START, arguments.pop("end"), **arguments)


@pytest.mark.slow
def test_a_policy_that_tunes_trains_with_what_it_has_found_and_scores_better(tunable: Path) -> None:
    report = replayed(tunable)
    tuned = report.policy("tuned")
    assert len(tuned.steps) == 3
    first, second, third = tuned.steps
    assert "; options tuned by 6 trials of study 'default_timing_" in first.reason
    assert first.tuned_options is not None
    assert abs(first.tuned_options["hours"] - 5) < abs(30 - 5)
    assert "tuned" not in second.reason, "it tunes at every second step"
    assert second.tuned_options == first.tuned_options
    assert third.tuned_options is not None
    assert tuned.live is not None
    configured = report.policy("configured")
    assert configured.live is not None
    assert all(step.tuned_options is None for step in configured.steps)
    assert tuned.live.score.value > configured.live.score.value


def test_a_step_at_which_every_trial_fails_trains_as_configured(tunable: Path, plugins: Plugins) -> None:
    # The trials train on fewer posts than the run.
    plugins.add("late", tunable_algorithm("late", train="len(posts) < 110 and 1 / 0"))
    policy = f"{TUNED}, algorithm=late"
    (step,) = replayed(tunable, policies=[policy], end=datetime(2024, 10, 30, tzinfo=UTC)).policy("tuned").steps
    assert not step.failed
    assert step.promoted
    assert step.tuned_options is None


@pytest.mark.slow
def test_a_tuned_step_sees_no_later_post(tunable: Path, tmp_path: Path) -> None:
    short = replayed(tunable, end=datetime(2024, 10, 30, tzinfo=UTC))
    project = open_project(tunable)
    later = regular_posts(40, gap_hours=1, start=datetime(2024, 10, 31, tzinfo=UTC))
    later["post_id"] = [f"later{row}" for row in range(len(later))]
    project.posts.add(later, NOW)
    project.close()
    longer = replayed(tunable, workdir=tmp_path / "other")
    assert longer.policy("tuned").steps[0].tuned_options == short.policy("tuned").steps[0].tuned_options
    assert longer.policy("tuned").steps[0].reason == short.policy("tuned").steps[0].reason


@pytest.mark.slow
def test_a_tuned_replay_that_is_resumed_equals_a_single_one(tunable: Path, tmp_path: Path) -> None:
    replayed(tunable, end=datetime(2024, 11, 4, tzinfo=UTC))
    resumed = replayed(tunable, resume=True)
    assert outcomes(resumed) == outcomes(replayed(tunable, workdir=tmp_path / "other"))


def test_a_policy_says_how_it_tunes() -> None:
    assert parse_policy("a: tuned=yes", SETTINGS, "timing").tuning == PolicyTuning(every=4, trials=10)
    policy = parse_policy("a: tuned=yes, tune_every=2, tune_trials=30", SETTINGS, "timing")
    assert policy.tuning == PolicyTuning(every=2, trials=30)
    assert parse_policy("a: tuned=no", SETTINGS, "timing").tuning is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("d: tuned=often", "--policy 'd': tuned: invalid value 'often' (must be yes or no)"),
        ("d: tune_every=2", "--policy 'd': 'tune_every' is for a policy that tunes. Add tuned=yes"),
        ("d: tuned=yes, tune_every=0", "--policy 'd': tune_every: invalid value '0' (must be a whole number from 1 to"),
        ("d: tuned=yes, tune_trials=1.5", "--policy 'd': tune_trials: invalid value '1.5' (must be a whole number"),
        ("d: tuned=yes, tune_trials=yes", "--policy 'd': tune_trials: invalid value 'True' (must be a whole number"),
    ],
)
def test_a_policy_that_cannot_tune_so_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_policy(text, SETTINGS, "timing")
    assert message in str(refused.value)


def test_only_free_algorithms_with_a_search_space_are_tuned(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.add("fixed", timing_algorithm("fixed"))
    monkeypatch.syspath_prepend(str(plugins.site))
    with pytest.raises(UsageError, match="the algorithm 'fixed' has no search space"):
        build_policies(SETTINGS, runtime_of(), "timing", ["d: tuned=yes, algorithm=fixed"])
    with pytest.raises(UsageError, match="the forecasts of 'claude_api' cost money, so it is not tuned in a replay"):
        build_policies(SETTINGS, runtime_of(), "content", ["d: tuned=yes"])
