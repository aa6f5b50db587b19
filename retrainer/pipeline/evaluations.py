"""Step 4: evaluate a version on held-out posts, and record the evaluation."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from retrainer.errors import InsufficientData, UsageError
from retrainer.evaluation.evaluate import evaluate
from retrainer.evaluation.windows import held_out_window
from retrainer.model_types import get_model_type
from retrainer.pipeline.loading import load_version, train_naive_model
from retrainer.pipeline.split import load_posts
from retrainer.posts.validation import number
from retrainer.registry.tables import ModelEvaluation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import pandas as pd

    from retrainer.algorithms.budget import Budget
    from retrainer.algorithms.model import TrainedModel
    from retrainer.evaluation.evaluate import Evaluation
    from retrainer.evaluation.windows import Window
    from retrainer.model_types import ModelTypeName, OriginRule
    from retrainer.model_types.base import ModelType
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)


def evaluate_version(
    project: Project, runtime: Runtime, version_id: str, now: datetime, origin: OriginRule | None = None
) -> Evaluation:
    """Evaluate a registered version on the posts later than its training, and record the evaluation.

    Args:
        origin: where to forecast from; None for the configured rule.

    Raises:
        UnknownName: there is no such version.
        UsageError: the origin rule does not apply to its model type.
        InsufficientData: no post is later than its training.
        ArtifactError, AlgorithmError: it cannot be loaded or cannot forecast.
    """
    project.artifacts.require_own_folder()
    version = project.registry.get_version(version_id)
    rule = resolve_origin_rule(project, version.model_type_name, origin)
    model = load_version(project, runtime, version)
    model.algorithm.check_ready(model.options)
    posts = load_posts(project, model.model_type, now)
    max_predictions = project.settings.retraining.max_predictions(model.model_type)
    with runtime.open_budget() as budget:
        window = require_held_out_window(project, posts, version, max_predictions, rule)
        evaluation = evaluate_model(runtime, model, posts, window, budget)
        record(project, version, evaluation, now)
    project.registry.mark_evaluated(version_id, succeeded=True)
    return evaluation


def evaluate_model(
    runtime: Runtime, model: TrainedModel, posts: pd.DataFrame, window: Window, budget: Budget
) -> Evaluation:
    """Evaluate a model on a window beside the naive reference; see `evaluation.evaluate`."""
    fit_naive = partial(train_naive_model, runtime, model.model_type)
    return evaluate(model, fit_naive, posts, window, budget=budget, check_lookahead=runtime.check_lookahead)


def require_held_out_window(
    project: Project, posts: pd.DataFrame, version: ModelVersion, max_predictions: int, origin: OriginRule = "post"
) -> Window:
    """Return the window of posts later than a version's training, without those that moved there since.

    Raises:
        InsufficientData: there is no later post or, with the rule `clock`, no two posts at different times.
    """
    moved = find_moved_posts(project, version)
    window = held_out_window(posts, trained_through(version), max_predictions, origin, moved)
    if window is None:
        raise no_later_posts_error(version, origin)
    return window


def find_moved_posts(project: Project, version: ModelVersion) -> set[str]:
    """Return the ids of the posts that a version was trained on, and that were then moved past its training data."""
    moved = project.posts.find_moved(version.training_began_at, trained_through(version))
    if moved:
        log.info(
            "Left out %s that moved in time after '%s' was trained on them",
            number(len(moved), "post"),
            version.version_id,
        )
    return moved


def no_later_posts_error(version: ModelVersion, origin: OriginRule) -> InsufficientData:
    """Return the error that no post is later than a version's training."""
    what = "no post is" if origin == "post" else "no two posts at different times are"
    return InsufficientData(
        f"{what} later than the training data of '{version.version_id}', "
        f"which ends at {version.trained_through:%Y-%m-%d %H:%M} UTC",
        hint="Import newer posts first",
    )


def resolve_origin_rule(project: Project, model_type: ModelTypeName, given: OriginRule | None) -> OriginRule:
    """Return the origin rule given, or else the configured one.

    Raises:
        UsageError: the rule does not apply to this model type.
    """
    if given == "clock" and model_type != "timing":
        raise UsageError(
            f"--origin: 'clock' applies to timing only, not to {model_type}",
            hint="Content is always forecast from the preceding post",
        )
    return given or project.settings.retraining.origin(model_type)


def trained_through(version: ModelVersion) -> tuple[datetime, str]:
    """Return time and id of the last post that a version was trained on."""
    return version.trained_through, version.trained_through_post_id


def select_columns(model_type: ModelType[Any, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return those metrics of an evaluation that have a column of their own."""
    columns = ModelEvaluation.__table__.columns
    return {
        metric.key: metrics[metric.key]
        for metric in model_type.metrics
        if metric.key in columns and metric.key in metrics
    }


def record(
    project: Project,
    version: ModelVersion,
    evaluation: Evaluation,
    now: datetime,
    run_id: str | None = None,
    *,
    of_candidate: bool = True,
) -> ModelEvaluation:
    """Record an evaluation with its forecasts, from which every figure can be recomputed.

    Args:
        run_id: the run that it was made in, if any.
        of_candidate: whether the version is the candidate of that run.
    """
    model_type = get_model_type(evaluation.model_type)
    evaluation_id = project.registry.new_evaluation_id(now)
    content = model_type.dump(
        evaluation.forecasts, evaluation.targets, evaluation.origins, evaluation.post_ids, evaluation.naive_forecasts
    )
    metrics = evaluation.metrics
    with project.artifacts.staging(model_type.name) as staging:
        file = project.artifacts.stage_forecasts(
            staging, version, f"{evaluation_id}{model_type.forecasts_suffix}", content
        )
        row = ModelEvaluation(
            evaluation_id=evaluation_id,
            model_version_id=version.version_id,
            run_id=run_id,
            evaluated_at=now,
            metrics=metrics,
            baseline_metrics=evaluation.naive_metrics,
            window=evaluation.window.document(),
            forecasts_file=file.path,
            predictions_json=model_type.sample(evaluation.forecasts, evaluation.targets, evaluation.post_ids),
            num_predictions=metrics["num_predictions"],
            **select_columns(model_type, metrics),
        )
        with staging.keep_if_recorded():
            project.registry.record_evaluation(row, file, of_candidate=of_candidate)
        project.artifacts.publish(staging)
    return row
