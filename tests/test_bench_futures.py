"""What `make bench-futures` measures."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.futures import NAIVE, choose_origins, crps, nth, scores


def test_perfect_forecasts_of_counts_have_the_nominal_pit_coverage_and_more_in_the_interval_as_shown() -> None:
    random = np.random.default_rng(1)
    actual = random.poisson(3.0, 2000)
    futures = {NAIVE: [random.poisson(3.0, 100) for _ in actual], "narrow": [np.full(100, 3)] * len(actual)}
    found = scores(futures, actual, 20)
    assert found[NAIVE]["pit_coverage"] == pytest.approx(0.8, abs=0.03)
    assert found[NAIVE]["coverage"] > 0.85
    assert found["narrow"]["coverage"] < 0.3
    assert found["narrow"]["skill"] < 0


def test_the_crps_of_a_sample() -> None:
    assert crps(np.array([2.0, 2.0]), 5.0) == 3
    assert crps(np.array([0.0, 1.0]), 0.0) == pytest.approx(0.25)  # the mean error less half the mean distance


def test_a_post_beyond_the_horizon_is_later_than_any() -> None:
    future = np.array([[1.0, 2.0], [3.0, np.inf]])
    assert nth(future, 2).tolist() == [2.0, np.inf]
    assert nth(future, 3).tolist() == [np.inf, np.inf]


def test_every_origin_is_followed_by_a_week_and_ten_posts() -> None:
    times = np.datetime64("2024-01-01T00", "us") + np.arange(400) * np.timedelta64(30, "h")
    origins = choose_origins(times, 300, 7)
    assert (origins.time <= times[-1] - np.timedelta64(7, "D")).all()
    assert (origins.position + 10 < len(times)).all()
    assert (times[origins.position] <= origins.time).all()
