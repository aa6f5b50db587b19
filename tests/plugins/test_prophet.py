"""The `prophet` algorithm: the first arrival in the rhythm of the week, from any origin."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from retrainer.algorithms.manager import load_algorithm
from retrainer.algorithms.testing import check_algorithm
from retrainer.errors import ConfigError
from retrainer.model_types.base import Origins, utc_times
from tests.conftest import regular_posts

PROPHET = load_algorithm("prophet")
OPTIONS = PROPHET.options({}, "timing")


def office_hours(weeks: int = 30) -> pd.DataFrame:
    """Two posts an hour from 9 to 17 UTC on weekdays, at random minutes, and none otherwise."""
    rng = np.random.default_rng(5)
    monday = datetime(2024, 1, 1, tzinfo=UTC)
    hours = [7 * 24 * week + 24 * day + hour for week in range(weeks) for day in range(5) for hour in range(9, 17)]
    moments = np.sort(np.repeat(hours, 2) + rng.random(2 * len(hours)))
    times = pd.DatetimeIndex(pd.Timestamp(monday) + pd.to_timedelta(moments, unit="h")).as_unit("us")
    return pd.DataFrame({"post_id": [str(row) for row in range(len(times))], "created_at": times})


def forecast_at(posts: pd.DataFrame, *moments: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the quantiles and points from the moments given, each knowing all posts before it."""
    times = np.array(moments, dtype="datetime64[us]")
    positions = np.searchsorted(utc_times(posts), times, side="right") - 1
    model = PROPHET.train(posts, OPTIONS, "timing")
    forecast = PROPHET.predict(model, posts, Origins(times, positions), OPTIONS, "timing")
    return forecast.quantiles, forecast.point


def test_it_conforms() -> None:
    check_algorithm("prophet")


def test_the_forecast_is_the_first_arrival_and_knows_the_week() -> None:
    """At noon the next post is minutes away; on Friday evening it is the weekend away, not the busiest hour of 48."""
    posts = office_hours()
    quantiles, _ = forecast_at(posts, "2024-07-10T12:00", "2024-07-12T17:30", "2024-07-10T20:00")
    noon, friday, evening = quantiles[:, 49]
    assert noon < 1.5
    assert 40 < friday < 66
    assert 8 < evening < 15


def test_without_rhythm_it_is_the_usual_gap() -> None:
    posts = regular_posts(200, gap_hours=5)
    model = PROPHET.train(posts, OPTIONS, "timing")
    origins = Origins.before(posts, np.array([150, 199]))
    assert PROPHET.predict(model, posts, origins, OPTIONS, "timing").median == pytest.approx([5, 5], rel=0.25)


@pytest.mark.parametrize("gap_hours", [24 * 7, 24 * 60, 1 / 60])
def test_sparse_and_dense_streams_can_be_learnt(gap_hours: float) -> None:
    posts = regular_posts(60, gap_hours=gap_hours)
    model = PROPHET.train(posts, OPTIONS, "timing")
    forecast = PROPHET.predict(model, posts, Origins.before(posts, np.array([59])), OPTIONS, "timing")
    assert forecast.median[0] == pytest.approx(gap_hours, rel=0.5)


def test_a_year_of_silence_can_be_learnt_from() -> None:
    posts = regular_posts(100)
    posts.loc[50:, "created_at"] += pd.Timedelta(days=365)
    model = PROPHET.train(posts, OPTIONS, "timing")
    forecast = PROPHET.predict(model, posts, Origins.before(posts, np.array([50, 99])), OPTIONS, "timing")
    assert (forecast.median < 24).all()


def test_an_unknown_option_is_refused_with_a_near_match() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'timing_model.prophet.week'. Did you mean 'weeks'\?"):
        PROPHET.options({"week": 3}, "timing")


def test_a_wrong_option_says_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="timing_model.prophet.weeks: '1' is not allowed: it must be greater than"):
        PROPHET.options({"weeks": 1}, "timing")
