"""Where the trials of a study run: in this process, in several, or in the workers of a cluster.

A worker claims its trials itself, so that what is running is known wherever it runs. See `queue` for what becomes of
the trial of a worker that is lost.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from retrainer.errors import CostLimitReached, RetrainerError, UsageError
from retrainer.parallel.child import WorkerLost
from retrainer.parallel.local import run_in_processes
from retrainer.tuning.queue import POLL_SECONDS
from retrainer.tuning.results import FINISHED, TuningProgress
from retrainer.tuning.storage import storage_file
from retrainer.tuning.study import best_trial
from retrainer.tuning.trials import run_trial
from retrainer.tuning.worker import describe_trials, run_next_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import datetime

    from retrainer.parallel.child import NotStarted
    from retrainer.parallel.cluster import Cluster
    from retrainer.project import Project
    from retrainer.runtime import Runtime
    from retrainer.tuning.objective import Objective
    from retrainer.tuning.queue import TrialQueue
    from retrainer.tuning.request import TuningRequest
    from retrainer.tuning.study import OpenStudy
    from retrainer.tuning.worker import TrialOutcome, TrialSpec

    Answers = Generator[tuple[int, TrialOutcome | WorkerLost | NotStarted], None, None]
    Workers = Callable[[TrialSpec, Callable[[], int | None]], Answers]

MAX_LOST_IN_A_ROW = 5  # workers, without a trial that ended between

_PRELOADED = ["optuna", "pandas", "retrainer.pipeline.run", "retrainer.posts.store", "retrainer.tuning.worker"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trials:
    """The trials of a study that are still to be run by a call.

    Attributes:
        project, runtime: what the call works with.
        request: what it asks for.
        now: the time that the call counts from; no later post is used.
        study: the study.
        queue: its trials.
        objective: what a trial is judged by, on the posts of this process.
        on_progress: called after every trial.
        started: when the trials began, by the monotonic clock.
        before: the number of trials that counted before this call.
    """

    project: Project
    runtime: Runtime
    request: TuningRequest
    now: datetime
    study: OpenStudy
    queue: TrialQueue
    objective: Objective
    on_progress: Callable[[TuningProgress], None]
    started: float
    before: int

    def is_stopping(self) -> bool:
        """Whether no trial may be started any more: the time is up, or another process has ended the study."""
        limit = self.request.timeout_seconds
        is_out_of_time = limit is not None and time.monotonic() - self.started >= limit
        return is_out_of_time or self.study.outcome() is not None

    def report_progress(self) -> None:
        """Report how far the study is."""
        trials = self.study.trials()
        done = sum(trial.state in FINISHED for trial in trials)
        best = best_trial(self.study.plan, trials)
        total, own = self.request.trials, done - self.before
        left = (time.monotonic() - self.started) / own * max(total - done, 0) if own > 0 else None
        self.on_progress(TuningProgress(done, total, None if best is None else best.value, left))


class TrialRunner(Protocol):
    """Runs the remaining trials of a study: in this process, in several, or on the workers of a cluster."""

    def __call__(self, trials: Trials) -> None:
        """Run trials until the study has as many as the request asks for, or the time is up.

        Raises:
            KeyboardInterrupt: the trials were interrupted.
        """


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
