"""What the parts of the context are worth to content forecasts: each is left out in turn, and all of them together.

A part that others can replace is worth little alone, such as the examples if the last posts show the same. What all are
worth together shows whether the forecasts depend on any.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from retrainer.algorithms.hookspecs import ALL_PARTS, ContextPart, CostEstimate
from retrainer.errors import AlgorithmError
from retrainer.evaluation.evaluate import MIN_SCORED_SHARE
from retrainer.evaluation.explanation import (
    Explanation,
    PartWorth,
    contributions,
    full_forecasts,
    measure_parts,
    measure_worth,
    metrics_of,
)
from retrainer.model_types import get_model_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.algorithms.budget import Budget
    from retrainer.algorithms.model import TrainedModel
    from retrainer.evaluation.windows import Window

log = logging.getLogger(__name__)


def variants(parts: Sequence[ContextPart]) -> list[tuple[ContextPart, frozenset[str]]]:
    """Return what is left out of the forecasts that are compared: each part, and all if there are several."""
    single = [(part, frozenset([part.name])) for part in parts]
    return [*single, (ALL_PARTS, frozenset(part.name for part in parts))] if len(parts) > 1 else single


def estimate_cost(
    model: TrainedModel, posts: pd.DataFrame, window: Window, parts: Sequence[ContextPart]
) -> CostEstimate:
    """Return the most that the forecasts of all variants should cost; nothing if the plugin does not say."""
    origins = window.origins_for(model.model_type, posts)
    found = [
        model.algorithm.estimate(model.model, posts, origins, model.options, model.model_type, without)
        for without in (frozenset[str](), *(without for _, without in variants(parts)))
    ]
    return sum((one for one in found if one), CostEstimate())


def leave_out_parts(
    model: TrainedModel, posts: pd.DataFrame, window: Window, parts: Sequence[ContextPart], budget: Budget
) -> Explanation:
    """Measure what each part of the context is worth, as far as the budget suffices.

    Args:
        posts: all posts in order.
        window: what to forecast, and from where.
        parts: those to leave out.
        budget: of paid calls.

    Raises:
        CostLimitReached: the budget does not suffice for the forecasts with the full context.
        AlgorithmError: these failed, or too few can be scored.
    """
    model_type = get_model_type(model.model_type)
    origins = window.origins_for(model.model_type, posts)
    targets = model_type.targets(posts, origins, window.rows)
    log.info("Forecasting %d posts with the full context", len(origins))
    full = full_forecasts(model, posts, origins, budget)
    scored = model_type.scorable(full)
    if scored.sum() < MIN_SCORED_SHARE * len(origins):
        raise AlgorithmError(
            f"only {scored.sum()} of {len(origins)} forecasts of '{model.algorithm.name}' can be scored: "
            f"at least {MIN_SCORED_SHARE:.0%} are required"
        )

    def of(forecasts: Any, keep: NDArray[np.bool_]) -> Any:
        return contributions(model.model_type, *model_type.select(forecasts, targets, keep))

    left_out = dict(variants(parts))

    def measure(part: ContextPart) -> PartWorth:
        log.info("Forecasting them without %s", part.label)
        forecasts = model.predict(posts, origins, budget, left_out[part])
        both = scored & model_type.scorable(forecasts)
        count = int(both.sum())
        if count < MIN_SCORED_SHARE * len(origins):
            problem = budget.exceeded or f"only {count} of {len(origins)} forecasts can be compared"
            return PartWorth(part.name, part.label, count, problem=problem)
        return PartWorth(part.name, part.label, count, measure_worth(of(full, both), of(forecasts, both)))

    measured, ended = measure_parts(list(left_out), measure, budget)
    return Explanation(
        method="left_out",
        window=window.document(),
        num_predictions=int(scored.sum()),
        metrics=metrics_of(of(full, scored)),
        parts=measured,
        problem=ended,
    )
