"""A version exported from one project forecasts exactly the same in another; a bad file changes nothing."""

from __future__ import annotations

import os
import stat
import zipfile
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retrainer import transfer
from retrainer.errors import RetrainerError
from retrainer.pipeline.forecast import predict_next
from retrainer.pipeline.promotion import promote_version
from retrainer.pipeline.run import retrain
from retrainer.registry import artifacts
from tests.command_line import run_in_process
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of, version_folder
from tests.exported import read_export, rename_version, write_export
from tests.hostile_exports import HOSTILE
from tests.plugins_for_tests import timing_algorithm
from tests.worker import Worker, command, release

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

FIRST = NOW - timedelta(days=25, microseconds=123_457)  # an export keeps the microseconds
ELSEWHERE = pytest.mark.parametrize(
    ("database", "database_elsewhere"), [("sqlite", "postgresql"), ("postgresql", "sqlite")]
)


@pytest.fixture
def there(elsewhere: Path) -> Runner:
    """Run `retrainer` in the other project."""
    return run_in_process(elsewhere)


def train_a_version(folder: Path) -> None:
    """Store 120 posts, whose times have microseconds; train and promote a version, and fit it again on all posts."""
    configure(folder, refit="true")
    project = open_project(folder)
    project.posts.add(regular_posts(120, start=FIRST), NOW)
    retrain(project, runtime_of(project), "timing", NOW)
    project.close()


