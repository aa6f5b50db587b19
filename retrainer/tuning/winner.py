"""The winner of a study: the best trial on the folds, judged on the fold that took no part in the choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.errors import AlgorithmError, CostLimitReached, RetrainerError
from retrainer.tuning.objective import paired_gain
from retrainer.tuning.results import StudyOutcome
from retrainer.tuning.study import best_trial, default_trial

if TYPE_CHECKING:
    from pydantic import BaseModel

    from retrainer.evaluation.evaluate import Evaluation
    from retrainer.tuning.objective import Objective
    from retrainer.tuning.results import Gain, TrialResult
    from retrainer.tuning.search_space import SearchSpace
    from retrainer.tuning.study import OpenStudy

ROUNDING = 1e-12  # by which values may differ that are equal


def judge_winner(study: OpenStudy, objective: Objective, *, is_complete: bool) -> StudyOutcome:
    """Choose the best trial by the folds, and decide on the held-back fold whether it is kept.

    The value of the best of many trials is too good, since it was chosen for it. The held-back fold took no part in the
    choice, so the gain there, and its interval, hold whatever the number of trials was. This is true of one study:
    several on the same posts share the held-back fold, so choosing among them uses it up.

    Args:
        is_complete: whether no trial is left to run.

    Returns:
        The outcome, before any run.

    Raises:
        CostLimitReached: the forecasts of the held-back fold cannot be paid for.
        AlgorithmError: every trial failed.
        RetrainerError: no trial was completed, and some are left.
    """
    plan, trials = study.plan, study.trials()
    winner, default = best_trial(plan, trials), default_trial(plan, trials)
    if winner is None:
        raise _no_complete_trial(trials, is_complete=is_complete)
    if default is not None and (
        default.value is None
        or winner.value is None
        or plan.improvement(default.value, winner.value) <= ROUNDING
        or (winner.algorithm, winner.options) == (default.algorithm, default.options)
    ):
        reason = "no trial is better on the folds than the configured options"
        return StudyOutcome(None, None, None, kept=False, reason=reason)
    on_folds = None
    if default is not None and default.value is not None and winner.value is not None:
        on_folds = plan.improvement(default.value, winner.value)
    try:
        gain = _held_back_gain(objective, winner)
    except CostLimitReached:
        raise
    except RetrainerError as error:
        reason = f"the best trial cannot forecast the held-back fold: {error.message}"
        return StudyOutcome(winner.number, on_folds, None, kept=False, reason=reason)
    if gain is None:
        reason = "the configured options cannot forecast the held-back fold, and the best trial can"
        return StudyOutcome(winner.number, on_folds, None, kept=True, reason=reason)
    return StudyOutcome(winner.number, on_folds, gain, kept=gain.value > ROUNDING, reason=_explain(gain))


def options_of(objective: Objective, trial: TrialResult) -> tuple[SearchSpace, BaseModel]:
    """Return the algorithm of a trial and its options; operational ones come from today's settings."""
    space = objective.space(str(trial.algorithm))
    options = space.algorithm.recorded_options(trial.options, objective.plan.model_type)
    operational = {name: getattr(space.options, name) for name in space.algorithm.description.operational}
    return space, options.model_copy(update=operational)


def _held_back_gain(objective: Objective, winner: TrialResult) -> Gain | None:
    """Return the gain of the winner over the configured options; None if these cannot forecast.

    Raises:
        RetrainerError: the winner cannot forecast.
    """
    space, options = options_of(objective, winner)
    default = objective.spaces[0]
    after = _evaluate(objective, space, options)
    try:
        before = _evaluate(objective, default, default.options)
    except CostLimitReached:
        raise
    except RetrainerError:
        return None
    return paired_gain(before, after, objective.plan.metric)


def _evaluate(objective: Objective, space: SearchSpace, options: BaseModel) -> Evaluation:
    with objective.open_budget() as budget:
        return objective.evaluate(space.algorithm, options, objective.plan.held_back, budget)


def _explain(gain: Gain) -> str:
    low, high = gain.interval
    figures = f"by {abs(gain.value):.4f} (95% interval {low:+.4f} to {high:+.4f}) on {gain.num_predictions} posts"
    if gain.value > ROUNDING:
        return f"the best trial is better than the configured options on the held-back fold, {figures}"
    if gain.value > -ROUNDING:
        return (
            f"the best trial is as good as the configured options on the held-back fold, {gain.num_predictions} posts"
        )
    return f"the best trial is worse than the configured options on the held-back fold, {figures}"


def _no_complete_trial(trials: tuple[TrialResult, ...], *, is_complete: bool) -> RetrainerError:
    failed = [trial for trial in trials if trial.state == "failed"]
    if is_complete and failed:
        return AlgorithmError(
            f"all {len(failed)} trials failed, the first one with: {failed[0].error}",
            hint="Fix the algorithm or its search space; `retrainer tune --show` lists the trials",
        )
    return RetrainerError(
        f"no trial was completed ({len(failed)} failed)" if failed else "no trial was completed",
        hint="Allow more time (--timeout) or a higher cost (--max-cost)",
    )
