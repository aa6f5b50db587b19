"""A backup holds one consistent state, also of a project in use, and brings it back on either database."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from retrainer.backup import back_up, file_format, masking, restore_backup, restoring
from retrainer.errors import ConfigError, RetrainerError
from retrainer.pipeline.forecast import predict_next
from retrainer.pipeline.promotion import promote_version
from retrainer.pipeline.run import retrain
from retrainer.project import create_project
from retrainer.registry import artifacts, production_links
from retrainer.registry.migrations import HEAD
from retrainer.registry.tables import Base
from retrainer.streams import stream_id
from tests.command_line import run_in_process
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of, version_folder
from tests.plugins_for_tests import timing_algorithm
from tests.registry.first_schema import create_first_schema, upgrade_to
from tests.worker import Worker, change, release

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

TRAIN = [sys.executable, "-m", "retrainer", "train", "timing", "--algorithm", "waiting", "--no-auto-promote"]
# Stops where everything is restored but nothing committed.
KILLED = """
import os, signal, sys
from retrainer.cli import program
from retrainer.backup import restoring

restoring._restore_files = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
program.run(sys.argv[1:])
"""


ON_EACH = pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
ELSEWHERE = pytest.mark.parametrize(
    ("database", "database_elsewhere"),
    [
        ("sqlite", "postgresql"),
        ("postgresql", "sqlite"),
        pytest.param("sqlite", "sqlite", marks=pytest.mark.soak),
        pytest.param("postgresql", "postgresql", marks=pytest.mark.soak),
    ],
)


def train_two_versions(folder: Path) -> None:
    """Store 120 posts and train two versions, of which the second replaces the first, fitted again."""
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    for _ in range(2):
        retrain(project, runtime_of(project), "timing", NOW)
    (second,) = (version for version in project.registry.list_versions() if not version.is_production)
    promote_version(project, runtime_of(project), second.version_id, "newer", NOW, refit=True)
    project.close()


@pytest.fixture
def project(folder: Path, prepare: Prepare) -> Project:
    """A project with 120 posts and two versions, of which the second replaced the first."""
    prepare(folder, train_two_versions)
    return open_project(folder)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the backup goes."""
    return tmp_path / "project.backup"


@pytest.fixture
def saved(project: Project, file: Path) -> Path:
    """A backup of the project."""
    back_up(project, file, NOW)
    return file


@pytest.fixture
def run_in_flight(project: Project, plugins: Plugins) -> Iterator[subprocess.Popen[str]]:
    """A run that waits inside `train` until its stdin is closed."""
    code = timing_algorithm("waiting", train="print('training', flush=True)\nos.read(0, 1)")
    plugins.add("waiting", code)
    with subprocess.Popen(
        TRAIN,
        cwd=project.folder,
        env={**os.environ, **plugins.environ},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,  # where the program sends what a plugin prints
        text=True,
    ) as process:
        assert process.stderr
        lines = iter(process.stderr.readline, "")
        assert any(line == "training\n" for line in lines), "it is inside `train`"
        yield process
        process.kill()


