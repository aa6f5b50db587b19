"""Fleets whose workers are lost, whose database goes away, and whose runs others close or make."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import sqlalchemy as sa

from retrainer.fleet import worker
from retrainer.fleet.local import LocalProcesses
from retrainer.fleet.run import run_fleet
from retrainer.fleet.selection import select_units
from retrainer.fleet.units import Unit, WorkerSpec
from retrainer.parallel.child import WorkerLost
from retrainer.pipeline.run import retrain
from retrainer.registry.tables import ModelVersion
from tests.command_line import packages
from tests.conftest import NOW, configure, open_project, runtime_of
from tests.fleet.conftest import ThisProcess, add_streams
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from retrainer.fleet.units import Outcome
    from retrainer.project import Project
    from tests.plugins_for_tests import Plugins

on_sqlite = pytest.mark.parametrize("folder_on_each_database", ["sqlite"], indirect=True)  # nothing about the database


class Deadly:
    """A unit that ends the process of the worker that receives it."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


class Losing:
    """A backend whose workers are lost, after their run or before it."""

    def __init__(self, *, after_run: bool) -> None:
        self.after_run = after_run
        self.units: list[Unit] = []

    def run(
        self, spec: WorkerSpec, next_unit: Callable[[], Unit | None], is_stopping: Callable[[], bool]
    ) -> Generator[tuple[Unit, Outcome | WorkerLost], None, None]:
        del is_stopping
        while (unit := next_unit()) is not None:
            self.units.append(unit)
            if self.after_run:
                worker.run_unit(spec, unit)
            yield unit, WorkerLost("it ended", os.getpid())


