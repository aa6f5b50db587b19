"""The conformance suite accepts correct algorithms and detects incorrect ones."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, model_serializer

from retrainer.algorithms import Algorithm, hookimpl
from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
from retrainer.algorithms.testing import (
    ConformanceError,
    check_algorithm,
    check_conditioning,
)
from retrainer.model_types.base import Origins, hours_between, utc_times
from retrainer.model_types.content import ContentForecast
from retrainer.model_types.timing import TimingForecasts
from retrainer.pipeline.split import load_posts
from tests.algorithms.functions import constant, last_gap, loaded
from tests.conftest import NOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project


def test_an_honest_algorithm_of_two_functions_passes() -> None:
    check_algorithm(loaded(last_gap))


@pytest.mark.parametrize("model_type", ["timing", "content"])
def test_the_posts_have_the_columns_that_a_run_gives_them(model_type: ModelTypeName, project: Project) -> None:
    run = load_posts(project, model_type, NOW)
    seen = []

    def train(posts: pd.DataFrame) -> dict[str, int]:
        seen.append(posts)
        return {}

    def predict(posts: pd.DataFrame, origins: Origins) -> Any:
        seen.append(posts)
        return last_gap(posts, origins) if model_type == "timing" else [ContentForecast("text")] * len(origins)

    check_algorithm(loaded(predict, train, model_type))
    for posts in seen:
        assert list(posts.columns) == list(run.columns)
        assert (posts.dtypes == run.dtypes).all()


def by_chance(model: dict[str, int], posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    return constant(np.random.default_rng().uniform(1, 2, len(origins)))


def by_a_count(model: dict[str, int], posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    model["count"] += 1
    return constant(np.full(len(origins), float(model["count"])))


def by_chance_alone(model: dict[str, int], posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    return by_chance(model, posts, origins) if len(origins) == 1 else last_gap(posts, origins)


@pytest.mark.parametrize("predict", [by_chance, by_a_count, by_chance_alone])
def test_a_model_that_answers_the_same_question_in_two_ways_is_told_so(predict: Callable[..., Any]) -> None:
    with pytest.raises(ConformanceError, match="is not deterministic: seed all randomness"):
        check_algorithm(loaded(predict))


def test_a_model_may_change_the_posts_and_origins_that_it_is_given() -> None:
    def predict(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
        forecasts = last_gap(posts, origins)
        posts["created_at"] += np.timedelta64(1, "D")
        posts.iloc[:, 0] = "another"
        origins.time[:] += np.timedelta64(1, "D")
        return forecasts

    check_algorithm(loaded(predict))


def test_a_model_may_use_its_arrays_again_for_the_next_question() -> None:
    quantiles = np.empty((400, 99))

    def predict(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
        quantiles[: len(origins)] = last_gap(posts, origins).quantiles
        return TimingForecasts(quantiles[: len(origins)], quantiles[: len(origins), 0])

    check_algorithm(loaded(predict))


def test_a_model_that_reads_the_next_post_fails() -> None:
    def predict(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
        times = utc_times(posts)
        following = np.minimum(origins.position + 1, len(posts) - 1)
        return constant(hours_between(times[origins.position], times[following]))

    with pytest.raises(ConformanceError, match="looks into the future"):
        check_algorithm(loaded(predict))


def test_a_model_that_uses_an_average_over_all_posts_fails() -> None:
    def predict(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
        times = utc_times(posts)
        mean = float(hours_between(times[:1], times[-1:])[0]) / len(times)
        return constant(np.full(len(origins), mean))

    with pytest.raises(ConformanceError, match="looks into the future"):
        check_algorithm(loaded(predict))


def test_a_model_that_counts_the_posts_to_come_fails() -> None:
    def predict(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
        return constant(np.full(len(origins), float(len(posts))))

    with pytest.raises(ConformanceError, match="when later posts are removed"):
        check_algorithm(loaded(predict))


def test_a_model_that_depends_on_more_posts_than_it_says_fails() -> None:
    def predict(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
        return last_gap(posts, origins)

    check_algorithm(loaded(predict, context_posts={"timing": 2}))
    with pytest.raises(ConformanceError, match="depends on more than the last 1 posts"):
        check_algorithm(loaded(predict, context_posts={"timing": 1}))


def test_a_model_that_reads_other_posts_of_the_same_second_fails() -> None:
    def predict(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
        times = utc_times(posts)
        same = np.array([(times == times[position]).sum() for position in origins.position], dtype=float)
        return constant(same)

    with pytest.raises(ConformanceError, match="same second"):
        check_algorithm(loaded(predict))


def test_a_timing_model_is_not_told_when_the_post_comes() -> None:
    def predict(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
        assert origins.target_time is None
        return last_gap(posts, origins)

    check_algorithm(loaded(predict))


def test_a_model_cannot_alter_the_origins_that_others_are_judged_by() -> None:
    def predict(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
        forecasts = last_gap(posts, origins)
        origins.time[:] = np.datetime64("2030-01-01")
        origins.position[:] = 1
        return forecasts

    check_algorithm(loaded(predict))


def test_options_that_json_changes_are_found() -> None:
    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)
        when: datetime = datetime(2024, 1, 1, tzinfo=UTC)
        pair: tuple[int, ...] = (1, 2)

        @model_serializer
        def lossy(self) -> dict[str, object]:
            return {"pair": [1]}

    @hookimpl
    def algorithm() -> Algorithm:
        return Algorithm(name="mine", model_types=("timing",), summary="s", config=Options)

    def train(posts: pd.DataFrame) -> dict[str, int]:
        return {}

    plugin = SimpleNamespace(algorithm=algorithm, train=hookimpl(train), predict=hookimpl(last_gap))
    with pytest.raises(ConformanceError, match="change when they are recorded as JSON"):
        check_algorithm(plugin)


def test_a_content_model_that_reads_the_post_itself_fails() -> None:
    def predict(posts: pd.DataFrame, origins: Origins) -> list[ContentForecast]:
        rows = np.minimum(origins.position + 1, len(posts) - 1)
        return [ContentForecast(text) for text in posts["content"].iloc[rows]]

    with pytest.raises(ConformanceError, match="looks into the future"):
        check_algorithm(loaded(predict, model_type="content"))


def test_a_model_whose_forecasts_depend_on_their_order_fails() -> None:
    def predict(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
        # A single origin gets the forecast of the first of several, so only another order reveals it.
        waits = np.where(np.arange(len(origins)) < 1, 1.0, 1.0)
        backwards = len(origins) > 1 and origins.position[0] > origins.position[-1]
        return constant(waits + float(backwards))

    with pytest.raises(ConformanceError, match="depend on their order"):
        check_algorithm(loaded(predict))


def test_a_model_that_is_another_at_each_training_fails() -> None:
    counter = itertools.count(1)

    def train(posts: pd.DataFrame) -> dict[str, float]:
        return {"wait": float(next(counter))}

    def predict(model: dict[str, float], origins: Origins) -> TimingForecasts:
        return constant(np.full(len(origins), model["wait"]))

    with pytest.raises(ConformanceError, match="two different models"):
        check_algorithm(loaded(predict, train))


def test_training_that_changes_the_model_it_starts_from_fails() -> None:
    def train(posts: pd.DataFrame, previous: dict[str, float] | None) -> dict[str, float]:
        if previous is not None:
            previous["hours"] += 1
        return {"hours": 5.0}

    def predict(model: dict[str, float], origins: Origins) -> TimingForecasts:
        return constant(np.full(len(origins), model["hours"]))

    with pytest.raises(ConformanceError, match="training changes the model that it starts from"):
        check_algorithm(loaded(predict, train))


def test_a_model_that_json_cannot_hold_fails() -> None:
    def train(posts: pd.DataFrame) -> Any:
        return {"array": np.zeros(3)}

    with pytest.raises(ConformanceError, match="JSON cannot hold"):
        check_algorithm(loaded(last_gap, train))


class Point(NamedTuple):
    x: float


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ({"by hour": [{"a": 1}, {1: 2}]}, r"the key 1 of model\['by hour'\]\[1\] comes back as a string"),
        ({None: 2}, "the key None of model comes back as a string"),
        ({"at": Point(1.5)}, r"model\['at'\], a Point, comes back as a list. Return plain data, or add save and load"),
    ],
)
def test_a_model_that_json_would_change_fails_when_it_is_trained(model: Any, problem: str) -> None:
    with pytest.raises(ConformanceError, match="its hook train returned a model that JSON would change: " + problem):
        check_algorithm(loaded(last_gap, lambda: model))


def test_plain_data_comes_back_from_json_with_lists_for_tuples(tmp_path: Path) -> None:
    algorithm = LoadedAlgorithm.from_plugin(loaded(last_gap), "mine")
    assert algorithm.save({"pair": (1, 2.5), "none": None, "deep": [{"é": True}]}, tmp_path) == ["model.json"]
    stored = {"model.json": (tmp_path / "model.json").read_bytes()}
    assert algorithm.load(stored) == {"pair": [1, 2.5], "none": None, "deep": [{"é": True}]}


def test_a_model_that_gives_up_after_a_long_silence_fails() -> None:
    def predict(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
        silence = hours_between(utc_times(posts)[origins.position], origins.time)
        return constant(np.where(silence > 24 * 100, np.nan, 1.0))

    with pytest.raises(ConformanceError, match="long_silences_are_handled.*finite"):
        check_algorithm(loaded(predict))


def test_a_model_that_needs_many_posts_fails() -> None:
    def train(posts: pd.DataFrame) -> dict[str, int]:
        if len(posts) < 100:
            raise ValueError("too few for me")
        return {}

    with pytest.raises(ConformanceError, match="few_posts_are_enough.*too few for me"):
        check_algorithm(loaded(last_gap, train))


def test_a_model_that_looks_ahead_only_between_posts_fails() -> None:
    """Correct right after a post, but in the middle of a gap it uses the next post."""

    def predict(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
        times = utc_times(posts)
        following = np.minimum(origins.position + 1, len(times) - 1)
        wait = np.maximum(hours_between(origins.time, times[following]), 0)
        silence = hours_between(times[origins.position], origins.time)
        return constant(np.where(silence > 0, wait, last_gap(posts, origins).point))

    with pytest.raises(ConformanceError, match="looks into the future"):
        check_algorithm(loaded(predict))


def test_a_model_that_depends_on_the_date_fails_the_shift_by_four_weeks() -> None:
    def predict(origins: Origins) -> TimingForecasts:
        return constant((origins.time - np.datetime64("2024-01-01")) / np.timedelta64(100, "D") % 7 + 1)

    with pytest.raises(ConformanceError, match="the same posts four weeks later give different forecasts"):
        check_algorithm(loaded(predict))


def exponential(hours: float, posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    """Exponential waits: memoryless, so they are the same after any silence."""
    del posts
    quantiles = np.tile(-np.log(1 - np.arange(1, 100) / 100) * hours, (len(origins), 1))
    return TimingForecasts.from_quantiles(quantiles)


def test_a_distribution_without_memory_is_conditioned_on_any_silence() -> None:
    found = check_conditioning(loaded(lambda posts, origins: exponential(20.0, posts, origins)))
    assert found < 0.02


def test_a_forecast_that_starts_anew_after_a_silence_is_not_conditioned() -> None:
    """Waits between 10 and 20 hours; after a silence of 12 hours at most 8 remain, which this ignores."""

    def predict(origins: Origins) -> TimingForecasts:
        return TimingForecasts.from_quantiles(np.tile(np.linspace(10, 20, 99), (len(origins), 1)))

    check_algorithm(loaded(predict))
    with pytest.raises(ConformanceError, match="is not conditioned on the silence"):
        check_conditioning(loaded(predict))


def test_baseline_conditions_on_the_silence() -> None:
    check_conditioning("baseline")
