"""Policies: their one-line syntax, and the steps of each."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from retrainer.config import Settings
from retrainer.errors import InsufficientData, RetrainerError, UsageError
from retrainer.replay.plan import Step, plan_steps, resolve_span
from retrainer.replay.policies import build_policies, parse_policy
from retrainer.replay.sandbox import PostHistory
from tests.conftest import regular_posts, runtime_of

SETTINGS = Settings()
DAY = datetime(2024, 1, 1, tzinfo=UTC)


def a_day_apart(count: int) -> PostHistory:
    """Return daily posts from 1 January 2024."""
    return PostHistory(regular_posts(count, gap_hours=24, start=DAY)[["post_id", "created_at"]], "here")


def test_every_replay_has_three_named_policies() -> None:
    configured, never, always = build_policies(SETTINGS, runtime_of(), "timing", [])
    assert (configured.name, never.name, always.name) == ("configured", "never", "always")
    assert configured.settings == never.settings == always.settings == SETTINGS
    assert (never.retrains, always.promotes_all) == (False, True)


def test_a_policy_changes_the_keys_that_it_names() -> None:
    text = "daily: schedule_days=1, min_improvement_threshold=5, min_confidence=0.95, algorithm=baseline"
    policy = parse_policy(text, SETTINGS, "timing")
    assert policy.name == "daily"
    assert policy.algorithm == "baseline"
    retraining = policy.settings.retraining
    assert (retraining.schedule_days, retraining.min_improvement_threshold, retraining.min_confidence) == (1, 5, 0.95)
    assert retraining.test_split == SETTINGS.retraining.test_split


def test_a_policy_overrides_the_settings_of_a_type() -> None:
    settings = Settings.model_validate({"retraining": {"timing_model": {"evaluation_max_predictions": 500}}})
    policy = parse_policy("few: evaluation_max_predictions=30, origin=clock", settings, "timing")
    assert policy.settings.retraining.max_predictions("timing") == 30
    assert policy.settings.retraining.origin("timing") == "clock"


def test_a_policy_decides_for_its_type_whether_versions_are_fitted_again() -> None:
    settings = Settings.model_validate({"retraining": {"refit": True, "timing_model": {"refit": True}}})
    changed = parse_policy("stale: refit=false", settings, "timing").settings.retraining
    assert (changed.refits("timing"), settings.retraining.refits("timing")) == (False, True)
    assert parse_policy("fresh: refit=true", SETTINGS, "content").settings.retraining.refits("content")


def test_a_policy_may_reset_a_setting() -> None:
    settings = Settings.model_validate({"retraining": {"min_confidence": 0.95}})
    assert parse_policy("bold: min_confidence=null", settings, "timing").settings.retraining.min_confidence is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("daily", "--policy: invalid policy 'daily'. Write it like"),
        (": schedule_days=1", "--policy: invalid policy ': schedule_days=1'"),
        ("../up: schedule_days=1", "--policy: invalid policy '../up: schedule_days=1'"),
        ("d: schedule_dayz=1", "--policy 'd': unknown key 'schedule_dayz'. Did you mean 'schedule_days'?"),
        ("d: keep_versions=1", "--policy 'd': unknown key 'keep_versions'. "),
        ("d: max_cost_increase=1", "--policy 'd': unknown key 'max_cost_increase'. "),
        ("d: schedule_days", "--policy 'd': 'schedule_days' is not of the form key=value"),
        ("d: schedule_days=", "--policy 'd': 'schedule_days=' is not of the form key=value"),
        ("d: schedule_days=0", "--policy 'd': schedule_days: invalid value '0' (must be greater than 0)"),
        ("d: schedule_days=soon", "--policy 'd': schedule_days: invalid value 'soon' (must be a valid number"),
        ("d: min_confidence=2", "--policy 'd': min_confidence: invalid value '2' (must be less than 1)"),
        ("d: schedule_days=1, schedule_days=2", "--policy 'd': 'schedule_days' is given twice. Keep one of them"),
        ("never: schedule_days=1", "--policy: the name 'never' is already used. Choose another name"),
        ("d: algorithm=profet", "unknown algorithm 'profet'. Did you mean 'prophet'?"),
        ("d: algorithm=claude_api", "the algorithm 'claude_api' forecasts content, not timing"),
    ],
)
def test_an_invalid_policy_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(RetrainerError) as raised:
        build_policies(SETTINGS, runtime_of(), "timing", [text])
    assert str(raised.value).startswith(message)
    assert raised.value.exit_code == 2


def test_the_steps_tile_the_span() -> None:
    (configured, *_) = build_policies(SETTINGS, runtime_of(), "timing", [])
    steps = plan_steps(configured, a_day_apart(200), DAY + timedelta(days=100), DAY + timedelta(days=117))
    moments = [DAY + timedelta(days=days) for days in (100, 107, 114, 117)]
    assert [(step.at, step.until) for step in steps] == list(itertools.pairwise(moments))


def test_a_decision_is_reviewed_on_ten_later_posts_if_there_are_as_many() -> None:
    (configured, *_) = build_policies(SETTINGS, runtime_of(), "timing", [])
    steps = plan_steps(configured, a_day_apart(200), DAY + timedelta(days=100), DAY + timedelta(days=128))
    assert [step.review_until - step.at for step in steps] == [timedelta(days=days) for days in (7, 10, 10, 7)]
    steps = plan_steps(configured, a_day_apart(200), DAY + timedelta(days=100), DAY + timedelta(days=117))
    moments = [DAY + timedelta(days=days) for days in (107, 114, 117)]
    assert steps[1] == Step(*moments), "a post at the very end counts"


def test_a_policy_starts_later_if_there_are_too_few_posts(caplog: pytest.LogCaptureFixture) -> None:
    (configured, *_) = build_policies(SETTINGS, runtime_of(), "timing", [])
    steps = plan_steps(configured, a_day_apart(200), DAY, DAY + timedelta(days=100))
    assert steps[0].at == DAY + timedelta(days=49), "with it, 50 posts are known"
    assert "'configured' starts on 2024-02-19: before that there are fewer than 50 posts" in caplog.text


def test_never_enough_posts_is_an_error() -> None:
    (configured, *_) = build_policies(SETTINGS, runtime_of(), "timing", [])
    with pytest.raises(InsufficientData, match="fewer than 50 posts"):
        plan_steps(configured, a_day_apart(200), DAY, DAY + timedelta(days=20))


def test_too_many_steps_are_refused_before_they_are_listed() -> None:
    policy = parse_policy("always-on: schedule_days=0.0001", SETTINGS, "timing")
    with pytest.raises(UsageError, match="'always-on' would take 1000000 steps, more than 20000"):
        plan_steps(policy, a_day_apart(200), DAY + timedelta(days=60), DAY + timedelta(days=160))


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (30, 20, "--from '2024-01-31' is not before --to '2024-01-21'"),
        (30, 30, "--from '2024-01-31' is not before --to '2024-01-31'"),
        (-1, 20, "--from: '2023-12-31' lies outside the posts (2024-01-01 to 2024-07-18)"),
        (30, 300, "--to: '2024-10-27' lies outside the posts (2024-01-01 to 2024-07-18)"),
        (300, 301, "--from: '2024-10-27' lies outside the posts"),
    ],
)
def test_an_invalid_period_is_one_clear_line(start: int, end: int, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        resolve_span(a_day_apart(200), DAY + timedelta(days=start), DAY + timedelta(days=end))
    assert str(raised.value).startswith(message)


def test_the_day_after_the_last_post_is_its_end() -> None:
    end = DAY + timedelta(days=200)
    assert resolve_span(a_day_apart(200), DAY, end) == (DAY, end)


def test_without_an_end_a_replay_goes_to_the_last_post() -> None:
    assert resolve_span(a_day_apart(200), DAY, None)[1] == DAY + timedelta(days=199)


def test_a_replay_without_posts_is_refused() -> None:
    with pytest.raises(InsufficientData, match="there are no posts in here"):
        resolve_span(PostHistory(a_day_apart(1).posts.iloc[:0], "here"), DAY, None)
