"""The registry stays consistent with many processes at once, and with processes killed at any time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import pytest
import sqlalchemy as sa

from retrainer.pipeline.run import retrain
from retrainer.registry.tables import ModelVersion
from tests.conftest import NOW, open_project, regular_posts, runtime_of
from tests.registry.first_schema import remove_database
from tests.worker import Worker, change, command, first_use, release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from retrainer.project import Project
    from tests.conftest import Prepare

SEED = 20240601

SLOW = pytest.mark.slow
SOAK = pytest.mark.soak


class Start(Protocol):
    def __call__(
        self, work: Callable[..., None], *arguments: object, env: Mapping[str, str] | None = None
    ) -> Worker: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start workers; none outlives the test."""
    workers: list[Worker] = []

    def start(work: Callable[..., None], *arguments: object, env: Mapping[str, str] | None = None) -> Worker:
        workers.append(Worker.start(tmp_path, work, *arguments, env=env))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.finish()


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=SLOW), pytest.param(20, marks=SOAK)])
def test_eight_processes_create_one_database(times: int, folder: Path, start: Start) -> None:
    for _ in range(times):
        remove_database(folder)
        workers = [start(first_use, folder) for _ in range(8)]
        release(workers)
        for worker in workers:
            assert worker.finish() == 0, worker.err


def train_six_versions(folder: Path) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    for _ in range(6):
        retrain(project, runtime_of(project), "timing", NOW)
    project.close()


@pytest.fixture
def six_versions(folder: Path, prepare: Prepare) -> Project:
    prepare(folder, train_six_versions)
    return open_project(folder)


def production_ids(project: Project) -> list[str]:
    with project.registry.database.read() as session:
        query = sa.select(ModelVersion.version_id).where(
            ModelVersion.model_type == "timing", ModelVersion.is_production
        )
        return list(session.scalars(query))


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize(
    ("count", "seconds"), [(4, 1), pytest.param(16, 4, marks=SLOW), pytest.param(16, 200, marks=SOAK)]
)
def test_processes_change_production_and_a_watcher_always_sees_one(
    count: int, seconds: float, six_versions: Project, start: Start
) -> None:
    project = six_versions
    workers = [start(change, project.folder, seconds, SEED + number) for number in range(count)]
    release(workers)
    link = project.models_dir / "timing_model"
    while any(worker.is_running() for worker in workers):
        (live,) = production_ids(project)
        assert live
        version = project.registry.get_version(link.readlink().name)
        assert project.artifacts.find_file_problems(version) == {}, "the link resolves to an intact folder"
    changes = 0
    for worker in workers:
        assert worker.finish() == 0, worker.err
        changes += int(worker.out)
    assert changes
    (live,) = production_ids(project)
    assert link.readlink().name == live
    entries = project.registry.list_ledger_entries(model_type="timing", actions=("promotion", "rollback"))
    for later, earlier in pairwise(entries):
        assert later.from_version_id == earlier.to_version_id, "each change starts from what the one before left"
    assert entries[0].to_version_id == live


def test_runs_of_one_type_never_overlap(folder: Path, start: Start) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    workers = [start(command, folder, "train", "timing") for _ in range(6)]
    release(workers)
    most = 0
    while any(worker.is_running() for worker in workers):
        most = max(most, len(project.registry.list_running_runs()))
    codes = [worker.finish() for worker in workers]
    assert set(codes) <= {0, 4}, [worker.err for worker in workers]
    assert 0 in codes
    assert most <= 1, "never two at once"
    assert [run.status for run in project.registry.list_runs("timing")] == ["completed"] * codes.count(0)


def test_a_run_waits_for_another_with_wait(folder: Path, start: Start) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    workers = [start(command, folder, "train", "timing", "--wait", "500") for _ in range(3)]
    release(workers)
    assert [worker.finish() for worker in workers] == [0, 0, 0]
