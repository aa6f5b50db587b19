"""One trial in a worker process: all it needs is handed over as plain data, and the study is in its storage."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from retrainer.algorithms.events import EventBus
from retrainer.parallel.remote_project import open_elsewhere, portable_settings
from retrainer.runtime import Runtime
from retrainer.tuning.preparation import prepare_again
from retrainer.tuning.storage import open_storage
from retrainer.tuning.study import load_study
from retrainer.tuning.trials import run_trial

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from retrainer.tuning.objective import Objective
    from retrainer.tuning.request import Trials
    from retrainer.tuning.results import TrialResult
    from retrainer.tuning.study import OpenStudy


@dataclass(frozen=True)
class TrialSpec:
    """What a worker needs for a trial. It can be pickled, and holds no secret.

    Attributes:
        config_file, settings: of the project; see `parallel.remote_project.open_elsewhere`.
        stream: the stream.
        study: the name of the study, whose plan is in the storage.
        now: later posts are not read.
        budget_id: of the budget that the paid forecasts of all trials share; None without a limit.
    """

    config_file: Path
    settings: str
    stream: str
    study: str
    now: datetime
    budget_id: str | None = None


def describe_trials(trials: Trials, budget_id: str | None = None) -> TrialSpec:
    """Return what a worker needs for a trial of a study."""
    project = trials.project
    settings = portable_settings(project)
    return TrialSpec(project.config_file, settings, project.stream, trials.study.name, trials.now, budget_id)


def run_trial_of(spec: TrialSpec) -> TrialResult:
    """Run one trial of a study in this process, with the project as it is handed over.

    Raises:
        PostsError: this process finds other training posts than the study has.
        RetrainerError: the project or the storage cannot be opened.
    """
    return run_trial(*open_study(spec))


@lru_cache(maxsize=1)
def open_study(spec: TrialSpec) -> tuple[OpenStudy, Objective]:
    """Open a study and its posts; they stay open for the next trial of this process."""
    project = open_elsewhere(spec.config_file, spec.settings, os.environ).for_stream(spec.stream)
    runtime = Runtime(events=EventBus(lambda _: {}, mute=True), answers_dir=project.answers_dir)
    study = load_study(open_storage(project), spec.study)
    return study, prepare_again(project, runtime, study.plan, spec.now)
