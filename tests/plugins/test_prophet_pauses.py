"""A silence that nothing predicts is forecast by a power law, and changes little else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.simulated import PROCESSES, START, simulated_posts
from benchmarks.timing_scores import tail, tail_origins
from retrainer.algorithms.manager import load_algorithm
from retrainer.model_types.base import Origins, hours_between, utc_times
from retrainer_prophet.expected_events import NUM_CORRECTED, bin_factors, events_per_bin, exposure_per_bin
from retrainer_prophet.pauses import hazard_with_pauses, pause_survival


def test_right_after_a_post_pauses_change_little() -> None:
    hours = np.linspace(0, 3, 50)
    assert hazard_with_pauses(hours, pause_survival(hours, 4.0)) == pytest.approx(hours, abs=0.03)


def test_in_a_silence_that_the_hazard_does_not_explain_the_wait_grows_with_the_silence() -> None:
    hours = np.linspace(0, 10_000, 1_000_001)
    hazard = hazard_with_pauses(hours, pause_survival(hours, 4.0))  # one post per hour is expected

    def median_wait(silence: float) -> float:
        now = np.interp(silence, hours, hazard)
        return float(np.interp(now + np.log(2), hazard, hours) - silence)

    assert median_wait(1) == pytest.approx(np.log(2), rel=0.05)
    assert median_wait(200) / median_wait(50) == pytest.approx(204 / 54, rel=0.01)


def test_what_came_of_deep_silences_changes_no_factor_of_the_bins() -> None:
    def factors(longest: float) -> np.ndarray:
        expected = np.array([0.2, 0.5, longest])
        events, exposure = events_per_bin(expected, np.ones(3, dtype=bool)), exposure_per_bin(expected)
        return bin_factors(events.sum(axis=0)[None], exposure.sum(axis=0)[None])

    assert np.array_equal(factors(60), factors(0.6))
    assert not np.array_equal(factors(0.6), factors(0.3))
    assert (factors(60)[0, NUM_CORRECTED:] == 1).all()


def test_a_silence_longer_than_any_before_is_expected_to_last() -> None:
    posts = simulated_posts("weekly", seed=5).tail(500).reset_index(drop=True)
    prophet = load_algorithm("prophet", "timing")
    config = prophet.options({}, "timing")
    model = prophet.train(posts, config, "timing")
    longest = float(hours_between(utc_times(posts)[:-1], utc_times(posts)[1:]).max())
    last = np.array([len(posts) - 1])
    silence = np.array([1, 10 * longest])
    at = utc_times(posts)[last] + (silence * 3_600_000_000).astype("timedelta64[us]")
    origins = Origins(at, np.repeat(last, 2))
    assert 0 < model["longest_silence_of_rules"] < longest
    always = model | {"point_rules": ["constant"] * 2, "constant_points": [1.0, 1.0]}
    forecasts = prophet.predict(always, posts, origins, config, "timing")
    usual, deep = forecasts.probability_within(24)
    assert usual > 0.99 - 1e-9
    assert deep < 0.4
    assert forecasts.point[0] == 1.0, "a constant that scored best lately"
    assert forecasts.interval()[0][1] < forecasts.point[1] < forecasts.interval()[1][1], "is no point in a long silence"


def tail_of_prophet(name: str, seed: int) -> dict[str, Any]:
    """Return the stated and the true tail after some test posts of a simulated stream."""
    posts = simulated_posts(name, seed)
    times = utc_times(posts)
    training = int(len(posts) * 0.8)
    usual_gap = float(np.median(hours_between(times[: training - 1], times[1:training])))
    prophet = load_algorithm("prophet", "timing")
    config = prophet.options({}, "timing")
    model = prophet.train(posts.iloc[:training], config, "timing")
    rows = np.linspace(training, len(posts) - 1, 100).astype(int)
    origins = {"post": Origins(times[rows], rows), "silence": tail_origins(times, rows, usual_gap)}
    forecasts = {kind: prophet.predict(model, posts, made, config, "timing") for kind, made in origins.items()}
    return tail(PROCESSES[name][0], hours_between(np.asarray(START), times), rows, usual_gap, forecasts)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
def test_the_tail_is_within_a_factor_of_the_truth(name: str) -> None:
    # About ten gaps of a sparse stream are that long, too few to know the tail from one stream.
    found = [tail_of_prophet(name, seed) for seed in range(1, 7 if name == "sparse" else 2)]
    for kind in ("post", "silence"):
        ratios = [each[kind]["ratio"] for each in found if each[kind] is not None]
        if ratios:
            assert 1 / 1.5 <= np.mean(ratios) <= 1.5
