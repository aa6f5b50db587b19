"""Tune: find better options by trial on the training posts, and let the winner pass the gate of every version."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from retrainer.errors import RetrainerError
from retrainer.pipeline.run import retrain
from retrainer.pipeline.tuned_options import TunedOptions
from retrainer.tuning.costs import StudyBudget, check_costs
from retrainer.tuning.locks import hold_lock
from retrainer.tuning.preparation import prepare
from retrainer.tuning.queue import TrialQueue
from retrainer.tuning.request import Trials
from retrainer.tuning.results import FINISHED, StudyOutcome, TuningResult
from retrainer.tuning.runners import run_trials_here
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
    from retrainer.tuning.request import TrialRunner, TuningRequest
    from retrainer.tuning.results import TuningProgress
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
        UsageError: an algorithm has no search space, or the request does not fit the model type.
        InsufficientData: there are too few training posts for two folds.
        RunInProgress: another run of the model type is in progress when the winner is to be trained.
        RetrainerError: every trial failed, or the run of the winner did.
    """
    project.artifacts.require_own_folder()
    # The folds are of the training posts: the test posts judge the winner in the end, and no trial knows them.
    objective = prepare(project, runtime, request, now)
    check_costs(request, objective.spaces)
    with opened_storage(project) as storage:
        with hold_lock(storage.engine, "studies"):  # two commands that start at once work on the same study
            study = start_or_resume(storage, objective.plan, now)
            enqueue_defaults(study, objective)
        runtime, objective = _within_budget(project, runtime, request, now, study, objective)
        trials = _remaining_trials(project, runtime, request, now, study, objective, on_progress)
        run = None
        try:
            # Each trial is trained and scored on the rolling folds.
            run_trials(trials)
            with trials.queue.finalize(lambda: study.outcome() is not None) as is_ours:
                if is_ours:
                    # The best one is chosen by them, and kept if it is better on the fold that was held back.
                    outcome = _judge(study, objective)
                    # Then it is a candidate like any other: trained, compared on the test posts, promoted or not.
                    if outcome.kept:
                        tuned = _tuned_options(study, objective, outcome)
                        run = retrain(
                            project, runtime, request.model_type, now, auto_promote=request.auto_promote, tuned=tuned
                        )
                    study.finish(_with_run(outcome, run))
        except KeyboardInterrupt:
            return TuningResult(report_study(study), interrupted=True, resumed=trials.before)
        result = TuningResult(report_study(study), run=run, resumed=trials.before)
        delete_old_studies(storage, project.stream, request.model_type, project.settings.tuning.keep_studies)
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


def _judge(study: OpenStudy, objective: Objective) -> StudyOutcome:
    """Return whether the winner is kept.

    Raises:
        RetrainerError: every trial failed; the next call starts another study.
    """
    try:
        outcome = judge_winner(study, objective)
    except RetrainerError as error:
        if any(trial.state == "failed" for trial in study.trials()):
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
