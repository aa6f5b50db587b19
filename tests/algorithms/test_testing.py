"""The conformance suite accepts correct algorithms and detects incorrect ones."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, model_serializer

from retrainer.algorithms import Algorithm, Importance, hookimpl
from retrainer.algorithms.manager import LoadedAlgorithm
from retrainer.algorithms.testing import (
    ConformanceError,
    check_algorithm,
    check_conditioning,
)
from retrainer.model_types.base import Origins, hours_between, utc_times
from retrainer.model_types.content import ContentForecast
from retrainer.model_types.likelihood import Likelihoods
from retrainer.model_types.timing import LEVELS, TimingForecasts
from retrainer.pipeline.split import load_posts
from tests.conftest import NOW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pandas as pd
    from optuna.trial import BaseTrial

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project


def loaded(
    predict: Callable[..., Any],
    train: Callable[..., Any] | None = None,
    model_type: ModelTypeName = "timing",
    context_posts: Mapping[ModelTypeName, int] = {},
) -> SimpleNamespace:
    """Return an algorithm with these two functions."""

    @hookimpl
    def algorithm() -> Algorithm:
        return Algorithm(
            name="mine", model_types=(model_type,), summary="Made for a test.", context_posts=context_posts
        )

    def train_default(posts: pd.DataFrame) -> dict[str, int]:
        return {"count": len(posts)}

    return SimpleNamespace(algorithm=algorithm, train=hookimpl(train or train_default), predict=hookimpl(predict))


def constant(waits: np.ndarray) -> TimingForecasts:
    return TimingForecasts(np.repeat(waits[:, None], 99, axis=1), waits)


def last_gap(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    times = utc_times(posts)
    return constant(hours_between(times[origins.position - 1], times[origins.position]))


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


def explaining(answer: Callable[[], Any]) -> object:
    return SimpleNamespace(
        algorithm=hookimpl(lambda: Algorithm(name="mine", model_types=("timing",), summary="Made for a test.")),
        train=hookimpl(lambda posts: {"count": len(posts)}),
        predict=hookimpl(last_gap),
        explain=hookimpl(answer),
    )


def test_what_a_model_leans_on_must_be_told_the_same_twice() -> None:
    check_algorithm(explaining(lambda: [Importance("the last gap", 1.0, "hours", "nothing else")]))
    counter = itertools.count()
    with pytest.raises(ConformanceError, match="explain returned"):
        check_algorithm(explaining(lambda: [Importance("the last gap", float(next(counter)), "hours")]))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"gap": 1.0}, "a dict instead of a list of Importance"),
        ([("gap", 1.0)], "a tuple instead of an Importance"),
        ([Importance("gap", float("nan"), "hours")], "nan for .* instead of a finite number"),
        ([Importance(" ", 1.0, "hours")], "an importance without a label"),
    ],
)
def test_a_wrong_explanation_names_plugin_and_hook(answer: Any, problem: str) -> None:
    with pytest.raises(ConformanceError, match=f"the plugin 'mine': its hook explain returned {problem}|{problem}"):
        check_algorithm(explaining(lambda: answer))


def spread(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    """The next wait is anything up to the last gap."""
    times = utc_times(posts)
    return TimingForecasts.from_quantiles(
        LEVELS * hours_between(times[origins.position - 1], times[origins.position])[:, None]
    )


def futures(posts: pd.DataFrame, origins: Origins, paths: int, max_posts: int, seed: int) -> np.ndarray:
    first = np.random.default_rng(seed).random((paths, 1)) * spread(posts, origins).quantiles[:, -1] / 0.99
    return first + np.arange(max_posts)


def by_chance_after(posts: pd.DataFrame, origins: Origins, paths: int, max_posts: int) -> np.ndarray:
    return futures(posts, origins, paths, max_posts, int(np.random.default_rng().integers(1_000_000)))


def of_another_wait(posts: pd.DataFrame, origins: Origins, paths: int, max_posts: int, seed: int) -> np.ndarray:
    return futures(posts, origins, paths, max_posts, seed) / 2


def of_later_posts(posts: pd.DataFrame, origins: Origins, paths: int, max_posts: int, seed: int) -> np.ndarray:
    hours = futures(posts, origins, paths, max_posts, seed)
    hours[:, 1:] += hours_between(origins.time, utc_times(posts)[-1:])
    return hours


@pytest.mark.parametrize(
    ("simulate", "problem"),
    [
        (by_chance_after, "simulate returns other futures when it is called again"),
        (of_another_wait, r"the first wait of the simulated futures at .* differs from the forecast by 0\.[0-9]{3}"),
        (of_later_posts, "looks into the future: the simulation at .* changes with later posts"),
    ],
)
def test_a_simulation_that_is_wrong_is_detected(simulate: Callable[..., Any], problem: str) -> None:
    algorithm = loaded(spread)
    algorithm.simulate = hookimpl(futures)
    check_algorithm(algorithm)
    algorithm.simulate = hookimpl(simulate)
    with pytest.raises(ConformanceError, match=problem):
        check_algorithm(algorithm)


def previous_post(posts: pd.DataFrame, origins: Origins) -> list[ContentForecast]:
    return [ContentForecast(str(posts["content"].iloc[position])) for position in origins.position]


def letters(posts: pd.DataFrame, origins: Origins, texts: list[str]) -> Likelihoods:
    """Return the likelihoods of texts as letters: each has half of its probability from the post before."""
    nats = []
    for position, text in zip(origins.position, texts, strict=True):
        known = str(posts["content"].iloc[position]) + "\0"
        nats.append(sum(np.log(known.count(letter) / len(known) / 2 + 1 / 3e6) for letter in [*text, "\0"]))
    return Likelihoods(np.array(nats), np.array([len(text) + 1 for text in texts]))


def by_chance_of_texts(posts: pd.DataFrame, origins: Origins, texts: list[str]) -> Likelihoods:
    honest = letters(posts, origins, texts)
    return Likelihoods(honest.nats * np.random.default_rng().uniform(1, 2), honest.tokens)


def of_the_post_itself(posts: pd.DataFrame, origins: Origins, texts: list[str]) -> Likelihoods:
    return letters(posts, Origins(origins.time, np.minimum(origins.position + 1, len(posts) - 1)), texts)


def of_all_texts_together(posts: pd.DataFrame, origins: Origins, texts: list[str]) -> Likelihoods:
    return Likelihoods(letters(posts, origins, texts).nats / len(texts), np.full(len(texts), 3))


def tokens_of_the_last_post(posts: pd.DataFrame, origins: Origins, texts: list[str]) -> Likelihoods:
    return Likelihoods(letters(posts, origins, texts).nats, np.maximum(1, origins.position))


def of_likeness(posts: pd.DataFrame, origins: Origins, texts: list[str]) -> Likelihoods:
    """Return what looks like a log-likelihood and is none: it does not sum to 1."""
    honest = letters(posts, origins, texts)
    return Likelihoods(honest.nats / 100, honest.tokens)


@pytest.mark.parametrize(
    ("likelihood", "problem"),
    [
        (by_chance_of_texts, "its likelihood is not deterministic"),
        (of_the_post_itself, "the likelihood at .* changes with later posts"),
        (of_all_texts_together, "the likelihood at .* changes when it is asked for alone"),
        (tokens_of_the_last_post, "the number of tokens of a text depends on the origin"),
        (of_likeness, "the probabilities of 38 different texts at .* sum to [0-9.]+"),
    ],
)
def test_a_likelihood_that_is_wrong_is_detected(likelihood: Callable[..., Any], problem: str) -> None:
    algorithm = loaded(previous_post, model_type="content")
    algorithm.likelihood = hookimpl(likelihood)
    with pytest.raises(ConformanceError, match=problem):
        check_algorithm(algorithm)


def test_a_likelihood_of_letters_passes() -> None:
    algorithm = loaded(previous_post, model_type="content")
    algorithm.likelihood = hookimpl(letters)
    check_algorithm(algorithm)


def with_space(search_space: Callable[..., Any], config: type[BaseModel]) -> SimpleNamespace:
    """Return an algorithm with a search space."""
    plugin = loaded(last_gap)
    description = Algorithm("mine", ("timing",), "Made for a test.", config)
    return SimpleNamespace(
        algorithm=hookimpl(lambda: description),
        train=plugin.train,
        predict=plugin.predict,
        search_space=hookimpl(search_space),
    )


class Windowed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    window: int = 20
    sides: dict[str, int] = {"left": 3}


def test_a_search_space_around_the_defaults_passes() -> None:
    def search_space(trial: BaseTrial) -> dict[str, Any]:
        # The name of a parameter of a nested option is its path.
        left = trial.suggest_int("sides.left", 1, 5)
        return {"window": trial.suggest_int("window", 10, 100, log=True), "sides": {"left": left}}

    check_algorithm(with_space(search_space, Windowed))


def test_a_search_space_may_return_the_options_themselves() -> None:
    def search_space(trial: BaseTrial, config: Windowed) -> Windowed:
        return config.model_copy(update={"window": trial.suggest_categorical("window", [10, 20, 50])})

    check_algorithm(with_space(search_space, Windowed))


class WrongSpace(NamedTuple):
    """A search space that the suite must refuse.

    Attributes:
        space: the hook.
        problem: what it says.
    """

    space: Callable[[BaseTrial], Any]
    problem: str


calls = itertools.count()
WRONG_SPACES = {
    "without the defaults": WrongSpace(
        lambda trial: {"window": trial.suggest_int("window", 30, 100)},
        "default options lie outside of its search space: the parameter 'window'",
    ),
    "with names of its own": WrongSpace(
        lambda trial: {"window": trial.suggest_int("size", 10, 100)},
        "default options lie outside of its search space: the parameter 'size'",
    ),
    "shifted": WrongSpace(
        lambda trial: {"window": trial.suggest_int("window", 10, 100) + 1}, "the default values of its search space"
    ),
    "with options there are not": WrongSpace(
        lambda trial: {"windw": trial.suggest_int("window", 10, 100)}, "returned invalid options: unknown key"
    ),
    "with invalid values": WrongSpace(
        lambda trial: {"window": window if (window := trial.suggest_int("window", 20, 90)) < 60 else "much"},
        "returned invalid options",
    ),
    "that is no mapping": WrongSpace(lambda _: ["window", 20], "returned a list instead of a mapping of options"),
    "that returns nothing": WrongSpace(lambda _: None, "its hook search_space returned None"),
    "that draws for itself": WrongSpace(
        lambda trial: {"window": max(20, trial.suggest_int("window", 20, 90) - next(calls) % 7)}, "and then"
    ),
}


@pytest.mark.parametrize("name", WRONG_SPACES)
def test_a_wrong_search_space_is_detected(name: str) -> None:
    space, problem = WRONG_SPACES[name]

    def search_space(trial: BaseTrial) -> Any:
        return space(trial)

    with pytest.raises(ConformanceError, match=problem):
        check_algorithm(with_space(search_space, Windowed))
