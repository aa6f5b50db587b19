"""The search spaces of the algorithms of a study: from a trial to options, and from options to a trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrainer.algorithms.manager import list_algorithms
from retrainer.algorithms.trial_views import ConfiguredTrial, OutsideOfSpace, PrefixedTrial
from retrainer.errors import AlgorithmError, UsageError
from retrainer.pipeline.loading import load_configured_algorithm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.trial import BaseTrial
    from pydantic import BaseModel

    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.config import Settings
    from retrainer.model_types import ModelTypeName
    from retrainer.runtime import Runtime

ALGORITHM = "algorithm"  # the parameter by which several algorithms compete


@dataclass(frozen=True)
class SearchSpace:
    """An algorithm of a study, with the options that its search starts from.

    Attributes:
        algorithm: the algorithm.
        options: its configured options.
        model_type: what it forecasts.
    """

    algorithm: LoadedAlgorithm
    options: BaseModel
    model_type: ModelTypeName

    @property
    def name(self) -> str:
        """The algorithm's name."""
        return self.algorithm.name

    def suggest(self, trial: BaseTrial) -> BaseModel:
        """Return the options that the plugin takes from a trial, whose parameters get the algorithm's name in front.

        Raises:
            AlgorithmError: the hook failed, or its options are invalid.
        """
        return self.algorithm.search_space(PrefixedTrial(trial, f"{self.name}."), self.options, self.model_type)

    def configured_params(self) -> dict[str, Any] | None:
        """Return the parameters that lead to the configured options; None if these are outside of the space."""
        trial = ConfiguredTrial(self.options)
        try:
            reached = self.algorithm.search_space(trial, self.options, self.model_type)
        except AlgorithmError as error:
            if isinstance(error.__cause__, OutsideOfSpace):
                return None
            raise
        if reached != self.options:
            return None
        return {f"{self.name}.{name}": value for name, value in trial.params.items()}


def load_spaces(
    settings: Settings, runtime: Runtime, model_type: ModelTypeName, names: Sequence[str]
) -> list[SearchSpace]:
    """Return the search spaces of algorithms, of the configured one first; without names, of that one alone.

    Raises:
        UnknownName, AlgorithmError, ConfigError: an algorithm is not installed, broken or not configured well.
        UsageError: an algorithm has no search space, or does not forecast this model type.
    """
    configured = settings.model(model_type).algorithm
    chosen = sorted(dict.fromkeys(names or [configured]), key=lambda name: name != configured)
    spaces = [
        SearchSpace(*load_configured_algorithm(settings, runtime, model_type, name), model_type) for name in chosen
    ]
    for space in spaces:
        if "search_space" not in space.algorithm.hook_names:
            able = [
                plugin.name
                for plugin in list_algorithms()
                if "search_space" in plugin.hooks
                and plugin.description is not None
                and model_type in plugin.description.model_types
            ]
            raise UsageError(
                f"the algorithm '{space.name}' has no search space",
                hint=f"These have one: {', '.join(able)}" if able else "Add the hook search_space to its plugin",
            )
        if space.configured_params() == {}:
            raise UsageError(f"the algorithm '{space.name}' has nothing to tune for {model_type}")
    return spaces


def suggest(spaces: Sequence[SearchSpace], trial: BaseTrial) -> tuple[SearchSpace, BaseModel]:
    """Return the algorithm of a trial and its options; with one algorithm, there is nothing to choose.

    Raises:
        AlgorithmError: the hook failed, or its options are invalid.
    """
    name = spaces[0].name
    if len(spaces) > 1:
        name = trial.suggest_categorical(ALGORITHM, [space.name for space in spaces])
    space = next(space for space in spaces if space.name == name)
    return space, space.suggest(trial)
