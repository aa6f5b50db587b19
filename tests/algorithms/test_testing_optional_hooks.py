"""The conformance suite detects incorrect hooks that an algorithm need not have."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from retrainer.algorithms import Algorithm, Importance, hookimpl
from retrainer.algorithms.testing import (
    ConformanceError,
    check_algorithm,
)
from retrainer.model_types.base import Origins, hours_between, utc_times
from retrainer.model_types.content import ContentForecast
from retrainer.model_types.likelihood import Likelihoods
from retrainer.model_types.timing import LEVELS, TimingForecasts
from tests.algorithms.functions import last_gap, loaded

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from optuna.trial import BaseTrial


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
