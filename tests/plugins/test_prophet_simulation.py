"""Futures that `prophet` simulates."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from benchmarks.simulated import simulated_posts
from retrainer.algorithms.manager import load_algorithm
from retrainer.errors import ArtifactError
from retrainer.model_types.base import Origins, utc_times
from retrainer_prophet.features import History, typical_log_gap
from retrainer_prophet.level import NUM_STAGES, level_shape
from retrainer_prophet.paths import Paths
from retrainer_prophet.seasonality import WeeklyProfile
from tests.conftest import regular_posts

PROPHET = load_algorithm("prophet")
OPTIONS = PROPHET.options({}, "timing")


def simulate(posts: Any, origin: Origins, **limits: Any) -> np.ndarray:
    model = PROPHET.train(posts, OPTIONS, "timing")
    chosen: dict[str, Any] = {"horizon_hours": 48.0, "max_posts": 100, "paths": 100, "seed": 0, **limits}
    return PROPHET.simulate(model, posts, origin, OPTIONS, **chosen)


def after(posts: Any, hours: float = 0.0) -> Origins:
    time = utc_times(posts)[[-1]] + np.timedelta64(round(hours * 3600), "s")
    return Origins(time, np.array([len(posts) - 1]))


def test_a_regular_stream_goes_on_regularly() -> None:
    posts = regular_posts(300, gap_hours=5)
    hours = simulate(posts, after(posts, 2))
    assert np.median(hours[:, 0]) == pytest.approx(3, abs=0.5)
    assert np.median(np.isfinite(hours).sum(axis=1)) == pytest.approx(9, abs=1)


@pytest.mark.slow
def test_the_rhythm_of_the_week_shows_in_the_days() -> None:
    """The process posts twice as much on Saturdays as on Mondays, and by day four times as much as by night."""
    posts = simulated_posts("weekly", seed=2).iloc[:1500]
    hours = simulate(posts, after(posts), horizon_hours=24 * 7.0, max_posts=200)
    start = utc_times(posts)[-1].astype("datetime64[s]").astype(int) / 3600
    of_the_day = (start + hours[np.isfinite(hours)]) % 24
    assert ((of_the_day >= 18) & (of_the_day < 24)).sum() > 3 * ((of_the_day >= 0) & (of_the_day < 6)).sum()


def test_posts_at_the_same_time_as_the_last_are_as_usual_as_in_training() -> None:
    posts = regular_posts(200, gap_hours=5).loc[lambda frame: frame.index.repeat(2)].reset_index(drop=True)
    posts["post_id"] = [f"{row:04d}" for row in range(len(posts))]
    hours = simulate(posts, after(posts), horizon_hours=100.0, max_posts=30)
    gaps = np.diff(hours[:, :10], axis=1)
    assert (gaps == 0).mean() == pytest.approx(0.5, abs=0.05)
    assert (hours[:, 0] == 0).mean() == pytest.approx(0.5, abs=0.02)


def test_a_path_has_the_features_that_its_posts_would_give_a_known_stream() -> None:
    hours = np.cumsum(np.random.default_rng(0).exponential(3.0, 1000)) + 5000
    profile, typical = WeeklyProfile(np.ones(168)), typical_log_gap(hours)
    whole = History.from_hours(hours, profile, typical, len(hours) - 1)
    known = hours[:950]
    paths = Paths.after(History.from_hours(known, profile, typical, len(known) - 1), known, 20, 2, 100)
    for time in hours[950:]:
        paths.advance(np.array([1]), np.array([time]))
    for cell in (0, 12, 40, 90):
        expected = whole.features(np.array([len(hours) - 1]), np.array([cell]))
        assert paths.features(np.array([1]), np.array([cell])) == pytest.approx(expected, abs=0.01)


def test_the_level_rests_on_the_last_posts_and_a_prior() -> None:
    """With a half-life of 40 gaps, 800 gaps count as much as 58 posts, to which the prior adds 25."""
    assert level_shape(np.empty((0, NUM_STAGES))) == 25
    assert level_shape(np.eye(NUM_STAGES)[np.zeros(2000, dtype=int)]) == pytest.approx(25 + 58.2, abs=0.1)


def test_a_path_that_would_run_away_is_limited_to_twice_the_highest_rate(caplog: pytest.LogCaptureFixture) -> None:
    known = np.cumsum(np.full(200, 12.0))
    paths = Paths.after(History.from_hours(known, WeeklyProfile(np.ones(168)), 2.5), known, 2, 1, 50)
    assert paths.limit == 4
    for _ in range(20):
        paths.advance(np.array([0]), paths.hours + 0.1)
    posts = np.concatenate([known, paths.posts[0, :20]])
    in_a_day = np.arange(1, len(posts) + 1) - np.searchsorted(posts, posts - 24 + 1e-6, side="right")
    assert in_a_day.max() == 4
    assert paths.limited.all()
    with caplog.at_level(logging.WARNING):
        regular = regular_posts(60, gap_hours=5)
        simulate(regular, after(regular))
    assert not caplog.records


def test_a_stream_of_a_few_hours_can_be_simulated() -> None:
    posts = regular_posts(60, gap_hours=0.2)
    assert np.isfinite(simulate(posts, after(posts), horizon_hours=2.0)).sum(axis=1).mean() > 3


def test_later_posts_and_other_paths_change_nothing() -> None:
    posts = simulated_posts("self-exciting", seed=3).iloc[:600]
    model = PROPHET.train(posts.iloc[:500], OPTIONS, "timing")
    origin = Origins(utc_times(posts)[[550]], np.array([550]))
    limits: dict[str, Any] = {"horizon_hours": 24.0, "max_posts": 100, "paths": 20, "seed": 3}
    hours = PROPHET.simulate(model, posts, origin, OPTIONS, **limits)
    assert np.array_equal(hours, PROPHET.simulate(model, posts.iloc[:551], origin, OPTIONS, **limits))
    other = PROPHET.simulate(model, posts, origin, OPTIONS, **{**limits, "seed": 4})
    assert not np.array_equal(hours, other)


def test_a_version_of_an_earlier_release_forecasts_the_next_post_only() -> None:
    posts = regular_posts(60)
    with pytest.raises(ArtifactError, match="forecasts the next post only. Train a new version"):
        PROPHET.simulate({"format": 3}, posts, after(posts), OPTIONS, horizon_hours=9.0, max_posts=9, paths=9, seed=0)
