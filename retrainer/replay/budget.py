"""What a replay with paid forecasts would cost at most, reported before any of them is made."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from retrainer.algorithms import CostEstimate
from retrainer.errors import InsufficientData, UsageError
from retrainer.logs import mute_run_logs
from retrainer.pipeline.evaluations import require_held_out_window
from retrainer.pipeline.loading import load_configured_algorithm
from retrainer.pipeline.split import load_posts
from retrainer.pipeline.training import describe
from retrainer.replay.step import live_window, train_as_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.replay.cached_algorithm import AlgorithmCache
    from retrainer.replay.plan import Step
    from retrainer.replay.policy_run import PolicyRun

log = logging.getLogger(__name__)


def require_max_cost(runs: Sequence[PolicyRun], cache: AlgorithmCache) -> None:
    """Log what the paid forecasts of a replay would cost at most, if there are any.

    Raises:
        UsageError: there are, and no limit is given.
    """
    paid = {run.policy.algorithm for run in runs if run.paid}
    if not paid:
        return
    for run in runs:
        algorithm, options = load_configured_algorithm(
            run.policy.settings, run.runtime, run.model_type, run.policy.algorithm
        )
        algorithm.check_ready(options)
    estimate = estimate_max_cost(runs)
    names = ", ".join(f"'{name}'" for name in sorted(paid))
    if cache.max_cost is None:
        raise UsageError(
            f"forecasts of {names} cost money: this replay costs up to about ${estimate.cost_usd:.2f} "
            f"({estimate.calls} calls)",
            hint="Set a limit in US dollars with --max-cost",
        )
    log.warning(
        "This replay costs up to about $%.2f (%d calls of %s); it stops before it has spent more than $%g%s",
        estimate.cost_usd,
        estimate.calls,
        names,
        cache.max_cost,
        f", of which ${cache.spent_usd:.4f} is spent" if cache.spent_usd else "",
    )


def estimate_max_cost(runs: Sequence[PolicyRun]) -> CostEstimate:
    """Return the most that the forecasts of all steps should cost, without retries and if nothing were cached.

    A run forecasts its test posts twice: with the candidate and with production, which is assumed to cost the same.
    """
    total = CostEstimate()
    with mute_run_logs():
        for run in runs:
            if not run.paid:
                continue
            for number, step in enumerate(run.steps):
                retrains = number == 0 or run.policy.retrains
                sides = 0 if not retrains else 1 if number == 0 else 2
                test, live = _estimate_step(run, step)
                total = sum([test] * sides, total) + live
    return total


def _estimate_step(run: PolicyRun, step: Step) -> tuple[CostEstimate, CostEstimate]:
    """Return the most that forecasting the test posts of a step, and the posts after it, should cost."""
    project, settings, model_type = run.sandbox, run.policy.settings.retraining, run.model_type
    nothing = CostEstimate()
    try:
        posts = load_posts(project, model_type, step.until)
        live = live_window(project, model_type, posts, step, paid=True)
        with train_as_of(project, run.runtime, run.policy.algorithm, model_type, step.at) as (candidate, split):
            version = describe(project, candidate, split, "(not recorded)", step.at)
            test = require_held_out_window(project, split.posts, version, settings.max_predictions(model_type))
            model = candidate.model
            test_cost, live_cost = (
                nothing
                if window is None
                else model.algorithm.estimate(
                    model.model, posts, window.origins_for(model_type, posts), model.options, model_type
                )
                for window in (test, live)
            )
    except InsufficientData:
        return nothing, nothing
    return test_cost or nothing, live_cost or nothing
