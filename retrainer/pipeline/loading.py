"""A version made ready to forecast: its algorithm loaded, its files checked, its model read."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrainer.algorithms.manager import LoadedAlgorithm, load_algorithm
from retrainer.errors import ArtifactError, RetrainerError
from retrainer.model_types import get_model_type

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import BaseModel

    from retrainer.algorithms import Importance
    from retrainer.config import Settings
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Origins, Reliability
    from retrainer.project import Project
    from retrainer.registry.tables import ModelEvaluation, ModelVersion

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedModel:
    """A trained model that can forecast, with the options it was trained with.

    Attributes:
        semantic_model: the folder or package of what its forecasts are measured in meaning by; None: they are not.
    """

    algorithm: LoadedAlgorithm
    options: BaseModel
    model: Any
    model_type: ModelTypeName
    semantic_model: str | None = None

    def predict(self, posts: pd.DataFrame, origins: Origins) -> Any:
        """Return one forecast an origin."""
        return self.algorithm.predict(self.model, posts, origins, self.options, self.model_type)

    def predict_anew(self, posts: pd.DataFrame, origins: Origins) -> Any:
        """Return one forecast an origin, made now even where an algorithm remembers what it answered before."""
        return self.algorithm.predict_anew(self.model, posts, origins, self.options, self.model_type)


def load_version(project: Project, version: ModelVersion) -> TrainedModel:
    """Load a version after checking its files against their hashes.

    Raises:
        ArtifactError: a file is missing or was changed.
        UnknownName, AlgorithmError: its algorithm is not installed, or is broken.
    """
    model_type = version.model_type_name
    if version.pruned_at is not None:
        raise ArtifactError(
            f"the files of '{version.version_id}' were pruned on {version.pruned_at:%Y-%m-%d %H:%M} UTC",
            hint="Its scores and decisions remain (`retrainer show`); the model itself is gone for good",
        )
    folder = project.artifacts.verify(version)
    algorithm = load_algorithm(version.algorithm, model_type)
    options = options_of(project, version, algorithm)
    return TrainedModel(algorithm, options, algorithm.load(folder), model_type, project.semantic_model(model_type))


def load_configured_algorithm(
    settings: Settings, model_type: ModelTypeName, name: str | None = None
) -> tuple[LoadedAlgorithm, BaseModel]:
    """Return the algorithm that the settings choose for a model type, or that of a name, with its options of today.

    Raises:
        UnknownName, AlgorithmError: it is not installed, or is broken.
        UsageError: it does not forecast this model type.
        ConfigError: an option is unknown or wrong.
    """
    of_type = settings.model(model_type)
    algorithm = load_algorithm(name or of_type.algorithm, model_type)
    return algorithm, algorithm.options(of_type.options(algorithm.name), model_type)


def options_of(project: Project, version: ModelVersion, algorithm: LoadedAlgorithm) -> BaseModel:
    """Return the options of a version: those it was trained with, and today's where they are operational.

    Raises:
        ConfigError: they are not, or no longer, the algorithm's.
    """
    model_type = version.model_type_name
    recorded = algorithm.recorded_options(version.hyperparameters, model_type)
    names = algorithm.description.operational
    if not names:
        return recorded
    today = algorithm.options(project.settings.model(model_type).options(algorithm.name), model_type)
    return recorded.model_copy(update={name: getattr(today, name) for name in names})


def is_paid(version: ModelVersion) -> bool:
    """Whether each forecast of a version has to be paid for."""
    return load_algorithm(version.algorithm, version.model_type_name).description.paid


def feature_importance(project: Project, version: ModelVersion) -> list[Importance]:
    """Return the feature importance of a version; empty if its algorithm does not provide any.

    A version that cannot be loaded is logged as a warning: its record can be read all the same.
    """
    try:
        if "explain" not in load_algorithm(version.algorithm, version.model_type_name).hook_names:
            return []
        ready = load_version(project, version)
        return ready.algorithm.explain(ready.model, ready.options, ready.model_type)
    except RetrainerError as error:
        log.warning("Cannot compute the feature importance of '%s': %s", version.version_id, error)
        return []


def load_reliability(project: Project, version: ModelVersion, evaluation: ModelEvaluation) -> list[Reliability]:
    """Compute the reliability of a recorded evaluation from its forecasts file; empty if the file is missing."""
    if version.pruned_at is not None:
        return []
    model_type = get_model_type(version.model_type_name)
    try:
        stored = model_type.parse(project.artifacts.read_forecasts(version, evaluation.forecasts_file))
    except RetrainerError as error:
        log.warning("Cannot compute the reliability of '%s': %s", evaluation.evaluation_id, error)
        return []
    scored = model_type.scored(stored.forecasts)
    return model_type.reliability(*model_type.select(stored.forecasts, stored.targets, scored))
