"""The registry, and the constraints that the database itself enforces."""

from __future__ import annotations

import json
import socket
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.orm.util import AliasedClass
from sqlalchemy.sql.expression import AliasedReturnsRows, ClauseElement, Select
from sqlalchemy.sql.visitors import iterate

import retrainer
from retrainer.errors import ArtifactError, ConfigError, DatabaseError, NothingToRollBack, UnknownName
from retrainer.pipeline.loading import load_version
from retrainer.pipeline.run import retrain
from retrainer.registry import database
from retrainer.registry.database import _POSTGRESQL_DEFAULTS, Database
from retrainer.registry.migrations import HEAD, REVISIONS
from retrainer.registry.place import OWNER_FILE
from retrainer.registry.tables import VERSION_TABLE, Base, ModelVersion, TrainingRun
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of, version_folder
from tests.registry.conftest import leave_a_dead_run

if TYPE_CHECKING:
    from retrainer.project import Project
    from tests.command_line import Runner


def version_row(version_id: str, **changes: object) -> ModelVersion:
    values = {
        "version_id": version_id,
        "model_type": "timing",
        "algorithm": "baseline",
        "trained_at": NOW,
        "status": "trained",
        "is_production": False,
        "num_training_samples": 100,
        "training_duration_seconds": 1.0,
        "hyperparameters": {},
        "file_path": f"models/timing/{version_id}",
        "manifest_sha256": "0" * 64,
        "trained_through": NOW,
        "trained_through_post_id": "p1",
        "pinned": False,
    }
    return ModelVersion(**{**values, **changes})


def test_the_program_knows_the_newest_revision_without_alembic() -> None:
    from retrainer.registry import migrations

    script = ScriptDirectory(str(next(iter(migrations.__path__))))
    assert script.get_heads() == [HEAD]
    assert [step.revision for step in reversed(list(script.walk_revisions()))] == list(REVISIONS)


def test_the_migrations_make_the_tables_that_the_program_uses(project: Project) -> None:
    options = {"version_table": VERSION_TABLE, "compare_type": True}
    with project.registry.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def test_threads_share_no_alias_or_subquery() -> None:
    # SQLAlchemy fills the columns of one on first use, without a lock; another thread then gets a query of other rows.
    root = Path(retrainer.__file__).parent
    paths = [path for path in root.rglob("*.py") if "sqlalchemy" in path.read_text()]
    names = [".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    values = [(name, value) for name in names for value in vars(import_module(name)).values()]
    assert any(isinstance(value, Select) for _, value in values)
    shared: list[object] = [(name, value) for name, value in values if isinstance(value, AliasedClass)]
    shared += [
        (name, part)
        for name, value in values
        if isinstance(value, ClauseElement)
        for part in iterate(value)
        if isinstance(part, AliasedReturnsRows)
    ]
    assert not shared


def test_the_database_allows_one_production_version_a_type(project: Project) -> None:
    database = project.registry.database
    with pytest.raises(IntegrityError), database.engine.begin() as connection:
        with Session(connection) as session:
            session.add(version_row("a", status="active", is_production=True))
            session.add(version_row("b", status="active", is_production=True))
            session.flush()


def test_the_database_allows_one_running_run_a_type(project: Project) -> None:
    project.registry.start_run("timing", "baseline", NOW, None)
    columns = {column.name for column in TrainingRun.__table__.columns} - {"run_id"}
    names = ", ".join(sorted(columns))
    with pytest.raises(IntegrityError), project.registry.database.engine.begin() as connection:
        table = TrainingRun.__tablename__
        connection.execute(sa.text(f"INSERT INTO {table} (run_id, {names}) SELECT 'other', {names} FROM {table}"))


def test_the_database_refuses_an_active_version_outside_production(project: Project) -> None:
    with pytest.raises(IntegrityError), project.registry.database.engine.begin() as connection:
        with Session(connection) as session:
            session.add(version_row("a", status="active", is_production=False))
            session.flush()


def test_a_time_without_a_zone_is_refused(project: Project) -> None:
    with pytest.raises(sa.exc.StatementError, match="time without a zone"):
        project.registry.start_run("timing", "baseline", datetime(2024, 1, 1), None)  # noqa: DTZ001  the point


def test_times_come_back_in_utc(project: Project) -> None:
    run = project.registry.start_run("timing", "baseline", NOW, None)
    assert project.registry.get_run(run.run_id).started_at == NOW
    assert project.registry.get_run(run.run_id).started_at.tzinfo == UTC


@pytest.mark.slow_on_postgresql
def test_the_next_run_closes_one_whose_process_is_dead(project: Project) -> None:
    leave_a_dead_run(project)
    (killed,) = [run.run_id for run in project.registry.list_running_runs()]
    assert retrain(project, runtime_of(project), "timing", datetime.now(UTC)).promoted
    closed = project.registry.get_run(killed)
    assert closed.status == "failed"
    assert "The run was interrupted: its process" in str(closed.error)


def test_a_run_on_another_host_counts_as_dead_after_ten_missed_heartbeats(project: Project) -> None:
    run = project.registry.start_run("timing", "baseline", NOW, None)
    with project.registry.database.write() as session:
        row = session.get_one(TrainingRun, run.run_id)
        row.host, row.heartbeat_at = "elsewhere", datetime.now(UTC) - timedelta(seconds=151)
    project.registry.start_run("timing", "baseline", NOW, None)
    assert "on 'elsewhere' was silent for 151 s" in str(project.registry.get_run(run.run_id).error)


def test_a_rollback_with_nothing_to_undo_is_refused(project: Project) -> None:
    with pytest.raises(NothingToRollBack, match="no timing version was ever promoted"):
        project.registry.find_promotions_to_undo("timing")
    retrain(project, runtime_of(project), "timing", NOW)
    with pytest.raises(NothingToRollBack, match="is the first timing version"):
        project.registry.find_promotions_to_undo("timing")


def test_an_unknown_version_is_named(project: Project) -> None:
    for version_id in ("nope", "../../etc/passwd", "a\0b", "x" * 10_000):
        with pytest.raises(UnknownName):
            project.registry.get_version(version_id)


def test_a_changed_file_is_refused_before_it_is_read(project: Project) -> None:
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run
    version = project.registry.get_version(str(run.model_version_id))
    path = version_folder(project, "timing", version.version_id) / "model.json"
    path.write_text(path.read_text().replace("[", "[ "))
    with pytest.raises(ArtifactError, match=f"'model.json' of '{version.version_id}' was modified"):
        load_version(project, runtime_of(project), version)


def test_a_changed_manifest_is_refused(project: Project) -> None:
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run
    version = project.registry.get_version(str(run.model_version_id))
    path = version_folder(project, "timing", version.version_id) / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {}
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="manifest.json"):
        load_version(project, runtime_of(project), version)


