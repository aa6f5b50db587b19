"""The worker processes of this machine; see `Backend`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from retrainer.fleet.worker import run_unit
from retrainer.parallel.local import run_in_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from retrainer.fleet.units import Outcome, Unit, WorkerSpec
    from retrainer.parallel.child import NotStarted, WorkerLost

_PRELOADED = ["pandas", "psutil", "retrainer.fleet.worker", "retrainer.posts.store", "retrainer.registry.database"]
_PRELOADED += ["retrainer_baseline"]


class LocalProcesses:
    """Runs units in processes of this machine; see `Backend`."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs

    def run(
        self, spec: WorkerSpec, next_unit: Callable[[], Unit | None], is_stopping: Callable[[], bool]
    ) -> Generator[tuple[Unit, Outcome | WorkerLost | NotStarted], None, None]:
        """Run units in up to `jobs` processes; each makes one run after another."""
        del is_stopping  # no unit waits in a worker
        yield from run_in_processes(partial(run_unit, spec), next_unit, self._jobs, preload=_PRELOADED)
