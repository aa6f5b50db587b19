"""What a replay of paid forecasts would cost at most, said before any of them is made."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from retrainer.algorithms import CostEstimate
from retrainer.algorithms.manager import load_algorithm
from retrainer.errors import InsufficientData, UsageError
from retrainer.pipeline.evaluations import require_held_out_window, window_origins
from retrainer.pipeline.loading import load_configured_algorithm
from retrainer.pipeline.split import load_posts
from retrainer.pipeline.training import describe
from retrainer.replay.step import live_window, quietly, train_as_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.model_types import ModelTypeName
    from retrainer.replay.cached_algorithm import SpendingLimit
    from retrainer.replay.plan import Step
    from retrainer.replay.policy_run import PolicyRun

log = logging.getLogger(__name__)


def require_max_cost(tracks: Sequence[PolicyRun], model_type: ModelTypeName, purse: SpendingLimit) -> None:
    """Say what the paid forecasts of a replay would cost at most; nothing is said where there are none.

    Raises:
        UsageError: there are, and no limit is given.
    """
    paid = {track.policy.algorithm for track in tracks if _is_paid(track, model_type)}
    if not paid:
        return
    for track in tracks:  # its production is one of its own versions, and needs no look of its own
        algorithm, options = load_configured_algorithm(track.policy.settings, model_type, track.policy.algorithm)
        algorithm.check_ready(options)
    most = estimate_max_cost(tracks, model_type)
    names = ", ".join(f"'{name}'" for name in sorted(paid))
    if purse.limit is None:
        raise UsageError(
            f"forecasts of {names} cost money: this replay up to about ${most.cost_usd:.2f}, by {most.calls} calls",
            hint="Say with --max-cost how many dollars it may spend",
        )
    log.warning(
        "This replay costs up to about $%.2f, by %d calls of %s; it stops before it has spent more than $%g%s",
        most.cost_usd,
        most.calls,
        names,
        purse.limit,
        f", of which ${purse.spent:.4f} is spent" if purse.spent else "",
    )


def estimate_max_cost(tracks: Sequence[PolicyRun], model_type: ModelTypeName) -> CostEstimate:
    """Return the most that the forecasts of all steps should cost, retries left out and nothing shared.

    A run forecasts its test posts twice: by the new version, and by production, which is taken to cost as much.
    """
    total = CostEstimate()
    with quietly():
        for track in tracks:
            if not _is_paid(track, model_type):
                continue
            for number, step in enumerate(track.steps):
                runs = number == 0 or track.policy.retrains
                sides = 0 if not runs else 1 if number == 0 else 2
                of_run, of_live = _estimate_step(track, model_type, step)
                total = sum([of_run] * sides, total) + of_live
    return total


def _estimate_step(track: PolicyRun, model_type: ModelTypeName, step: Step) -> tuple[CostEstimate, CostEstimate]:
    """Return the most that the test posts of a step, and the posts after it, should cost by a version trained then."""
    room, settings = track.room, track.policy.settings
    none = CostEstimate()
    try:
        posts = load_posts(room, model_type, step.until)
        after = live_window(room, model_type, posts, step, paid=True)
        with train_as_of(room, track.policy.algorithm, model_type, step.at) as (trained, split):
            version = describe(room, trained, split, "(not recorded)", step.at)
            test = require_held_out_window(split.posts, version, settings.retraining.max_predictions(model_type))
            ready = trained.ready
            of_test, of_live = (
                none
                if window is None
                else ready.algorithm.estimate(
                    ready.model, posts, window_origins(model_type, posts, window), ready.options, model_type
                )
                for window in (test, after)
            )
    except InsufficientData:
        return none, none
    return of_test or none, of_live or none


def _is_paid(track: PolicyRun, model_type: ModelTypeName) -> bool:
    return load_algorithm(track.policy.algorithm, model_type).description.paid
