"""The naive forecasts."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from retrainer.algorithms.manager import load_algorithm
from retrainer.algorithms.testing import check_algorithm
from retrainer.model_types.base import Origins, utc_times
from retrainer.model_types.content import similarity
from retrainer.posts.sample import sample_posts
from retrainer_baseline.medoid import medoid
from tests.conftest import regular_posts

BASELINE = load_algorithm("baseline")
OPTIONS = BASELINE.options({}, "timing")


def test_it_conforms() -> None:
    check_algorithm("baseline")


def test_timing_is_the_distribution_of_the_training_gaps() -> None:
    posts = regular_posts(101)
    gaps = np.arange(1, 101)
    posts["created_at"] = posts["created_at"].iloc[0] + pd.to_timedelta(np.concatenate([[0], gaps.cumsum()]), unit="h")
    model = BASELINE.train(posts, OPTIONS, "timing")
    forecast = BASELINE.predict(model, posts, Origins.before(posts, np.array([100])), OPTIONS, "timing")
    assert forecast.quantiles[0] == pytest.approx(np.quantile(gaps, np.arange(1, 100) / 100))


def test_timing_is_conditioned_on_the_silence_so_far() -> None:
    posts = regular_posts(101)
    gaps = np.arange(1, 101)
    posts["created_at"] = posts["created_at"].iloc[0] + pd.to_timedelta(np.concatenate([[0], gaps.cumsum()]), unit="h")
    model = BASELINE.train(posts, OPTIONS, "timing")
    last = utc_times(posts)[[100]]
    later = Origins(last + np.timedelta64(60, "h"), np.array([100]))
    forecast = BASELINE.predict(model, posts, later, OPTIONS, "timing")
    remaining = np.arange(60, 101) - 60
    assert forecast.quantiles[0] == pytest.approx(np.quantile(remaining, np.arange(1, 100) / 100))


def test_a_silence_longer_than_any_gap_still_gives_a_forecast() -> None:
    posts = sample_posts()
    model = BASELINE.train(posts, OPTIONS, "timing")
    later = Origins(utc_times(posts)[[399]] + np.timedelta64(900, "D"), np.array([399]))
    assert np.isfinite(BASELINE.predict(model, posts, later, OPTIONS, "timing").point).all()


def test_content_is_the_most_typical_of_the_last_posts() -> None:
    texts = ["odd one out entirely different words", "the sky is clear", "the sky is grey", "the sky is dark"]
    assert medoid(texts) == max(reversed(texts), key=lambda one: sum(similarity(one, other) for other in texts))
    assert medoid(["only"]) == "only"


def test_content_looks_at_the_configured_number_of_posts() -> None:
    posts = regular_posts(30)
    options = BASELINE.options({"window": 1}, "content")
    origins = Origins.before(posts, np.array([10, 20]))
    forecasts = BASELINE.predict({}, posts, origins, options, "content")
    assert [forecast.text for forecast in forecasts] == [posts["content"][9], posts["content"][19]]


def test_a_million_gaps_are_kept_as_quantiles() -> None:
    posts = regular_posts(2)
    long = pd.DataFrame({"created_at": posts["created_at"].iloc[0] + pd.to_timedelta(np.arange(50_000) * 60, unit="s")})
    model = BASELINE.train(long, OPTIONS, "timing")
    assert len(model["gaps_hours"]) == 20_000
    assert timedelta(hours=model["gaps_hours"][0]) == timedelta(minutes=1)
