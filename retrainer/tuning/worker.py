"""One trial in a worker process: all it needs is handed over as plain data, and the study is in its storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from retrainer.project import Project
    from retrainer.tuning.request import Trials
    from retrainer.tuning.results import TrialResult


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
    raise NotImplementedError


def run_trial_of(spec: TrialSpec, project: Project | None = None) -> TrialResult:
    """Run one trial of a study in this process.

    Args:
        spec: of the study.
        project: the open project; None to open it by the settings that were handed over.

    Raises:
        PostsError: this process finds other training posts than the study has.
        RetrainerError: the project or the storage cannot be opened.
    """
    raise NotImplementedError
