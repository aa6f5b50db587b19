"""The hooks of algorithms and observers.

An algorithm must implement `algorithm`, `train` and `predict`; the other hooks have defaults. A hook implementation may
omit arguments that it does not use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pluggy
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from optuna.trial import BaseTrial

    from retrainer.algorithms.budget import Budget
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Origins
    from retrainer.model_types.likelihood import Likelihoods

hookspec = pluggy.HookspecMarker("retrainer")
hookimpl = pluggy.HookimplMarker("retrainer")


class NoOptions(BaseModel):
    """The options of an algorithm that has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Algorithm:
    """What an algorithm says about itself, without importing anything slow.

    Attributes:
        name: the entry point's name: lower-case letters, digits, underscores.
        model_types: which of `timing` and `content` it forecasts.
        summary: one sentence for `retrainer plugins`.
        config: its options, a pydantic class with `extra="forbid"`.
        paid: whether forecasts cost money. Paid forecasts are never made just to check something.
        operational: the names of the options that say how forecasts are made, not what they are, such as limits and
            prices. A stored version takes these from today's settings and all others from its training.
        context_posts: on how many posts, the last ones up to its origin, a forecast of a model type depends besides the
            model. For a type that is missing they are all loaded, each time that a live post is scored.
        state_format: the number of the format of the states that `condense` returns; required with that hook. Raise it
            when forecasts with a state of an earlier release would fail or differ.
    """

    name: str
    model_types: tuple[ModelTypeName, ...]
    summary: str
    config: type[BaseModel] = NoOptions
    paid: bool = False
    operational: tuple[str, ...] = ()
    context_posts: Mapping[ModelTypeName, int] = field(default_factory=dict)
    state_format: int = 0


@dataclass(frozen=True)
class Importance:
    """The importance of one feature of a model.

    Attributes:
        label: the feature in a user's words, such as "hour of the week".
        value: how much it matters, or what was learned about it; finite.
        unit: the unit of the value, such as "bits a post" or "hours".
        note: a short remark, such as "busiest Tuesday 14:00, quietest Sunday 04:00".
    """

    label: str
    value: float
    unit: str
    note: str = ""


@dataclass(frozen=True)
class ContextPart:
    """A part of what an algorithm forecasts from, which `predict` can leave out.

    Attributes:
        name: its name in `without`: lower-case letters, digits and underscores.
        label: the part in a user's words, such as "the last posts".
    """

    name: str
    label: str


ALL_PARTS = ContextPart("all", "all of these")  # not the name of a part


