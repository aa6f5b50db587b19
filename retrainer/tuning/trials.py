"""One trial of a study: options are taken from it, scored fold by fold, and the value is recorded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from optuna.exceptions import TrialPruned

from retrainer.errors import CostLimitReached, RetrainerError, wrap_unexpected
from retrainer.tuning.objective import mean_and_error
from retrainer.tuning.search_space import ALGORITHM as ALGORITHM_PARAMETER
from retrainer.tuning.search_space import suggest
from retrainer.tuning.study import (
    ALGORITHM,
    COST,
    DEFAULT_OF,
    FOLD_VALUES,
    GIVEN,
    OPTIONS,
    SAME_AS,
    STANDARD_ERROR,
    trial_result,
)

if TYPE_CHECKING:
    from optuna import Trial
    from pydantic import BaseModel

    from retrainer.tuning.objective import Objective
    from retrainer.tuning.queue import TrialQueue
    from retrainer.tuning.results import TrialResult
    from retrainer.tuning.search_space import SearchSpace
    from retrainer.tuning.study import OpenStudy

log = logging.getLogger(__name__)


def enqueue_defaults(study: OpenStudy, objective: Objective) -> None:
    """Let the study begin with the configured options of each algorithm, unless it already does."""
    known = {trial.user_attrs.get(DEFAULT_OF) for trial in study.optuna.get_trials(deepcopy=False)}
    for space in objective.spaces:
        if space.name in known:
            continue
        params = space.configured_params()
        if params is not None and len(objective.spaces) > 1:
            params = {ALGORITHM_PARAMETER: space.name, **params}
        # Options outside of the space are no parameters that TPE could learn from; they are tried as they are.
        given = {} if params is not None else {GIVEN: space.name}
        study.optuna.enqueue_trial(params or {}, user_attrs={DEFAULT_OF: space.name, **given})


def run_trial(queue: TrialQueue, trial: Trial, objective: Objective) -> TrialResult:
    """Run a claimed trial and record how it ended.

    One that raises is recorded as failed, with its options and the error, and logged. One that is interrupted, or that
    the shared budget does not pay for, waits to be tried again.

    Raises:
        CostLimitReached: one more paid forecast could exceed the budget of the study.
        KeyboardInterrupt: it was interrupted.
        DatabaseError: the storage failed.
    """
    with queue.keep_alive(trial):
        try:
            values = _score_folds(queue, trial, objective)
        except TrialPruned:
            queue.prune(trial)
        except CostLimitReached:
            queue.release(trial)
            raise
        except Exception as error:
            failure = error if isinstance(error, RetrainerError) else wrap_unexpected(error)
            log.debug("Trial %d failed", trial.number, exc_info=error)
            if queue.fail(trial, str(failure)):
                attributes = trial.user_attrs
                which = f"{attributes.get(ALGORITHM)} {attributes.get(OPTIONS)}"
                log.warning("Trial %d failed: %s [%s]", trial.number, failure, which)
        except BaseException:
            queue.release(trial)
            raise
        else:
            queue.complete(trial, values)
    return trial_result(queue.read(trial))


def _score_folds(queue: TrialQueue, trial: Trial, objective: Objective) -> list[float]:
    """Return the value of a trial, with its cost if that is an objective.

    A trial that was interrupted goes on after the folds that it has: what has been paid for is not paid for again.

    Raises:
        TrialPruned: it is worse than the median of the trials on the first folds.
        CostLimitReached: a fold could not be paid for.
    """
    plan, known = objective.plan, queue.read(trial)
    space, options = _options_of(objective, trial)
    document = options.model_dump(mode="json")
    trial.set_user_attr(ALGORITHM, space.name)
    trial.set_user_attr(OPTIONS, document)
    equal = queue.find_equal(space.name, document)
    if equal is not None:  # forecasts are deterministic, so nothing is computed, or paid for, again
        trial.set_user_attr(FOLD_VALUES, equal.user_attrs[FOLD_VALUES])
        trial.set_user_attr(STANDARD_ERROR, equal.user_attrs[STANDARD_ERROR])
        trial.set_user_attr(SAME_AS, equal.number)
        return list(equal.values)
    is_default = DEFAULT_OF in known.user_attrs  # what others are compared with is scored in full
    values: list[float] = list(known.user_attrs.get(FOLD_VALUES, ()))
    spent: float = known.user_attrs.get(COST, 0.0)
    is_paid = space.algorithm.description.paid
    cost = objective.budget.of_trial(trial.number) if is_paid and objective.budget is not None else None
    for number, bounds in enumerate(plan.folds):
        if number == len(values):
            if objective.budget is not None and is_paid and not is_default:
                objective.budget.require(queue.max_fold_cost())
            try:
                with objective.open_budget(*([] if cost is None else [cost])) as budget:
                    values.append(objective.value(objective.evaluate(space.algorithm, options, bounds, budget)))
            finally:
                trial.set_user_attr(COST, spent := 0.0 if cost is None else cost.limit_and_use()[1])
            trial.set_user_attr(FOLD_VALUES, values)
        if plan.cost_objective:  # Optuna prunes a single objective only
            continue
        if number not in known.intermediate_values:
            trial.report(mean_and_error(values[: number + 1])[0], number)
        is_last = number == len(plan.folds) - 1
        if number == len(values) - 1 and not (is_last or is_default) and trial.should_prune():
            raise TrialPruned(f"after {number + 1} of {len(plan.folds)} folds")
    mean, error = mean_and_error(values)
    trial.set_user_attr(STANDARD_ERROR, error)
    return [mean, spent] if plan.cost_objective else [mean]


def _options_of(objective: Objective, trial: Trial) -> tuple[SearchSpace, BaseModel]:
    given = trial.user_attrs.get(GIVEN)
    if given is None:
        return suggest(objective.spaces, trial)
    space = objective.space(given)
    return space, space.options