def test_the_end_of_the_process_that_forks_workers_is_an_error_and_no_interrupt(tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text("import os\nos._exit(1)\n")
    script = (
        "from retrainer.parallel.local import run_in_processes\n"
        "list(run_in_processes(len, lambda: 'unit', 1, preload=['deadly']))\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert "RetrainerError: cannot start a worker process" in done.stderr


@on_sqlite
@pytest.mark.parametrize(
    "unit",
    [pytest.param(Deadly(), id="lost"), pytest.param(Unit("news", "timing"), id="database", marks=pytest.mark.slow)],
)
def test_a_worker_that_ends_leaves_no_open_file(unit: Unit, folder: Path) -> None:
    configure(folder, url='"postgresql+psycopg://127.0.0.1:1/x"')  # which does not answer
    units = iter([unit] * 4)
    spec = WorkerSpec(folder / "config" / "config.yaml")
    results = LocalProcesses(1).run(spec, lambda: next(units, None), lambda: False)
    process = psutil.Process()
    counts = [process.num_fds() for _ in results]
    assert len(counts) == 4
    assert max(counts) == counts[0]  # a file of an earlier test may be closed meanwhile


@on_sqlite
def test_no_unit_is_handed_out_while_the_database_does_not_answer(
    folder: Path, streams: list[str], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrainer.fleet.run.DATABASE_SECONDS", 0)
    selected = select_units(project, streams, ["timing"], NOW, if_due=False)
    runtime = runtime_of(project)
    project.registry.database.engine.dispose()
    path = folder / "data" / "retrainer.db"
    path.rename(path.with_suffix(".away"))
    path.mkdir()
    spec = WorkerSpec(folder / "config" / "config.yaml")
    result = run_fleet(project, runtime, spec, selected, LocalProcesses(1))
    assert result.exit_code == 1
    assert result.outcomes == []
    assert len(result.not_started) == len(streams)
    assert (result.stopped or "").startswith("Stopped after 0 of 3 runs: the database")


@on_sqlite
@pytest.mark.usefixtures("_no_worker_keeps_the_project")
def test_production_whose_algorithm_is_missing_stops_no_run(streams: list[str], project: Project) -> None:
    own = project.for_stream("news")
    retrain(own, runtime_of(own), "timing", NOW)
    with own.registry.database.write() as session:
        session.execute(sa.update(ModelVersion).values(algorithm="missing"))
    (last,) = own.registry.list_runs()
    outcome = worker.run_unit(WorkerSpec(project.config_file), Unit("news", "timing", last.run_id))
    assert outcome.kind == "not_promoted", outcome.error
    assert outcome.needs_attention


@on_sqlite
@pytest.mark.usefixtures("_no_worker_keeps_the_project")
def test_a_unit_with_a_damaged_value_is_not_tried_again(streams: list[str], project: Project) -> None:
    own = project.for_stream("news")
    retrain(own, runtime_of(own), "timing", NOW)
    selected = select_units(project, streams, ["timing"], NOW, if_due=False)
    with own.registry.database.write() as session:
        session.execute(sa.text("UPDATE retrainer_model_versions SET hyperparameters = '{'"))
    backend = ThisProcess()
    result = run_fleet(project, runtime_of(project), WorkerSpec(project.config_file), selected, backend)
    (failure,) = result.failures
    assert (failure.stream, failure.error and failure.error.code) == ("news", "damaged_value")
    assert result.counts["promoted"] == 2
    assert backend.units == selected.units


@on_sqlite
@pytest.mark.usefixtures("_no_worker_keeps_the_project")
def test_a_run_that_another_process_closed_has_failed(
    folder: Path, streams: list[str], project: Project, plugins: Plugins
) -> None:
    close = f"""
        from datetime import UTC, datetime
        from retrainer.project import Project
        other = Project.find(Path({str(folder)!r}), {{}}).for_stream("news")
        for run in other.registry.list_running_runs():
            other.registry.fail_run(run.run_id, "taken for dead", datetime.now(UTC))
        other.close()
    """
    plugins.add("closed", timing_algorithm("closed", train=close))
    with packages(plugins.environ["PYTHONPATH"]):
        outcome = worker.run_unit(WorkerSpec(project.config_file, algorithm="closed"), Unit("news", "timing"))
    assert outcome.kind == "failed"
    assert outcome.error is not None
    assert "was closed by another process: taken for dead" in outcome.error.message


@on_sqlite
@pytest.mark.usefixtures("_no_worker_keeps_the_project")
def test_runs_for_the_same_past_time_are_made_once_by_two_fleets(streams: list[str], project: Project) -> None:
    spec = WorkerSpec(project.config_file, as_of=NOW)

    def select() -> Unit:
        (unit,) = select_units(project, ["news"], ["timing"], NOW, if_due=False, as_of=NOW).units
        return unit

    first = other = select()
    assert worker.run_unit(spec, first).kind == "promoted"
    assert worker.run_unit(spec, other).kind == "skipped"
    assert worker.run_unit(spec, select()).run_id is not None  # a later fleet makes them again


@pytest.mark.slow
@on_sqlite
@pytest.mark.usefixtures("_no_worker_keeps_the_project")
def test_a_run_for_a_past_time_whose_worker_was_lost_afterwards_counts(streams: list[str], project: Project) -> None:
    own = project.for_stream("news")
    retrain(own, runtime_of(own), "timing", NOW)
    as_of = NOW - timedelta(days=1)
    selected = select_units(project, ["news"], ["timing"], as_of, if_due=False, as_of=as_of)
    spec, backend = WorkerSpec(project.config_file, as_of=as_of), Losing(after_run=True)
    result = run_fleet(project, runtime_of(project), spec, selected, backend)
    (outcome,) = result.outcomes
    assert outcome.error is None
    assert own.registry.get_run(str(outcome.run_id)).as_of == as_of
    assert len(backend.units) == 1


@on_sqlite
def test_a_worker_that_was_lost_before_its_run_did_not_make_an_earlier_one(
    streams: list[str], project: Project
) -> None:
    own = project.for_stream("news")
    earlier = own.registry.start_run("timing", "baseline", NOW, None)  # by a process with the same number
    own.registry.fail_run(earlier.run_id, "too few posts", NOW)
    selected = select_units(project, ["news"], ["timing"], NOW, if_due=False)
    backend = Losing(after_run=False)
    result = run_fleet(project, runtime_of(project), WorkerSpec(project.config_file), selected, backend)
    assert [str(outcome.error) for outcome in result.outcomes] == ["the run was interrupted: it ended"]
    assert len(backend.units) == 2


@on_sqlite
@pytest.mark.usefixtures("_no_worker_keeps_the_project")
def test_a_retry_pauses_while_the_run_of_the_lost_worker_is_in_progress(
    streams: list[str], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = project.for_stream("news").registry
    lost = registry.start_run("timing", "baseline", NOW, None)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            registry.fail_run(lost.run_id, "it counts as dead", NOW)

    monkeypatch.setattr(worker, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    outcome = worker.run_unit(WorkerSpec(project.config_file), Unit("news", "timing", is_retry=True))
    assert outcome.kind == "promoted", outcome.error
    assert pauses == [worker.RETRY_SECONDS] * 3


@pytest.mark.usefixtures("_no_worker_keeps_the_project")
def test_the_start_of_a_run_of_a_fleet_does_not_wait_for_the_disk(sqlite_folder: Path, postgresql_url: str) -> None:
    configure(sqlite_folder, url=f'"{postgresql_url}"')
    add_streams(sqlite_folder, ["news"])
    spec = WorkerSpec(open_project(sqlite_folder).config_file, algorithm="baseline")
    waits: list[str] = []

    def record(connection: sa.Connection) -> None:
        waits.append(connection.exec_driver_sql("SHOW synchronous_commit").scalar_one())

    project = worker.open_project(spec.config_file, spec.settings)
    sa.event.listen(project.registry.database.engine, "commit", record)
    assert worker.run_unit(spec, Unit("news", "timing")).kind == "promoted"
    assert waits[:5] == ["off", "off", "on", "off", "on"]  # registered, completed: on; what follows is the silence
