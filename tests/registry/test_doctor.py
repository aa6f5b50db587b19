"""`doctor` finds differences from the registry, and repairs what it can."""

from __future__ import annotations

import json
import shutil
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from retrainer.doctor import examine
from retrainer.errors import ArtifactError, PromotionRefused
from retrainer.pipeline.loading import load_version
from retrainer.pipeline.promotion import promote_version
from retrainer.pipeline.recovery import recover
from retrainer.pipeline.retention import prunable, prune
from retrainer.pipeline.run import retrain
from retrainer.registry.tables import VersionFile
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of, train_timing, version_folder
from tests.registry.conftest import foreign_version, leave_a_dead_run

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner
    from tests.conftest import Prepare


@pytest.fixture
def project(folder: Path, version_id: str) -> Project:
    return open_project(folder)


@pytest.fixture
def version_id(folder: Path, prepare: Prepare) -> str:
    return prepare(folder, train_timing)


def kinds(project: Project) -> list[str]:
    return [finding.kind for finding in examine(project)]


def assert_repaired(project: Project) -> None:
    """Repair, and check that nothing is left to repair."""
    assert all(finding.repaired for finding in examine(project, repair=True))
    assert examine(project) == []


def test_a_sound_registry_has_no_problems(project: Project, version_id: str) -> None:
    assert examine(project) == []


def test_a_missing_file_is_restored(project: Project, version_id: str) -> None:
    path = version_folder(project, "timing", version_id) / "model.json"
    before = path.read_bytes()
    path.unlink()
    assert kinds(project) == ["missing_file"]
    assert_repaired(project)
    assert path.read_bytes() == before


