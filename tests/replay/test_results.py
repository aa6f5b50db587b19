"""The conclusion of a replay: which policy was best, and whether the difference is more than noise."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from retrainer.config import Settings
from retrainer.replay.policies import build_policies
from retrainer.replay.results import Ending, LiveScores, conclude, evidence_of, report
from retrainer.replay.step import StepResult
from tests.conftest import runtime_of

START = datetime(2024, 1, 1, tzinfo=UTC)


def live(errors: np.ndarray, first_row: int = 0) -> LiveScores:
    """Return the live score of forecasts with these errors, in hours."""
    figures = np.column_stack([errors <= 6, errors])
    return LiveScores("timing", np.arange(first_row, first_row + len(errors)), figures, figures)


def noisy(seed: int, mean: float, count: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).exponential(mean, count)


def test_a_clear_difference_is_more_than_noise() -> None:
    best, sentence = conclude({"configured": live(noisy(1, 9.0)), "daily": live(noisy(2, 4.0))})
    assert best == "daily"
    assert sentence.startswith("On 400 posts, 'daily' forecast best, ")
    assert "better than 'configured' (" in sentence
    assert sentence.endswith("that is more than noise.")


def test_a_small_difference_is_within_noise() -> None:
    _, sentence = conclude({"configured": live(noisy(1, 6.0)), "daily": live(noisy(2, 6.0))})
    assert sentence.endswith("the difference is within noise, and no reason to prefer a policy.")


def test_equal_policies_make_no_difference() -> None:
    same = live(noisy(1, 6.0))
    as_good = live(noisy(1, 6.0) - 1e-5)  # to the digits that are shown
    for other in (same, as_good):
        best, sentence = conclude({"configured": same, "never": other})
        assert best == "configured"
        assert "all policies score the same" in sentence


@pytest.mark.slow
def test_equally_good_policies_are_rarely_called_different() -> None:
    """Of five equally good policies, the best is called better in about one replay of twenty, or fewer."""
    called = 0
    for seed in range(60):
        lives = {name: live(noisy(10 * seed + place, 6.0)) for place, name in enumerate(["configured", *"abcd"])}
        called += "more than noise" in conclude(lives)[1]
    assert called <= 6


@pytest.mark.parametrize("others", [1, 2, 4])
def test_the_reported_interval_is_the_one_that_decides(others: int) -> None:
    """Its level rises with the number of policies; a difference that it includes is called noise."""
    signs = set()
    for seed in range(25):
        equal = live(noisy(seed, 7.5, count=150))
        lives = {"configured": equal, **{name: live(noisy(seed + 99, 6.0, count=150)) for name in "abcd"[:others]}}
        sentence = conclude(lives)[1]
        if "'configured' forecast best" in sentence:
            continue
        level = {1: "95", 2: "97.5", 4: "98.75"}[others]
        found = re.search(rf"{re.escape(level)}% interval (-?[\d.]+) to (-?[\d.]+)%\)", sentence)
        assert found, sentence
        if float(found[1]):
            assert (float(found[1]) > 0) == sentence.endswith("more than noise."), sentence
            signs.add(float(found[1]) > 0)
    assert signs == {True, False}, "the test needs both"


def test_only_posts_that_every_policy_forecast_are_compared() -> None:
    late = live(noisy(2, 4.0, count=100), first_row=300)
    _, sentence = conclude({"configured": live(noisy(1, 9.0)), "late": late})
    assert sentence.startswith("On 100 posts")


def test_too_few_posts_are_inconclusive() -> None:
    best, sentence = conclude({"configured": live(noisy(1, 9.0, count=9)), "daily": live(noisy(2, 4.0))})
    assert best is None
    assert sentence == "Only 9 posts were forecast under all policies: too few to compare them."
    assert evidence_of(live(noisy(1, 9.0, count=9)), live(noisy(2, 4.0))) is None


def test_there_is_no_result_before_the_first_forecast() -> None:
    assert conclude({}) == (None, "No posts were forecast yet.")


def test_intervals_stay_within_the_range_of_the_metric() -> None:
    few = live(np.array([1.0, 40.0, 2.0, 90.0, 3.0, 5.0, 70.0]))
    assert few.score.interval is not None
    assert 0 <= few.score.interval[0] <= few.score.interval[1] <= 1
    for part, highest in (("within_6h_accuracy", 1.0), ("mae_hours", np.inf)):
        low, high = few.parts[part].interval or (-1, np.inf)
        assert 0 <= low <= high <= highest


def test_a_component_is_a_mean_with_an_interval() -> None:
    parts = live(noisy(1, 6.0)).parts
    assert parts["mae_hours"].value == pytest.approx(noisy(1, 6.0).mean())
    low, high = parts["mae_hours"].interval or (0, 0)
    assert low < parts["mae_hours"].value < high


def steps_of_days(days: int) -> list[StepResult]:
    """Steps so many days long, over 28 days of one post a day, the errors of which are 9 hours, in the third week 1.

    The naive forecast errs by 5 hours. The first post comes at the first midnight after the start.
    """
    records = []
    for first in range(0, 28, days):
        rows = list(range(first, first + days))
        at, until = START + timedelta(days=first), START + timedelta(days=first + days)
        errors = [1.0 if 14 <= row < 21 else 9.0 for row in rows]
        figures, naive = [[error <= 6, error] for error in errors], [[True, 5.0] for _ in rows]
        records.append(StepResult(at, until, "", None, rows=rows, figures=figures, naive_figures=naive))
    return records


@pytest.mark.parametrize("days", [1, 7, 14, 28])
def test_the_time_worse_than_naive_does_not_depend_on_step_length(days: int) -> None:
    times = np.datetime64("2024-01-02", "us") + np.arange(28) * np.timedelta64(1, "D")
    policy = build_policies(Settings(), runtime_of(), "timing", [])[0]
    span = (START, START + timedelta(days=28))
    whole = report("timing", span, [(policy, steps_of_days(days))], Ending(), times).policy("configured")
    assert whole.naive_comparison == (timedelta(days=28), timedelta(days=21))
    begun = steps_of_days(1)[:10]
    stopped = report("timing", span, [(policy, begun)], Ending("Stopped"), times).policy("configured")
    assert stopped.naive_comparison == (timedelta(days=10), timedelta(days=10)), (
        "steps that were not reached do not count"
    )
