"""Compare reading and promoting with 10 and with 10,000 versions, as ratios within one run.

make bench-registry
"""

from __future__ import annotations

import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import insert

from retrainer.algorithms.events import EventBus
from retrainer.pipeline.promotion import promote_version
from retrainer.pipeline.run import retrain
from retrainer.posts.sample import sample_posts
from retrainer.project import Project, create_project
from retrainer.registry.promotions import PRODUCTION_CHANGE_ACTIONS
from retrainer.registry.tables import LedgerEntry, ModelVersion, TrainingRun
from retrainer.render.events import event_document
from retrainer.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

RUNTIME = Runtime(EventBus(event_document, mute=True))
REPEATS = 200
SIZES = (10, 10_000)


def filled_project(folder: Path, versions: int) -> tuple[Project, list[str]]:
    """Create a project with this many versions, two of them real; return it and the ids of these two."""
    create_project(folder)
    project = Project.find(folder, {"RETRAINER_TIMING_MODEL__ALGORITHM": "baseline"})
    project.posts.add(sample_posts(), datetime.now(UTC))
    real = [
        str(run.model_version_id)
        for _ in range(2)
        if (run := retrain(project, RUNTIME, "timing", datetime.now(UTC)).run)
    ]
    add_old_versions(project, versions - 2)
    return project, real


def add_old_versions(project: Project, count: int) -> None:
    """Record archived versions and their rejected runs: copies of the first ones there are."""
    start = datetime(2015, 1, 1, tzinfo=UTC)
    model, past_run, entry = (_first_row(project, table) for table in (ModelVersion, TrainingRun, LedgerEntry))
    version_ids = [f"baseline_timing_old_{number:06d}" for number in range(count)]
    times = [start + timedelta(hours=6 * number) for number in range(count)]
    pairs = list(zip(version_ids, times, strict=True))
    old = {"status": "archived", "is_production": False, "promoted_at": None}
    with project.registry.database.write() as session:
        rows = [{**model, **old, "version_id": version, "trained_at": at} for version, at in pairs]
        runs = [
            {
                **past_run,
                "run_id": f"run_{version}",
                "model_version_id": version,
                "started_at": at,
                "compared_with": None,
            }
            for version, at in pairs
        ]
        decisions = [
            {**entry, "entry_id": None, "action": "rejection", "version_id": version, "recorded_at": at}
            for version, at in pairs
        ]
        for table, values in ((ModelVersion, rows), (TrainingRun, runs), (LedgerEntry, decisions)):
            if values:
                session.execute(insert(table), values)


def _first_row(project: Project, table: type[ModelVersion | TrainingRun | LedgerEntry]) -> dict[str, object]:
    with project.registry.database.read() as session:
        row = session.query(table).first()
        return {column.key: getattr(row, column.key) for column in table.__table__.columns}


def seconds(call: Callable[[], object]) -> float:
    """Return the wall time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    """Time each call on both projects in turn, and print the medians and their ratio."""
    with tempfile.TemporaryDirectory() as root:
        projects = [filled_project(Path(root) / str(size), size) for size in SIZES]

        def history(project: Project, _real: list[str]) -> object:
            changes = project.registry.list_ledger_entries(actions=PRODUCTION_CHANGE_ACTIONS, limit=10)
            return project.registry.list_runs(limit=10), changes

        def production(project: Project, _real: list[str]) -> object:
            return project.registry.get_production("timing"), project.registry.get_production("content")

        def promote(project: Project, real: list[str]) -> object:
            production = project.registry.get_production("timing")
            other = real[0] if production and production.version_id == real[1] else real[1]
            return promote_version(project, RUNTIME, other, "benchmark", datetime.now(UTC))

        for call in (history, production, promote):
            times: list[list[float]] = [[], []]
            for _ in range(REPEATS):
                for column, (project, real) in zip(times, projects, strict=True):
                    column.append(seconds(lambda c=call, p=project, r=real: c(p, r)))  # type: ignore[misc]
            few, many = (statistics.median(column) for column in times)
            print(
                f"{call.__name__:12} {SIZES[0]} versions {few * 1000:7.2f} ms   "
                f"{SIZES[1]} versions {many * 1000:7.2f} ms   ratio {many / few:.2f}"
            )
        for project, _ in projects:
            project.close()


if __name__ == "__main__":
    main()
