"""What a killed run leaves is finished or removed by the next run, and nothing else is: not by any command."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from retrainer.doctor import examine
from retrainer.errors import ArtifactError
from retrainer.pipeline.loading import load_live_fit, load_version
from retrainer.pipeline.recovery import recover, set_aside
from retrainer.pipeline.retention import prunable, prune
from retrainer.pipeline.run import retrain
from retrainer.registry.tables import Base
from tests.api.conftest import thread_server
from tests.conftest import (
    NOW,
    configure,
    import_regular_posts,
    open_project,
    runtime_of,
    train_timing,
    version_folder,
)
from tests.registry.conftest import foreign_version, leave_a_dead_run
from tests.worker import Worker, kill_at, release

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _pytest.mark import ParameterSet

    from retrainer.project import Project
    from tests.command_line import Runner
    from tests.conftest import Prepare

READS = [
    ("history",),
    ("versions",),
    ("production",),
    ("predict", "timing"),
    ("posts", "count"),
    ("doctor",),
    ("prune", "--dry-run"),
    ("train", "timing", "--dry-run"),
]

# Where a run is killed: the function, and whether it has been carried out by then.
MOMENTS = [
    ("retrainer.registry.staging._entry", "before"),  # the journal is empty
    ("pathlib.Path.mkdir", "before"),  # the staging folder is not made yet
    ("retrainer.algorithms.loaded_algorithm.LoadedAlgorithm.save", "before"),
    ("retrainer.algorithms.loaded_algorithm.LoadedAlgorithm.save", "after"),
    ("retrainer.registry.versions.Versions.register_version", "before"),
    ("retrainer.registry.versions.Versions.register_version", "after"),
    ("pathlib.Path.replace", "after"),  # one file is in place, the others are not
    ("retrainer.registry.artifacts.Artifacts.publish", "after"),
    ("retrainer.registry.versions.Versions.record_evaluation", "before"),
    ("retrainer.registry.versions.Versions.record_evaluation", "after"),
    ("retrainer.registry.runs.Runs.complete_run", "before"),
    ("retrainer.registry.runs.Runs.complete_run", "after"),
    ("pathlib.Path.symlink_to", "after"),  # the new link is not in place yet
]
MOMENTS_OF_A_REFIT = [  # between the decision, the live fit and the commit
    ("retrainer.pipeline.refit.require_working_forecast", "before"),  # it is trained and saved
    ("retrainer.registry.artifacts.Artifacts.stage_refit", "before"),
    ("retrainer.registry.artifacts.Artifacts.stage_refit", "after"),
    ("retrainer.registry.runs.Runs.complete_run", "before"),
    ("retrainer.registry.runs.Runs.complete_run", "after"),
    ("retrainer.pipeline.refit.StagedRefit.publish", "after"),
]


def train(project: Project) -> str:
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run
    return str(run.model_version_id)


@pytest.fixture
def project(folder: Path, prepare: Prepare) -> Project:
    prepare(folder, import_regular_posts)
    return open_project(folder)


@pytest.fixture
def version_id(project: Project, prepare: Prepare) -> str:
    return prepare(project.folder, train_timing)


def snapshot(folder: Path) -> dict[str, tuple[int, bytes | str | None]]:
    """Return every path below a folder, with its inode and its content or target."""
    found: dict[str, tuple[int, bytes | str | None]] = {}
    for path in folder.rglob("*"):
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = path.lstat().st_ino, content
    return found


def kill_a_run(folder: Path, moment: tuple[str, str], max_bytes: int | None = None) -> None:
    worker = Worker.start(folder.parent, kill_at, folder, *moment, max_bytes)
    release([worker])
    assert worker.finish() == -signal.SIGKILL, worker.err


def cleanups(project: Project) -> list[str]:
    return [entry.reason for entry in project.registry.list_ledger_entries(actions=("cleanup", "set_aside"))]


def moments() -> Iterator[ParameterSet]:
    """Yield each moment for each database; PostgreSQL is left to a soak where the moment is not one of the database."""
    for number, (name, when) in enumerate(MOMENTS):
        of_database = name.startswith("retrainer.registry.")
        for kind, marks in {
            "sqlite": [] if number == 6 else [pytest.mark.slow],
            "postgresql": [pytest.mark.slow if of_database else pytest.mark.soak],
        }.items():
            yield pytest.param(kind, (name, when), marks=marks, id=f"{kind}-{when} {name.rpartition('.')[2]}")


@pytest.mark.parametrize(("folder_on_each_database", "moment"), [*moments()], indirect=["folder_on_each_database"])
def test_reads_leave_what_a_killed_run_left_and_the_next_run_clears_it(
    moment: tuple[str, str], project: Project, version_id: str, retrainer: Runner
) -> None:
    note = version_folder(project, "timing", version_id) / "NOTES.md"
    note.write_text("of last year")
    if moment[0].endswith("symlink_to"):
        (project.models_dir / "timing_model").unlink()
    kill_a_run(project.folder, moment)
    before = snapshot(project.models_dir)
    for command in READS:
        retrainer(*command, cwd=project.folder)
        assert snapshot(project.models_dir) == before, command
    assert retrainer("train", "timing", cwd=project.folder).code == 0
    assert examine(project) == []
    assert not (project.models_dir / ".staging").exists()
    assert note.read_text() == "of last year"
    folders = {path.name for path in (project.models_dir / "timing").iterdir()}
    assert folders == {version.version_id for version in project.registry.list_versions("timing")}


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(moment, marks=() if number == 4 else pytest.mark.slow)
        for number, moment in enumerate(MOMENTS_OF_A_REFIT)
    ],
    ids=[f"{when} {name.rpartition('.')[2]}" for name, when in MOMENTS_OF_A_REFIT],
)
def test_a_run_killed_between_refit_and_commit_promotes_the_version_with_its_live_fit_or_nothing(
    moment: tuple[str, str], project: Project, retrainer: Runner
) -> None:
    configure(project.folder, refit="true")
    kill_a_run(project.folder, moment)
    live = project.registry.get_production("timing")
    decided = moment in MOMENTS_OF_A_REFIT[4:]
    assert (live is not None) == decided
    if live is not None:
        assert live.num_refit_samples == 120
        assert retrainer("predict", "timing", cwd=project.folder).code == 0
    assert retrainer("train", "timing", cwd=project.folder).code == 0
    assert examine(project) == []
    assert not (project.models_dir / ".staging").exists()
    fits = {path.name for path in project.models_dir.glob("timing/*/refits/*")}
    versions = project.registry.list_versions("timing")
    assert fits == {version.refit_id for version in versions if version.refit_id is not None}
    assert fits, "the next run promoted its own, or the killed one had"


@pytest.mark.slow
def test_a_live_fit_too_large_for_the_database_is_moved_into_place_by_the_next_run(
    project: Project, retrainer: Runner
) -> None:
    configure(project.folder, refit="true")
    kill_a_run(project.folder, ("retrainer.registry.runs.Runs.complete_run", "after"), max_bytes=4)
    refused = retrainer("predict", "timing", cwd=project.folder)
    assert (refused.code, refused.err.count("no copy in the database")) == (1, 1)
    live = project.registry.get_production("timing")
    assert live is not None
    recover(project, runtime_of(project))
    assert load_live_fit(project, runtime_of(project), live).model
    assert examine(project) == []


@pytest.mark.slow
def test_no_command_deletes_a_users_file(project: Project, version_id: str, retrainer: Runner) -> None:
    configure(project.folder, keep_versions="1")
    mine = [
        version_folder(project, "timing", version_id) / "NOTES.md",
        version_folder(project, "timing", version_id) / "evaluations" / "mine.csv",
        project.models_dir / "timing" / "ideas" / "model.json",
        project.models_dir / ".staging-photos" / "1.jpg",
        project.models_dir / ".staging" / "photos" / "1.jpg",
        project.models_dir / ".staging" / "notes.journal",
        project.models_dir / ".timing_model.new",
    ]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    leave_a_dead_run(project)
    with thread_server(project.folder) as server:
        assert server.get("/models/training-history").status_code == 200
    for _ in range(3):
        train(open_project(project.folder))
    for command in (("history",), ("train", "timing"), ("doctor", "--repair"), ("prune", "--yes"), ("train", "timing")):
        assert retrainer(*command, cwd=project.folder).code == 0, command
        assert [path.read_text() for path in mine] == ["mine"] * len(mine), command
    assert any(version.pruned_at for version in project.registry.list_versions("timing", status="archived"))


@pytest.mark.slow_on_postgresql
def test_what_is_removed_is_logged_and_in_the_ledger(project: Project, version_id: str, retrainer: Runner) -> None:
    kill_a_run(project.folder, ("retrainer.algorithms.loaded_algorithm.LoadedAlgorithm.save", "after"))
    assert cleanups(project) == []
    done = retrainer("train", "timing", cwd=project.folder)
    (reason,) = cleanups(project)
    assert reason.startswith("Removed '.staging/")
    assert reason.endswith("of a process that died: model/model.json")
    assert reason in done.err


@pytest.mark.slow
def test_photos_behind_a_link_in_the_place_of_a_versions_folder_survive(
    project: Project, archived: str, retrainer: Runner, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for version in project.registry.list_versions("timing"):
        version_id = version.version_id
        folder = version_folder(project, "timing", version_id)
        shutil.copytree(folder, photos / version_id)
        (photos / version_id / "beach.jpg").write_text("sun")
        shutil.rmtree(folder)
        folder.symlink_to(photos / version_id)
    before = snapshot(photos)
    leave_a_dead_run(project)
    for command in (
        ("history",),
        ("predict", "timing"),
        ("prune", "--yes"),
        ("doctor", "--repair"),
        ("train", "timing"),
    ):
        done = retrainer(*command, cwd=project.folder)
        assert snapshot(photos) == before, command
        if command[0] in {"predict", "prune"}:
            assert done.code == 1
            assert "' is a link" in done.err or "is a symbolic link. Replace it with what it points to" in done.err
            assert done.err.count("Error:") == 1
    assert "was changed" in retrainer("doctor", "--repair", cwd=project.folder).out
    assert project.registry.get_version(archived).pruned_at is None


@pytest.mark.parametrize(
    "place",
    [
        "timing",
        *(pytest.param(name, marks=pytest.mark.slow) for name in (".staging", ".set-aside", ".lock", "timing/new")),
    ],
)
def test_a_link_in_the_models_folder_is_refused_and_nothing_is_written_through_it(
    place: str, project: Project, version_id: str, retrainer: Runner, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    if place == ".lock":
        outside.write_text("mine")
        (project.models_dir / place).unlink(missing_ok=True)
        (project.models_dir / "timing_model").unlink()
    else:
        outside.mkdir()
        (outside / "mine").write_text("mine")
    if place == "timing":
        shutil.rmtree(project.models_dir / place)
    if place == ".set-aside":
        foreign_version(project, version_id)
    (project.models_dir / place).symlink_to(outside)
    before = snapshot(tmp_path / "outside") if outside.is_dir() else outside.read_text()
    done = retrainer("train", "timing", cwd=project.folder)
    assert (snapshot(tmp_path / "outside") if outside.is_dir() else outside.read_text()) == before
    if place != "timing/new":
        assert f"'{project.models_dir / place}' is a symbolic link" in done.err


@pytest.mark.slow_on_postgresql
def test_the_models_folder_itself_may_be_a_link(project: Project, retrainer: Runner, tmp_path: Path) -> None:
    project.models_dir.rename(tmp_path / "elsewhere")
    project.models_dir.symlink_to(tmp_path / "elsewhere")
    train(project)
    assert examine(project) == []
    assert retrainer("predict", "timing", cwd=project.folder).code == 0


def restore_backup(project: Project, rows: dict[str, list[sa.RowMapping]]) -> None:
    """Replace the content of the database by that of a backup."""
    engine = project.registry.database.engine
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SET session_replication_role = replica"))
        else:
            connection.execute(sa.text("DROP TRIGGER retrainer_ledger_no_delete"))
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
        for table in Base.metadata.sorted_tables:
            if rows[table.name]:
                connection.execute(table.insert(), [dict(row) for row in rows[table.name]])


def take_backup(project: Project) -> dict[str, list[sa.RowMapping]]:
    with project.registry.database.engine.connect() as connection:
        return {
            table.name: list(connection.execute(table.select()).mappings()) for table in Base.metadata.sorted_tables
        }


@pytest.mark.slow_on_postgresql
def test_a_database_restored_from_a_backup_taken_during_a_run_loses_no_later_version(
    project: Project, version_id: str, retrainer: Runner
) -> None:
    leave_a_dead_run(project)  # as the backup finds it
    backup = take_backup(project)
    recover(project, runtime_of(project))
    later = [train(project) for _ in range(2)]
    project.registry.promote(later[1], version_id, "better", NOW)
    project.production_links.update()
    content = {name: snapshot(version_folder(project, "timing", name)) for name in later}
    restore_backup(project, backup)
    for command in (("history",), ("show", version_id), ("doctor",)):
        retrainer(*command, cwd=project.folder)
    assert {name: snapshot(version_folder(project, "timing", name)) for name in later} == content
    assert retrainer("train", "timing", cwd=project.folder).code == 0
    aside = project.models_dir / ".set-aside" / "timing"
    assert {name: snapshot(aside / name) for name in later} == content
    assert sorted(cleanups(project)) == sorted(
        f"Moved '{name}', unknown to the database, to '{aside / name}'" for name in later
    )
    assert examine(project) == []


@pytest.mark.slow_on_postgresql
def test_a_version_is_not_set_aside_while_a_run_is_in_progress(project: Project, version_id: str) -> None:
    folder = foreign_version(project, version_id)
    run = project.registry.start_run("timing", "baseline", NOW, None)
    recover(project, runtime_of(project))
    assert folder.exists()
    project.registry.fail_run(run.run_id, "over", NOW)
    recover(project, runtime_of(project))
    assert not folder.exists()


def test_a_version_that_was_registered_meanwhile_is_not_set_aside(project: Project, version_id: str) -> None:
    folder = version_folder(project, "timing", version_id)
    assert set_aside(project, "timing", version_id)
    assert folder.exists()
    assert cleanups(project) == []


def test_what_was_set_aside_is_never_replaced(project: Project, version_id: str) -> None:
    aside = project.models_dir / ".set-aside" / "timing"
    for number in range(3):
        folder = foreign_version(project, version_id)
        name = folder.name
        (folder / "number").write_text(str(number))
        recover(project, runtime_of(project))
    assert [(aside / part / "number").read_text() for part in (name, f"{name}.2", f"{name}.3")] == ["0", "1", "2"]


def train_four_versions(folder: Path) -> None:
    project = open_project(folder)
    for _ in range(4):
        train(project)
    project.close()


@pytest.fixture
def archived(project: Project, prepare: Prepare) -> str:
    """A project with an archived version; returns its id."""
    configure(project.folder, keep_versions="1")
    prepare(project.folder, train_four_versions)
    reopened = open_project(project.folder)
    return reopened.registry.list_versions("timing", status="archived")[0].version_id


@pytest.mark.slow_on_postgresql
def test_pruning_keeps_files_that_were_changed_or_added(
    project: Project, archived: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = version_folder(project, "timing", archived)
    (folder / "model.json").write_text("my own")
    (folder / "NOTES.md").write_text("mine")
    (case,) = [case for case in prunable(project) if case.version.version_id == archived]
    assert prune(project, [case], NOW) == [archived]
    assert {path.name for path in folder.rglob("*")} == {"model.json", "NOTES.md"}
    assert f"Kept files in '{folder}' that were changed or added: NOTES.md, model.json" in caplog.text
    assert examine(project) == []


@pytest.mark.slow_on_postgresql
def test_a_killed_prune_is_finished_by_the_next_run(project: Project, archived: str) -> None:
    folder = version_folder(project, "timing", archived)
    project.registry.prune([archived], "space", NOW)  # and then the process dies
    (folder / "NOTES.md").write_text("mine")
    assert [finding.kind for finding in examine(project)] == ["stray_folder"]
    recover(project, runtime_of(project))
    assert [path.name for path in folder.iterdir()] == ["NOTES.md"]
    assert examine(project) == []


def test_a_version_that_is_too_large_for_the_database_survives_a_kill_before_its_files_are_in_place(
    project: Project, version_id: str
) -> None:
    kill_a_run(project.folder, ("retrainer.registry.versions.Versions.register_version", "after"), max_bytes=0)
    (version,) = [v for v in project.registry.list_versions("timing") if v.version_id != version_id]
    assert project.registry.read_file(version.version_id, "model.json") is None
    with pytest.raises(ArtifactError):
        load_version(project, runtime_of(project), version)
    recover(project, runtime_of(project))
    assert load_version(project, runtime_of(project), version).model


@pytest.mark.slow
def test_a_backup_does_not_miss_the_files_of_pruned_versions(
    project: Project, archived: str, retrainer: Runner, tmp_path: Path
) -> None:
    assert retrainer("prune", "--yes", cwd=project.folder).code == 0
    saved = retrainer("backup", str(tmp_path / "saved"), cwd=project.folder)
    assert (saved.code, saved.err.count("WARNING")) == (0, 0), saved.err
    restored = retrainer("restore-backup", str(tmp_path / "saved"), "--replace", "--yes", cwd=project.folder)
    assert (restored.code, restored.err.count("WARNING")) == (0, 0), restored.err
    assert examine(project) == []
    assert project.registry.get_version(archived).pruned_at


def test_a_folder_of_another_program_with_a_manifest_is_no_version(project: Project, retrainer: Runner) -> None:
    folder = project.models_dir / "timing" / "webapp"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    project.close()
    assert retrainer("train", "timing", cwd=project.folder).code == 0
    assert retrainer("doctor", "--repair", cwd=project.folder).code == 0
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize("name", ["timing_model", "content_model"])
def test_a_users_link_with_the_name_of_a_production_link_stays(
    project: Project, tmp_path: Path, retrainer: Runner, name: str
) -> None:
    project.models_dir.mkdir(exist_ok=True)
    link = project.models_dir / name
    link.symlink_to(tmp_path)
    project.close()
    done = retrainer("train", "timing", cwd=project.folder)
    assert done.code == 0
    assert ("it is a link to" in done.err) == (name == "timing_model"), "only this one is needed"
    retrainer("doctor", "--repair", cwd=project.folder)
    assert link.readlink() == tmp_path
