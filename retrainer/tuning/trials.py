"""One trial of a study: options are taken from it, scored fold by fold, and the value is recorded."""

from __future__ import annotations

import logging
import warnings
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning, TrialPruned, UpdateFinishedTrialError
from optuna.trial import TrialState

from retrainer.errors import RetrainerError, wrap_unexpected
from retrainer.registry.liveness import ProcessIdentity, is_gone
from retrainer.tuning.objective import mean_and_error
from retrainer.tuning.search_space import ALGORITHM as ALGORITHM_PARAMETER
from retrainer.tuning.search_space import suggest
from retrainer.tuning.study import (
    ALGORITHM,
    COST,
    DEFAULT_OF,
    ERROR,
    FOLD_VALUES,
    GIVEN,
    OPTIONS,
    PROCESS,
    STANDARD_ERROR,
    trial_result,
)

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial
    from pydantic import BaseModel

    from retrainer.tuning.objective import Objective
    from retrainer.tuning.results import TrialResult
    from retrainer.tuning.search_space import SearchSpace
    from retrainer.tuning.study import OpenStudy

log = logging.getLogger(__name__)

_UNCLAIMED = timedelta(minutes=1)  # a trial that no process has put its name to for longer is lost


def run_trial(study: OpenStudy, objective: Objective) -> TrialResult:
    """Run one trial, a waiting one if there is any, and record it.

    A trial that raises is recorded as failed, with its options and the error, and logged.

    Raises:
        KeyboardInterrupt: the trial was interrupted; it is lost and does not count.
        DatabaseError: the storage failed.
    """
    finished: list[FrozenTrial] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats
        study.optuna.optimize(
            partial(_score, objective),
            n_trials=1,
            catch=(_TrialFailed,),
            callbacks=[lambda _, trial: finished.append(trial)],
        )
    result = trial_result(finished[0])
    if result.error is not None:
        log.warning("Trial %d failed: %s [%s %s]", result.number, result.error, result.algorithm, result.options)
    return result


def enqueue_defaults(study: OpenStudy, objective: Objective) -> None:
    """Let the study begin with the configured options of each algorithm, unless it has done or is doing so."""
    trials = study.optuna.get_trials(deepcopy=False)
    known = {trial.user_attrs.get(DEFAULT_OF) for trial in trials if trial_result(trial).state != "lost"}
    for space in objective.spaces:
        if space.name in known:
            continue
        params = space.configured_params()
        if params is not None and len(objective.spaces) > 1:
            params = {ALGORITHM_PARAMETER: space.name, **params}
        # Options outside of the space are no parameters that TPE could learn from; they are tried as they are.
        given = {} if params is not None else {GIVEN: space.name}
        study.optuna.enqueue_trial(params or {}, user_attrs={DEFAULT_OF: space.name, **given})


def retry_lost_trials(study: OpenStudy) -> int:
    """Mark the running trials whose process is gone as lost, and let them be tried once more; return their number.

    A process on another machine counts as gone when its heartbeats stop, which Optuna notices.
    """
    lost = 0
    for trial in study.optuna.get_trials(deepcopy=True, states=(TrialState.RUNNING,)):
        if _is_lost(trial):
            lost += fail_and_retry(study, trial)
    return lost


def fail_and_retry(study: OpenStudy, trial: FrozenTrial) -> bool:
    """Mark a running trial as lost, and let its parameters be tried once more; return False if it has ended."""
    try:
        if not study.storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL):  # noqa: SLF001
            return False
    except UpdateFinishedTrialError:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.RetryHeartbeatStaleTrialCallback()(study.optuna, trial)
    return True


class _TrialFailed(Exception):
    """A trial failed, which is recorded; the others go on."""


def _score(objective: Objective, trial: Trial) -> float | tuple[float, float]:
    """Return the value of a trial, with its cost if that is an objective.

    Raises:
        TrialPruned: it is worse than the median of the trials on the first folds.
        _TrialFailed: a hook raised.
    """
    trial.set_user_attr(PROCESS, _process_document())
    try:
        return _score_folds(objective, trial)
    except TrialPruned:
        raise
    except Exception as error:
        failure = error if isinstance(error, RetrainerError) else wrap_unexpected(error)
        log.debug("Trial %d failed", trial.number, exc_info=error)
        trial.set_user_attr(ERROR, str(failure))
        raise _TrialFailed(str(failure)) from error


def _score_folds(objective: Objective, trial: Trial) -> float | tuple[float, float]:
    plan = objective.plan
    space, options = _options_of(objective, trial)
    trial.set_user_attr(ALGORITHM, space.name)
    trial.set_user_attr(OPTIONS, options.model_dump(mode="json"))
    values: list[float] = []
    with objective.runtime.open_budget() as budget:
        try:
            for number, bounds in enumerate(plan.folds):
                values.append(objective.value(objective.evaluate(space.algorithm, options, bounds, budget)))
                mean, _ = mean_and_error(values)
                if plan.cost_objective:  # Optuna prunes a single objective only
                    continue
                trial.report(mean, number)
                if number < len(plan.folds) - 1 and trial.should_prune():
                    raise TrialPruned(f"after {number + 1} of {len(plan.folds)} folds")
        finally:
            trial.set_user_attr(FOLD_VALUES, values)
            trial.set_user_attr(COST, budget.cost_usd)
    mean, error = mean_and_error(values)
    trial.set_user_attr(STANDARD_ERROR, error)
    return (mean, budget.cost_usd) if plan.cost_objective else mean


def _options_of(objective: Objective, trial: Trial) -> tuple[SearchSpace, BaseModel]:
    given = trial.user_attrs.get(GIVEN)
    if given is None:
        return suggest(objective.spaces, trial)
    space = objective.space(given)
    return space, space.options


def _process_document() -> dict[str, Any]:
    document = asdict(ProcessIdentity.current())
    return {**document, "started_at": document["started_at"].isoformat()}


def _is_lost(trial: FrozenTrial) -> bool:
    document = trial.user_attrs.get(PROCESS)
    if document is None:
        started = trial.datetime_start  # by the local clock, as Optuna has it
        return started is not None and datetime.now() - started > _UNCLAIMED  # noqa: DTZ005
    started_at = datetime.fromisoformat(document["started_at"])
    return bool(is_gone(ProcessIdentity(**{**document, "started_at": started_at})))
