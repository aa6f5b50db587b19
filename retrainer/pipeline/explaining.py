"""Measure what the forecasts of a version depend on, and record it with the version."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from retrainer.algorithms.manager import algorithms_with
from retrainer.errors import UsageError
from retrainer.evaluation.ablation import estimate_cost, leave_out_parts
from retrainer.evaluation.permutation import INPUTS, permute_inputs
from retrainer.pipeline.evaluations import require_held_out_window
from retrainer.pipeline.loading import load_version
from retrainer.pipeline.split import load_posts
from retrainer.registry.tables import ModelExplanation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd

    from retrainer.algorithms import ContextPart
    from retrainer.algorithms.model import TrainedModel
    from retrainer.evaluation.explanation import PartWorth
    from retrainer.evaluation.windows import Window
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)

DEFAULT_POSTS: dict[ModelTypeName, int] = {"timing": 100, "content": 20}


def explain_version(
    project: Project,
    runtime: Runtime,
    version: ModelVersion,
    now: datetime,
    *,
    max_cost: float | None = None,
    max_posts: int | None = None,
) -> ModelExplanation:
    """Measure what a version's forecasts of posts later than its training depend on, and record it.

    Content: what the parts of the context are worth that its algorithm can leave out. Timing: the permutation
    importance of the inputs that every algorithm gets. Both by the evaluated fit.

    Args:
        project: seen from the stream of the version.
        max_cost: what paid forecasts may cost, in US dollars; required if there are any.
        max_posts: the number of posts, evenly spaced; None for 100 of timing and 20 of content.

    Returns:
        The explanation. Its `problem` says why parts are missing, if any are.

    Raises:
        UsageError: its algorithm names no parts of the context, or its forecasts cost money and there is no limit.
        InsufficientData: no post is later than its training.
        CostLimitReached: the limit does not even suffice for the forecasts with the full context.
        ArtifactError, AlgorithmError: it cannot be loaded or cannot forecast.
    """
    project.artifacts.require_own_folder()
    model = load_version(project, runtime, version)
    parts = [] if model.model_type == "timing" else _require_parts(model)
    model.algorithm.check_ready(model.options)
    posts = load_posts(project, model.model_type, now)
    window = require_held_out_window(project, posts, version, max_posts or DEFAULT_POSTS[model.model_type])
    if model.algorithm.description.paid:
        _require_max_cost(model, posts, window, parts, max_cost)
    project.registry.require_writable_explanations()  # before anything is paid for
    with runtime.open_budget(limit_usd=max_cost) as budget:
        if model.model_type == "timing":
            measured = permute_inputs(model, posts, window, budget)
        else:
            measured = leave_out_parts(model, posts, window, parts, budget)
        row = ModelExplanation(
            explanation_id=project.registry.new_explanation_id(now),
            model_version_id=version.version_id,
            explained_at=now,
            method=measured.method,
            window=measured.window,
            num_predictions=measured.num_predictions,
            metrics=measured.metrics,
            parts=[_part_document(part) for part in measured.parts],
            seed=measured.seed,
            cost_usd=budget.cost_usd,
            problem=measured.problem or next((part.problem for part in measured.parts if part.problem), ""),
        )
        project.registry.record_explanation(row)
        if row.problem:
            budget.answers.keep_used()  # the next call does not pay for them again
    return row


def _require_parts(model: TrainedModel) -> list[ContextPart]:
    """Return the parts of the context that the algorithm can leave out.

    Raises:
        UsageError: it names none.
    """
    parts = model.algorithm.context_parts(model.model, model.options, model.model_type)
    if not parts:
        raise UsageError(
            f"the algorithm '{model.algorithm.name}' has no context parts to leave out",
            hint=f"Algorithms that may have some: {algorithms_with('context_parts')}",
        )
    return parts


def _require_max_cost(
    model: TrainedModel, posts: pd.DataFrame, window: Window, parts: Sequence[ContextPart], max_cost: float | None
) -> None:
    """Log what the forecasts cost at most.

    Raises:
        UsageError: no limit is given.
    """
    estimate = estimate_cost(model, posts, window, parts)
    if model.model_type == "timing":  # again for each permuted input
        estimate = sum([estimate] * len(INPUTS), estimate)
    most = f"up to about ${estimate.cost_usd:.4f} ({estimate.calls} calls)"
    if max_cost is None:
        raise UsageError(
            f"forecasts of '{model.algorithm.name}' cost money: this explanation may cost {most}",
            hint="Set a limit with --max-cost DOLLARS; fewer --posts cost less",
        )
    log.log(
        logging.WARNING if estimate.cost_usd > max_cost else logging.INFO,
        "This explanation may cost %s; it stops before it exceeds $%g",
        most,
        max_cost,
    )


def _part_document(part: PartWorth) -> dict[str, Any]:
    worth = {name: {"value": one.value, "interval": one.interval} for name, one in (part.worth or {}).items()}
    return {**asdict(part), "worth": worth or None}
