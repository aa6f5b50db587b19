"""A fleet whose workers are killed at random, and whose database goes away."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import sqlalchemy as sa

from retrainer.fleet import worker
from retrainer.fleet.run import run_fleet
from retrainer.fleet.selection import select_units
from retrainer.fleet.units import WorkerSpec
from retrainer.registry.tables import ModelVersion
from tests.command_line import packages
from tests.conftest import (
    NOW,
    administer,
    configure,
    open_project,
    patient_postgresql,
    regular_posts,
    runtime_of,
)
from tests.fleet.conftest import ThisProcess, add_streams
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins

NAMES = [f"stream {number:02d}" for number in range(50)]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "retrainer", "train", "timing", "--all-streams", *arguments],
        cwd=folder,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the worker processes of a fleet: the children of its fork server."""
    try:
        fleet = psutil.Process(process.pid)
        return [worker for server in fleet.children() for worker in server.children()]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.slow
def test_fifty_streams_survive_workers_that_are_killed_at_random(folder: Path, retrainer: Runner) -> None:
    add_streams(folder, NAMES)
    project = open_project(folder)
    choose = random.Random(17)  # noqa: S311  no secret
    kills = 0
    process = start(folder, "--jobs", "4", "--json")
    while process.poll() is None and kills < 15:
        time.sleep(choose.uniform(0.05, 0.4))  # so that there are enough before a fast machine is done
        if workers := workers_of(process):
            with suppress(psutil.NoSuchProcess):  # it ended just now
                choose.choice(workers).kill()
                kills += 1
    out, err = process.communicate(timeout=600)
    document = json.loads(out)
    assert process.returncode in {0, 1}, err
    assert kills >= 10
    assert {run["stream"] for run in document["training_runs"]} == set(NAMES)
    assert {error["code"] for error in document["errors"]} <= {"worker_lost"}
    assert len(document["errors"]) <= kills // 2  # a unit fails once two of its workers were killed
    _require_consistent(project, document)
    doctor = retrainer("doctor")
    assert doctor.code == 0, doctor.out
    rest = retrainer("train", "timing", "--all-streams", "--if-due", "--jobs", "4", "--json")
    assert rest.code == 0
    assert rest.json["count"] == len(document["errors"])
    assert all(project.for_stream(name).registry.get_production("timing") for name in NAMES)


@pytest.mark.slow
def test_a_fifth_of_the_streams_may_fail(folder: Path, retrainer: Runner) -> None:
    add_streams(folder, NAMES[2:10])
    project = open_project(folder)
    for name in NAMES[:2]:
        project.posts.for_stream(name).add(regular_posts(5), NOW)
    done = retrainer("train", "timing", "--all-streams", "--jobs", "4", "--json")
    assert done.code == 3
    assert done.json["outcomes"] == {"promoted": 8, "not_promoted": 0, "failed": 2, "skipped": 0}
    assert {error["stream"] for error in done.json["errors"]} == set(NAMES[:2])
    _require_consistent(project, done.json)


@pytest.mark.slow
def test_a_fleet_goes_on_after_postgresql_was_restarted(sqlite_folder: Path, retrainer: Runner) -> None:
    with tempfile.TemporaryDirectory(prefix="pg") as data:  # short, as in tests/conftest.py
        server = start_postgresql(data)
        configure(sqlite_folder, url=f'"postgresql+psycopg://postgres@/postgres?host={data}"')
        add_streams(sqlite_folder, NAMES[:30])
        process = start(sqlite_folder, "--jobs", "4", "--json")
        project = open_project(sqlite_folder)
        while len(project.registry.across(None).list_runs(limit=5)) < 5:
            assert process.poll() is None
            time.sleep(0.05)
        project.close()
        server.stop()
        time.sleep(8)  # in which each run without a database would have failed
        with patient_postgresql():
            server.ensure_postgres_running()
        out, err = process.communicate(timeout=600)
        document = json.loads(out)
        assert process.returncode == 0, err
        assert {run["stream"] for run in document["training_runs"]} == set(NAMES[:30])
        assert document["errors"] == []
        _require_consistent(open_project(sqlite_folder), document)
        assert retrainer("train", "timing", "--all-streams", "--if-due", "--jobs", "4").code == 0
        assert retrainer("doctor").code == 0
        server.cleanup()


