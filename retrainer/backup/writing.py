"""Write a backup."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from retrainer import __version__
from retrainer.backup.file_format import FORMAT, INFO, Backup, describe, seal
from retrainer.backup.masking import settings_without_passwords
from retrainer.errors import ArtifactError
from retrainer.files import new_file
from retrainer.registry import snapshot
from retrainer.registry.database import Database
from retrainer.registry.migrations import HEAD
from retrainer.registry.tables import POSTS_TABLE, ModelVersion, TrainingRun
from retrainer.times import format_time

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from retrainer.project import Project

log = logging.getLogger(__name__)


def back_up(project: Project, file: Path, now: datetime) -> Backup:
    """Write a backup of a project, as it is at one moment, whatever runs meanwhile.

    Raises:
        UsageError: the file exists.
        RetrainerError: it cannot be written.
    """
    with new_file(file) as made:
        info = _write(project, made, now)
        seal(made)
    return describe(file, info)


def _write(project: Project, path: Path, now: datetime) -> dict[str, Any]:
    """Write the database of a backup; return what it says about itself."""

    def read_file(version: ModelVersion, name: str) -> bytes | None:
        try:
            return project.artifacts.read_file(version, name)
        except ArtifactError as error:
            log.warning("A file is not in the backup: %s", error)
            return None

    with closing(Database.open(f"sqlite:///{path.name}", path.parent)) as backup:
        with project.registry.database.snapshot() as source, backup.write() as session:
            target = session.connection()
            counts = snapshot.copy_rows(source, target)
            posts = project.settings.posts
            own_posts = posts.url is None and posts.table == POSTS_TABLE and POSTS_TABLE in counts
            info = {
                "format": FORMAT,
                "created_at": format_time(now),
                "release": __version__,
                "revision": HEAD,
                "versions": counts[ModelVersion.__tablename__],
                "runs": counts[TrainingRun.__tablename__],
                "posts": counts[POSTS_TABLE] if own_posts else None,
                "large_files": snapshot.add_missing_data(session, read_file),
                "settings": settings_without_passwords(project.config_file),
            }
            target.execute(sa.text(f"CREATE TABLE {INFO.name} (info JSON NOT NULL)"))
            target.execute(INFO.insert().values(info=info))
        backup.leave_wal()
    path.chmod(0o600)  # it holds the posts
    return info