@pytest.fixture
def project(folder: Path, prepare: Prepare) -> Project:
    """A project with a version in production."""
    prepare(folder, train_a_version)
    return open_project(folder)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the export goes."""
    return tmp_path / "model.zip"


@pytest.fixture
def exported(project: Project, file: Path) -> Path:
    """The exported version."""
    transfer.export_version(project, project.registry.list_versions()[0], file, NOW)
    return file


def content_of(folder: Path) -> dict[str, Any]:
    """Return what importing could change: the versions, the ledger and the files of the models folder."""
    project = open_project(folder)
    registry = project.registry
    files = {path: path.read_bytes() for path in project.models_dir.rglob("*") if path.is_file()}
    files.pop(project.models_dir / ".database-id", None)
    files.pop(project.models_dir / ".lock", None)
    ids = [version.version_id for version in registry.list_versions()]
    return {"files": files, "versions": ids, "ledger": [entry.entry_id for entry in registry.list_ledger_entries()]}


@ELSEWHERE
def test_an_imported_version_forecasts_exactly_the_same(
    project: Project, retrainer: Runner, file: Path, elsewhere: Path, there: Runner
) -> None:
    (version,) = project.registry.list_versions()
    explained = retrainer("explain", "timing@production", "--posts", "5", "--json").json
    done = retrainer("export", "timing@production", str(file), "--json")
    assert done.code == 0, done.err
    assert (done.json["version_id"], done.json["file"]) == (version.version_id, str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, "it holds posts"
    description, files = read_export(file)
    assert description["version"]["ledger"][0]["reason"], "any tool can read it"
    assert {"manifest.json", "model.json"} < set(files)
    imported = there("import", str(file), "--json")
    assert imported.code == 0, imported.err
    assert (imported.json["version_id"], imported.json["changed"]) == (version.version_id, True)

    other = open_project(elsewhere)
    assert other.registry.get_production("timing") is None, "it does not go into production by itself"
    (copy,) = other.registry.list_versions()
    local = {"status", "is_production", "promoted_at"}
    for column in set(version.__table__.columns.keys()) - local:
        assert getattr(copy, column) == getattr(version, column), column
    (ours,), (theirs,) = (each.registry.list_evaluations(version.version_id) for each in (project, other))
    assert (theirs.metrics, theirs.baseline_metrics, theirs.window) == (
        ours.metrics,
        ours.baseline_metrics,
        ours.window,
    )
    assert (theirs.predictions_json, theirs.overall_score) == (ours.predictions_json, ours.overall_score)
    (entry,) = other.registry.list_ledger_entries()
    assert (entry.action, entry.reason) == ("import", "Imported from 'model.zip'")
    assert entry.refit_through == version.refit_through
    assert entry.evidence["decisions"][0]["action"] == "promotion", "the decisions about it came along"
    assert there("doctor").out == "No problems found\n"
    assert there("show", version.version_id, "--json").json["evaluations"][0]["reliability"], "from its forecasts"

    explanation = there("show", version.version_id, "--json").json["explanation"]
    assert explanation == {name: value for name, value in explained.items() if name != "importance"}

    other.posts.add(regular_posts(120, start=FIRST), NOW)
    promote_version(other, runtime_of(other), version.version_id, "as good there", NOW, refit=False)
    assert version.refit_id, "it has a live fit, which forecasts"
    forecasts = [predict_next(each, runtime_of(each), "timing", NOW) for each in (project, other)]
    assert forecasts[0] == forecasts[1]

    before = content_of(elsewhere)
    again = there("import", str(file), "--json")
    assert (again.code, again.json["changed"]) == (0, False)
    assert again.json["message"] == f"{version.version_id} is already in this project"
    assert content_of(elsewhere) == before


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["prophet", "ensemble", "neural_tpp"])
def test_a_version_of_each_algorithm_can_be_moved(
    algorithm: str, project: Project, retrainer: Runner, file: Path, elsewhere: Path, there: Runner
) -> None:
    trained = retrainer("train", "timing", "--algorithm", algorithm, "--no-auto-promote", "--json")
    assert trained.code == 0, trained.err
    (run,) = trained.json["training_runs"]
    assert retrainer("export", run["model_version_id"], str(file)).code == 0
    assert there("import", str(file)).code == 0
    other = open_project(elsewhere)
    other.posts.add(regular_posts(120, start=FIRST), NOW)
    forecasts = []
    for each in (project, other):
        promote_version(each, runtime_of(each), run["model_version_id"], "to compare", NOW, refit=False)
        forecasts.append(predict_next(each, runtime_of(each), "timing", NOW))
    assert forecasts[0] == forecasts[1]


def test_a_file_with_any_damaged_byte_is_refused_or_read_as_it_was(exported: Path) -> None:
    content = exported.read_bytes()
    whole = transfer._read(exported)
    assert len(content) > 2_000
    for at in (*range(0, 200, 3), *range(200, len(content) - 600, 197), *range(len(content) - 600, len(content), 3)):
        exported.write_bytes(content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :])
        with suppress(RetrainerError):
            assert transfer._read(exported) == whole, f"byte {at}"
    for end in (0, 1, 100, len(content) // 2, len(content) - 1):
        exported.write_bytes(content[:end])
        with pytest.raises(RetrainerError, match="is damaged" if end >= 100 else "is not an exported version"):
            transfer._read(exported)


def test_a_hostile_file_is_refused_in_one_line_and_changes_nothing(
    exported: Path, elsewhere: Path, there: Runner
) -> None:
    original = read_export(exported)
    before, outside = content_of(elsewhere), {*elsewhere.parent.iterdir()}
    for what, (write, message) in HOSTILE.items():
        write(exported, *deepcopy(original))
        done = there("import", str(exported))
        assert done.code in {1, 2}, (what, done)
        assert message in done.err, (what, done.err)
        assert done.code == 1 or "is damaged" not in done.err, what
        assert len(done.err.splitlines()) == 1, (what, done.err)
    assert content_of(elsewhere) == before
    assert {*elsewhere.parent.iterdir()} == outside


def test_only_the_last_live_fit_is_exported(project: Project, file: Path, there: Runner, elsewhere: Path) -> None:
    (first,) = project.registry.list_versions()
    retrain(project, runtime_of(project), "timing", NOW)
    second = next(row for row in project.registry.list_versions() if row.version_id != first.version_id)
    for version in (second, first):
        promote_version(project, runtime_of(project), version.version_id, "try it", NOW, refit=True)
    again = project.registry.get_version(first.version_id)
    assert again.refit_id != first.refit_id
    transfer.export_version(project, again, file, NOW)
    _, files = read_export(file)
    assert {path.split("/")[1] for path in files if path.startswith("refits/")} == {again.refit_id}
    assert there("import", str(file)).code == 0
    other = open_project(elsewhere)
    assert other.registry.get_version(first.version_id).refit == again.refit
    assert there("doctor").out == "No problems found\n"

    other.posts.add(regular_posts(120, start=FIRST), NOW)
    post = other.posts.get_post("p00119")
    post.moved_from = post.created_at + timedelta(days=99)
    trained = other.registry.list_versions_trained_on([post, other.posts.get_post("p00000")])
    assert {post_id: [row.version_id for row in rows] for post_id, rows in trained.items()} == {
        "p00119": [first.version_id],  # by its live fit, which was made before the post was imported and moved here
        "p00000": [first.version_id],
    }
    for version in (second, first):
        promote_version(project, runtime_of(project), version.version_id, "try again", NOW, refit=True)
    transfer.export_version(project, project.registry.get_version(first.version_id), file, NOW, force=True)
    done = there("import", str(file))
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert f"this project has '{first.version_id}' with a different live fit" in done.err


def test_an_export_replaces_a_file_only_when_told(project: Project, retrainer: Runner, file: Path) -> None:
    file.write_text("mine")
    refused = retrainer("export", "timing@production", str(file))
    assert (refused.code, file.read_text()) == (2, "mine")
    assert f"'{file}' exists. Choose another name, or add --force" in refused.err
    assert retrainer("export", "timing@production", str(file), "--force").code == 0
    assert zipfile.is_zipfile(file)
    assert [path.name for path in file.parent.glob(".model*")] == [], "nothing is left beside it"


def test_an_export_never_replaces_a_folder_a_link_or_a_file_of_the_project(
    project: Project, retrainer: Runner, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "target").write_text("mine")
    (tmp_path / "there").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "there", "pipe"):
        refused = retrainer("export", "timing@production", str(tmp_path / name), "--force")
        assert refused.code == 2, refused
        assert "is not a regular file. Choose another name" in refused.err
    refused = retrainer("export", "timing@production", "config/config.yaml", "--force")
    assert (refused.code, "belongs to the project" in refused.err) == (2, True)
    assert (tmp_path / "target").read_text() == "mine"


def test_an_export_that_cannot_be_written_leaves_nothing(
    project: Project, powerless_retrainer: Runner, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir(mode=0o500)
    done = powerless_retrainer("export", "timing@production", str(tmp_path / "full/model.zip"))
    assert done.code == 1
    assert "cannot write to" in done.err
    assert list((tmp_path / "full").iterdir()) == []


def test_a_version_with_a_changed_file_is_not_exported(project: Project, retrainer: Runner, file: Path) -> None:
    (version,) = project.registry.list_versions()
    (version_folder(project, "timing", version.version_id) / "model.json").write_text("{}")
    done = retrainer("export", version.version_id, str(file))
    assert (done.code, file.exists()) == (1, False)
    assert "'model.json'" in done.err
    assert "was modified" in done.err


def test_a_pruned_version_is_neither_exported_nor_imported(
    exported: Path, elsewhere: Path, there: Runner, tmp_path: Path
) -> None:
    assert there("import", str(exported)).code == 0
    other = open_project(elsewhere)
    (version,) = other.registry.list_versions()
    other.registry.archive_old_versions("timing", 0, NOW)
    assert there("prune", "--yes").code == 0
    for arguments in (["export", version.version_id, str(tmp_path / "again.zip")], ["import", str(exported)]):
        done = there(*arguments)
        assert done.code == 1
        assert f"the files of '{version.version_id}' were pruned on" in done.err


def test_another_version_of_the_same_name_is_kept(exported: Path, elsewhere: Path, there: Runner) -> None:
    assert there("import", str(exported)).code == 0
    before = content_of(elsewhere)
    description, files = read_export(exported)
    write_export(exported, description, {**files, "manifest.json": files["manifest.json"] + b"\n"})
    done = there("import", str(exported))
    assert done.code == 1
    assert "this project has a different version" in done.err
    assert content_of(elsewhere) == before
    new_id = "baseline_timing_20200101_000000_abcd"
    write_export(exported, {**description, "version": {**description["version"], "version_id": new_id}}, files)
    done = there("import", str(exported))
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert (
        f"this project has a different evaluation '{description['version']['evaluations'][0]['evaluation_id']}'"
        in done.err
    )
    assert content_of(elsewhere) == before


def test_a_folder_that_the_database_does_not_know_is_kept(
    exported: Path, project: Project, elsewhere: Path, there: Runner
) -> None:
    (version,) = project.registry.list_versions()
    mine = elsewhere / "models/timing" / version.version_id / "model.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    done = there("import", str(exported))
    assert done.code == 1
    assert "exists, but the database does not know it. Move it away" in done.err
    assert mine.read_text() == "mine"


def test_a_version_too_large_for_the_database_can_be_moved(
    exported: Path, elsewhere: Path, there: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "MAX_BYTES_IN_DATABASE", 10)
    assert there("import", str(exported)).code == 0
    other = open_project(elsewhere)
    (version,) = other.registry.list_versions()
    assert version.refit is not None
    assert other.registry.read_file(version.version_id, "model.json") is None
    assert other.registry.read_file(version.version_id, "manifest.json") is not None
    assert other.registry.read_file(version.version_id, f"{version.refit.folder}/manifest.json") is not None
    assert other.artifacts.read(version)
    rename_version(exported, "baseline_timing_20200101_000000_abcd")
    models = {path: data for path, data in read_export(exported)[1].items() if path.endswith("model.json")}
    assert len(models) == 2, "one of each fit"
    monkeypatch.setattr(artifacts, "MAX_BYTES_IN_DATABASE", max(map(len, models.values())))
    assert there("import", str(exported)).code == 0
    for path, data in models.items():
        assert other.registry.read_file("baseline_timing_20200101_000000_abcd", path) == data


def test_a_version_of_a_plugin_needs_the_plugin(
    project: Project, plugins: Plugins, retrainer: Runner, file: Path, there: Runner
) -> None:
    plugins.add("waiting", timing_algorithm("waiting"))
    trained = retrainer("train", "timing", "--algorithm", "waiting", "--no-auto-promote", "--json", env=plugins.environ)
    (run,) = trained.json["training_runs"]
    assert retrainer("export", run["model_version_id"], str(file)).code == 0, "exporting does not need it"
    refused = there("import", str(file))
    assert refused.code == 2
    assert "its algorithm 'waiting' is not installed" in refused.err
    assert there("import", str(file), env=plugins.environ).code == 0


@pytest.mark.slow
@ELSEWHERE
def test_of_many_imports_at_the_same_time_one_adds_the_version(exported: Path, elsewhere: Path, tmp_path: Path) -> None:
    assert open_project(elsewhere).registry.list_versions() == []
    outputs = [tmp_path / f"output{number}" for number in range(4)]
    for output in outputs:
        output.mkdir()
    workers = [Worker.start(output, command, elsewhere, "import", str(exported)) for output in outputs]
    release(workers)
    assert [worker.finish() for worker in workers] == [0] * 4, [worker.err for worker in workers]
    assert sum(worker.out.startswith("Imported ") for worker in workers) == 1
    assert run_in_process(elsewhere)("doctor").out == "No problems found\n"


def test_an_imported_version_is_archived_like_any_other(exported: Path, elsewhere: Path, there: Runner) -> None:
    rename_version(exported, "baseline_timing_20200101_000000_abcd")
    assert there("import", str(exported)).code == 0
    other = open_project(elsewhere)
    version_id = "baseline_timing_20200101_000000_abcd"
    assert other.registry.archive_old_versions("timing", 0, datetime.now(UTC)) == [version_id]
    assert other.registry.get_version(version_id).status == "archived"
