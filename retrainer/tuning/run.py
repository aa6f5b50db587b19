"""Tune: find better options by trial on the training posts, and train the winner by an ordinary run."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from retrainer.errors import CostLimitReached, RetrainerError
from retrainer.pipeline.run import retrain
from retrainer.pipeline.tuned_options import TunedOptions
from retrainer.tuning.costs import StudyBudget, check_costs
from retrainer.tuning.locks import hold_lock
from retrainer.tuning.preparation import prepare
from retrainer.tuning.queue import TrialQueue
from retrainer.tuning.results import FINISHED, StudyOutcome, TuningResult
from retrainer.tuning.runners import Trials, run_trials_here
from retrainer.tuning.study import delete_old_studies, opened_storage, report_study, start_or_resume
from retrainer.tuning.trials import enqueue_defaults
from retrainer.tuning.winner import judge_winner, options_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from retrainer.pipeline.results import RunResult
    from retrainer.project import Project
    from retrainer.runtime import Runtime
    from retrainer.tuning.objective import Objective
    from retrainer.tuning.request import TuningRequest
    from retrainer.tuning.results import TuningProgress
    from retrainer.tuning.runners import TrialRunner
    from retrainer.tuning.study import OpenStudy

log = logging.getLogger(__name__)


def tune(
    project: Project,
    runtime: Runtime,
    request: TuningRequest,
    now: datetime,
    *,
    run_trials: TrialRunner = run_trials_here,
    on_progress: Callable[[TuningProgress], None] = lambda _: None,
) -> TuningResult:
    """Tune the options of one or several algorithms, and train the winner as a candidate by the ordinary run.

    Args:
        now: the time that the call counts from; no later post is used.
        run_trials: where the trials run.
        on_progress: called after every trial.

    Returns:
        The study, and the run of the winner. If Ctrl-C ended the trials, those known so far.

    Raises:
        UsageError: an algorithm has no search space, the request does not fit the model type, or paid trials would
            only be repeated.
        InsufficientData: there are too few training posts for two folds.
        RunInProgress: another run of the model type is in progress when the winner is to be trained.
        CostLimitReached: the winner cannot be judged; a call with a higher limit continues the study.
        RetrainerError: every trial failed, or the run of the winner did.
    """
    project.artifacts.require_own_folder()
    clock = runtime.stopwatch(now)
    # The folds are of the training posts: the test posts judge the winner in the end, and no trial knows them.
    objective = prepare(project, runtime, request, now)
    check_costs(project, runtime, request, objective.spaces)
    with opened_storage(project) as storage:
        with hold_lock(storage.engine, "studies"):  # two commands that start at once work on the same study
            study = start_or_resume(storage, objective.plan, now, is_paid=objective.is_paid)
            enqueue_defaults(study, objective)
        runtime, objective = _within_budget(project, runtime, request, now, study, objective)
        trials = _remaining_trials(project, runtime, request, now, study, objective, on_progress)
        run = None
        try:
            # Each trial is trained and scored on the rolling folds.
            run_trials(trials)
            with trials.queue.finalize(lambda: study.outcome() is not None) as is_ours:
                if is_ours:
                    # The best one is chosen by them, and kept if it is better on the held-back fold.
                    outcome = _judge(trials)
                    # Then it is a candidate like any other: trained, compared on the test posts, promoted or not.
                    if outcome.kept:
                        tuned = _tuned_options(study, objective, outcome)
                        # The run takes place now, after the trials, though it uses no later posts than they do.
                        current = replace(runtime, stopwatch=lambda _: runtime.stopwatch(clock.now()))
                        run = retrain(
                            project, current, request.model_type, now, auto_promote=request.auto_promote, tuned=tuned
                        )
                    study.finish(_with_run(outcome, run))
        except KeyboardInterrupt:
            return TuningResult(report_study(study), interrupted=True, resumed=trials.before)
        result = TuningResult(report_study(study), run=run, resumed=trials.before)
        delete_old_studies(storage, study, project.settings.tuning.keep_studies)
    return result


def _within_budget(
    project: Project, runtime: Runtime, request: TuningRequest, now: datetime, study: OpenStudy, objective: Objective
) -> tuple[Runtime, Objective]:
    """Let all paid forecasts, from the trials to the run of the winner, share the budget of the study."""
    if request.max_cost is None:
        return runtime, objective
    budget = StudyBudget.open(project.registry.database, study.budget_id, study.name, request.max_cost, now)
    return replace(runtime, shared_budget=budget.shared), replace(objective, budget=budget)


def _remaining_trials(
    project: Project,
    runtime: Runtime,
    request: TuningRequest,
    now: datetime,
    study: OpenStudy,
    objective: Objective,
    on_progress: Callable[[TuningProgress], None],
) -> Trials:
    before = sum(trial.state in FINISHED for trial in study.trials())
    if before:
        log.info("Resuming study '%s': %d of %d trials done", study.name, before, request.trials)
    else:
        names = ", ".join(space.name for space in objective.spaces)
        log.info(
            "Tuning %s on %d training posts, %d folds: %d trials in study '%s'",
            names,
            objective.plan.training_count,
            len(objective.plan.folds),
            request.trials,
            study.name,
        )
    queue = TrialQueue(study, request.trials)
    return Trials(project, runtime, request, now, study, queue, objective, on_progress, time.monotonic(), before)


def _judge(trials: Trials) -> StudyOutcome:
    """Return whether the winner is kept.

    Raises:
        CostLimitReached: the forecasts of the held-back fold cannot be paid for; a call with a higher limit goes on.
        AlgorithmError: every trial failed; the next call starts another study.
        RetrainerError: no trial was completed yet; the next call goes on.
    """
    study, is_complete = trials.study, trials.queue.is_finished()
    try:
        outcome = judge_winner(study, trials.objective, is_complete=is_complete)
    except CostLimitReached:
        raise
    except RetrainerError as error:
        if is_complete:
            study.finish(StudyOutcome(None, None, None, kept=False, reason=str(error)))
        raise
    log.info("%s: %s", "Kept" if outcome.kept else "Not kept", outcome.reason)
    return outcome


def _tuned_options(study: OpenStudy, objective: Objective, outcome: StudyOutcome) -> TunedOptions:
    """Return what the run of the winner trains with."""
    trials = study.trials()
    winner = next(trial for trial in trials if trial.number == outcome.winner)
    space, options = options_of(objective, winner)
    count = sum(trial.state in FINISHED for trial in trials)
    return TunedOptions(space.name, options.model_dump(mode="json"), study.name, count)


def _with_run(outcome: StudyOutcome, run: RunResult | None) -> StudyOutcome:
    if run is None or run.run is None:
        return outcome
    return replace(outcome, run_id=run.run.run_id, promoted=run.promoted)
