"""Many processes at once, killed at any moment: what the registry promises holds on both databases."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from retrainer.doctor import examine
from retrainer.pipeline.recovery import recover
from retrainer.pipeline.run import retrain
from retrainer.registry.tables import ModelVersion
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.project import Project
    from tests.conftest import Plugins

ROOT = Path(__file__).parents[2]
SEED = 20240601

IMPROVING = """
    import numpy as np
    from pydantic import BaseModel, ConfigDict
    from retrainer.algorithms import Algorithm, hookimpl

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")
        hours: float = 20.0

    @hookimpl
    def algorithm():
        return Algorithm(name="improving", model_types=("timing",), summary="As told.", config=Options)

    @hookimpl
    def train(posts, config):
        return {"hours": config.hours, "ballast": list(range(2000))}

    @hookimpl
    def predict(model, origins):
        from retrainer.model_types.timing import TimingForecasts
        quantiles = np.full((len(origins), 99), model["hours"])
        return TimingForecasts(quantiles, quantiles[:, 0])
"""


def start(*arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a worker; it waits for a line after its imports."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.registry.worker", *arguments],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def go(processes: list[subprocess.Popen[str]]) -> None:
    """Let workers go at once, when all of them are ready."""
    for process in processes:
        assert process.stdout
        line = process.stdout.readline()
        assert line == "ready\n", process.stderr.read() if process.stderr else line
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()


@pytest.mark.parametrize("times", [5, pytest.param(20, marks=pytest.mark.soak)])
def test_eight_processes_make_first_use_of_one_database(times: int, folder: Path) -> None:
    database = Path(folder / "data" / "retrainer.db")
    for _ in range(times):
        processes = [start("first_use", str(folder)) for _ in range(8)]
        go(processes)
        for process in processes:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
        if database.exists():
            for path in database.parent.glob("retrainer.db*"):
                path.unlink()
        else:
            _empty(folder)


def _empty(folder: Path) -> None:
    """Take everything out of a PostgreSQL database."""
    project = open_project(folder)
    engine = sa.create_engine(project.settings.database.url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()


@pytest.fixture
def six_versions(folder: Path) -> Project:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    for _ in range(6):
        retrain(project, runtime_of(project), "timing", NOW)
    return project


def production_ids(project: Project) -> list[str]:
    with project.registry.database.read() as session:
        query = sa.select(ModelVersion.version_id).where(
            ModelVersion.model_type == "timing", ModelVersion.is_production
        )
        return list(session.scalars(query))


@pytest.mark.parametrize("seconds", [20])
def test_sixteen_processes_change_production_and_a_watcher_always_sees_one(
    seconds: float, six_versions: Project
) -> None:
    project = six_versions
    processes = [start("change", str(project.folder), str(seconds), str(SEED + n)) for n in range(16)]
    go(processes)
    link = project.models_dir / "timing_model"
    looks = 0
    while any(process.poll() is None for process in processes):
        (live,) = production_ids(project)
        assert live
        version = project.registry.get_version(link.readlink().name)
        assert project.artifacts.find_file_problems(version) == [], "the link resolves to an intact folder"
        looks += 1
    changes = 0
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        changes += int(out)
    assert looks > 50
    assert changes > 50
    (live,) = production_ids(project)
    assert link.readlink().name == live
    entries = project.registry.list_ledger_entries(model_type="timing", actions=("promotion", "rollback"))
    for later, earlier in pairwise(entries):
        assert later.from_version_id == earlier.to_version_id, "each change starts from what the one before left"
    assert entries[0].to_version_id == live


def test_runs_of_one_type_never_overlap(folder: Path) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    processes = [start("train", str(folder)) for _ in range(6)]
    go(processes)
    most = 0
    while any(process.poll() is None for process in processes):
        most = max(most, len(project.registry.list_running_runs()))
    codes = []
    for process in processes:
        _, err = process.communicate(timeout=60)
        codes.append(process.returncode)
        assert process.returncode in {0, 4}, err
    assert 0 in codes
    assert most == 1, "never two at once"
    assert [run.status for run in project.registry.list_runs("timing")] == ["completed"] * codes.count(0)


def test_a_run_waits_for_another_when_told_to(folder: Path) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    processes = [start("train", str(folder), "--wait", "50") for _ in range(3)]
    go(processes)
    codes = [process.wait(timeout=100) for process in processes]
    for process in processes:
        process.communicate()
    assert codes == [0, 0, 0]


@pytest.mark.parametrize("kills", [30, pytest.param(300, marks=pytest.mark.soak)])
def test_a_run_killed_at_any_moment_loses_nothing(
    kills: int, folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Each run is better than the last, so that it promotes, and old versions are archived on the way."""
    if kills < 100 and "postgresql" in request.node.name:
        pytest.skip("the short version runs on SQLite; `make soak` runs the long one on both")
    plugins.add("improving", IMPROVING)
    monkeypatch.syspath_prepend(str(plugins.site))
    configure(folder, keep_versions="3", min_improvement_threshold="0")
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    choose = random.Random(SEED)  # noqa: S311
    span = _seconds_of_a_run(folder, plugins)
    killed = promoted = attempts = 0
    while killed < kills:
        attempts += 1
        assert attempts < 4 * kills, f"only {killed} runs were still going on when they were killed"
        env = {**plugins.environ, "RETRAINER_TIMING_MODEL__IMPROVING__HOURS": str(19.0 - 13 * attempts / (4 * kills))}
        process = start("train", str(folder), "--algorithm", "improving", env=env)
        go([process])
        time.sleep(choose.uniform(0, span))  # the moment is the point
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        is_killed = process.returncode == -signal.SIGKILL
        killed += is_killed
        promoted += "✓ Model promoted to production!" in err
        span *= 1.03 if is_killed else 0.85  # moments up to the end of a run, however fast the machine is just now
        recover(project, runtime_of(project))  # what every command does first
        assert examine(project) == [], f"after attempt {attempts}"
        _nothing_reported_is_missing(project, err)
    last = retrain(project, runtime_of(project), "timing", datetime.now(UTC), algorithm="baseline")
    assert last.run
    assert last.run.status == "completed"
    assert promoted > 0, "some runs were killed after their promotion, or came to their end"
    assert {run.status for run in project.registry.list_runs()} == {"completed", "failed"}


def _seconds_of_a_run(folder: Path, plugins: Plugins) -> float:
    process = start("train", str(folder), "--algorithm", "improving", env=plugins.environ)
    go([process])
    started = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return time.monotonic() - started


def _nothing_reported_is_missing(project: Project, log: str) -> None:
    """Hold what a killed run had said on stderr against the registry."""
    lines = log.splitlines()
    registered = [line.split(": ")[1] for line in lines if line.startswith("Model version registered: ")]
    for version_id in registered:
        version = project.registry.get_version(version_id)
        assert project.artifacts.find_file_problems(version) == []
    if any(line.startswith("✓ Model promoted to production!") for line in lines):
        assert production_ids(project) == registered
        (run,) = project.registry.list_runs("timing", 1)
        assert run.status == "completed"
        assert run.promoted_to_production


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test() -> Iterator[None]:
    yield
    import psutil

    for child in psutil.Process().children(recursive=True):
        if "tests.registry.worker" in " ".join(child.cmdline()):
            child.kill()
