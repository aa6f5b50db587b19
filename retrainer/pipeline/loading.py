"""Load what a run works with: the configured algorithm, the naive reference, and stored versions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from retrainer.algorithms.model import TrainedModel
from retrainer.errors import RetrainerError
from retrainer.evaluation.bootstrap import score_interval
from retrainer.model_types import get_model_type
from retrainer.registry.queries import require_not_pruned

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import BaseModel

    from retrainer.algorithms import Importance
    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.config import Settings
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Reliability, StoredForecasts
    from retrainer.project import Project
    from retrainer.registry.live_tables import ForecastState
    from retrainer.registry.refits import Refit
    from retrainer.registry.tables import ModelEvaluation, ModelVersion
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)

NAIVE_ALGORITHM = "baseline"


def load_version(project: Project, runtime: Runtime, version: ModelVersion) -> TrainedModel:
    """Load the evaluated fit of a version, by which it is scored and compared, after verifying its files.

    Raises:
        ArtifactError: a file is missing or was changed.
        UnknownName, AlgorithmError: its algorithm is not installed or is broken.
    """
    return _load(project, runtime, version, None)


def load_live_fit(project: Project, runtime: Runtime, version: ModelVersion) -> TrainedModel:
    """Load the live fit of a version, which forecasts what is to come; see `load_version`."""
    return _load(project, runtime, version, version.refit)


def _load(project: Project, runtime: Runtime, version: ModelVersion, refit: Refit | None) -> TrainedModel:
    model_type = version.model_type_name
    require_not_pruned(version, "Its scores and decisions remain (`retrainer show`), but the model was deleted")
    files = project.artifacts.read(version, refit)
    algorithm = runtime.algorithms(version.algorithm, model_type)
    options = version_options(project, version, algorithm)
    return TrainedModel(algorithm, options, algorithm.load(files), model_type, project.semantic_model(model_type))


def find_state(project: Project, version: ModelVersion, algorithm: LoadedAlgorithm) -> ForecastState | None:
    """Return what the posts so far mean for forecasts of the live fit, condensed with its live scores.

    None if nothing was condensed. Changes of a foreign posts table are not noted, so it has no states.
    """
    if not algorithm.can_condense or project.posts.is_foreign:
        return None
    return project.registry.get_forecast_state(version.fit, algorithm.description.state_format)


def load_configured_algorithm(
    settings: Settings, runtime: Runtime, model_type: ModelTypeName, name: str | None = None
) -> tuple[LoadedAlgorithm, BaseModel]:
    """Return the configured algorithm of a model type, or the one of this name, with its options.

    Raises:
        UnknownName, AlgorithmError: it is not installed or is broken.
        UsageError: it does not forecast this model type.
        ConfigError: an option is unknown or invalid.
    """
    model_settings = settings.model(model_type)
    algorithm = runtime.algorithms(model_settings.algorithm if name is None else name, model_type)
    return algorithm, algorithm.options(model_settings.options(algorithm.name), model_type)


def train_naive_model(runtime: Runtime, model_type: ModelTypeName, posts: pd.DataFrame) -> TrainedModel:
    """Return the naive reference, fitted to some posts."""
    algorithm = runtime.algorithms(NAIVE_ALGORITHM, model_type)
    options = algorithm.options({}, model_type)
    return TrainedModel(algorithm, options, algorithm.train(posts, options, model_type), model_type)


def version_options(project: Project, version: ModelVersion, algorithm: LoadedAlgorithm) -> BaseModel:
    """Return the options that a version was trained with; operational ones come from today's settings.

    Raises:
        ConfigError: the algorithm does not accept them, or no longer does.
    """
    model_type = version.model_type_name
    recorded = algorithm.recorded_options(version.hyperparameters, model_type)
    names = algorithm.description.operational
    if not names:
        return recorded
    current = algorithm.options(project.settings.model(model_type).options(algorithm.name), model_type)
    return recorded.model_copy(update={name: getattr(current, name) for name in names})


def is_paid(runtime: Runtime, version: ModelVersion) -> bool:
    """Whether the forecasts of a version cost money."""
    return runtime.algorithms(version.algorithm, version.model_type_name).description.paid


def feature_importance(project: Project, runtime: Runtime, version: ModelVersion) -> list[Importance] | None:
    """Return the feature importances of a version; empty if its algorithm does not provide them.

    If the version cannot be loaded any more, the reason is logged and None returned: its record can still be shown.
    """
    try:
        if "explain" not in runtime.algorithms(version.algorithm, version.model_type_name).hook_names:
            return []
        model = load_version(project, runtime, version)
        return model.algorithm.explain(model.model, model.options, model.model_type)
    except RetrainerError as error:
        log.warning("Cannot compute the feature importance of '%s': %s", version.version_id, error)
        return None


def load_reliability(project: Project, version: ModelVersion, evaluation: ModelEvaluation) -> list[Reliability] | None:
    """Compute the reliability of a recorded evaluation from its forecasts; None if these cannot be read for now."""
    if version.pruned_at is not None:
        return []
    stored = load_forecasts(project, version, evaluation)
    if stored is None:
        return None
    model_type = get_model_type(version.model_type_name)
    scored = model_type.scorable(stored.forecasts)
    return model_type.reliability(*model_type.select(stored.forecasts, stored.targets, scored))


def load_forecasts(
    project: Project, version: ModelVersion, evaluation: ModelEvaluation
) -> StoredForecasts[Any, Any] | None:
    """Return the forecasts of a recorded evaluation; None if they cannot be read for now, or were pruned."""
    if version.pruned_at is not None:
        return None
    try:
        data = project.artifacts.read_file(version, evaluation.forecasts_file)
        return get_model_type(version.model_type_name).parse(data)
    except RetrainerError as error:
        log.warning("Cannot read the forecasts of '%s': %s", evaluation.evaluation_id, error)
        return None


class ScoreIntervals(NamedTuple):
    """The 95% intervals of the scores of an evaluation.

    Attributes:
        version: of the version; None with fewer than two posts.
        naive: of the naive forecast on the same posts; None if its forecasts were not stored.
    """

    version: tuple[float, float] | None
    naive: tuple[float, float] | None


def load_score_intervals(project: Project, version: ModelVersion, evaluation: ModelEvaluation) -> ScoreIntervals | None:
    """Compute the intervals of a recorded evaluation from its forecasts; None if these cannot be read for now."""
    if version.pruned_at is not None:
        return ScoreIntervals(None, None)
    stored = load_forecasts(project, version, evaluation)
    if stored is None:
        return None
    model_type = get_model_type(version.model_type_name)
    scored = model_type.scorable(stored.forecasts)
    sides: list[tuple[float, float] | None] = []
    for forecasts in (stored.forecasts, stored.naive):
        if forecasts is None:
            sides.append(None)
            continue
        parts = model_type.score_components(*model_type.select(forecasts, stored.targets, scored))
        sides.append(score_interval(parts, model_type.overall_score))
    return ScoreIntervals(*sides)
