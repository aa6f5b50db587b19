"""Versions in a store: whole or not at all, checked on every read, shared by machines."""

from __future__ import annotations

import shutil
import signal
import sys
from typing import TYPE_CHECKING, Any

import fsspec
import psutil
import pytest

from retrainer.doctor import examine
from retrainer.errors import ArtifactError, ConfigError
from retrainer.pipeline.run import retrain
from retrainer.registry.file_cache import FileCache
from retrainer.registry.place import sha256
from retrainer.registry.store import Store
from retrainer.registry.uploads import UPLOADS
from tests.cli.test_imports import assert_imports_none_of
from tests.conftest import (
    NOW,
    configure,
    import_regular_posts,
    open_project,
    regular_posts,
    runtime_of,
    train_timing,
    with_new_database,
)
from tests.store_server import CREDENTIALS
from tests.worker import Worker, kill_at, release

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner
    from tests.conftest import Prepare


@pytest.fixture(params=["sqlite-file", pytest.param("postgresql-s3", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest) -> str:
    """The kinds of the database and of the store, which do not know of each other."""
    return str(request.param)


@pytest.fixture
def database(place: str) -> str:
    """The kind of database."""
    return place.split("-", maxsplit=1)[0]


@pytest.fixture
def folder(sqlite_folder: Path, database: str, request: pytest.FixtureRequest) -> Path:
    """A project folder on each database; PostgreSQL takes longer."""
    return with_new_database(sqlite_folder, database, request)


@pytest.fixture
def url(place: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store."""
    if place.endswith("file"):
        return f"file://{tmp_path}/store"
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": request.getfixturevalue("s3_endpoint")}.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{sha256(str(tmp_path).encode())[:12]}"
    fsspec.filesystem("s3", use_listings_cache=False).mkdir(bucket)
    return f"s3://{bucket}/models"


@pytest.fixture
def project(folder: Path, url: str, prepare: Prepare) -> Project:
    prepare(folder, import_regular_posts)
    configure(folder, models_dir=url)
    return open_project(folder)


@pytest.fixture
def machine(project: Project, elsewhere: Path) -> Project:
    """Another machine with the same database and store, and an empty disk."""
    return another_machine(project, elsewhere)


def another_machine(project: Project, folder: Path) -> Project:
    database = project.settings.database.url.replace("sqlite:///data", f"sqlite:///{project.folder}/data")
    configure(folder, models_dir=project.settings.models_dir, url=f'"{database}"')
    return open_project(folder)


def train(project: Project) -> str:
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run
    return str(run.model_version_id)


def objects(project: Project) -> dict[str, bytes]:
    """The content of the store, by key."""
    files, root = fsspec.url_to_fs(project.settings.models_dir, use_listings_cache=False)
    found = files.find(root) if files.exists(root) else []
    return {path.removeprefix(f"{root}/"): files.cat_file(path) for path in found}


def put(project: Project, key: str, data: bytes) -> None:
    files, root = fsspec.url_to_fs(project.settings.models_dir, use_listings_cache=False)
    if project.settings.models_dir.startswith("file:"):
        files.makedirs(f"{root}/{key}".rpartition("/")[0], exist_ok=True)
    files.pipe_file(f"{root}/{key}", data)


def changed_byte(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def of_versions(found: dict[str, Any]) -> set[str]:
    """The versions that have files."""
    return {key.split("/")[1] for key in found if key.startswith("timing/")}


def test_a_version_trained_on_one_machine_is_served_on_another_with_an_empty_disk(
    project: Project, machine: Project, retrainer: Runner
) -> None:
    assert retrainer("train", "timing", cwd=project.folder).code == 0
    shutil.rmtree(project.folder / ".retrainer")
    predicted = retrainer("predict", "timing", "--json", cwd=machine.folder)
    assert predicted.code == 0, predicted.err
    assert retrainer("train", "timing", cwd=machine.folder).code == 0
    assert retrainer("doctor", cwd=machine.folder).code == 0
    assert retrainer("doctor", cwd=project.folder).code == 0
    assert not (project.folder / "models").exists() or not list((project.folder / "models").iterdir())


def test_the_database_holds_the_hashes_and_no_copies(project: Project) -> None:
    version_id = train(project)
    found = objects(project)
    for row in project.registry.list_files(version_id):
        assert project.registry.read_file(version_id, row.path) is None
        assert sha256(found[f"timing/{version_id}/{row.path}"]) == row.sha256
    assert {key for key in found if not key.startswith("timing/")} == {".database-id"}, "nothing is left over"


@pytest.mark.parametrize("changed", ["model.json", pytest.param("manifest.json", marks=pytest.mark.slow)])
def test_a_changed_object_is_refused(project: Project, machine: Project, retrainer: Runner, changed: str) -> None:
    version_id = train(project)
    key = f"timing/{version_id}/{changed}"
    put(project, key, changed_byte(objects(project)[key]))
    refused = retrainer("predict", "timing", cwd=machine.folder)
    assert refused.code == 1
    assert refused.err.count("\n") == 1
    assert f"'{changed}' of '{version_id}' was modified: its SHA-256 is" in refused.err
    found = retrainer("doctor", cwd=machine.folder)
    assert (found.code, found.out.count("was changed")) == (1, 1)
    assert retrainer("doctor", "--repair", cwd=machine.folder).code == 1, "there is no copy on this machine"
    assert retrainer("doctor", "--repair", cwd=project.folder).code == 0, "here is one in the cache"
    assert retrainer("predict", "timing", cwd=machine.folder).code == 0
    assert f".set-aside/{key}" in objects(project)


@pytest.mark.slow
def test_a_missing_object_is_one_line(project: Project, machine: Project, retrainer: Runner) -> None:
    version_id = train(project)
    files, root = fsspec.url_to_fs(project.settings.models_dir, use_listings_cache=False)
    files.rm_file(f"{root}/timing/{version_id}/model.json")
    refused = retrainer("predict", "timing", cwd=machine.folder)
    assert refused.code == 1
    assert f"'{project.settings.models_dir}/timing/{version_id}/model.json' is missing" in refused.err


MOMENTS = [
    ("retrainer.registry.uploads.Uploads.start", "before"),
    ("retrainer.registry.uploads.Uploads.start", "after"),
    ("retrainer.registry.store.Store.write", "after"),
    ("retrainer.registry.versions.Versions.register_version", "before"),
    ("retrainer.registry.versions.Versions.register_version", "after"),
    ("retrainer.registry.artifacts.Artifacts.publish", "after"),
    ("retrainer.registry.versions.Versions.record_evaluation", "before"),
    ("retrainer.registry.versions.Versions.record_evaluation", "after"),
]


@pytest.mark.parametrize(
    "moment",
    MOMENTS,
    ids=[f"{when} {name.rpartition('.')[2]}" for name, when in MOMENTS],
)
@pytest.mark.parametrize(
    ("place", "cleaned_by"),
    [
        pytest.param("postgresql-s3", "train", marks=pytest.mark.slow),
        pytest.param("sqlite-file", "doctor", marks=pytest.mark.slow),
        pytest.param("postgresql-s3", "doctor", marks=pytest.mark.soak),
        pytest.param("sqlite-file", "train", marks=pytest.mark.soak),
        pytest.param("postgresql-file", "train", marks=pytest.mark.soak),
        pytest.param("postgresql-file", "doctor", marks=pytest.mark.soak),
        pytest.param("sqlite-s3", "train", marks=pytest.mark.soak),
        pytest.param("sqlite-s3", "doctor", marks=pytest.mark.soak),
    ],
    indirect=["place"],
)
def test_what_a_killed_process_uploaded_is_no_version_and_is_cleared(
    project: Project, retrainer: Runner, moment: tuple[str, str], cleaned_by: str
) -> None:
    live = train(project)
    for key in (f"timing/{live}/NOTES.md", f"{UPLOADS}/notes.txt", f"{UPLOADS}/mine.json", "photos/1.jpg"):
        put(project, key, b"of last year")
    worker = Worker.start(project.folder.parent, kill_at, project.folder, *moment, None)
    release([worker])
    assert worker.finish() == -signal.SIGKILL, worker.err
    recorded = {version.version_id for version in project.registry.list_versions()}
    assert retrainer("predict", "timing", cwd=project.folder).code == 0
    if cleaned_by == "doctor":
        assert retrainer("doctor", "--repair", cwd=project.folder).code == 0
        assert of_versions(objects(project)) == recorded
    else:
        assert retrainer("train", "timing", cwd=project.folder).code == 0
    assert examine(project) == []
    found = objects(project)
    assert of_versions(found) == {version.version_id for version in project.registry.list_versions()}
    assert {key for key in found if key.startswith(UPLOADS)} == {f"{UPLOADS}/notes.txt", f"{UPLOADS}/mine.json"}
    assert found["photos/1.jpg"] == found[f"timing/{live}/NOTES.md"] == b"of last year"
    assert not list(project.models_dir.glob(".staging/*"))


def test_two_uploads_of_the_same_version_do_not_mix(project: Project) -> None:
    version = project.registry.get_version(train(project))
    with project.artifacts.staging("timing") as staging:
        with pytest.raises(ArtifactError, match="is already stored"):
            project.artifacts.stage_files(staging, version, {"model.json": b"another"})
    new = project.registry.get_version(version.version_id)
    new.version_id = "baseline_timing_20200101_000000_0000"
    with project.artifacts.staging("timing") as first, project.artifacts.staging("timing") as second:
        project.artifacts.stage_files(first, new, {"model.json": b"1"})
        with pytest.raises(ArtifactError, match="are being uploaded by another process"):
            project.artifacts.stage_files(second, new, {"model.json": b"2"})
        assert objects(project)[f"timing/{new.version_id}/model.json"] == b"1"
        assert examine(project) == [], "an upload in progress is no problem"
    assert of_versions(objects(project)) == {version.version_id}, "what was not recorded is removed"


@pytest.mark.slow
def test_an_upload_of_another_machine_counts_as_abandoned_after_a_day(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = project.registry.get_version(train(project))
    version.version_id = "baseline_timing_20200101_000000_0000"
    with monkeypatch.context() as patched:
        patched.setattr("socket.gethostname", lambda: "elsewhere")
        with pytest.raises(KeyboardInterrupt), project.artifacts.staging("timing") as staging:
            project.artifacts.stage_files(staging, version, {"model.json": b"1"})
            with staging.keep_if_recorded():
                raise KeyboardInterrupt
    assert project.artifacts.find_abandoned() == []
    monkeypatch.setattr("retrainer.registry.uploads.MAX_AGE", -(NOW - NOW.replace(year=2023)))
    assert len(project.artifacts.find_abandoned()) == 1
    project.artifacts.clear_abandoned()
    assert "baseline_timing_20200101_000000_0000" not in of_versions(objects(project))


def test_a_process_knows_an_upload_that_it_gave_up_after_the_clock_was_set(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = project.registry.get_version(train(project))
    version.version_id = "baseline_timing_20200101_000000_0000"
    with pytest.raises(KeyboardInterrupt), project.artifacts.staging("timing") as staging:
        project.artifacts.stage_files(staging, version, {"model.json": b"1"})
        with staging.keep_if_recorded():
            raise KeyboardInterrupt
    booted = psutil.boot_time()  # as Linux derives it from the clock
    monkeypatch.setattr("psutil.boot_time", lambda: booted - 1)
    assert len(project.artifacts.find_abandoned()) == 1


@pytest.mark.slow
def test_archived_versions_are_pruned_and_restored(project: Project, machine: Project, retrainer: Runner) -> None:
    configure(project.folder, keep_versions="1")
    _, second, *_ = [train(open_project(project.folder)) for _ in range(4)]
    assert retrainer("restore", second, cwd=machine.folder).code == 0
    assert retrainer("prune", "--yes", cwd=machine.folder).code == 0
    pruned = {version.version_id for version in project.registry.list_versions() if version.pruned_at}
    assert pruned
    assert of_versions(objects(project)) == {v.version_id for v in project.registry.list_versions()} - pruned
    assert retrainer("doctor", cwd=machine.folder).code == 0


@pytest.mark.slow
def test_a_version_moves_between_a_store_and_a_folder_by_export_and_by_backup(
    project: Project, elsewhere: Path, retrainer: Runner, tmp_path: Path
) -> None:
    version_id = train(project)
    assert retrainer("export", version_id, str(tmp_path / "one"), cwd=project.folder).code == 0
    assert retrainer("backup", str(tmp_path / "all"), cwd=project.folder).code == 0
    assert retrainer("import", str(tmp_path / "one"), cwd=elsewhere).code == 0
    there = open_project(elsewhere)
    assert there.registry.read_file(version_id, "model.json") is not None
    assert retrainer("restore-backup", str(tmp_path / "all"), "--replace", "--yes", cwd=elsewhere).code == 0
    assert there.registry.read_file(version_id, "model.json") is not None, "a folder's files are in the database, too"
    assert retrainer("predict", "timing", cwd=elsewhere).code == 0
    assert retrainer("doctor", cwd=elsewhere).code == 0


@pytest.mark.slow
def test_a_backup_is_restored_to_a_store(
    folder: Path, elsewhere: Path, url: str, retrainer: Runner, prepare: Prepare, tmp_path: Path
) -> None:
    version_id = prepare(folder, train_timing)
    assert retrainer("backup", str(tmp_path / "all"), cwd=folder).code == 0
    assert retrainer("export", version_id, str(tmp_path / "one"), cwd=folder).code == 0
    configure(elsewhere, models_dir=url)
    there = open_project(elsewhere)
    assert retrainer("import", str(tmp_path / "one"), cwd=elsewhere).code == 0
    assert retrainer("import", str(tmp_path / "one"), cwd=elsewhere).code == 0, "it is there already"
    assert there.registry.read_file(version_id, "model.json") is None
    shutil.rmtree(elsewhere / ".retrainer")
    assert retrainer("restore-backup", str(tmp_path / "all"), "--replace", "--yes", cwd=elsewhere).code == 0
    assert there.registry.read_file(version_id, "model.json") is None
    assert retrainer("predict", "timing", cwd=elsewhere).code == 0
    assert retrainer("doctor", cwd=elsewhere).code == 0


@pytest.mark.slow
def test_a_project_moves_from_a_folder_to_a_store(folder: Path, url: str, retrainer: Runner, prepare: Prepare) -> None:
    version_id = prepare(folder, train_timing)
    configure(folder, models_dir=url)
    assert retrainer("predict", "timing", cwd=folder).code == 0, "the database has a copy"
    assert retrainer("doctor", "--repair", cwd=folder).code == 0
    assert of_versions(objects(open_project(folder))) == {version_id}
    assert retrainer("doctor", cwd=folder).code == 0


@pytest.mark.slow
def test_a_store_of_another_database_is_refused(project: Project, elsewhere: Path, retrainer: Runner) -> None:
    train(project)
    before = objects(project)
    configure(elsewhere, models_dir=project.settings.models_dir)
    open_project(elsewhere).posts.add(regular_posts(120), NOW)
    for command in (("train", "timing"), ("prune", "--yes"), ("doctor", "--repair")):
        done = retrainer(*command, cwd=elsewhere)
        assert "belongs to another database" in done.out + done.err
        assert done.code in {1, 2}
    assert objects(project) == before


def test_an_unknown_version_is_set_aside_by_doctor(project: Project) -> None:
    version_id = train(project)
    stray = "baseline_timing_20200101_000000_0000"
    for key, data in objects(project).items():
        if key.startswith(f"timing/{version_id}/"):
            put(project, key.replace(version_id, stray), data.replace(version_id.encode(), stray.encode()))
    (finding,) = examine(project)
    assert (finding.kind, finding.subject) == ("stray_folder", f"{project.settings.models_dir}/timing/{stray}")
    assert [finding.repaired for finding in examine(project, repair=True)] == [True]
    found = objects(project)
    assert f".set-aside/timing/{stray}/manifest.json" in found
    assert of_versions(found) == {version_id}


def test_the_cache_is_checked_bounded_and_may_fail(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache", max_bytes=40_000)
    first = sha256(b"first")
    cache.add(first, b"first")
    assert cache.get(first) == b"first"
    (tmp_path / "cache" / first[:2] / first).write_bytes(b"other")
    assert cache.get(first) is None
    assert not (tmp_path / "cache" / first[:2] / first).exists()
    for number in range(20):
        cache.add(sha256(bytes([number])), bytes([number]))
    assert 0 < len(list((tmp_path / "cache").glob("*/*"))) <= 10
    (tmp_path / "file").touch()
    unusable = FileCache(tmp_path / "file")
    unusable.add(first, b"first")
    assert unusable.get(first) is None


def test_a_missing_library_is_one_line(sqlite_folder: Path, retrainer: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(sqlite_folder, models_dir="s3://bucket/models")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    for command in (("config", "check"), ("train", "timing")):
        refused = retrainer(*command, cwd=sqlite_folder)
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
        assert "s3fs" in refused.err
        assert "pip install 'retrainer[s3]'" in refused.err


def test_a_folder_needs_no_library_for_stores(sqlite_folder: Path) -> None:
    assert_imports_none_of(("fsspec", "s3fs"), ["doctor"], sqlite_folder)


def test_a_protocol_that_no_library_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="Protocol not known: foo"):
        Store("foo://bucket")
