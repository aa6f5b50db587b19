"""The decision which point to forecast."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from retrainer.algorithms import LEVELS, PointRule, TimingForecasts, best_constant, score_maximising_point

RNG = np.random.default_rng(1)


def decide(quantiles: np.ndarray, wait: np.ndarray, constant_hours: float, age: np.ndarray | None = None) -> PointRule:
    ages = np.zeros(len(wait)) if age is None else age
    return PointRule.decide(quantiles, wait, np.ones(len(wait)), ages, constant_hours)


def exponential(mean: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return calibrated forecasts of exponential waits, and waits."""
    return np.tile(-mean * np.log1p(-LEVELS), (count, 1)), RNG.exponential(mean, count)


def test_good_forecasts_keep_the_usual_point() -> None:
    quantiles, wait = exponential(5.0, 300)
    rule = decide(quantiles, wait, constant_hours=50.0)
    assert rule.kind == "score"
    assert rule.points(quantiles[:3]) == pytest.approx(score_maximising_point(quantiles[:3]))


def test_without_past_forecasts_the_usual_point_is_kept() -> None:
    assert decide(np.empty((0, 99)), np.empty(0), 5.0).kind == "score"


def test_where_the_mean_error_no_longer_counts_the_point_is_within_6_hours_as_often_as_possible() -> None:
    """Half of the waits are about an hour, the others spread over a month: the mean error is days either way."""
    long = np.linspace(100, 700, 49)
    quantiles = np.tile(np.sort(np.concatenate([np.linspace(0.5, 1.5, 50), long])), (200, 1))
    wait = np.tile([1.0, 400.0], 100)
    rule = decide(quantiles, wait, constant_hours=300.0)
    assert rule.kind == "within_6h"
    assert rule.points(quantiles[:1])[0] < 8


def test_a_constant_that_scored_better_is_taken() -> None:
    """Forecasts of a day, where the next post always comes after two hours."""
    quantiles, _ = exponential(24.0, 100)
    rule = decide(quantiles + 24, np.full(100, 2.0), constant_hours=2.0)
    assert rule.kind == "constant"
    assert rule.points(quantiles[:2]).tolist() == [2.0, 2.0]


def test_a_constant_is_the_point_only_in_silences_in_which_it_was_tried() -> None:
    """It comes from usual waits, and says nothing about a silence of years."""
    quantiles, _ = exponential(24.0, 100)
    silence = np.linspace(0, 50, 100)
    rule = PointRule.decide(quantiles, np.full(100, 3.0), np.ones(100), np.zeros(100), 3.0, silence)
    assert (rule.kind, rule.max_silence_hours) == ("constant", 50.0)
    after_years = exponential(7000.0, 1)[0]
    points = rule.points(np.vstack([quantiles[:2], after_years]), np.array([0.0, 50.0, 17_520.0]))
    assert points[:2].tolist() == [3.0, 3.0]
    assert points[2] == pytest.approx(after_years[0, 49], rel=0.01), "close to the median"


@pytest.mark.parametrize("kind", ["score", "within_6h", "constant"])
@pytest.mark.parametrize("silence", [24.0, 240.0, 2_400.0, 24_000.0, 80_000.0])
def test_in_a_long_silence_the_point_is_inside_the_80_percent_interval(kind: Any, silence: float) -> None:
    """After a silence, the wait of a power law is about as long again."""
    waits = silence * ((1 - LEVELS) ** -1.2 - 1)[None]
    forecast = TimingForecasts(waits, PointRule(kind, 6.0, 12.0).points(waits, np.array([silence])))
    low, high = forecast.interval()
    assert low <= forecast.point <= high


def test_old_forecasts_are_forgotten() -> None:
    quantiles, _ = exponential(24.0, 100)
    wait = np.concatenate([np.full(50, 2.0), np.full(50, 30.0)])
    age = np.concatenate([np.full(50, 2000.0), np.zeros(50)])
    assert decide(quantiles + 24, wait, 2.0, age).kind == "score"
    assert decide(quantiles + 24, wait, 2.0, age[::-1]).kind == "constant"


def test_the_best_constant_has_the_best_score() -> None:
    wait = np.concatenate([np.full(60, 1.0), np.full(40, 20.0)])
    assert best_constant(wait, np.ones(100)) == 1.0
    weight = np.where(wait > 10, 10.0, 1.0)
    assert best_constant(wait, weight) == 20.0
