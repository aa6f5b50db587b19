"""`prophet` condenses the posts up to one to a state: forecasts with it are those from all posts, to the last digit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from retrainer.algorithms.manager import load_algorithm
from retrainer.model_types.base import Origins, utc_times
from retrainer.posts.sample import sample_posts
from retrainer_prophet import checkpoints, condensed
from retrainer_prophet.checkpoint_state import CACHE
from retrainer_prophet.condensed import Condensed
from retrainer_prophet.stream import FittedModel, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

PROPHET = load_algorithm("prophet")
OPTIONS = PROPHET.options({}, "timing")


@pytest.fixture(autouse=True)
def cold() -> Iterator[None]:
    """Begin and end with an empty cache."""
    CACHE.clear()
    yield
    CACHE.clear()


def origins_after(posts: pd.DataFrame, row: int) -> Origins:
    """Return origins right after a post and half an hour later."""
    time = utc_times(posts)[[row, row]] + np.array([0, 30], dtype="timedelta64[m]")
    return Origins(time, np.array([row, row]))


def forecast(model: Any, posts: pd.DataFrame, row: int, state: bytes | None = None, begins: int = 0) -> np.ndarray:
    """Return the quantiles and the points (2, 100) from the post in a row, with a state after the row `begins`."""
    known = posts.iloc[begins:].reset_index(drop=True)
    origins = Origins((all_origins := origins_after(posts, row)).time, all_origins.position - begins)
    CACHE.clear()
    found = PROPHET.predict(model, known, origins, OPTIONS, "timing", state=state)
    return np.column_stack([found.quantiles, found.point])


def condense(model: Any, posts: pd.DataFrame, row: int, state: bytes | None = None, begins: int = 0) -> bytes:
    """Return the state after the post in a row."""
    CACHE.clear()
    known = posts.iloc[begins : row + 1].reset_index(drop=True)
    found = PROPHET.condense(model, known, OPTIONS, "timing", state)
    assert found is not None
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize(("training", "count", "step"), [(300, 1500, 275), (8600, 9200, 230), (28_000, 28_850, 350)])
def test_forecasts_with_a_state_are_those_from_all_posts(training: int, count: int, step: int) -> None:
    """Over many checkpoints, each state condensed from the one before, and forecasts across the next checkpoint."""
    posts = sample_posts(count=count, seed=4)[["post_id", "created_at"]]
    model = PROPHET.train(posts.iloc[:training], OPTIONS, "timing")
    begins = training + 20
    state = condense(model, posts, begins)
    sizes = []
    for row in range(training + 90, count, step):
        expected = forecast(model, posts, row)
        assert (forecast(model, posts, row, state, begins) == expected).all(), row
        state, begins = condense(model, posts, row - 5, state, begins), row - 5
        assert (forecast(model, posts, row, state, begins) == expected).all(), row
        sizes.append(len(state))
    assert max(sizes) < 300_000


@pytest.mark.slow
def test_a_forecast_is_the_same_to_the_last_digit_whatever_others_are_made() -> None:
    """Long before, and long after, the gaps that the checkpoint in force has seen."""
    posts = sample_posts(count=28_850, seed=4)[["post_id", "created_at"]]
    model = PROPHET.train(posts.iloc[:28_000], OPTIONS, "timing")
    rows = np.array([28_010, 28_500, 28_540, 28_790])
    CACHE.clear()
    together = PROPHET.predict(model, posts, Origins(utc_times(posts)[rows], rows), OPTIONS, "timing")
    for index, row in enumerate(rows):
        alone = forecast(model, posts, int(row))[0]
        assert (np.append(together.quantiles[index], together.point[index]) == alone).all(), row


@pytest.mark.slow
def test_a_state_holds_long_after_its_last_post_where_checkpoints_are_far_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after 400,000 posts: the next checkpoint does not need the posts before the state."""
    monkeypatch.setattr(checkpoints, "_MIN_POSTS", 4000)
    monkeypatch.setattr(condensed, "MAX_GAPS", 0)
    posts = sample_posts(count=3600, seed=4)[["post_id", "created_at"]]
    model = PROPHET.train(posts.iloc[:2600], OPTIONS, "timing")
    begins = 2750
    state = condense(model, posts, begins)
    for row in (begins + 560, begins + 700):
        assert (forecast(model, posts, row, state, begins) == forecast(model, posts, row)).all(), row


@pytest.mark.slow
def test_simulations_with_a_state_are_those_from_all_posts() -> None:
    posts = sample_posts(count=1500, seed=4)[["post_id", "created_at"]]
    model = PROPHET.train(posts.iloc[:800], OPTIONS, "timing")
    state, begins = condense(model, posts, 1390), 1390
    futures = []
    for first, known in ((0, None), (begins, state)):
        CACHE.clear()
        origins = Origins(utc_times(posts)[[1499]] + np.timedelta64(30, "m"), np.array([1499 - first]))
        later = posts.iloc[first:].reset_index(drop=True)
        futures.append(
            PROPHET.simulate(
                model, later, origins, OPTIONS, horizon_hours=72.0, max_posts=50, paths=100, seed=1, state=known
            )
        )
    assert np.array_equal(futures[0], futures[1])


def test_a_state_knows_the_busiest_day_however_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """By which simulated futures are limited."""
    monkeypatch.setattr(condensed, "MAX_GAPS", 0)
    hours = np.cumsum(np.concatenate([np.full(60, 0.1), np.full(3100, 25.0)]))
    times = np.datetime64("2020-01-06", "us") + (hours * 3.6e9).astype("timedelta64[us]")
    posts = pd.DataFrame(
        {"post_id": [f"{row:04d}" for row in range(len(times))], "created_at": pd.DatetimeIndex(times, tz="UTC")}
    )
    model = PROPHET.train(posts.iloc[:3000], OPTIONS, "timing")
    state = condense(model, posts, 3090, condense(model, posts, 3050), 3050)
    read = Condensed.from_bytes(state, FittedModel.from_dict(model))
    assert len(read.hours) < 3000
    assert Stream(FittedModel.from_dict(model), read.hours, condensed=read).most_in_a_day == 60
