"""A models folder belongs to one database; another one that is pointed at it is refused before it changes anything."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from retrainer.errors import ConfigError
from retrainer.pipeline.forecast import predict_next
from retrainer.pipeline.run import retrain
from retrainer.project import create_project
from retrainer.registry.place import OWNER_FILE
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def folder(sqlite_folder: Path, request: pytest.FixtureRequest) -> Path:
    """A project folder; PostgreSQL takes longer."""
    if request.param == "postgresql":
        configure(sqlite_folder, url=f'"{request.getfixturevalue("make_postgresql_database")()}"')
    return sqlite_folder


def train(project: Project) -> str:
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run
    return str(run.model_version_id)


@pytest.fixture
def other(project: Project, tmp_path: Path) -> Project:
    """A second project with a version of its own, pointed at the models folder of the first one, which has one too."""
    train(project)
    create_project(tmp_path / "other")
    configure(tmp_path / "other")
    there = open_project(tmp_path / "other")
    there.posts.add(regular_posts(120), NOW)
    for _ in range(2):
        train(there)
    there.close()
    configure(tmp_path / "other", models_dir=str(project.models_dir))
    return open_project(tmp_path / "other")


def state(project: Project) -> tuple[list[str], dict[str, bytes]]:
    files = {str(path): path.read_bytes() for path in project.models_dir.rglob("*") if path.is_file()}
    links = [str(path.readlink()) for path in project.models_dir.glob("*_model")]
    return links, files


def test_a_folder_of_another_database_is_refused_before_anything_changes(
    project: Project, other: Project, retrainer: Runner
) -> None:
    newest, older = (version.version_id for version in other.registry.list_versions("timing"))
    before, ledger = state(project), len(other.registry.list_ledger_entries())
    commands = (
        ("train", "timing"),
        ("promote", newest if other.registry.get_version(older).is_production else older),
        ("rollback", "timing"),
        ("evaluate", older),
        ("prune", "--yes"),
        ("doctor", "--repair"),
    )
    for command in commands:
        done = retrainer(*command, cwd=other.folder)
        assert done.code == (1 if command[0] == "doctor" else 2), done.err
        assert f"'{project.models_dir}' belongs to another database" in done.out + done.err
        if command[0] != "doctor":
            assert len(done.err.splitlines()) == 1
    assert state(project) == before
    assert len(other.registry.list_ledger_entries()) == ledger
    assert {run.status for run in other.registry.list_runs()} == {"completed"}, "no run was begun"


def test_reads_of_such_a_folder_work(other: Project, retrainer: Runner) -> None:
    assert predict_next(other, runtime_of(other), "timing", NOW, 0.8) is not None
    (newest, _) = other.registry.list_versions("timing")
    for command in (("production",), ("versions",), ("show", newest.version_id), ("backup", "saved")):
        done = retrainer(*command, cwd=other.folder)
        assert done.code == 0, done.err


def test_the_marker_can_be_deleted_to_take_the_folder_over(other: Project) -> None:
    with pytest.raises(ConfigError, match=f"delete '.*{OWNER_FILE}'"):
        train(other)
    (other.models_dir / OWNER_FILE).unlink()
    train(other)


@pytest.mark.parametrize("content", ["", "half"])
def test_a_project_of_an_earlier_release_adopts_its_folder(project: Project, content: str) -> None:
    train(project)
    marker = project.models_dir / OWNER_FILE
    before = marker.read_text()
    marker.write_text(content)  # of a process that was killed
    train(project)
    assert marker.read_text() == before
    marker.unlink()
    train(project)
    assert marker.read_text() == before


def test_a_copy_of_a_project_folder_goes_on(project: Project, tmp_path: Path) -> None:
    train(project)
    project.close()
    shutil.copytree(project.folder, tmp_path / "copy", symlinks=True)
    shutil.move(project.folder, tmp_path / "moved")
    for name in ("copy", "moved"):
        train(open_project(tmp_path / name))