def test_a_missing_models_folder_is_restored_from_the_database(project: Project) -> None:
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run
    version = project.registry.get_version(str(run.model_version_id))
    project.models_dir.rename(project.folder / "moved")
    assert load_version(project, runtime_of(project), version).model
    (row,) = project.registry.list_evaluations(version.version_id)
    assert project.artifacts.read_file(version, row.forecasts_file)
    project.production_links.update()
    assert (project.models_dir / "timing_model" / "model.json").exists()


def test_model_files_have_the_permissions_of_the_umask(project: Project) -> None:
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run
    folder = version_folder(project, "timing", str(run.model_version_id))
    assert folder.stat().st_mode & 0o777 == project.models_dir.stat().st_mode & 0o777


def test_a_newer_database_is_refused_in_one_line(project: Project) -> None:
    with project.registry.database.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="has schema '9999', newer than this release"):
        open_project(project.folder).registry  # noqa: B018  opening is the act


def test_a_missing_database_is_not_replaced_by_an_empty_one(sqlite_folder: Path, retrainer: Runner) -> None:
    project = open_project(sqlite_folder)
    project.posts.add(regular_posts(120), NOW)
    retrain(project, runtime_of(project), "timing", NOW)
    project.close()
    (sqlite_folder / "data").rename(sqlite_folder / "away")
    before = sorted(path.name for path in (sqlite_folder / "models").rglob("*"))
    for command in (("history",), ("doctor", "--repair"), ("train", "timing"), ("posts", "count")):
        done = retrainer(*command, cwd=sqlite_folder)
        assert done.code == 1
        assert "is missing, but " in done.err
        assert sorted(path.name for path in (sqlite_folder / "models").rglob("*")) == before
    assert not (sqlite_folder / "data" / "retrainer.db").exists()
    (sqlite_folder / "data").rmdir()
    (sqlite_folder / "away").rename(sqlite_folder / "data")
    assert retrainer("doctor", cwd=sqlite_folder).code == 0


def test_no_tables_are_created_in_an_empty_database_that_replaced_another(
    folder_on_each_database: Path, tmp_path: Path, retrainer: Runner
) -> None:
    project = open_project(folder_on_each_database)
    project.posts.add(regular_posts(120), NOW)
    retrain(project, runtime_of(project), "timing", NOW)
    engine = project.registry.database.engine
    with engine.begin() as connection:
        everything = sa.MetaData()
        everything.reflect(connection)
        everything.drop_all(connection)
    project.close()
    for command in (("history",), ("doctor", "--repair"), ("train", "timing"), ("posts", "count")):
        done = retrainer(*command, cwd=folder_on_each_database)
        assert done.code == 1
        assert "has no retrainer tables, but " in done.err
    assert any((folder_on_each_database / "models").glob("timing/*/manifest.json"))
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []
    engine.dispose()


def test_folders_are_kept_if_the_database_has_no_version(sqlite_folder: Path, retrainer: Runner) -> None:
    project = open_project(sqlite_folder)
    project.posts.add(regular_posts(120), NOW)
    retrain(project, runtime_of(project), "timing", NOW)
    project.close()
    models = sqlite_folder / "models"
    models.rename(sqlite_folder / "kept")
    (sqlite_folder / "data").rename(sqlite_folder / "away")
    assert retrainer("versions", cwd=sqlite_folder).code == 0, "a new database"
    models.rmdir() if models.exists() else None
    (sqlite_folder / "kept").rename(models)
    assert "belongs to another database" in retrainer("doctor", "--repair", cwd=sqlite_folder).out
    (models / OWNER_FILE).unlink()  # as an earlier release left it
    done = retrainer("doctor", "--repair", cwd=sqlite_folder)
    assert done.code == 1
    assert "it is not moved, since the database has no versions at all" in done.out
    assert any(models.glob("timing/*/manifest.json"))