def records(project: Project) -> dict[str, Any]:
    """Return every row of the registry, by table."""
    with project.registry.database.read() as session:
        return {
            table.name: [tuple(row) for row in session.execute(sa.select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
        }


@ON_EACH
def test_every_stream_comes_back_with_its_models_and_links(project: Project, file: Path, retrainer: Runner) -> None:
    own = project.for_stream("news/a")
    own.posts.add(regular_posts(120), NOW)
    assert retrain(own, runtime_of(own), "timing", NOW).promoted
    own.registry.hold("content", "as it is", NOW)
    link = project.models_dir / "streams" / stream_id("news/a") / "timing_model"
    before, target = records(project), link.resolve()
    back_up(project, file, NOW)
    shutil.rmtree(project.models_dir)
    restored = retrainer("restore-backup", str(file), "--replace", "--yes")
    assert restored.code == 0, restored.err
    assert records(project) == before
    assert link.resolve() == target
    assert target.is_dir()
    assert list(project.models_dir.glob("timing/*/manifest.json"))


@pytest.mark.slow
@ELSEWHERE
def test_a_backup_during_a_run_restores_a_working_project(
    project: Project, run_in_flight: subprocess.Popen[str], retrainer: Runner, file: Path, elsewhere: Path
) -> None:
    before = project.registry.list_runs()
    made = retrainer("backup", str(file), "--json")
    assert made.code == 0, made.err
    assert (made.json["versions"], made.json["runs"], made.json["posts"]) == (2, 3, 120)
    _, err = run_in_flight.communicate()
    assert run_in_flight.returncode == 0, err
    assert len(project.registry.list_versions()) == 3

    there = run_in_process(elsewhere)
    restored = there("restore-backup", str(file), "--json")
    assert restored.code == 0, restored.err
    assert restored.json == made.json
    copy = open_project(elsewhere)
    interrupted, *completed = copy.registry.list_runs()
    assert [run.run_id for run in completed] == [run.run_id for run in before if run.status == "completed"]
    assert (interrupted.status, interrupted.error) == (
        "failed",
        "The run was interrupted: the backup was taken during this run",
    )
    theirs, ours = (predict_next(each, runtime_of(each), "timing", NOW) for each in (project, copy))
    assert ours == theirs
    assert there("doctor").out == "No problems found\n"
    assert there("rollback", "timing", "--no-hold").code == 0
    assert there("train", "timing").code == 0
    assert there("doctor").code == 0


@ON_EACH
def test_everything_comes_back_after_a_total_loss(project: Project, saved: Path, retrainer: Runner) -> None:
    before = records(project)
    database = project.registry.database
    if database.engine.dialect.name == "sqlite":
        shutil.rmtree(project.folder / "data")
    else:
        with database.engine.begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
    project.close()
    lost = retrainer("history")
    assert lost.code == 1, "the models folder tells that a database is missing"
    shutil.rmtree(project.models_dir)
    done = retrainer("restore-backup", str(saved))
    assert done.code == 0, done.err
    assert done.out == f"Restored 2 versions, 2 runs and 120 posts ({saved})\n"
    assert records(open_project(project.folder)) == before
    assert retrainer("doctor").code == 0
    assert retrainer("predict", "timing").code == 0


def test_a_lost_database_is_restored_beside_its_models(project: Project, saved: Path, retrainer: Runner) -> None:
    project.close()
    shutil.rmtree(project.folder / "data")
    note = project.models_dir / "timing" / "NOTES.md"
    note.write_text("mine")
    assert retrainer("restore-backup", str(saved)).code == 0
    assert retrainer("predict", "timing").code == 0
    assert note.read_text() == "mine"


@ON_EACH
def test_replacing_is_exact_and_keeps_posts_and_files(project: Project, saved: Path, retrainer: Runner) -> None:
    before = records(project)
    retrain(project, runtime_of(project), "timing", NOW)
    newest = project.registry.list_versions()[0]
    project.registry.hold("timing", "later", NOW)
    project.posts.add(regular_posts(130), NOW)
    refused = retrainer("restore-backup", str(saved))
    assert refused.code == 2
    assert f"the database {project.registry.database.location} is not empty. Add --replace" in refused.err
    assert retrainer("restore-backup", str(saved), "--replace").code == 2, "no terminal to confirm it on"
    assert len(project.registry.list_versions()) == 3
    assert retrainer("restore-backup", str(saved), "--replace", "--yes").code == 0
    after = records(open_project(project.folder))
    assert after | {"posts": None} == before | {"posts": None}
    assert len(after["posts"]) == 130
    assert version_folder(project, "timing", newest.version_id).exists()
    assert retrainer("train", "timing").code == 0, "the next decision gets a new number"
    with (
        pytest.raises(DBAPIError, match="the ledger can only grow"),
        project.registry.database.engine.begin() as change,
    ):
        change.execute(sa.text("DELETE FROM retrainer_ledger"))


def test_a_changed_or_truncated_backup_is_refused(project: Project, saved: Path, retrainer: Runner) -> None:
    content, before = saved.read_bytes(), records(project)
    end = len(content)
    truncated = [content[:length] for length in (0, 1, 50_000, end - 1)]
    positions = (0, 100, 5_000, end // 2, end - 70, end - 30, end - 1)
    changed = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in positions]
    for bad in truncated + changed:
        saved.write_bytes(bad)
        with pytest.raises(RetrainerError, match=r"was changed: its SHA-256|is not a backup, or is incomplete"):
            restore_backup(project, saved, replace=True)
    assert records(project) == before
    refused = retrainer("restore-backup", str(saved), "--replace", "--yes")
    assert refused.code == 1
    assert refused.err == f"Error: '{saved}' was changed: its SHA-256 is wrong. Use another backup\n"


@pytest.mark.slow
@ON_EACH
def test_a_kill_during_a_restore_leaves_the_old_database(project: Project, saved: Path, retrainer: Runner) -> None:
    retrain(project, runtime_of(project), "timing", NOW)
    before = records(project)
    arguments = ["restore-backup", str(saved), "--replace", "--yes"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=project.folder, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert records(project) == before
    assert retrainer("doctor").code == 0
    assert retrainer(*arguments).code == 0
    assert len(open_project(project.folder).registry.list_versions()) == 2


@pytest.mark.slow
def test_a_restore_killed_in_a_lost_database_leaves_it_lost(project: Project, saved: Path, retrainer: Runner) -> None:
    project.close()
    shutil.rmtree(project.folder / "data")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "restore-backup", str(saved)], cwd=project.folder, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert "has no retrainer tables, but" in retrainer("history").err
    assert retrainer("restore-backup", str(saved)).code == 0


@pytest.mark.slow
@ON_EACH
@pytest.mark.usefixtures("run_in_flight")
def test_a_restore_during_a_run_is_refused(project: Project, saved: Path, retrainer: Runner) -> None:
    refused = retrainer("restore-backup", str(saved), "--replace", "--yes")
    assert refused.code == 4
    assert "another timing run is in progress" in refused.err
    assert "Wait for it to end, or stop that process" in refused.err
    assert len(project.registry.list_running_runs()) == 1


def latest_decision(project: Project) -> int:
    return project.registry.list_ledger_entries(limit=1)[0].entry_id


@pytest.mark.slow
@ON_EACH
def test_every_backup_of_a_project_in_use_is_consistent(project: Project, tmp_path: Path) -> None:
    for _ in range(4):
        retrain(project, runtime_of(project), "timing", NOW)
    workers = [Worker.start(tmp_path, change, project.folder, 3600.0, seed) for seed in range(3)]
    release(workers)
    saved_decision = latest_decision(project)
    for number in range(5):
        while latest_decision(project) == saved_decision:
            assert all(worker.is_running() for worker in workers), [worker.err for worker in workers]
        saved = tmp_path / f"{number}.backup"
        back_up(project, saved, datetime.now(UTC))
        with closing(sqlite3.connect(saved)) as database:
            ((live,),) = database.execute("SELECT version_id FROM retrainer_model_versions WHERE is_production")
            query = "SELECT entry_id, to_version_id FROM retrainer_ledger ORDER BY entry_id DESC LIMIT 1"
            ((saved_decision, decided),) = database.execute(query)
            assert decided == live, "the last decision is in effect"
    for worker in workers:
        worker.kill()
        worker.finish()


@ON_EACH
@pytest.mark.slow
def test_a_version_too_large_for_the_database_is_in_the_backup(
    folder: Path, saved_large: Path, elsewhere: Path, retrainer: Runner
) -> None:
    version = open_project(folder).registry.list_versions()[0]
    there = run_in_process(elsewhere)
    assert there("restore-backup", str(saved_large)).code == 0
    assert there("doctor").code == 0
    copy = open_project(elsewhere)
    assert copy.registry.read_file(version.version_id, "model.json") is None
    assert copy.artifacts.find_file_problems(version) == {}
    shutil.rmtree(version_folder(open_project(folder), "timing", version.version_id))
    incomplete = retrainer("backup", f"{saved_large}.2")
    assert incomplete.code == 0
    assert "A file is not in the backup: cannot repair" in incomplete.err


@pytest.fixture
def saved_large(folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A backup of a project with a version whose files are larger than a database would hold."""
    monkeypatch.setattr(artifacts, "MAX_BYTES_IN_DATABASE", 10)
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    retrain(project, runtime_of(project), "timing", NOW)
    back_up(project, file, NOW)
    return file


def test_a_backup_is_never_overwritten(saved: Path, retrainer: Runner) -> None:
    content = saved.read_bytes()
    refused = retrainer("backup", str(saved))
    assert refused.code == 2
    assert refused.err == f"Error: '{saved}' exists. Choose another name\n"
    assert saved.read_bytes() == content
    assert [path.name for path in saved.parent.iterdir() if saved.name in path.name] == [saved.name]
    assert saved.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("command", ["backup", "restore-backup"])
def test_a_place_that_cannot_be_used_is_one_line(command: str, retrainer: Runner, folder: Path) -> None:
    missing = folder / "no" / "folder"
    refused = retrainer(command, str(missing))
    assert refused.code == 1
    assert f"'{missing}': No such file or directory" in refused.err


def test_a_fifo_is_refused_at_once(folder: Path, retrainer: Runner) -> None:
    os.mkfifo(folder / "fifo")
    refused = retrainer("restore-backup", str(folder / "fifo"))
    assert refused.code == 1
    assert "it is a pipe, not a regular file" in refused.err


def rewrite(saved: Path, *statements: str) -> None:
    """Change the database of a backup, and seal it again."""
    content = saved.read_bytes()
    saved.write_bytes(content[: content.rindex(b"\nretrainer backup")])
    with closing(sqlite3.connect(saved, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)
    file_format.seal(saved)


def bring_back_to(revision: str) -> list[str]:
    """Return the statements that bring a backup back to an earlier schema: what is new in it is dropped."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        upgrade_to(connection, revision)
        inspector = sa.inspect(connection)
        columns = {
            name: ", ".join(column["name"] for column in inspector.get_columns(name))
            for name in inspector.get_table_names()
        }
        schema = connection.exec_driver_sql("SELECT tbl_name, type, sql FROM sqlite_master WHERE sql IS NOT NULL").all()
    engine.dispose()
    statements = ["PRAGMA legacy_alter_table=ON"]  # the references to a renamed table stay
    for name, names in columns.items():
        statements.append(f"ALTER TABLE {name} RENAME TO {name}_now")
        statements += [sql for table, kind, sql in schema if (table, kind) == (name, "table")]
        statements.append(f"INSERT INTO {name} ({names}) SELECT {names} FROM {name}_now")
        statements.append(f"DROP TABLE {name}_now")
        statements += [sql for table, kind, sql in schema if table == name and kind != "table"]
    added = [name for name in Base.metadata.tables if name not in columns]
    return [*statements, *(f"DROP TABLE {name}" for name in added)]


@pytest.mark.slow
@ELSEWHERE
def test_a_restored_database_goes_on_with_the_models_folder_of_the_lost_one(
    project: Project, saved: Path, elsewhere: Path
) -> None:
    configure(elsewhere, models_dir=str(project.models_dir))
    there = open_project(elsewhere)
    there_run = run_in_process(elsewhere)
    refused = there_run("train", "timing")
    assert "holds versions from it" in refused.err  # until the backup is restored
    restored = there_run("restore-backup", str(saved))
    assert restored.code == 0, restored.err
    assert retrain(there, runtime_of(there), "timing", NOW).run


@pytest.mark.parametrize(
    "made_by", [pytest.param("this release", marks=pytest.mark.slow), "an earlier one", "another project"]
)
def test_a_database_that_was_replaced_keeps_its_models_folder(
    project: Project, saved: Path, elsewhere: Path, made_by: str
) -> None:
    if made_by == "another project":
        there = open_project(elsewhere)
        there.posts.add(regular_posts(120), NOW)
        retrain(there, runtime_of(there), "timing", NOW)
        saved.unlink()
        back_up(there, saved, NOW)
    elif made_by == "an earlier one":
        rewrite(
            saved,
            *bring_back_to("0006"),
            "UPDATE retrainer_alembic_version SET version_num = '0006'",
            "UPDATE retrainer_backup SET info = json_set(info, '$.revision', '0006')",
        )
    restore_backup(project, saved, replace=True)
    assert retrain(project, runtime_of(project), "timing", NOW).run
    assert project.artifacts.place.find_owner() == project.registry.database_id()


def test_a_backup_is_not_restored_into_the_models_folder_of_another_database(
    project: Project, saved: Path, elsewhere: Path, tmp_path: Path
) -> None:
    create_project(tmp_path / "third")
    configure(tmp_path / "third")
    third = open_project(tmp_path / "third")
    third.posts.add(regular_posts(120), NOW)
    retrain(third, runtime_of(third), "timing", NOW)
    before = {path: path.stat().st_mtime_ns for path in third.models_dir.rglob("*")}
    configure(elsewhere, models_dir=str(third.models_dir))
    there = open_project(elsewhere)
    with pytest.raises(ConfigError, match="belongs to another database"):
        restore_backup(there, saved)
    assert {path: path.stat().st_mtime_ns for path in third.models_dir.rglob("*")} == before


def test_a_backup_of_a_newer_release_is_refused(saved: Path, retrainer: Runner) -> None:
    rewrite(saved, """UPDATE retrainer_backup SET info = json_set(info, '$.revision', '9999', '$.release', '9.0')""")
    refused = retrainer("restore-backup", str(saved), "--replace", "--yes")
    assert refused.code == 1
    assert refused.err == f"Error: '{saved}' was made by the newer release 9.0. Upgrade retrainer\n"


def test_a_backup_of_an_older_release_is_migrated(folder: Path, file: Path, elsewhere: Path) -> None:
    create_first_schema(folder).close()
    shutil.copy(folder / "data" / "retrainer.db", file)
    info = {"format": 1, "created_at": "2024-01-02T00:00:00Z", "release": "0.0.1", "revision": "0001"}
    info |= {"versions": 1, "runs": 0, "posts": 0, "large_files": [], "settings": ""}
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("CREATE TABLE retrainer_backup (info JSON NOT NULL)")
        database.execute("INSERT INTO retrainer_backup VALUES (?)", [json.dumps(info)])
    file_format.seal(file)
    restored = restore_backup(open_project(elsewhere), file)
    assert restored.release == "0.0.1"
    copy = open_project(elsewhere)
    assert copy.registry.database.revision() == HEAD
    assert [entry.reason for entry in copy.registry.list_ledger_entries()] == ["first"]


def test_a_foreign_posts_table_is_left_alone(saved: Path, elsewhere: Path) -> None:
    (elsewhere / "data").mkdir(exist_ok=True)
    with closing(sqlite3.connect(elsewhere / "data" / "retrainer.db", isolation_level=None)) as database:
        database.execute("CREATE TABLE posts (post_id, created_at, content)")
    done = run_in_process(elsewhere)("restore-backup", str(saved))
    assert done.code == 0, done.err
    assert "The posts were not restored: the table 'posts' is not retrainer's" in done.err
    assert run_in_process(elsewhere)("posts", "count", "--json").json["count"] == 0


def test_posts_that_are_only_read_are_not_in_the_backup(sqlite_folder: Path, file: Path, retrainer: Runner) -> None:
    with closing(sqlite3.connect(sqlite_folder / "theirs.db")) as database:
        database.execute("CREATE TABLE posts (post_id, created_at, content)")
    configure(sqlite_folder)
    with (sqlite_folder / "config" / "config.yaml").open("a") as settings:
        settings.write("# the account is postgresql://reader:hunter2@db.example/posts\n")
    made = retrainer("backup", str(file), RETRAINER_POSTS__URL="sqlite:///theirs.db")
    assert made.out == (
        f"Backed up 0 versions, 0 runs and no posts: they are in a table that retrainer only reads ({file})\n"
    )
    assert b"hunter2" not in file.read_bytes()
    assert b"postgresql://reader:***@db.example/posts" in file.read_bytes()


def test_other_settings_of_a_backup_are_written_beside_those_of_the_project(
    folder: Path, saved: Path, elsewhere: Path
) -> None:
    settings = elsewhere / "config" / "config.yaml"
    settings.write_text(settings.read_text() + "\n# another project\n")
    before = settings.read_text()
    done = run_in_process(elsewhere)("restore-backup", str(saved))
    assert "The backup was made with other settings: see" in done.err
    assert settings.read_text() == before
    theirs = settings.with_name("config.from-backup.yaml").read_text()
    assert theirs == (folder / "config" / "config.yaml").read_text()


def test_settings_of_a_backup_never_replace_a_file_or_link(folder: Path, saved: Path, elsewhere: Path) -> None:
    config = elsewhere / "config"
    with (config / "config.yaml").open("a") as settings:
        settings.write("\n# another project\n")
    first, third = config / "config.from-backup.yaml", config / "config.from-backup.3.yaml"
    first.write_text("mine")
    (config / "config.from-backup.2.yaml").symlink_to("nowhere")
    for _ in range(2):
        done = run_in_process(elsewhere)("restore-backup", str(saved), "--replace", "--yes")
        assert done.code == 0, done.err
        assert f"see '{third}'" in done.err
    assert first.read_text() == "mine"
    assert (config / "config.from-backup.2.yaml").is_symlink()
    assert third.read_text() == (folder / "config" / "config.yaml").read_text()
    assert third.stat().st_mode & 0o777 == 0o600
    assert len(list(config.glob("config.from-backup*"))) == 3


def test_a_folder_in_the_place_of_a_link_fails_before_anything_changes(saved: Path, elsewhere: Path) -> None:
    mine = elsewhere / "models" / "timing_model"
    mine.mkdir(parents=True)
    there = run_in_process(elsewhere)
    refused = there("restore-backup", str(saved))
    assert refused.code == 1
    assert refused.err.endswith(f"Error: cannot link '{mine}': it is a folder. Move it away\n")
    assert open_project(elsewhere).registry.list_versions() == []
    mine.rmdir()
    mine.symlink_to("/elsewhere")
    assert "it is a link to '/elsewhere'" in there("restore-backup", str(saved)).err
    mine.unlink()
    assert there("restore-backup", str(saved)).code == 0, "the database is still empty"


def test_a_failure_after_the_commit_is_a_warning(saved: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (elsewhere / "config" / "config.yaml").open("a") as settings:
        settings.write("\n# another project\n")
    there = run_in_process(elsewhere)
    with monkeypatch.context() as full_disk:
        full_disk.setattr(production_links.ProductionLinks, "_link", fail)
        full_disk.setattr(restoring, "_write_settings", fail)
        done = there("restore-backup", str(saved))
    assert done.code == 0, done.err
    assert "The links to the production versions were not set" in done.err
    assert "retrainer doctor --repair" in done.err
    assert "The settings of the backup were not written" in done.err
    assert there("doctor", "--repair").code == 0
    assert there("doctor").code == 0


def test_a_file_that_the_backup_lacks_is_a_warning(folder: Path, saved_large: Path, elsewhere: Path) -> None:
    version = open_project(folder).registry.list_versions()[0]
    rewrite(saved_large, "UPDATE retrainer_version_files SET data = NULL WHERE path = 'model.json'")
    done = run_in_process(elsewhere)("restore-backup", str(saved_large))
    assert done.code == 0, done.err
    assert f"'model.json' of '{version.version_id}' is not in the backup, and was not restored" in done.err


@pytest.mark.parametrize(
    "statements",
    [
        ["UPDATE retrainer_model_versions SET version_id = '../../' || version_id"],
        ["UPDATE retrainer_model_versions SET version_id = '..' WHERE is_production"],
        ["UPDATE retrainer_model_versions SET version_id = version_id || char(10)"],
        ["UPDATE retrainer_model_versions SET model_type = '..'"],
        ["UPDATE retrainer_version_files SET path = '../' || path"],
        ["UPDATE retrainer_version_files SET path = '/tmp/x' WHERE path = 'model.json'"],
        [
            "ALTER TABLE retrainer_model_versions RENAME TO other",
            "CREATE VIEW retrainer_model_versions AS SELECT * FROM other",
        ],
        ["DROP TABLE retrainer_version_files"],
        ["DROP TABLE retrainer_holds"],
        ["UPDATE retrainer_alembic_version SET version_num = '9999'"],
        ["DROP TABLE retrainer_backup"],
        ["DELETE FROM retrainer_backup"],
        ["UPDATE retrainer_backup SET info = 'no JSON'"],
        ["UPDATE retrainer_backup SET info = '[1]'"],
        ["UPDATE retrainer_backup SET info = json_remove(info, '$.settings')"],
        ["UPDATE retrainer_backup SET info = json_set(info, '$.created_at', 'yesterday')"],
        ["UPDATE retrainer_backup SET info = json_set(info, '$.large_files', json('[1]'))"],
        *(
            pytest.param([f"UPDATE retrainer_{table} SET {change}"], marks=pytest.mark.slow)
            for table, change in [
                ("model_versions", "trained_at = 'yesterday'"),
                ("model_versions", "hyperparameters = 'no JSON'"),
                ("model_versions", "num_training_samples = 'many'"),
                ("model_versions", "training_duration_seconds = x'00'"),
                ("model_versions", "algorithm = x'ff'"),
                ("training_runs", "started_at = 1"),
                ("training_runs", "pid = x'ff'"),
                ("version_files", "size = 'large'"),
                ("version_files", "data = 'a text'"),
            ]
        ),
        ["UPDATE retrainer_training_runs SET started_at = x'ff'"],
        ["PRAGMA ignore_check_constraints = ON", "UPDATE retrainer_model_versions SET status = 'odd'"],
        ["UPDATE retrainer_version_files SET version_id = 'unknown' || version_id"],
        [
            "DROP INDEX uq_retrainer_model_versions_production",
            "UPDATE retrainer_model_versions SET status = 'active', is_production = 1",
        ],
        ["DELETE FROM retrainer_database_identity"],
    ],
)
def test_a_handmade_backup_is_refused_in_one_line(statements: list[str], saved: Path, elsewhere: Path) -> None:
    rewrite(saved, *statements)
    refused = run_in_process(elsewhere)("restore-backup", str(saved))
    assert refused.code == 1
    assert refused.err == f"Error: '{saved}' is not a backup of retrainer. Use another backup\n"
    assert open_project(elsewhere).registry.list_versions() == []
    assert not list((elsewhere / "models").glob("timing/*"))


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ('"postgresql://u:pa&ss@h/db"', '"postgresql://u:***@h/db"'),
        ('"postgresql://u:pa\'ss@h/db"', '"postgresql://u:***@h/db"'),
        ("postgresql://u:p@a/s?s@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql://some user:pa ss@h/db", "postgresql://some user:***@h/db"),
        ("'postgresql://h/db?sslpassword=a''b&user=me'", "'postgresql://h/db?sslpassword=***&user=me'"),
        ("postgresql://h/db?user=me&PASSWORD=a;b", "postgresql://h/db?user=me&PASSWORD=***"),
        ("https://key:word@h/hook?api_token=1&x=2 # a hook", "https://key:***@h/hook?api_token=***&x=2 # a hook"),
        ("https://key@h/hook", "https://***@h/hook"),
        ("me:pa&ss@h/db # me:later@noon", "me:***@h/db # me:later@noon"),
        (
            "x # https://h/a, postgresql://h/db, https://u:pw@h/b",
            "x # https://h/a, postgresql://h/db, https://u:***@h/b",
        ),
        ('"postgresql:\\/\\/u:p\\\n  ss@h/db"', '"postgresql://u:***@h/db"'),
        (">-\n  postgresql://u:p\n  ss@h/db", '"postgresql://u:***@h/db"'),
        ("x # was postgresql://u:pa'ss@h/db", "x # was postgresql://u:***@h/db"),
        *((url, url) for url in ("postgresql://user@h/db", "sqlite:///data/a:b@c.db", "https://h:1/@user?page=2")),
    ],
)
def test_passwords_are_masked_and_other_urls_stay(written: str, stored: str, folder: Path) -> None:
    project = open_project(folder)
    project.config_file.write_text(f"# settings\nurl: {written}\nlast: 1\n")
    assert masking.settings_without_passwords(project.config_file) == f"# settings\nurl: {stored}\nlast: 1\n"
