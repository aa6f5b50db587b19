"""The sandbox of a policy: a project of its own, on the posts of the past."""

from __future__ import annotations

import hashlib
import itertools
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import delete, select

from retrainer.config import TuningSettings
from retrainer.errors import InsufficientData, PostsError
from retrainer.files import remove
from retrainer.model_types.base import utc_times
from retrainer.pipeline.split import load_usable_posts
from retrainer.posts.opening import open_posts
from retrainer.posts.store import PostsSummary, PostStore
from retrainer.project import Project, pick_stream
from retrainer.registry.database import Database
from retrainer.registry.registry import Registry
from retrainer.registry.tables import (
    POSTS_TABLE,
    ModelEvaluation,
    ModelVersion,
    TrainingRun,
    VersionFile,
)
from retrainer.streams import DEFAULT_STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    import pandas as pd

    from retrainer.config import Settings
    from retrainer.model_types import ModelTypeName

MODELS = "models"
KEY_FILE = "policy.sha256"
_DATABASE = "registry.db"
_STUDIES = "tuning.db"
_ANSWERS = ".retrainer"


def _files_of(database: str) -> tuple[str, ...]:
    """Return the names of an SQLite file and of those beside it."""
    return database, f"{database}-wal", f"{database}-shm", f"{database}-journal", f".{database}.lock"


class PostHistory(PostStore):
    """All posts of one model type, in memory, readable as of any time.

    Attributes:
        posts: all posts, in order.
        times: (n,) datetime64[us], UTC: their times.
    """

    def __init__(self, posts: pd.DataFrame, location: str) -> None:
        """Hold posts.

        Args:
            posts: all posts, as `load_posts` returns them for the model type.
            location: where they are stored, for messages.
        """
        self.stream = DEFAULT_STREAM  # in a sandbox, which has only one
        self.posts = posts
        self._location = location
        self.times = utc_times(posts)

    @property
    def location(self) -> str:
        """Where the posts are stored, for messages."""
        return self._location

    @property
    def first(self) -> datetime:
        return self.time_of(0)

    @property
    def last(self) -> datetime:
        return self.time_of(-1)

    def __len__(self) -> int:
        return len(self.posts)

    def close(self) -> None:
        """Do nothing: there are no connections."""

    def count(self, until: datetime, *, with_content: bool = False, stream: str = DEFAULT_STREAM) -> int:
        """Return the number of posts up to a time; all of them, or none, have content."""
        del stream
        if with_content and "content" not in self.posts:
            return 0
        return int(np.searchsorted(self.times, np.datetime64(until.replace(tzinfo=None), "us"), side="right"))

    def load(self, until: datetime, *, with_content: bool = True, warn: bool = True) -> pd.DataFrame:
        """Return the posts up to a time, like `PostStore.load`."""
        del warn
        columns = [name for name in self.posts.columns if with_content or name != "content"]
        return self.posts[columns].iloc[: self.count(until)]

    def summary(self, until: datetime, *, warn: bool = True) -> PostsSummary:
        """Count the posts up to a time."""
        del warn
        count = self.count(until)
        with_content = count if "content" in self.posts else 0
        return PostsSummary(count, with_content, *((self.first, self.time_of(count - 1)) if count else (None, None)))

    def find_moved(
        self, trained_at: datetime, trained_through: tuple[datetime, str], since: datetime | None = None
    ) -> set[str]:
        """Return nothing: a replay trains on the posts as they are now."""
        del trained_at, trained_through, since
        return set()

    def require_writable(self, action: str = "import") -> None:
        """Refuse: the past is read-only."""
        del action
        raise PostsError("the posts of a replay cannot be changed")

    def digest(self, count: int) -> str:
        """Return the SHA-256 of the first `count` posts."""
        return self._digests[count - 1].hex() if count else ""

    def digest_of(self, posts: pd.DataFrame) -> str | None:
        """Return the digest of a frame that holds exactly the first posts of these; None for any other frame."""
        count = len(posts)
        if not 0 < count <= len(self.posts) or list(posts.columns) != list(self.posts.columns):
            return None
        ends = [0, count - 1]
        same = list(posts["post_id"].iloc[ends]) == list(self.posts["post_id"].iloc[ends])
        return self.digest(count) if same else None

    def time_of(self, row: int) -> datetime:
        """Return the time of the post in a row, UTC."""
        time: datetime = self.posts["created_at"].iloc[row].to_pydatetime()
        return time

    @cached_property
    def _digests(self) -> list[bytes]:
        """The SHA-256 of every prefix of the posts."""
        running = hashlib.sha256()
        columns = [self.posts["post_id"], self.times.astype(np.int64)]
        if "content" in self.posts:
            columns.append(self.posts["content"])
        digests = []
        for row in zip(*columns, strict=True):
            running.update("\0".join(map(str, row)).encode("utf-8", "surrogatepass") + b"\0\0")
            digests.append(running.digest())
        return digests


