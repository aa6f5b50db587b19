"""The naive forecasts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from retrainer.algorithms.manager import load_algorithm
from retrainer.algorithms.testing import check_algorithm
from retrainer.model_types.base import Origins, utc_times
from retrainer.model_types.content import similarity
from retrainer.posts.sample import sample_posts
from retrainer_baseline.medoid import MovingMedoid
from tests.conftest import regular_posts

BASELINE = load_algorithm("baseline")
OPTIONS = BASELINE.options({}, "timing")


def test_baseline_passes_the_conformance_suite() -> None:
    check_algorithm("baseline")


def test_timing_is_the_distribution_of_the_training_gaps() -> None:
    posts = regular_posts(101)
    gaps = np.arange(1, 101)
    posts["created_at"] = posts["created_at"].iloc[0] + pd.to_timedelta(np.concatenate([[0], gaps.cumsum()]), unit="h")
    model = BASELINE.train(posts, OPTIONS, "timing")
    forecast = BASELINE.predict(model, posts, Origins.before(posts, np.array([100])), OPTIONS, "timing")
    assert forecast.quantiles[0] == pytest.approx(np.quantile(gaps, np.arange(1, 100) / 100))


def test_timing_can_be_the_distribution_of_the_last_gaps_alone() -> None:
    posts = regular_posts(101)
    gaps = np.array([9.0] * 80 + [2.0] * 20)
    posts["created_at"] = posts["created_at"].iloc[0] + pd.to_timedelta(np.concatenate([[0], gaps.cumsum()]), unit="h")
    model = BASELINE.train(posts, BASELINE.options({"last_gaps": 20}, "timing"), "timing")
    assert model == {"gaps_hours": [2.0] * 20, "gap_count": 20}
    assert BASELINE.train(posts, OPTIONS, "timing")["gap_count"] == 100
    assert BASELINE.train(posts, BASELINE.options({"last_gaps": 200}, "timing"), "timing")["gap_count"] == 100
    posts.loc[80:, "created_at"] = posts["created_at"].iloc[80]  # a burst says nothing of the usual gap
    assert BASELINE.train(posts, BASELINE.options({"last_gaps": 20}, "timing"), "timing")["gap_count"] == 100


def test_timing_is_conditioned_on_the_silence_so_far() -> None:
    posts = regular_posts(101)
    gaps = np.arange(1, 101)
    posts["created_at"] = posts["created_at"].iloc[0] + pd.to_timedelta(np.concatenate([[0], gaps.cumsum()]), unit="h")
    model = BASELINE.train(posts, OPTIONS, "timing")
    later = Origins.at(posts, utc_times(posts)[[100]] + np.timedelta64(60, "h"))
    forecast = BASELINE.predict(model, posts, later, OPTIONS, "timing")
    remaining = np.arange(60, 101) - 60
    assert forecast.quantiles[0] == pytest.approx(np.quantile(remaining, np.arange(1, 100) / 100))


def test_a_silence_longer_than_any_gap_still_gives_a_forecast() -> None:
    posts = sample_posts()
    model = BASELINE.train(posts, OPTIONS, "timing")
    later = Origins(utc_times(posts)[[399]] + np.timedelta64(900, "D"), np.array([399]))
    assert np.isfinite(BASELINE.predict(model, posts, later, OPTIONS, "timing").point).all()


def test_futures_are_drawn_from_the_training_gaps() -> None:
    posts = regular_posts(101)
    gaps = np.tile([1.0, 1.0, 4.0], 40)[:100]
    posts["created_at"] = posts["created_at"].iloc[0] + pd.to_timedelta(np.concatenate([[0], gaps.cumsum()]), unit="h")
    model = BASELINE.train(posts, OPTIONS, "timing")
    limits: dict[str, Any] = {"horizon_hours": 400.0, "paths": 300, "seed": 1}
    origin = Origins.at(posts, utc_times(posts)[[100]])
    hours = BASELINE.simulate(model, posts, origin, OPTIONS, max_posts=1000, **limits)
    assert np.isfinite(hours).sum(axis=1).mean() == pytest.approx(200, rel=0.02), "two hours a post on average"
    assert set(np.round(np.diff(hours[0][np.isfinite(hours[0])]), 6)) == {1.0, 4.0}
    assert BASELINE.simulate(model, posts, origin, OPTIONS, max_posts=7, **limits).shape == (300, 7)
    later = Origins(origin.time + np.timedelta64(2, "h"), origin.position)
    assert (BASELINE.simulate(model, posts, later, OPTIONS, max_posts=1, **limits) == 2).all(), "of a gap of 4 hours"


def test_content_is_the_most_typical_of_the_last_posts() -> None:
    texts = ["the sky is clear", "the sky is grey", "the sky is dark", "odd one out entirely different words"]
    assert texts[MovingMedoid(texts, 4)(3)] == "the sky is dark"  # as typical as grey, and later
    assert MovingMedoid(["only"], 4)(0) == 0


def test_the_most_typical_post_is_that_of_the_content_score() -> None:
    texts = [text for text in sample_posts()["content"] if text][:120]
    find_medoid = MovingMedoid(texts, 20)
    for last in (5, 19, 20, 21, 60, 119):
        window = range(max(0, last - 19), last + 1)
        totals = {row: sum(similarity(texts[row], texts[other]) for other in window) for row in window}
        assert find_medoid(last) == max(reversed(window), key=lambda row: totals[row])


def test_the_words_of_a_post_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Posts of megabytes would take minutes otherwise."""
    read: list[int] = []
    read_words = MovingMedoid._read_words

    def count(self: MovingMedoid, row: int) -> object:
        read.append(row)
        return read_words(self, row)

    monkeypatch.setattr(MovingMedoid, "_read_words", count)
    posts = regular_posts(80)
    BASELINE.predict({}, posts, Origins.before(posts, np.arange(40, 80)), OPTIONS, "content")
    assert len(read) == len(set(read)) <= 80


def test_content_considers_the_configured_number_of_posts() -> None:
    posts = regular_posts(30)
    options = BASELINE.options({"window": 1}, "content")
    origins = Origins.before(posts, np.array([10, 20]))
    forecasts = BASELINE.predict({}, posts, origins, options, "content")
    assert [forecast.text for forecast in forecasts] == [posts["content"][9], posts["content"][19]]


def test_many_gaps_are_reduced_to_quantiles() -> None:
    posts = regular_posts(2)
    many = pd.DataFrame({"created_at": posts["created_at"].iloc[0] + pd.to_timedelta(np.arange(50_000) * 60, unit="s")})
    model = BASELINE.train(many, OPTIONS, "timing")
    assert len(model["gaps_hours"]) == 20_000
    assert timedelta(hours=model["gaps_hours"][0]) == timedelta(minutes=1)
