"""Step 5: compare two versions on the same posts, none of which either was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.errors import DatabaseError, RetrainerError, UsageError
from retrainer.evaluation.comparison import Comparison, compare, no_comparison
from retrainer.evaluation.windows import held_out_window
from retrainer.pipeline.evaluations import (
    evaluate_model,
    find_moved_posts,
    no_later_posts_error,
    resolve_origin_rule,
    trained_through,
)
from retrainer.pipeline.loading import load_version
from retrainer.pipeline.split import load_posts
from retrainer.posts.validation import shorten

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from retrainer.algorithms.model import TrainedModel
    from retrainer.evaluation.evaluate import Evaluation
    from retrainer.evaluation.windows import Window
    from retrainer.model_types import OriginRule
    from retrainer.pipeline.run_context import RunContext
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion
    from retrainer.runtime import Runtime


def common_window(
    project: Project, posts: pd.DataFrame, a: ModelVersion, b: ModelVersion, max_predictions: int, origin: OriginRule
) -> Window | None:
    """Return the window of the posts later than the training of both versions; None if there are none.

    Posts that one was trained on, and that moved there since, are left out.
    """
    through = max(trained_through(a), trained_through(b))
    moved = find_moved_posts(project, a) | find_moved_posts(project, b)
    return held_out_window(posts, through, max_predictions, origin, moved)


def compare_with_production(
    context: RunContext,
    posts: pd.DataFrame,
    production: ModelVersion,
    candidate: ModelVersion,
    model: TrainedModel,
    evaluation: Evaluation,
) -> Comparison:
    """Let production forecast the same posts as the candidate, and compare.

    If production was trained on some of them, both forecast the others.

    Args:
        model: the candidate's model.
        evaluation: the candidate's evaluation.
    """
    versions, model_type = (production.version_id, candidate.version_id), context.model_type
    max_predictions = context.settings.max_predictions(model_type)
    window = common_window(context.project, posts, production, candidate, max_predictions, evaluation.window.origin)
    if window is None:
        return no_comparison(model_type, versions, None, "no post is later than the training of both versions")
    if window.available != evaluation.window.available:  # it is the same window, or a part of it
        evaluation = context.evaluate(model, posts, window)
    try:
        production_model = load_version(context.project, context.runtime, production)
        production_evaluation = context.evaluate(production_model, posts, window)
    except DatabaseError:
        raise  # the database failed, not the version
    except RetrainerError as error:
        reason = (
            f"production '{production.version_id}' cannot forecast: {error.message}. "
            "If the new version is good, promote it by hand"
        )
        return no_comparison(model_type, versions, window, reason, production_broken=True)
    return compare(versions, (production_evaluation, evaluation), posts, context.settings)


def compare_versions(
    project: Project,
    runtime: Runtime,
    a: ModelVersion,
    b: ModelVersion,
    now: datetime,
    origin: OriginRule | None = None,
) -> Comparison:
    """Let two registered versions forecast the posts later than the training of both, and compare.

    Args:
        origin: where to forecast from; None for the configured rule.

    Raises:
        UsageError: the versions have different model types or streams, or the origin rule does not apply to theirs.
        InsufficientData: no post is later than the training of both.
    """
    if a.model_type != b.model_type:
        raise UsageError(
            f"'{a.version_id}' forecasts {a.model_type} and '{b.version_id}' {b.model_type}",
            hint="Compare versions of the same model type",
        )
    if a.stream != b.stream:
        raise UsageError(
            f"'{a.version_id}' belongs to the stream '{shorten(a.stream)}', '{b.version_id}' to '{shorten(b.stream)}'",
            hint="Compare versions of the same stream",
        )
    rule = resolve_origin_rule(project, a.model_type_name, origin)
    models = [load_version(project, runtime, version) for version in (a, b)]
    posts = load_posts(project, a.model_type_name, now)
    settings = project.settings.retraining
    window = common_window(project, posts, a, b, settings.max_predictions(a.model_type_name), rule)
    if window is None:
        raise no_later_posts_error(max(a, b, key=trained_through), rule)
    for model in models:
        model.algorithm.check_ready(model.options)
    with runtime.open_budget() as budget:
        evaluation_a, evaluation_b = (evaluate_model(runtime, model, posts, window, budget) for model in models)
    return compare((a.version_id, b.version_id), (evaluation_a, evaluation_b), posts, settings)
