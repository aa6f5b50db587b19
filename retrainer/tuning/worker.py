"""One trial in a worker process: all it needs is handed over as plain data, and the study is in its storage."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from retrainer.algorithms.events import EventBus
from retrainer.errors import CostLimitReached, DatabaseError, RetrainerError, wrap_unexpected
from retrainer.parallel.child import exit_with
from retrainer.parallel.remote_project import open_elsewhere, portable_settings
from retrainer.runtime import Runtime
from retrainer.tuning.costs import StudyBudget
from retrainer.tuning.preparation import prepare_again
from retrainer.tuning.queue import TrialQueue
from retrainer.tuning.storage import open_storage, storage_errors
from retrainer.tuning.study import load_study
from retrainer.tuning.trials import run_trial

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from retrainer.tuning.objective import Objective
    from retrainer.tuning.results import TrialResult
    from retrainer.tuning.runners import Trials


@dataclass(frozen=True)
class TrialSpec:
    """What a worker needs for a trial. It can be pickled, and holds no secret.

    Attributes:
        config_file, settings: of the project; see `parallel.remote_project.open_elsewhere`.
        stream: the stream.
        study: the name of the study, whose plan is in the storage.
        total: the number of trials wanted.
        now: later posts are not read.
        has_budget: whether there are paid forecasts, which share the budget of the study.
        parent: the process that the worker ends with, on the same machine; None if its engine sees to that.
    """

    config_file: Path
    settings: str
    stream: str
    study: str
    total: int
    now: datetime
    has_budget: bool = False
    parent: int | None = None


@dataclass(frozen=True)
class TrialOutcome:
    """What came of a call of a worker.

    Attributes:
        result: the trial; None if there was none left to claim.
        stopped: why no trial may follow, such as that the budget is used up; None if it may.
        error: why the worker can run no trial at all.
    """

    result: TrialResult | None = None
    stopped: str | None = None
    error: RetrainerError | None = None

    @property
    def must_end_worker(self) -> bool:
        """Whether the process of the worker has to end: its connection to a database may be broken."""
        return self.error is not None and self.error.code == DatabaseError.code


def describe_trials(trials: Trials) -> TrialSpec:
    """Return what a worker needs for a trial of a study."""
    project = trials.project
    return TrialSpec(
        config_file=project.config_file,
        settings=portable_settings(project),
        stream=project.stream,
        study=trials.study.name,
        total=trials.request.trials,
        now=trials.now,
        has_budget=trials.objective.budget is not None,
    )


def run_next_trial(spec: TrialSpec, _unit: int) -> TrialOutcome:
    """Claim a trial of a study and run it in this process; a failure is an outcome too."""
    if spec.parent is not None:
        exit_with(spec.parent)
    try:
        queue, objective = open_queue(spec)
        with storage_errors(queue.url):
            trial = queue.claim()
            return TrialOutcome(None if trial is None else run_trial(queue, trial, objective))
    except CostLimitReached as error:
        return TrialOutcome(stopped=str(error))
    except Exception as error:  # noqa: BLE001  the call reports it
        return TrialOutcome(error=error if isinstance(error, RetrainerError) else wrap_unexpected(error))


@lru_cache(maxsize=1)
def open_queue(spec: TrialSpec) -> tuple[TrialQueue, Objective]:
    """Open a study and its posts; they stay open for the next trial of this process.

    Raises:
        PostsError: this process finds other training posts, plugins or settings than the study has.
        RetrainerError: the project or the storage cannot be opened.
    """
    project = open_elsewhere(spec.config_file, spec.settings, os.environ).for_stream(spec.stream)
    runtime = Runtime(events=EventBus(lambda _: {}, mute=True), answers_dir=project.answers_dir)
    study = load_study(open_storage(project), spec.study)
    objective = prepare_again(project, runtime, study.plan, spec.now)
    if spec.has_budget:
        budget = StudyBudget.find(project.registry.database, study.budget_id, study.name, spec.now)
        objective = replace(objective, budget=budget)
    return TrialQueue(study, spec.total), objective