def test_a_server_that_never_answers_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_POSTGRESQL_DEFAULTS, "connect_timeout", 2)  # the shortest that libpq allows
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://someone@127.0.0.1:{silent.getsockname()[1]}/posts"
        with pytest.raises(DatabaseError, match="timeout"):
            Database.open(url, tmp_path)


@pytest.mark.parametrize("changes", [False, True])
def test_an_idle_connection_that_the_server_closed_is_replaced(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, changes: bool
) -> None:
    monkeypatch.setattr(database, "_PING_AFTER_SECONDS", 0.0)  # as if it had not been used for a while
    number = sa.text("SELECT pg_backend_pid()")
    with closing(Database.open(postgresql_url, tmp_path)) as opened:
        use = opened.write if changes else opened.read
        with use() as session:
            before = session.scalar(number)
        server = sa.create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": before})
        server.dispose()
        with use() as session:
            assert session.scalar(number) != before


def test_posts_are_read_from_a_materialized_view_of_a_server_with_another_date_style(
    sqlite_folder: Path, postgresql_url: str
) -> None:
    engine = sa.create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        name = sa.make_url(postgresql_url).database
        connection.execute(sa.text(f"ALTER DATABASE {name} SET DateStyle = 'German, DMY'"))
        connection.execute(
            sa.text(
                "CREATE MATERIALIZED VIEW theirs AS SELECT n AS post_id, 'x' AS content, "
                "timestamptz '2024-02-25 12:00Z' + n * interval '5 hours' AS created_at FROM generate_series(1, 60) n"
            )
        )
    engine.dispose()
    configure(sqlite_folder, table="theirs")
    settings = sqlite_folder / "config" / "config.yaml"
    settings.write_text(settings.read_text().replace("  url: null", f'  url: "{postgresql_url}"'))
    project = open_project(sqlite_folder)
    assert project.posts.summary(NOW).count == 60
    assert str(project.posts.summary(NOW).first) == "2024-02-25 17:00:00+00:00"


def test_a_file_that_is_not_a_database_is_refused(sqlite_folder: Path) -> None:
    (sqlite_folder / "data" / "retrainer.db").write_text("this is not a database, but long enough to be looked at" * 50)
    with pytest.raises(DatabaseError, match="is not a SQLite database"):
        open_project(sqlite_folder).registry  # noqa: B018


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u:secret@db@127.0.0.1:1/x",
        "postgresql+psycopg://u:secret@127.0.0.1:port/x",
    ],
)
def test_an_ambiguous_url_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Database.open(url, tmp_path)
    assert "secret" not in str(caught.value)
    assert "db@" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_has_several_names(scheme: str, tmp_path: Path) -> None:
    with closing(Database.open_read_only(f"{scheme}://ada@127.0.0.1:1/posts", tmp_path, tmp_path)) as database:
        assert database.location == "'postgresql+psycopg://ada@127.0.0.1:1/posts'"


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg", "pg8000"])
def test_another_driver_of_postgresql_gets_a_hint_that_helps(driver: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Database.open(f"postgresql+{driver}://u:secret@h/d", tmp_path)
    assert str(caught.value) == (
        f"unsupported database driver 'postgresql+{driver}'. "
        "Begin the URL with postgresql:// or postgresql+psycopg://, which is the same"
    )


@pytest.mark.parametrize("url", ["nonsense", "mysql://u:secret@h/d", "sqlite://", "sqlite:///:memory:"])
def test_a_wrong_url_is_refused_without_showing_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Database.open(url, tmp_path)
    assert "secret" not in str(caught.value)


def test_a_foreign_database_keeps_its_tables(sqlite_folder: Path) -> None:
    """A database with tables of others, some with obvious names."""
    path = sqlite_folder / "data" / "retrainer.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE posts (post_id INTEGER PRIMARY KEY, created_at TEXT, content TEXT)")
        connection.execute("CREATE TABLE model_versions (id INTEGER)")
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        rows = [(row, f"2024-01-{1 + row // 24:02d} {row % 24:02d}:00:00", f"text {row}") for row in range(200)]
        connection.executemany("INSERT INTO posts VALUES (?, ?, ?)", rows)
    connection.close()
    project = open_project(sqlite_folder)
    assert retrain(project, runtime_of(project), "timing", NOW).promoted
    assert retrain(project, runtime_of(project), "content", NOW).promoted
    project.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM posts").fetchone() == (200,)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(posts)")]
        assert columns == ["post_id", "created_at", "content"]
    connection.close()


def test_importing_twice_adds_once(project: Project) -> None:
    posts = regular_posts(50)
    assert project.posts.add(posts, NOW) == 50
    assert project.posts.add(posts, NOW) == 0
