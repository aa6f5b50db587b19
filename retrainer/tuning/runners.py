"""Where the trials of a study run: in this process, in several, or in the workers of a cluster.

A worker claims its trials itself, so that what is running is known wherever it runs. See `queue` for what becomes of
the trial of a worker that is lost.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from retrainer.errors import CostLimitReached, RetrainerError, UsageError
from retrainer.parallel.child import WorkerLost
from retrainer.parallel.local import run_in_processes
from retrainer.tuning.queue import POLL_SECONDS
from retrainer.tuning.storage import storage_file
from retrainer.tuning.trials import run_trial
from retrainer.tuning.worker import describe_trials, run_next_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from retrainer.parallel.child import NotStarted
    from retrainer.parallel.cluster import Cluster
    from retrainer.tuning.request import TrialRunner, Trials
    from retrainer.tuning.worker import TrialOutcome, TrialSpec

    Answers = Generator[tuple[int, TrialOutcome | WorkerLost | NotStarted], None, None]
    Workers = Callable[[TrialSpec, Callable[[], int | None]], Answers]

MAX_LOST_IN_A_ROW = 5  # workers, without a trial that ended between

_PRELOADED = ["optuna", "pandas", "retrainer.pipeline.run", "retrainer.posts.store", "retrainer.tuning.worker"]

log = logging.getLogger(__name__)


def choose_runner(jobs: int, cluster: Cluster[Any] | None) -> TrialRunner:
    """Return what runs the trials: this process, several, or the workers of a cluster."""
    if cluster is not None:
        return partial(_run_on_cluster, cluster)
    return run_trials_here if jobs == 1 else partial(_run_in_processes, jobs)


def run_trials_here(trials: Trials) -> None:
    """Run the remaining trials one after another in this process; a `TrialRunner`."""
    try:
        for trial in trials.queue.claim_all(trials.is_stopping):
            run_trial(trials.queue, trial, trials.objective)
            trials.report_progress()
    except CostLimitReached as error:
        log.warning("Stopping the trials: %s", error)


def _run_in_processes(jobs: int, trials: Trials) -> None:
    def run(spec: TrialSpec, next_unit: Callable[[], int | None]) -> Answers:
        own = replace(spec, parent=os.getpid())
        return run_in_processes(partial(run_next_trial, own), next_unit, jobs, preload=_PRELOADED)

    _run_in_workers(trials, run)


def _run_on_cluster(cluster: Cluster[Any], trials: Trials) -> None:
    """Run trials in the workers of a cluster.

    Raises:
        UsageError: workers on other machines could not open the study.
    """
    is_on_server = not trials.project.settings.database.url.startswith("sqlite")
    if is_on_server and storage_file(trials.project) is not None:
        raise UsageError(
            f"the workers of a {cluster.name.capitalize()} cluster cannot open studies in a file",
            hint="Set tuning.storage_url to a PostgreSQL database",
        )

    def run(spec: TrialSpec, next_unit: Callable[[], int | None]) -> Answers:
        return cluster.run(partial(run_next_trial, spec), next_unit)

    _run_in_workers(trials, run)


def _run_in_workers(trials: Trials, run: Workers) -> None:
    """Hand out trials to workers until all are finished; those of other commands are waited for.

    Raises:
        RetrainerError: the workers can run no trial.
    """
    spec, queue, units = describe_trials(trials), trials.queue, count()
    stopped: str | None = None
    lost = 0

    def next_unit() -> int | None:
        return None if stopped or trials.is_stopping() or not queue.has_work() else next(units)

    while True:
        with closing(run(spec, next_unit)) as answers:
            for _, answer in answers:
                if isinstance(answer, WorkerLost):
                    lost += 1
                    log.warning("Lost a worker: %s", answer.reason)
                    if lost > MAX_LOST_IN_A_ROW:
                        raise RetrainerError(f"{lost} workers were lost in a row: {answer.reason}")
                    queue.recover()
                    continue
                outcome: TrialOutcome = answer  # type: ignore[assignment]  # none is withdrawn
                if outcome.error is not None:
                    raise outcome.error
                lost, stopped = 0, outcome.stopped or stopped
                if outcome.result is not None:
                    trials.report_progress()
        if stopped:
            log.warning("Stopping the trials: %s", stopped)
        if stopped or trials.is_stopping() or queue.is_finished():
            return
        time.sleep(POLL_SECONDS)  # other processes run the last trials
        queue.recover()