@dataclass(frozen=True)
class CostEstimate:
    """An upper bound on the cost of some forecasts.

    Attributes:
        calls: requests to a service.
        input_tokens: tokens read.
        output_tokens: tokens written.
        cost_usd: US dollars.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0

    def __add__(self, other: CostEstimate) -> CostEstimate:
        return CostEstimate(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost_usd + other.cost_usd,
        )


# mypy: disable-error-code="empty-body"


class AlgorithmHooks:
    """The hooks of an algorithm."""

    @hookspec(firstresult=True)
    def algorithm(self) -> Algorithm:
        """Describe the algorithm. Called often, so it must be cheap."""

    @hookspec(firstresult=True)
    def members(self, config: BaseModel) -> Sequence[str]:
        """Return the names of the algorithms that this one calls. Optional.

        A replay reuses no results of an algorithm after one of them has changed.

        :param config: the options.
        """

    @hookspec(firstresult=True)
    def check_ready(self, config: BaseModel) -> None:
        """Raise MissingCredentials, or another RetrainerError, if no forecast could be made right now. Optional.

        Called before any work starts. Must not need the network.

        :param config: the options, an instance of the algorithm's `config` class.
        """

    @hookspec(firstresult=True)
    def train(self, posts: pd.DataFrame, config: BaseModel, model_type: ModelTypeName, previous: Any) -> Any:
        """Train a model and return it.

        :param posts: the training posts in order: `post_id` (str), `created_at` (datetime64, UTC), and for content
            `content` (str, never empty). Timing models get no `content` column.
        :param config: the options.
        :param model_type: `timing` or `content`, for an algorithm that supports both.
        :param previous: the production model to start from (warm start), as `load` returned it; do not change it. None
            unless it has the same algorithm and options, and was trained on none of the posts that are held out now.
        """

    @hookspec(firstresult=True)
    def predict(
        self,
        model: Any,
        posts: pd.DataFrame,
        origins: Origins,
        config: BaseModel,
        model_type: ModelTypeName,
        budget: Budget,
        without: frozenset[str],
        state: bytes | None,
    ) -> Any:
        """Return one forecast per origin, using no post later than that origin.

        Must be deterministic: seed all randomness, and change neither the model nor the options.

        :param model: what `load` returned.
        :param posts: all posts in order, as in `train`. The forecast from origin i may use
            `posts.iloc[: origins.position[i] + 1]` and nothing else.
        :param origins: n origins.
        :param config: the options that the model was trained with.
        :param budget: what the paid calls of this run have used so far, and a cache of their answers. All forecasts of
            a run share it.
        :param without: the names of the parts of the context to leave out; empty except in `retrainer explain`.
            Required together with `context_parts`.
        :param state: what `condense` returned for the posts up to the first one of `posts`, which are then the last
            posts only; no origin is before that post. None for all posts. Required together with `condense`.
        :return: `TimingForecasts` of n waits, or a list of n `ContentForecast`.
        """

    @hookspec(firstresult=True)
    def simulate(
        self,
        model: Any,
        posts: pd.DataFrame,
        origins: Origins,
        config: BaseModel,
        horizon_hours: float,
        max_posts: int,
        paths: int,
        seed: int,
        state: bytes | None,
    ) -> NDArray[np.float64]:
        """Return simulated futures of a stream: the times of its posts after one origin. Timing only, optional.

        The first post of the futures must follow the distribution that `predict` returns from the same origin. The
        same arguments must give the same futures.

        :param model: what `load` returned.
        :param posts: all posts in order. `posts.iloc[: origins.position[0] + 1]` may be used and nothing else.
        :param origins: one origin.
        :param config: the options that the model was trained with.
        :param horizon_hours: where the futures end, in hours from the origin.
        :param max_posts: the number of posts after which a future ends, if the horizon does not end it before.
        :param paths: the number of futures.
        :param seed: of the random numbers.
        :param state: as in `predict`. Required together with `condense`.
        :return: (paths, k) hours from the origin to the posts of each future, k ≤ `max_posts`: ascending along a row,
            `inf` where the future has no further post within the horizon.
        """

    @hookspec(firstresult=True)
    def condense(
        self, model: Any, posts: pd.DataFrame, config: BaseModel, model_type: ModelTypeName, state: bytes | None
    ) -> tuple[bytes, int] | None:
        """Condense posts to what forecasts after them need to know of them. Optional.

        With a state, `predict` and `simulate` return what they return with all posts, to the last digit. It is stored
        with the scores of live posts, so that their update does not read all posts of a long stream again. It should
        not grow with the number of posts.

        :param model: what `load` returned.
        :param posts: all posts in order; with a `state`, those from the last post that it knows on.
        :param config: the options that the model was trained with.
        :param state: an earlier state; None for none.
        :return: the state after the last post, and after how many more posts a new one should be made; None if nothing
            can be condensed.
        """

    @hookspec(firstresult=True)
    def estimate(
        self,
        model: Any,
        posts: pd.DataFrame,
        origins: Origins,
        config: BaseModel,
        model_type: ModelTypeName,
        without: frozenset[str],
    ) -> CostEstimate:
        """Return the most that `predict` with these arguments should cost, without the network. Optional."""

    @hookspec(firstresult=True)
    def likelihood(
        self, model: Any, posts: pd.DataFrame, origins: Origins, texts: Sequence[str], config: BaseModel
    ) -> Likelihoods:
        """Return how likely each text is as the next post after its origin, using no later post. Content, optional.

        The probabilities of all texts from one origin must sum to at most 1. Must be deterministic and free of charge.

        :param model: what `load` returned.
        :param posts: all posts in order. The likelihood of text i may use `posts.iloc[: origins.position[i] + 1]` and
            nothing else.
        :param origins: n origins, as in `predict`. Several texts may have the same origin; they are next to each other.
        :param texts: n texts, the actual posts of these or of later origins; never empty.
        :param config: the options that the model was trained with.
        :return: n log-likelihoods in nats, and the number of tokens of each text, which must not depend on the origin.
        """

    @hookspec(firstresult=True)
    def score(self, forecasts: Any, targets: Any, model_type: ModelTypeName) -> Mapping[str, float]:
        """Return additional metrics. They never replace the metrics of the model type. Optional.

        :param forecasts: the forecasts that can be scored.
        :param targets: `TimingTargets` or `ContentTargets`, of the same length.
        """

    @hookspec(firstresult=True)
    def explain(self, model: Any, config: BaseModel, model_type: ModelTypeName) -> Sequence[Importance]:
        """Return the model's feature importances, largest first, for `retrainer show`. Optional.

        Must be fast and deterministic: use what training has learned.

        :param model: what `load` returned.
        :param config: the options that the model was trained with.
        """

    @hookspec(firstresult=True)
    def context_parts(self, model: Any, config: BaseModel, model_type: ModelTypeName) -> Sequence[ContextPart]:
        """Return the parts of the context that `predict` can leave out, for `retrainer explain`. Optional.

        Only those that the forecasts of this model have: with no examples, say, there are none to leave out.

        :param model: what `load` returned.
        :param config: the options that the model was trained with.
        """

    @hookspec(firstresult=True)
    def search_space(
        self, trial: BaseTrial, config: BaseModel, model_type: ModelTypeName
    ) -> Mapping[str, Any] | BaseModel:
        """Return options to try, taken from an Optuna trial, for `retrainer tune`. Optional.

        Must depend on the arguments alone. The configured options should lie in the space: a parameter with the name of
        an option (`members.prophet.weeks` for a nested one) is then known to start from its configured value.

        :param trial: Optuna's trial: `trial.suggest_int("weeks", 4, 104, log=True)`. The study records each parameter
            with the algorithm's name in front.
        :param config: the configured options, which the search starts from.
        :param model_type: `timing` or `content`, for an algorithm that supports both.
        :return: the options that differ from the configured ones, as in config.yaml under the algorithm's name; or all
            options, as an instance of the `config` class. Empty if the algorithm has nothing to tune for this type.
        """

    @hookspec(firstresult=True)
    def save(self, model: Any, directory: Path) -> list[str]:
        """Write the model to the directory as plain data and return the names of the files written.

        Optional: by default a model made of dicts (with string keys), lists, strings and numbers is stored in
        `model.json`. Tuples come back as lists.
        """

    @hookspec(firstresult=True)
    def load(self, directory: Path) -> Any:
        """Read the model back. Must never run code from a file. Required together with `save`.

        :param directory: a private copy of the files, which is removed when this returns.
        """


class ObserverHooks:
    """The hooks of an observer."""

    @hookspec
    def on_event(self, event: Mapping[str, Any]) -> None:
        """Receive an event after it was committed, at most once. An exception is logged and changes nothing.

        :param event: `kind` (`run`, `promotion`, `rollback`, `ab_test`, `degraded`, `failure`, `stale_posts`, `fleet`,
            `end`), `stream`, `model_type`, `version_id`, `reason`.
            A `run` carries its document, as in `history --json`, under `run`. A `promotion` and a `rollback` carry the
            previous production version under `from_version_id`. An `ab_test` has ended: decided, or
            stopped by hand; a promotion is an event of its own. `degraded` comes once when live posts prove production
            worse and it could not be rolled back. A failed run is a `run`; `failure` is an error before
            the run was recorded, without a model type if it concerns all of them. `stale_posts` comes once when posts
            have stopped arriving. `fleet` follows the runs of several streams, with the number of `outcomes`, up to
            ten `errors` and `stale_streams`. `end` follows a run that hung and
            whose process exits immediately. Each observer gets its own copy.
        """


REQUIRED_HOOKS = ("algorithm", "train", "predict")
OPTIONAL_RESULTS = frozenset({"check_ready", "condense", "score"})  # the hooks that may return None