@pytest.mark.slow
@pytest.mark.parametrize("step", ["train", "predict"])
def test_a_crash_of_postgresql_may_lose_the_start_of_a_run_but_no_version(
    step: str, sqlite_folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("retrainer.registry.database._PING_AFTER_SECONDS", 0.0)
    reached, go_on = sqlite_folder / "reached", sqlite_folder / "go_on"
    wait = f"import time; Path({str(reached)!r}).touch()\nwhile not Path({str(go_on)!r}).exists(): time.sleep(0.01)"
    plugins.add("waiting", timing_algorithm("waiting", **{step: wait}))
    with tempfile.TemporaryDirectory(prefix="pg") as data:
        server = start_postgresql(data)
        configure(sqlite_folder, url=f'"postgresql+psycopg://postgres@/postgres?host={data}"')
        add_streams(sqlite_folder, ["news"])
        project = open_project(sqlite_folder)
        selected = select_units(project, ["news"], ["timing"], NOW, if_due=False)
        processes = [psutil.Process(server.get_pid()), *psutil.Process(server.get_pid()).children()]
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # a process that cleans up may have ended
                if any(name in " ".join(process.cmdline()) for name in ("walwriter", "background writer")):
                    process.suspend()  # so that nothing is on disk but what a commit waited for

        ended = threading.Event()

        def crash() -> None:
            while not (reached.exists() or ended.wait(0.01)):
                pass
            try:
                for process in {*processes, *processes[0].children()}:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                psutil.wait_procs(processes, timeout=600)
                server.ensure_postgres_running()
            finally:
                go_on.touch()

        crashing = threading.Thread(target=crash, daemon=True)
        crashing.start()
        spec = WorkerSpec(project.config_file, algorithm="waiting")
        with packages(plugins.environ["PYTHONPATH"]):
            result = run_fleet(project, runtime_of(project), spec, selected, ThisProcess())
        ended.set()
        crashing.join(600)
        own = project.for_stream("news")
        (run,) = own.registry.list_runs()
        lost = [record.message for record in caplog.records if "is no longer in the database" in record.message]
        assert len(lost) == (step == "train"), lost  # a registered version is not lost
        assert all(line.startswith("timing of 'news': the run 'run_") and "Trying again" in line for line in lost)
        (outcome,) = result.outcomes
        assert (outcome.kind, outcome.run_id) == ("promoted", run.run_id)
        (version,) = own.registry.list_versions()
        assert (version.version_id, version.is_production) == (run.model_version_id, True)
        assert project.artifacts.unknown_versions("timing") == project.artifacts.find_abandoned() == []
        worker.close_project()
        project.close()
        server.cleanup()


def start_postgresql(data: str) -> Any:
    """Start a PostgreSQL server on which nothing is written but what a test does, and no restart waits for the disk."""
    with patient_postgresql() as module:
        server = module.get_server(data, cleanup_mode="stop")
    with administer(f"postgresql+psycopg://postgres@/{{name}}?host={data}") as connection:
        for setting in ("fsync", "full_page_writes", "autovacuum"):
            connection.execute(sa.text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    return server


def _require_consistent(project: Any, document: dict[str, Any]) -> None:
    """Check that no run is left open, each failure has its reason, and no model has two production versions."""
    runs = project.registry.across(None).list_runs()
    assert {run.status for run in runs} <= {"completed", "failed"}
    assert all(run.error for run in runs if run.status == "failed")
    completed = {run.run_id for run in runs if run.status == "completed"}
    reported = {run["run_id"] for run in document["training_runs"] if run["outcome"] in {"promoted", "not_promoted"}}
    assert completed == reported
    count = sa.select(sa.func.count()).where(ModelVersion.is_production).group_by(ModelVersion.stream)
    with project.registry.database.read() as session:
        assert set(session.scalars(count)) == {1}
