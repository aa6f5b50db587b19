"""Options that a study has found, for a run to train with in place of the configured ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from retrainer.pipeline.loading import load_configured_algorithm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.config import Settings
    from retrainer.model_types import ModelTypeName
    from retrainer.registry.promotions import Decision
    from retrainer.runtime import Runtime


@dataclass(frozen=True)
class TunedOptions:
    """The options of a study's best trial.

    Attributes:
        algorithm: the algorithm of the trial.
        options: all its options, as JSON.
        study: the name of the study.
        trials: the number of trials that it was chosen from.
    """

    algorithm: str
    options: Mapping[str, Any]
    study: str
    trials: int

    def describe(self) -> str:
        """Return how the options were found, for the reason of a decision."""
        return f"options tuned by {self.trials} trial{'' if self.trials == 1 else 's'} of study '{self.study}'"

    def explain(self, decision: Decision) -> Decision:
        """Return a decision whose reason says that the candidate was tuned, whatever was decided."""
        return replace(decision, reason=f"{decision.reason.rstrip('.')}; {self.describe()}")


def load_algorithm_of_run(
    settings: Settings,
    runtime: Runtime,
    model_type: ModelTypeName,
    name: str | None = None,
    tuned: TunedOptions | None = None,
) -> tuple[LoadedAlgorithm, BaseModel]:
    """Return the algorithm of a run with its options: the tuned ones, or else as `load_configured_algorithm` does.

    Raises:
        UnknownName, AlgorithmError: it is not installed or is broken.
        UsageError: it does not forecast this model type.
        ConfigError: an option is unknown or invalid.
    """
    if tuned is None:
        return load_configured_algorithm(settings, runtime, model_type, name)
    algorithm = runtime.algorithms(tuned.algorithm, model_type)
    return algorithm, algorithm.recorded_options(dict(tuned.options), model_type)