def test_what_a_run_in_progress_puts_into_place_in_a_moment_is_no_problem(
    project: Project, version_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrainer.doctor.RUN_SECONDS", 60.0)
    project.registry.start_run("timing", "baseline", NOW, None)
    link = project.models_dir / "timing_model"
    for path in (version_folder(project, "timing", version_id) / "model.json", link):
        aside = path.rename(path.with_name("aside"))
        moves = iter([lambda: None, partial(aside.rename, path)])
        monkeypatch.setattr("retrainer.doctor.time", SimpleNamespace(sleep=lambda _, moves=moves: next(moves)()))
        assert examine(project) == []
        assert list(moves) == [], "it looked again, twice"


def test_nothing_is_waited_for_if_the_process_of_a_run_is_dead(
    project: Project, version_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrainer.doctor.RUN_SECONDS", 1e9)
    leave_a_dead_run(project)
    (version_folder(project, "timing", version_id) / "model.json").unlink()
    assert kinds(project) == ["dead_run", "missing_file"]


def test_what_a_run_in_progress_does_not_put_into_place_is_a_problem(
    project: Project, version_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrainer.doctor.RUN_SECONDS", 0.2)
    project.registry.start_run("timing", "baseline", NOW, None)
    (version_folder(project, "timing", version_id) / "model.json").unlink()
    (project.models_dir / "timing_model").unlink()
    assert kinds(project) == ["missing_file", "wrong_link"]


def test_a_changed_file_is_restored(project: Project, version_id: str) -> None:
    path = version_folder(project, "timing", version_id) / "manifest.json"
    before = path.read_bytes()
    path.write_bytes(before + b" ")
    assert kinds(project) == ["changed_file"]
    assert_repaired(project)
    assert path.read_bytes() == before


def test_a_changed_file_is_set_aside_not_overwritten(
    project: Project, version_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = version_folder(project, "timing", version_id) / "model.json"
    before = path.read_bytes()
    for number in ("first", "second"):
        path.write_text(number)
        assert_repaired(project)
    kept = project.models_dir / ".set-aside/timing" / version_id
    assert {file.name: file.read_text() for file in kept.iterdir()} == {
        "model.json": "first",
        "model.json.2": "second",
    }
    assert path.read_bytes() == before
    moved = f"Moved 'model.json' of '{version_id}', which was changed, to '{kept / 'model.json.2'}'"
    assert moved in caplog.messages
    entry = project.registry.list_ledger_entries(actions=["set_aside"])[0]
    assert (entry.reason, entry.version_id) == (moved, version_id)


def test_a_missing_models_folder_is_restored(project: Project, version_id: str) -> None:
    shutil.rmtree(project.models_dir)
    assert set(kinds(project)) == {"missing_file", "wrong_link"}
    assert_repaired(project)
    assert (project.models_dir / "timing_model" / "model.json").exists()


def test_a_users_file_and_a_folder_that_is_no_version_are_no_problems(project: Project, version_id: str) -> None:
    mine = version_folder(project, "timing", version_id) / "notes.txt"
    stray = project.models_dir / "timing" / "baseline_timing_20200101_000000_0000" / "model.json"
    stray.parent.mkdir()
    for path in (mine, stray):
        path.write_text("mine")
    assert examine(project, repair=True) == []
    assert mine.read_text() == stray.read_text() == "mine"


def test_a_complete_version_of_another_database_is_set_aside(project: Project, version_id: str) -> None:
    folder = foreign_version(project, version_id)
    assert kinds(project) == ["stray_folder"]
    assert_repaired(project)
    assert not folder.exists()
    assert (project.models_dir / ".set-aside/timing" / folder.name / "manifest.json").exists()


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize("damage", ["gone", "elsewhere", "dangling"])
def test_a_wrong_link_is_repaired(damage: str, project: Project, version_id: str) -> None:
    link = project.models_dir / "timing_model"
    link.unlink()
    if damage == "elsewhere":
        (project.models_dir / "timing" / "other").mkdir()
        link.symlink_to("timing/other")
    elif damage == "dangling":
        link.symlink_to("timing/nothing")
    assert kinds(project) == ["wrong_link"]
    assert_repaired(project)
    assert link.resolve().name == version_id


def test_the_next_command_also_repairs_a_wrong_link(project: Project, version_id: str) -> None:
    (project.models_dir / "timing_model").unlink()
    recover(project, runtime_of(project))
    assert (project.models_dir / "timing_model").resolve().name == version_id


@pytest.mark.slow_on_postgresql
def test_a_dead_run_is_closed(project: Project) -> None:
    leave_a_dead_run(project)
    assert kinds(project) == ["dead_run"]
    assert_repaired(project)
    assert project.registry.list_runs()[0].status == "failed"


def test_a_file_damaged_in_the_database_too_cannot_be_repaired(project: Project, version_id: str) -> None:
    path = version_folder(project, "timing", version_id) / "model.json"
    path.unlink()
    with project.registry.database.write() as session:
        session.execute(sa.update(VersionFile).where(VersionFile.path == "model.json").values(data=None))
    (finding,) = examine(project, repair=True)
    assert finding.repaired is False
    with pytest.raises(ArtifactError, match="cannot repair .*no copy in the database"):
        load_version(project, runtime_of(project), project.registry.get_version(version_id))


def test_a_pruned_version_has_no_problems_and_cannot_be_restored(folder: Path) -> None:
    configure(folder, keep_versions="1")
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    for _ in range(4):
        retrain(project, runtime_of(project), "timing", NOW)
    cases = prunable(project)
    assert cases
    assert all(case.bytes_on_disk > 0 and case.bytes_in_database > 0 for case in cases)
    pruned = prune(project, cases, NOW)
    assert pruned == [case.version.version_id for case in cases]
    assert prunable(project) == []
    assert examine(project) == []
    for version_id in pruned:
        assert not version_folder(project, "timing", version_id).exists()
        assert project.registry.list_evaluations(version_id), "its scores stay"
    with pytest.raises(PromotionRefused, match="were pruned on 2024-11-15"):
        promote_version(project, runtime_of(project), pruned[0], "back", NOW)


def test_doctor_on_the_command_line(sqlite_folder: Path, retrainer: Runner) -> None:
    project = open_project(sqlite_folder)
    project.posts.add(regular_posts(120), NOW)
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run
    project.close()
    sound = retrainer("doctor")
    assert (sound.code, sound.out) == (0, "No problems found\n")
    path = sqlite_folder / "models" / "timing" / str(run.model_version_id) / "model.json"
    path.write_text("{}")
    found = retrainer("doctor", "--json")
    assert found.code == 1
    assert found.json["findings"][0]["kind"] == "changed_file"
    assert "`retrainer doctor --repair`" in retrainer("doctor").out
    repaired = retrainer("doctor", "--repair")
    assert repaired.code == 0
    assert "(repaired)" in repaired.out
    assert json.loads(path.read_text())["gaps_hours"]


@pytest.mark.slow
def test_doctor_goes_on_where_a_folder_cannot_be_read(sqlite_folder: Path, powerless_retrainer: Runner) -> None:
    project = open_project(sqlite_folder)
    project.posts.add(regular_posts(120), NOW)
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run
    leave_a_dead_run(project)
    project.close()
    models = sqlite_folder / "models"
    version = models / "timing" / str(run.model_version_id)
    for folder, kinds in {
        models: ["dead_run", "unreadable_folder"],
        models / "timing": ["dead_run", "unreadable_folder", *["unreadable_file"] * 3, "unreadable_folder"],
        version: ["dead_run", *["unreadable_file"] * 3],
    }.items():
        folder.chmod(0)
        try:
            done = powerless_retrainer("doctor", "--json")
            assert done.code == 1, done.err
            assert [finding["kind"] for finding in done.json["findings"]] == kinds
        finally:
            folder.chmod(0o755)
    version.chmod(0)
    try:
        done = powerless_retrainer("doctor", "--repair", "--json")
    finally:
        version.chmod(0o755)
    assert done.code == 1, done.err
    assert [finding["mended"] for finding in done.json["findings"]] == [True, *[False] * 3]
