"""How many runs the registry of a project on PostgreSQL records a second; for `benchmarks.fleet`."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.fleet_projects import Template, stream_name
from retrainer.fleet.worker import open_project
from retrainer.registry import database
from retrainer.registry.promotions import Decision
from retrainer.registry.runs import Spending
from retrainer.registry.tables import ModelEvaluation, ModelVersion, VersionFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

    from retrainer.project import Project

WRITES = 5  # transactions in `write_run`


class WriteRate(NamedTuple):
    """What several processes wrote at the same time.

    Attributes:
        runs, commits: a second, of all processes together.
    """

    processes: int
    runs: float

    @property
    def commits(self) -> float:
        """Commits a second."""
        return self.runs * WRITES


def write_run(project: Project, template: Template, suffix: str) -> None:
    """Record a run of a stream that trained a version, evaluated it and did not promote it."""
    registry, now = project.registry, datetime.now(UTC)
    rows, _ = template.copy(project.stream, suffix)
    version = ModelVersion(**rows[ModelVersion][0] | {"status": "trained", "is_production": False, "trained_at": now})
    run = registry.start_run("timing", version.algorithm, now, None)
    registry.record_split(run.run_id, 298, 75)
    *model, forecasts = (VersionFile(**row) for row in sorted(rows[VersionFile], key=lambda row: "/" in row["path"]))
    registry.register_version(version, model, run.run_id)
    evaluation = ModelEvaluation(**rows[ModelEvaluation][0] | {"run_id": run.run_id, "evaluated_at": now})
    registry.record_evaluation(evaluation, forecasts)
    decision = Decision(promote=False, reason="Not better", expected_production=None)
    registry.complete_run(run.run_id, decision, now, None, Spending(0, 0.0, 0))
    registry.archive_old_versions("timing", 10, now)


def measure_writes(
    config_file: Path, counts: Sequence[int], seconds: float, *, lock_per_process: bool = False
) -> list[WriteRate]:
    """Measure how many runs several processes record a second, each those of streams of its own.

    Args:
        config_file: of a project with registered streams.
        counts: the numbers of processes.
        seconds: how long each number of them writes.
        lock_per_process: whether each process has an advisory lock of its own, as if there were one a stream.
    """
    processes = multiprocessing.get_context("forkserver")
    rates = []
    for count in counts:
        barrier = processes.Barrier(count)
        arguments = [(config_file, number, seconds, lock_per_process) for number in range(count)]
        with ProcessPoolExecutor(count, processes, _share, (barrier,)) as pool:
            rates.append(WriteRate(count, sum(pool.map(_write, *zip(*arguments, strict=True)))))
    return rates


def _share(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603  set once per process
    _barrier = barrier


_barrier: Barrier


def _write(config_file: Path, number: int, seconds: float, lock_per_process: bool) -> float:
    """Record runs until the time is over, and return how many a second."""
    if lock_per_process:
        database._ADVISORY_LOCK += 1 + number  # noqa: SLF001
    project = open_project(config_file)
    template = Template(project.for_stream(stream_name(number)))
    own = project.for_stream(stream_name(number))
    prefix = f"{time.time_ns():x}_{number}"
    write_run(own, template, f"{prefix}_first")
    _barrier.wait()
    runs, started = 0, time.monotonic()
    while time.monotonic() - started < seconds:
        write_run(own, template, f"{prefix}_{runs}")
        runs += 1
    return runs / (time.monotonic() - started)