class SandboxRegistry(Registry):
    """A registry whose version ids depend on nothing but the policy and the time."""

    def __init__(self, database: Database, policy: str) -> None:
        super().__init__(database)
        self._policy = policy

    def new_version_id(self, algorithm: str, model_type: ModelTypeName, now: datetime) -> str:
        """Return the id of a new version, the same in every replay of the policy."""
        stem = super().new_version_id(algorithm, model_type, now).rpartition("_")[0]
        with self.database.read() as session:
            for number in itertools.count():
                suffix = hashlib.sha256(f"{self._policy} {stem} {number}".encode()).hexdigest()[:4]
                if session.get(ModelVersion, f"{stem}_{suffix}") is None:
                    break
        return f"{stem}_{suffix}"

    def delete_unfinished_runs(self) -> None:
        """Delete runs that did not complete and everything they recorded; the ledger has no entries of them."""
        with self.database.write() as session:
            unfinished = session.scalars(select(TrainingRun).where(TrainingRun.status != "completed")).all()
            runs = [run.run_id for run in unfinished]
            versions = [run.model_version_id for run in unfinished if run.model_version_id is not None]
            evaluations = session.scalars(select(ModelEvaluation).where(ModelEvaluation.run_id.in_(runs))).all()
            for evaluation in evaluations:
                path, version_id = evaluation.forecasts_file, evaluation.model_version_id
                session.execute(
                    delete(VersionFile).where(VersionFile.version_id == version_id, VersionFile.path == path)
                )
                session.delete(evaluation)
            session.flush()
            session.execute(delete(TrainingRun).where(TrainingRun.run_id.in_(runs)))
            session.execute(delete(VersionFile).where(VersionFile.version_id.in_(versions)))
            session.execute(delete(ModelVersion).where(ModelVersion.version_id.in_(versions)))


@dataclass(frozen=True)
class SandboxProject(Project):
    """A project on the posts of the past, with a registry and a models folder of its own."""

    history: PostHistory

    @cached_property
    def registry(self) -> SandboxRegistry:
        """The registry; the name of the folder is that of the policy."""
        database = Database.open(self.settings.database.url, self.folder, self.models_dir)
        return SandboxRegistry(database, self.folder.name)

    @cached_property
    def posts(self) -> PostStore:
        return self.history


def choose_stream(project: Project, name: str | None) -> Project:
    """Return the project seen from a stream with posts, or from the only one; its database is not changed.

    Raises:
        UnknownName: there is no such stream.
        UsageError: there are several, and none is named.
        DatabaseError: the database cannot be read.
    """
    streams = []
    with suppress(InsufficientData), _open_posts(project) as store:
        streams = store.table.list_streams()
    return project.for_stream(pick_stream(name, streams or [DEFAULT_STREAM]))


def read_history(project: Project, model_type: ModelTypeName, until: datetime) -> PostHistory:
    """Read the posts of a stream without changing the database of the project.

    Raises:
        InsufficientData: no posts were ever imported, or the model type can use none of them.
        DatabaseError: the database cannot be read.
    """
    with _open_posts(project) as store:
        return PostHistory(load_usable_posts(store, model_type, until), store.location)


@contextmanager
def _open_posts(project: Project) -> Iterator[PostStore]:
    """Open the posts of a stream for reading.

    Raises:
        InsufficientData: no posts were ever imported.
    """
    settings = project.settings.posts
    database = Database.open_read_only(project.settings.database.url, project.folder, project.models_dir)
    with closing(database):
        if settings.url is None and settings.table == POSTS_TABLE and not database.has_table(POSTS_TABLE):
            raise InsufficientData(f"there are no posts in {database.location}", hint="Import posts first")
        with closing(open_posts(settings, database, project.folder).for_stream(project.stream)) as store:
            yield store


def open_sandbox(folder: Path, settings: Settings, history: PostHistory) -> SandboxProject:
    """Return a project in a folder of its own, with the given settings, on the posts of the past."""
    database = settings.database.model_copy(update={"url": f"sqlite:///{_DATABASE}"})
    # How long a run takes depends on this machine, not on the past.
    retraining = settings.retraining.model_copy(update={"max_run_minutes": None})
    own = settings.model_copy(
        update={"database": database, "retraining": retraining, "models_dir": MODELS, "tuning": TuningSettings()}
    )
    return SandboxProject(folder, folder / "config.yaml", own, history)


def delete_studies(folder: Path) -> None:
    for name in _files_of(_STUDIES):
        remove(folder / name)


def delete_sandbox(folder: Path) -> None:
    """Delete the files of a sandbox, and its folder unless it contains others."""
    for name in (MODELS, _ANSWERS, KEY_FILE, *_files_of(_DATABASE), *_files_of(_STUDIES)):
        remove(folder / name)
    with suppress(OSError):  # missing, or a user's files are in it
        folder.rmdir()
