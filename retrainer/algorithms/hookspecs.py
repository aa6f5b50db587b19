"""The hooks of an algorithm and of an observer.

Needed of an algorithm: `algorithm`, `train`, `predict`. The others have defaults. A hook may leave out arguments that
it does not use. `None` from a hook that must answer is an error that names the plugin and the hook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Origins

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
        paid: whether a forecast costs money, so that none is made only to check something.
        operational: the names of the options that say how forecasts are made, not what they are, such as limits and
            prices: a stored version takes them from today's settings, the others from its training.
    """

    name: str
    model_types: tuple[ModelTypeName, ...]
    summary: str
    config: type[BaseModel] = NoOptions
    paid: bool = False
    operational: tuple[str, ...] = ()


@dataclass(frozen=True)
class Importance:
    """One thing that a model's forecasts lean on.

    Attributes:
        label: what it is, in a user's words, such as "hour of the week".
        value: how much it matters, or what was learnt of it; finite.
        unit: of the value, such as "bits a post" or "hours".
        note: a short phrase beside it, such as "busiest Tuesday 14:00, quietest Sunday 04:00".
    """

    label: str
    value: float
    unit: str
    note: str = ""


@dataclass(frozen=True)
class CostEstimate:
    """The most that some forecasts should take.

    Attributes:
        calls: requests to a service.
        input_tokens, output_tokens: read and written.
        cost_usd: in US dollars.
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
        """Describe the algorithm; called often, so cheap."""

    @hookspec(firstresult=True)
    def check_ready(self, config: BaseModel) -> None:
        """Raise MissingCredentials, or another RetrainerError, if a forecast could not be made as things are now.

        Called before any work is done; needs no network. Optional.

        :param config: the options, an instance of the algorithm's `config` class.
        """

    @hookspec(firstresult=True)
    def train(self, posts: pd.DataFrame, config: BaseModel, model_type: ModelTypeName) -> Any:
        """Learn from the posts and return a model.

        :param posts: the training posts in order: `post_id` (str), `created_at` (datetime64, UTC), and for content
            `content` (str, never empty); for timing there is no such column.
        :param config: the options.
        :param model_type: `timing` or `content`, for an algorithm that serves both.
        """

    @hookspec(firstresult=True)
    def predict(
        self, model: Any, posts: pd.DataFrame, origins: Origins, config: BaseModel, model_type: ModelTypeName
    ) -> Any:
        """Return one forecast an origin, using no post later than the origin.

        The same question must get the same answer: seed what is random, and change neither model nor options.

        :param model: what `load` returned.
        :param posts: all posts in order, as in `train`; the forecast from origin i may use
            `posts.iloc[: origins.position[i] + 1]` and no more.
        :param origins: n origins.
        :param config: the options that the model was trained with.
        :return: `TimingForecasts` of n waits, or a list of n `ContentForecast`.
        """

    @hookspec(firstresult=True)
    def estimate(
        self, model: Any, posts: pd.DataFrame, origins: Origins, config: BaseModel, model_type: ModelTypeName
    ) -> CostEstimate:
        """Return the most that `predict` with these arguments should cost; no network. Optional, for paid forecasts."""

    @hookspec(firstresult=True)
    def score(self, forecasts: Any, targets: Any, model_type: ModelTypeName) -> Mapping[str, float]:
        """Return metrics of the plugin's own, beside those of the model type, which they cannot replace. Optional.

        :param forecasts: the forecasts that can be scored.
        :param targets: `TimingTargets` or `ContentTargets`, of the same length.
        """

    @hookspec(firstresult=True)
    def explain(self, model: Any, config: BaseModel, model_type: ModelTypeName) -> Sequence[Importance]:
        """Say what the model's forecasts lean on, the weightiest first, for `retrainer show`. Optional.

        Answers at once, from what was learnt in training, and always the same for one model.

        :param model: what `load` returned.
        :param config: the options that the model was trained with.
        """

    @hookspec(firstresult=True)
    def save(self, model: Any, directory: Path) -> list[str]:
        """Write the model into the directory as plain data and return the names of the files written.

        Optional: a model of dicts (with texts as keys), lists, strings, numbers is otherwise kept as `model.json`.
        Tuples come back from it as lists.
        """

    @hookspec(firstresult=True)
    def load(self, directory: Path) -> Any:
        """Read the model back; must never run code from a file. Goes with `save`."""


class ObserverHooks:
    """The hooks of an observer."""

    @hookspec
    def on_event(self, event: Mapping[str, Any]) -> None:
        """Hear of a completed or failed run, a promotion, a rollback, after it is committed; at most once.

        :param event: `kind` (`run`, `promotion`, `rollback`, `failure`, `end`), `model_type`, `version_id`, `reason`;
            for a `run` its document as in `history --json`, under `run`; for a `promotion` and a `rollback`
            `from_version_id`, what was live before. A run that failed is a `run`; `failure` is what failed before it
            was recorded, of no model type where it concerns all; `end` follows a run that hung, whose process ends at
            once. A failure here is a warning and changes nothing. Each observer gets a copy of its own.
        """


NEEDED_HOOKS = ("algorithm", "train", "predict")
