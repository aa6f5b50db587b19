"""Tune: find better options by trial on the training posts, and let the winner pass the gate of every version."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from retrainer.project import Project
    from retrainer.runtime import Runtime
    from retrainer.tuning.request import TrialRunner, Trials, TuningRequest
    from retrainer.tuning.results import TuningProgress, TuningResult


def run_trials_here(trials: Trials) -> None:
    """Run the remaining trials one after another in this process; a `TrialRunner`."""
    raise NotImplementedError


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
    raise NotImplementedError
