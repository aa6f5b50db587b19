"""The past: posts read once, cut off at any moment, and known by the hash of all that came before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from retrainer.errors import InsufficientData, PostsError
from retrainer.model_types import get_model_type
from retrainer.model_types.base import utc_times
from retrainer.posts.store import PostsSummary, PostStore
from retrainer.project import Project
from retrainer.registry.database import Database
from retrainer.registry.tables import POSTS_TABLE
from retrainer.replay.sandbox_registry import SandboxRegistry

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import pandas as pd

    from retrainer.config import Settings
    from retrainer.model_types import ModelTypeName


class PostHistory(PostStore):
    """Posts of one model type, in memory; a moment shows those up to it and hides the others.

    Attributes:
        posts: all of them, in order.
        times: (n,) datetime64[us], UTC: when each of them came.
    """

    def __init__(self, posts: pd.DataFrame, place: str) -> None:
        """Hold posts.

        Args:
            posts: as `load_posts` gives them for the model type, all of them.
            place: where they come from, for messages.
        """
        self.posts = posts
        self._place = place
        self.times = utc_times(posts)

    @property
    def location(self) -> str:
        """Where the posts are, for messages."""
        return self._place

    @property
    def first(self) -> datetime:
        """The time of the first post."""
        return self.time_of(0)

    @property
    def last(self) -> datetime:
        """The time of the last post."""
        return self.time_of(-1)

    def __len__(self) -> int:
        return len(self.posts)

    def close(self) -> None:
        """There is nothing to give back."""

    def count(self, until: datetime) -> int:
        """Return how many posts there are up to a moment."""
        moment = np.datetime64(until.replace(tzinfo=None), "us")
        return int(np.searchsorted(self.times, moment, side="right"))

    def load(self, until: datetime, *, with_content: bool = True) -> pd.DataFrame:
        """Return the posts up to a moment, as `PostStore.load` does."""
        wanted = [name for name in self.posts.columns if with_content or name != "content"]
        return self.posts[wanted].iloc[: self.count(until)]

    def summary(self, until: datetime, *, warn: bool = True) -> PostsSummary:
        """Count the posts up to a moment; all of them can be used."""
        del warn
        count = self.count(until)
        with_content = count if "content" in self.posts else 0
        return PostsSummary(count, with_content, *((self.first, self.time_of(count - 1)) if count else (None, None)))

    def require_writable(self) -> None:
        """The past cannot be written."""
        raise PostsError("the posts of a replay cannot be changed")

    def digest(self, count: int) -> str:
        """Return the SHA-256 of the first `count` posts, all that a model of this type could learn from included."""
        return self._digests[count - 1].hex() if count else ""

    def digest_of(self, posts: pd.DataFrame) -> str | None:
        """Return the digest of a frame that holds the first posts of these and no other; None for any other frame."""
        count = len(posts)
        if not 0 < count <= len(self.posts) or list(posts.columns) != list(self.posts.columns):
            return None
        ends = [0, count - 1]
        same = list(posts["post_id"].iloc[ends]) == list(self.posts["post_id"].iloc[ends])
        return self.digest(count) if same else None

    def time_of(self, row: int) -> datetime:
        """Return when the post in this place among all came, UTC."""
        moment: datetime = self.posts["created_at"].iloc[row].to_pydatetime()
        return moment

    @cached_property
    def _digests(self) -> list[bytes]:
        """The SHA-256 of every beginning of the posts."""
        running = hashlib.sha256()
        columns = [self.posts["post_id"], self.times.astype(np.int64)]
        if "content" in self.posts:
            columns.append(self.posts["content"])
        digests = []
        for row in zip(*columns, strict=True):
            running.update("\0".join(map(str, row)).encode("utf-8", "surrogatepass") + b"\0\0")
            digests.append(running.digest())
        return digests


@dataclass(frozen=True)
class SandboxProject(Project):
    """A project whose posts are those of the past, with a registry and a models folder of its own."""

    past: PostHistory

    @property
    def time_stands_still(self) -> bool:
        """A replay is not to depend on the machine."""
        return True

    @cached_property
    def registry(self) -> SandboxRegistry:
        """What is remembered; the name of the folder is that of the policy."""
        database = Database.open(self.settings.database.url, self.folder, self.models_dir)
        return SandboxRegistry(database, self.folder.name)

    @cached_property
    def posts(self) -> PostStore:
        """The posts of the past."""
        return self.past


def read_history(project: Project, model_type: ModelTypeName, until: datetime) -> PostHistory:
    """Read the posts of a project once, and leave its database as it is.

    Raises:
        InsufficientData: no post was ever brought into it.
        DatabaseError: it cannot be read.
    """
    where = project.settings.posts
    database = Database.open_read_only(project.settings.database.url, project.folder, project.models_dir)
    store = None
    try:
        if where.url is None and where.table == POSTS_TABLE and not database.has_table(POSTS_TABLE):
            raise InsufficientData(f"there is no post in {database.location}", hint="Import posts first")
        store = PostStore.open(where, database, project.folder)
        posts = get_model_type(model_type).usable_posts(store.load(until, with_content=model_type == "content"))
        return PostHistory(posts, store.location)
    finally:
        if store is not None:
            store.close()
        database.close()


def open_sandbox(folder: Path, settings: Settings, past: PostHistory) -> SandboxProject:
    """Return a project in a folder of its own, under some settings, that knows the posts of the past."""
    apart = settings.database.model_copy(update={"url": "sqlite:///registry.db"})
    # How long a run takes is of this machine and not of the past.
    unlimited = settings.retraining.model_copy(update={"max_run_minutes": None})
    own = settings.model_copy(update={"database": apart, "retraining": unlimited, "models_dir": "models"})
    return SandboxProject(folder, folder / "config.yaml", own, past)
