"""`prophet` refits its hazard at checkpoints: the fit knows only earlier posts, and the cache changes no forecast."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from retrainer.algorithms.manager import load_algorithm
from retrainer.model_types.base import Origins, utc_times
from retrainer.posts.sample import sample_posts
from retrainer_prophet import stream
from retrainer_prophet.checkpoint_state import CACHE, CheckpointState, StateCache, state_at
from retrainer_prophet.checkpoints import checkpoint_after
from retrainer_prophet.expected_events import NUM_BINS
from retrainer_prophet.features import HALF_LIVES, NUM_FEATURES
from retrainer_prophet.one_thread import ONE_THREAD, _controller
from retrainer_prophet.seasonality import hours_since_monday
from retrainer_prophet.stream import FittedModel, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

PROPHET = load_algorithm("prophet")
OPTIONS = PROPHET.options({}, "timing")
TRAINING = 400
ROWS = np.array([390, 450, 520, 599, 640])  # in training, before the first checkpoint, after it, after the second


def stream_of(seed: int) -> pd.DataFrame:
    """Return posts that cluster, more often in the second half."""
    rng = np.random.default_rng(seed)
    gaps = rng.gamma(0.5, np.where(np.arange(700) < TRAINING, 8, 3))
    times = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.cumsum(gaps), unit="h")
    return pd.DataFrame(
        {"post_id": [f"{row:05d}" for row in range(700)], "created_at": pd.DatetimeIndex(times).as_unit("us")}
    )


@pytest.fixture(scope="module")
def streams() -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    """Two streams, each with a model."""
    found = []
    for seed in (1, 2):
        posts = stream_of(seed)
        found.append((posts, PROPHET.train(posts.iloc[:TRAINING], OPTIONS, "timing")))
    return found


@pytest.fixture(autouse=True)
def cold() -> Iterator[None]:
    """Begin and end with an empty cache."""
    CACHE.clear()
    yield
    CACHE.clear()


def forecast(model: dict[str, Any], posts: pd.DataFrame, rows: np.ndarray = ROWS, later: int = 0) -> np.ndarray:
    """Return the quantiles and the points (n, 100) before these rows, some minutes after the last post."""
    origins = Origins.before(posts, rows)
    origins = Origins(origins.time + np.timedelta64(later, "m"), origins.position)
    forecasts = PROPHET.predict(model, posts, origins, OPTIONS, "timing")
    return np.column_stack([forecasts.quantiles, forecasts.point])


def stream_until(model: dict[str, Any], posts: pd.DataFrame) -> Stream:
    return Stream(FittedModel.from_dict(model), hours_since_monday(utc_times(posts)))


def test_a_version_of_format_4_keeps_its_features_and_the_factors_of_deep_silences(
    streams: list[tuple[pd.DataFrame, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    posts, model = streams[0]
    pace = len(HALF_LIVES)
    hazard = {
        name: values[:-pace] if name in {"slopes", "lowest", "highest"} else values
        for name, values in model["hazard"].items()
    }
    without_pace, old = model | {"hazard": hazard}, model | {"hazard": hazard, "format": 4}
    assert len(stream_until(old, posts).hazard(200).coefficients) == NUM_FEATURES - pace
    forecasts = forecast(old, posts, later=24 * 60)
    assert (forecast(without_pace, posts, later=24 * 60) != forecasts).any()
    CACHE.clear()
    monkeypatch.setattr(stream, "NUM_CORRECTED", NUM_BINS)
    assert np.array_equal(forecast(without_pace, posts, later=24 * 60), forecasts)


def test_a_checkpoint_follows_after_100_posts_or_2_percent() -> None:
    assert [checkpoint_after(0, 400), checkpoint_after(100, 400), checkpoint_after(0, 20_000)] == [100, 200, 400]


@pytest.mark.slow
def test_the_fit_at_a_checkpoint_knows_no_later_post(streams: list[tuple[pd.DataFrame, dict[str, Any]]]) -> None:
    """Not those between it and the origin either, but all before it."""
    posts, model = streams[0]

    def fit(changed: pd.DataFrame) -> CheckpointState:
        return state_at(stream_until(model, changed), 200)

    checkpoint = TRAINING - 1 + 200
    before = fit(posts)
    later, earlier = posts.copy(), posts.copy()
    later.loc[checkpoint + 1 :, "created_at"] += pd.Timedelta(days=3)
    earlier.loc[earlier.index == checkpoint, "created_at"] -= pd.Timedelta(minutes=1)
    CACHE.clear()
    same, changed = fit(later), fit(earlier)
    assert (same.hazard.coefficients == before.hazard.coefficients).all()
    assert (same.known.pit == before.known.pit).all()
    assert same.rules == before.rules
    assert (changed.hazard.coefficients != before.hazard.coefficients).any()
    assert stream_until(model, later).key(200) == stream_until(model, posts).key(200)
    assert stream_until(model, earlier).key(200) != stream_until(model, posts).key(200)


def test_a_forecast_does_not_depend_on_the_others_of_its_call(
    streams: list[tuple[pd.DataFrame, dict[str, Any]]],
) -> None:
    posts, model = streams[0]
    together = forecast(model, posts)
    for index in range(len(ROWS)):
        CACHE.clear()
        assert forecast(model, posts, ROWS[[index]]) == pytest.approx(together[[index]], rel=1e-9)


@pytest.mark.slow
def test_far_beyond_a_checkpoint_a_forecast_does_not_depend_on_the_others_either() -> None:
    """A stream of 100,000 posts has 2,000 between checkpoints; the last 550 gaps are enough."""
    posts = sample_posts(count=1200, seed=3)[["post_id", "created_at"]]
    model = {**PROPHET.train(posts.iloc[:300], OPTIONS, "timing"), "training_gaps": 100_000}
    together = forecast(model, posts, np.array([320, 1199]), later=30)
    assert forecast(model, posts, np.array([1199]), later=30) == pytest.approx(together[[1]], rel=1e-9)


@pytest.mark.slow
def test_posts_that_are_weeks_later_are_forecast_the_same(
    streams: list[tuple[pd.DataFrame, dict[str, Any]]],
) -> None:
    posts, model = streams[0]
    shifted = posts.assign(created_at=posts["created_at"] + pd.Timedelta(weeks=9))
    model_of_shifted = PROPHET.train(shifted.iloc[:TRAINING], OPTIONS, "timing")
    for minutes in (0, 90):
        expected = forecast(model, posts, later=minutes)
        assert forecast(model_of_shifted, shifted, later=minutes) == pytest.approx(expected, rel=1e-4)


def test_the_cache_changes_no_forecast(streams: list[tuple[pd.DataFrame, dict[str, Any]]]) -> None:
    """Cold and warm, with models and streams in turn, and each model on the posts of the other."""
    pairs = [(model, posts) for _, model in streams for posts, _ in streams]
    expected = []
    for model, posts in pairs:
        CACHE.clear()
        expected.append({row: forecast(model, posts, np.array([row])) for row in (450, 520, 640)})
    CACHE.clear()
    for row in (640, 450, 520, 640):
        for (model, posts), before in zip(pairs, expected, strict=True):
            assert (forecast(model, posts, np.array([row])) == before[row]).all()


def test_an_equal_model_that_was_loaded_again_uses_the_same_state(
    streams: list[tuple[pd.DataFrame, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    posts, model = streams[0]
    once, again = (json.loads(json.dumps(model)) for _ in range(2))
    expected = forecast(once, posts, ROWS[-1:])
    stored = len(CACHE)
    monkeypatch.delattr("retrainer_prophet.stream.fit_hazard")  # so that a fit would fail
    assert (forecast(again, posts, ROWS[-1:]) == expected).all()
    forecast(again, posts, ROWS[-1:] + 30)
    assert len(CACHE) == stored == 1


@pytest.mark.slow
def test_threads_make_the_same_forecasts(streams: list[tuple[pd.DataFrame, dict[str, Any]]]) -> None:
    rows = np.array([520])
    expected = [forecast(model, posts, rows) for posts, model in streams]
    CACHE.clear()
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda index: forecast(streams[index % 2][1], streams[index % 2][0], rows), range(6)))
    for index, forecasts in enumerate(found):
        assert (forecasts == expected[index % 2]).all()


def test_linear_algebra_stays_in_one_thread_until_the_last_of_overlapping_forecasts_ends() -> None:
    before = blas_threads()
    with ThreadPoolExecutor(1) as another_thread, ExitStack() as here:
        another_thread.submit(ONE_THREAD.__enter__).result()
        here.enter_context(ONE_THREAD)
        another_thread.submit(ONE_THREAD.__exit__).result()
        assert set(blas_threads()) == {1}
        here.close()
        assert blas_threads() == before, "although the thread of the first one lives"


def blas_threads() -> list[int]:
    """Return in how many threads each library of linear algebra computes, of those loaded when prophet first did."""
    return [library["num_threads"] for library in _controller().info() if library["user_api"] == "blas"]


def test_a_full_cache_drops_the_state_that_was_not_used_for_longest(
    streams: list[tuple[pd.DataFrame, dict[str, Any]]],
) -> None:
    state = state_at(stream_until(streams[0][1], streams[0][0]), 0)
    cache = StateCache(max_states=2)
    for key in (b"1", b"2"):
        cache.put(key, state)
    assert cache.get(b"1") is state
    cache.put(b"3", state)
    assert cache.get(b"2") is None
    assert len(cache) == 2
